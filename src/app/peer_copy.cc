#include "app/peer_copy.h"

#include <utility>

namespace warmpath::app {
namespace {

constexpr Duration kResolveTimeout = std::chrono::seconds(5);

}  // namespace

PeerCopy::PeerCopy(io::Loop& loop, const http::Url& peer, Duration deadline,
                   std::function<void(index::SnapshotContent)> done)
    : loop_(loop), peer_(peer), done_(std::move(done)), client_(http::HttpClient::create(loop, {})) {
  deadline_ = loop.after(deadline, [this] { finish("the deadline has passed"); });
  resolving_ = io::resolve(loop, peer_.host, peer_.port, kResolveTimeout,
                           [this](Result<std::vector<io::Address>> found) { resolved(std::move(found)); });
}

PeerCopy::~PeerCopy() = default;

void PeerCopy::resolved(Result<std::vector<io::Address>> found) {
  if (!found.ok()) return finish(found.error().message);
  if (found->empty()) return finish("the name has no address");
  http::ClientRequest request;
  request.target = peer_.path + "/index/snapshot";
  call_ = client_->start({found->front(), peer_.host_header(), nullptr}, std::move(request), *this);
}

void PeerCopy::on_head(const http::ResponseHead& head) { status_ = head.status; }

void PeerCopy::on_body(std::string_view bytes) {
  if (status_ == 200) reader_.feed(bytes);
}

void PeerCopy::on_done() { finish(status_ == 200 ? "" : "it answers " + std::to_string(status_)); }

void PeerCopy::on_failed(const Error& error, bool /*head_seen*/, bool /*sent*/) { finish(error.message); }

// The call may be on the stack, and so may what it calls: both go with the next turn.
void PeerCopy::finish(std::string why) {
  if (!done_) return;
  deadline_.cancel();
  loop_.post([this, alive = std::weak_ptr<int>(life_), why = std::move(why), done = std::exchange(done_, nullptr)] {
    if (alive.expired()) return;
    call_.reset();
    resolving_.reset();
    index::SnapshotContent content = reader_.finish();
    if (!content.complete && !why.empty()) content.why = why;
    done(std::move(content));
  });
}

}  // namespace warmpath::app
