#include "engine_server/publisher.h"

#include <algorithm>
#include <limits>

#include "events/events.h"

namespace warmpath::engine_server {
namespace {

std::string bind_text(const std::string& ip, std::uint16_t port) {
  const std::string host = ip.find(':') == std::string::npos ? ip : "[" + ip + "]";
  return "tcp://" + host + ":" + (port == 0 ? std::string("*") : std::to_string(port));
}

// vLLM tells a wildcard as it was configured: "tcp://*:5557" means the engine's own address.
std::string told_text(const std::string& ip, const std::string& bound) {
  const bool wildcard = ip == "0.0.0.0" || ip == "::";
  return wildcard ? "tcp://*" + bound.substr(bound.rfind(':')) : bound;
}

}  // namespace

Result<std::unique_ptr<Publisher>> Publisher::open(io::Loop& loop, Options options) {
  std::unique_ptr<Publisher> publisher(new Publisher(std::move(options)));
  const Options& o = publisher->options_;
  io::ZmqOptions live;
  live.kind = io::ZmqKind::kPub;
  live.attach = io::ZmqOptions::Attach::kBind;
  live.endpoint = bind_text(o.ip, o.port);
  auto pub = io::ZmqSocket::open(loop, live, {});
  if (!pub) return pub.error();
  io::ZmqOptions replay = live;
  replay.kind = io::ZmqKind::kRouter;
  replay.endpoint = bind_text(o.ip, o.replay_port);
  // Room for a whole replay and its end marker: vLLM up to 0.32 keeps libzmq's 1,000 and loses what is beyond; 0.33
  // mended that, and a simulated loss belongs into a fault, not into the default.
  replay.send_high_water = static_cast<int>(std::min<std::uint64_t>(2ull * (o.buffer_steps + 1), 1u << 30));
  io::ZmqSocket::Callbacks callbacks;
  callbacks.message = [raw = publisher.get()](std::vector<std::string>&& frames) { raw->replay(frames); };
  auto router = io::ZmqSocket::open(loop, replay, std::move(callbacks));
  if (!router) return router.error();
  publisher->live_ = std::move(*pub);
  publisher->replays_ = std::move(*router);
  publisher->endpoint_ = told_text(o.ip, publisher->live_->bound_endpoint());
  publisher->replay_endpoint_ = told_text(o.ip, publisher->replays_->bound_endpoint());
  return publisher;
}

void Publisher::publish(const std::vector<blocks::KvEvent>& events) {
  if (events.empty()) return;
  events::Batch batch;
  batch.ts = static_cast<double>(io::unix_time_ms()) / 1e3;
  batch.events = events;
  batch.rank = options_.rank;
  Kept kept{next_seq_++, events::encode_batch(batch, events::Encoding::kMaps)};
  if (!live_->send(events::make_live(options_.topic, PublisherSeq(kept.seq), kept.payload))) ++dropped_;
  if (options_.buffer_steps == 0) return;
  if (kept_.size() == options_.buffer_steps) kept_.pop_front();
  kept_.push_back(std::move(kept));
}

// As vLLM >= 0.26 answers: every kept batch from `start` on, oldest first, then the end marker. A request of any other
// shape is ignored, as there.
void Publisher::replay(const std::vector<std::string>& frames) {
  const auto request = events::parse_replay_request(frames);
  if (!request) return;
  for (const Kept& kept : kept_) {
    if (kept.seq < request->start.value()) continue;
    const auto reply =
        events::make_replay_reply(request->identity, options_.topic, PublisherSeq(kept.seq), kept.payload);
    if (!replays_->send(reply)) return;  // the asker is gone
  }
  (void)replays_->send(events::make_replay_end(request->identity));
}

}  // namespace warmpath::engine_server
