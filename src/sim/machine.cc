#include "sim/machine.h"

namespace warmpath::sim {
namespace {

constexpr std::string_view kTopic = "kv-events";

}  // namespace

std::vector<events::Frame> Machine::publish(std::vector<blocks::KvEvent> step_events, Instant now) {
  if (step_events.empty()) return {};
  events::Batch batch;
  batch.ts = to_seconds(now.since_zero());
  batch.rank = model_->options().rank;
  batch.events = std::move(step_events);
  const PublisherSeq seq(next_seq_++);
  buffer_.push_back({seq, events::encode_batch(batch, events::Encoding::kMaps)});
  std::vector<events::Frame> frames = events::make_live(kTopic, seq, buffer_.back().payload);
  if (buffer_.size() > buffer_max_) buffer_.pop_front();
  return frames;
}

std::vector<std::vector<events::Frame>> Machine::replay(const std::vector<events::Frame>& asked) const {
  const auto request = events::parse_replay_request(asked);
  if (!request.ok()) return {};
  std::vector<std::vector<events::Frame>> replies;
  const auto answer = [&](std::vector<events::Frame> frames) {
    frames.erase(frames.begin());  // the identity: the asker's socket never sees it
    replies.push_back(std::move(frames));
  };
  for (const Kept& kept : buffer_) {
    if (kept.seq < request->start) continue;
    answer(events::make_replay_reply(request->identity, kTopic, kept.seq, kept.payload));
  }
  answer(events::make_replay_end(request->identity));
  return replies;
}

}  // namespace warmpath::sim
