#include "http/server.h"

#include <unordered_map>

#include "http/connection.h"

namespace warmpath::http {
namespace {

class Listener final : public HttpListener {
 public:
  Listener(io::Loop& loop, ServerOptions options, std::function<void(std::shared_ptr<Exchange>)> serve)
      : shared_(std::make_shared<ListenerShared>(ListenerShared{loop, std::move(options), std::move(serve), {}, {}, false})) {
    shared_->closed = [this](Connection* connection) { forget(connection); };
  }

  ~Listener() override {
    shared_->closed = [](Connection*) {};
    shared_->serve = [](const std::shared_ptr<Exchange>&) {};
    for (auto& [key, connection] : connections_) connection->close_now();
  }

  Result<void> listen(const io::Address& address) {
    auto listener = io::listen(shared_->loop, address, shared_->options.listen,
                               [this](std::shared_ptr<io::Stream> stream) { accept(std::move(stream)); });
    if (!listener.ok()) return listener.error();
    listener_ = std::move(listener).value();
    return {};
  }

  io::Address address() const override { return listener_->address(); }

  ServerCounters counters() const override {
    ServerCounters counters = shared_->counters;
    counters.connections_open = connections_.size();
    return counters;
  }

  void drain(std::function<void()> done) override {
    drained_ = std::move(done);
    shared_->draining = true;
    listener_->close();
    std::vector<std::shared_ptr<Connection>> open;
    for (auto& [key, connection] : connections_) open.push_back(connection);
    for (auto& connection : open) connection->drain();
    tell_when_empty();
  }

 private:
  void accept(std::shared_ptr<io::Stream> stream) {
    ++shared_->counters.connections_accepted;
    auto connection = std::make_shared<Connection>(shared_, std::move(stream));
    const bool full = connections_.size() >= shared_->options.limits.connections_max;
    connections_.emplace(connection.get(), connection);
    if (full) {
      ++shared_->counters.connections_refused;
      // Those being refused linger for a moment: bounded too, then without a word.
      if (connections_.size() > shared_->options.limits.connections_max + kRefusalsMax) return connection->close_now();
      connection->refuse();
    } else {
      connection->open();
    }
  }

  // A connection may be on the stack: it goes with the next turn.
  void forget(Connection* connection) {
    const auto it = connections_.find(connection);
    if (it == connections_.end()) return;
    shared_->loop.post([gone = std::move(it->second)] {});
    connections_.erase(it);
    tell_when_empty();
  }

  void tell_when_empty() {
    if (connections_.empty() && drained_) shared_->loop.post(std::exchange(drained_, nullptr));
  }

  static constexpr std::size_t kRefusalsMax = 256;
  std::shared_ptr<ListenerShared> shared_;
  std::unique_ptr<io::Listener> listener_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::function<void()> drained_;
};

}  // namespace

Result<std::unique_ptr<HttpListener>> HttpListener::open(io::Loop& loop, const io::Address& address,
                                                         ServerOptions options,
                                                         std::function<void(std::shared_ptr<Exchange>)> serve) {
  WP_CHECK(options.errors);
  auto listener = std::make_unique<Listener>(loop, std::move(options), std::move(serve));
  if (auto listening = listener->listen(address); !listening.ok()) return listening.error();
  return std::unique_ptr<HttpListener>(std::move(listener));
}

}  // namespace warmpath::http
