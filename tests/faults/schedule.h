// What goes wrong in one world and when: drawn from the seed before anything runs, so that it can be printed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/base.h"

namespace warmpath::faults {

enum class Kind : std::uint8_t {
  kLoss,              // live messages are lost
  kDuplicate,         // live messages come twice, the copy late
  kCorrupt,           // live messages arrive so that it shows: cut, reserved bytes, wrong frames
  kDelay,             // this publisher's messages come later than all others'
  kBreak,             // the connection breaks and comes back
  kRestart,           // another process at the same address: sequence from 0
  kRestartPassed,     // the same, and before the connection is back the new sequence has passed the old one
  kRankCount,         // another process with another number of ranks
  kHugeBatch,         // one batch of thousands of events
  kClear,             // the engine's prefix cache is reset
  kReplayRefused,     // the replay endpoint does not answer
  kReplayCut,         // replays break off, no end marker
  kReplayMarkerless,  // replays are whole but for the end marker
  kReplayHole,        // replays leave batches out (vLLM up to 0.32: a slow reader)
  kReplayEndless,     // replays repeat their last batch for ever
  kReplayCorrupt,     // replies that cannot be read
  kReplayOnlyEnd,     // nothing but the end marker
  kEngineClock,       // the engine's ts jumps by up to a year
  kRouterClock,       // our clock jumps ahead by up to an hour
  kGatewayRestart,    // the router is killed and begins again with its last snapshot: whole, torn, or with another byte
};
inline constexpr std::size_t kKinds = static_cast<std::size_t>(Kind::kGatewayRestart) + 1;
const char* kind_name(Kind kind);

struct Fault {
  Kind kind = Kind::kLoss;
  Duration at{};
  Duration until{};  // of those that last
  std::uint32_t address = 0;
  double strength = 0;  // probability, or how much, 0..1
};

// One engine address as it begins.
struct AddressPlan {
  std::uint32_t ranks = 1;
  std::uint32_t block_tokens = 16;
  std::uint32_t kv_blocks = 40;
  std::uint32_t replay_batches = 100;  // the publisher's ring; 0: no replay endpoint
  std::uint32_t batches_before = 0;    // published before the router came
  bool arrays = false;                 // the older encoding and the older form of replay replies
  bool reports_full = false;           // some requests announce their reused prefix again
};

struct Schedule {
  std::uint64_t seed = 0;
  std::vector<AddressPlan> addresses;
  std::vector<Fault> faults;  // by time; all over at kFaultsEnd
  std::size_t index_bytes_max = 0;
  std::size_t parked_batches_max = 0;
  std::size_t parked_events_max = 0;
  std::string text() const;
};

inline constexpr Duration kFaultsEnd = std::chrono::seconds(10);
inline constexpr Duration kCalm = std::chrono::seconds(5);

Schedule draw_schedule(std::uint64_t seed);

}  // namespace warmpath::faults
