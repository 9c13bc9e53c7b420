// A whole stream as bytes: records of frames, live and replayed, through parsing and decoding into a Follower that is
// held to its word. A record is: what, length (2 bytes), content; the content of a message is frames of 1-byte lengths,
// the last one taking the rest.
#include <cstddef>
#include <cstdint>

#include "events/events.h"
#include "events/test_follower_driver.h"

namespace {

using namespace warmpath;          // NOLINT(google-build-using-namespace)
using namespace warmpath::events;  // NOLINT(google-build-using-namespace)

std::vector<Frame> frames_of(std::span<const std::uint8_t> content) {
  std::vector<Frame> frames;
  if (content.empty()) return frames;
  const std::size_t count = content[0] & 7u;
  content = content.subspan(1);
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t size = content.size();
    if (i + 1 < count && !content.empty()) {
      size = std::min<std::size_t>(content[0], content.size() - 1);
      content = content.subspan(1);
    }
    frames.emplace_back(reinterpret_cast<const char*>(content.data()), size);
    content = content.subspan(size);
  }
  return frames;
}

FollowerInput live(std::span<const std::uint8_t> content) {
  const auto frames = frames_of(content);
  const auto message = parse_live(frames);
  if (!message.ok()) return LiveBroken{};
  return LiveBatch{message->seq, decode_batch(message->payload)};
}

FollowerInput reply(std::span<const std::uint8_t> content) {
  const auto frames = frames_of(content);
  const auto message = parse_replay_reply(frames);
  if (!message.ok()) return ReplayBroken{};
  if (message->end) return ReplayEnd{};
  return ReplayBatch{message->seq, decode_batch(message->payload)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  testing::Driver driver({.can_replay = (data[0] & 7) != 0,
                          .parked_batches_max = data[1] & 15u,
                          .parked_events_max = 1u + (data[1] >> 4)});
  std::span<const std::uint8_t> rest(data + 2, size - 2);
  while (rest.size() >= 3) {
    const std::uint8_t what = rest[0];
    const std::size_t length =
        std::min<std::size_t>(rest[1] | static_cast<std::size_t>(rest[2] & 0x0f) << 8, rest.size() - 3);
    const auto content = rest.subspan(3, length);
    rest = rest.subspan(3 + length);
    switch (what % 9) {
      case 0: driver.step(Connected{}); break;
      case 1: driver.step(Disconnected{}); break;
      case 2:
      case 3:
      case 4: driver.step(live(content)); break;
      case 5:
      case 6: driver.step(reply(content)); break;
      case 7: driver.pass(std::chrono::milliseconds(length)); break;
      case 8: driver.step(Curtailed{}); break;
    }
    if (what >= 230) driver.expire();
  }
  for (int i = 0; i < 20 && driver.expire(); ++i) {
  }
  return 0;
}
