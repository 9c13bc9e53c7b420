// ZMQ multipart messages of the KV-event sockets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace warmpath::events {

using Frame = std::string;  // raw bytes

struct LiveMessage {
  std::string_view topic;
  PublisherSeq seq;
  std::span<const std::uint8_t> payload;  // points into the frames
};
// Exactly 3 frames: topic, 8 bytes big-endian, payload.
Result<LiveMessage> parse_live(std::span<const Frame> frames);
std::vector<Frame> make_live(std::string_view topic, PublisherSeq seq, std::span<const std::uint8_t> payload);

// What a DEALER sends to ask for every buffered batch from `start` on: "", start.
std::vector<Frame> make_replay_request(PublisherSeq start);
// What the ROUTER side sees: identity, "", start.
struct ReplayRequest {
  std::string_view identity;
  PublisherSeq start;
};
Result<ReplayRequest> parse_replay_request(std::span<const Frame> frames);

// A reply as a DEALER receives it: "", [topic,] seq, payload; the end marker has seq 2^64-1 and an empty payload.
struct ReplayReply {
  bool end = false;
  PublisherSeq seq;
  std::span<const std::uint8_t> payload;
};
Result<ReplayReply> parse_replay_reply(std::span<const Frame> frames);
// As vLLM >= 0.26 (with topic) sends it through a ROUTER: identity first.
std::vector<Frame> make_replay_reply(std::string_view identity, std::string_view topic, PublisherSeq seq,
                                     std::span<const std::uint8_t> payload);
std::vector<Frame> make_replay_end(std::string_view identity);

}  // namespace warmpath::events
