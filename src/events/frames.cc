#include "events/frames.h"

#include <limits>

namespace warmpath::events {
namespace {

constexpr std::uint64_t kEndSeq = std::numeric_limits<std::uint64_t>::max();

Frame seq_frame(PublisherSeq seq) {
  Frame frame(8, '\0');
  for (int i = 0; i < 8; ++i) frame[i] = static_cast<char>(seq.value() >> (56 - 8 * i));
  return frame;
}

std::optional<PublisherSeq> parse_seq(const Frame& frame) {
  if (frame.size() != 8) return std::nullopt;
  std::uint64_t seq = 0;
  for (const char c : frame) seq = seq << 8 | static_cast<std::uint8_t>(c);
  return PublisherSeq(seq);
}

std::span<const std::uint8_t> bytes_of(const Frame& frame) {
  return {reinterpret_cast<const std::uint8_t*>(frame.data()), frame.size()};
}

Frame frame_of(std::span<const std::uint8_t> bytes) {
  return Frame(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Error bad(std::string_view message, std::string_view wrong) {
  return {ErrorKind::kInvalid, std::string(message) + ": " + std::string(wrong)};
}

Error bad_count(std::string_view message, std::size_t got, std::string_view allowed) {
  return bad(message, std::to_string(got) + " frames, not " + std::string(allowed));
}

}  // namespace

Result<LiveMessage> parse_live(std::span<const Frame> frames) {
  if (frames.size() != 3) return bad_count("event message", frames.size(), "3 (topic, sequence, payload)");
  const auto seq = parse_seq(frames[1]);
  if (!seq) return bad("event message", "its sequence is " + std::to_string(frames[1].size()) + " bytes, not 8");
  return LiveMessage{frames[0], *seq, bytes_of(frames[2])};
}

std::vector<Frame> make_live(std::string_view topic, PublisherSeq seq, std::span<const std::uint8_t> payload) {
  return {Frame(topic), seq_frame(seq), frame_of(payload)};
}

std::vector<Frame> make_replay_request(PublisherSeq start) { return {Frame(), seq_frame(start)}; }

Result<ReplayRequest> parse_replay_request(std::span<const Frame> frames) {
  if (frames.size() != 3) return bad_count("replay request", frames.size(), "3 (identity, empty, start)");
  if (!frames[1].empty()) return bad("replay request", "the frame behind the identity is not empty");
  const auto start = parse_seq(frames[2]);
  if (!start) return bad("replay request", "its start is " + std::to_string(frames[2].size()) + " bytes, not 8");
  return ReplayRequest{frames[0], *start};
}

// vLLM up to 0.25 sends "", seq, payload; since 0.26, and SGLang 0.5.23, "", topic, seq, payload. The topic may be empty
// itself, so only the count tells the two apart.
Result<ReplayReply> parse_replay_reply(std::span<const Frame> frames) {
  if (frames.size() != 3 && frames.size() != 4) {
    return bad_count("replay reply", frames.size(), "3 or 4 (empty, topic if sent, sequence, payload)");
  }
  if (!frames[0].empty()) return bad("replay reply", "its first frame is not empty");
  const Frame& seq_bytes = frames[frames.size() - 2];
  const auto seq = parse_seq(seq_bytes);
  if (!seq) return bad("replay reply", "its sequence is " + std::to_string(seq_bytes.size()) + " bytes, not 8");
  ReplayReply reply{.end = false, .seq = *seq, .payload = bytes_of(frames.back())};
  if (seq->value() == kEndSeq) {
    if (!frames.back().empty()) return bad("replay reply", "its end marker has a payload");
    reply.end = true;
  }
  return reply;
}

std::vector<Frame> make_replay_reply(std::string_view identity, std::string_view topic, PublisherSeq seq,
                                     std::span<const std::uint8_t> payload) {
  return {Frame(identity), Frame(), Frame(topic), seq_frame(seq), frame_of(payload)};
}

std::vector<Frame> make_replay_end(std::string_view identity) {
  return {Frame(identity), Frame(), Frame(), seq_frame(PublisherSeq(kEndSeq)), Frame()};
}

}  // namespace warmpath::events
