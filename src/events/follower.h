// Follower: all logic of one publisher's stream. It performs nothing: it answers with what is to be done, and ingest
// (live) or sim (virtual) obeys.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"
#include "events/codec.h"

namespace warmpath::events {

// Inputs. Payloads are decoded by the caller (decode_batch) so that the Follower is free of bytes.
struct Connected {};     // the subscription stands (again)
struct Disconnected {};  // it broke
struct LiveBatch {
  PublisherSeq seq;
  Result<Batch> batch;
};
struct LiveBroken {};  // a message that is not even three frames with a sequence
struct ReplayBatch {
  PublisherSeq seq;
  Result<Batch> batch;
};
struct ReplayEnd {};
struct ReplayBroken {};  // an unreadable reply
struct Timeout {};       // the deadline armed last has passed
using FollowerInput =
    std::variant<Connected, Disconnected, LiveBatch, LiveBroken, ReplayBatch, ReplayEnd, ReplayBroken, Timeout>;

// Effects, in order.
struct Apply {
  Batch batch;
};
struct ForgetAll {};  // drop all blocks of this engine: it restarted, or truth is unknown
struct AskReplay {
  PublisherSeq start;
};
struct StopReplay {};  // close the replay exchange; late replies are to be ignored
struct ArmTimer {
  Instant at;  // replaces the previous deadline
};
struct DisarmTimer {};
struct StateChanged {
  blocks::PublisherState state;
};
using FollowerEffect = std::variant<Apply, ForgetAll, AskReplay, StopReplay, ArmTimer, DisarmTimer, StateChanged>;

struct FollowerOptions {
  bool can_replay = true;                          // a replay endpoint is known
  Duration replay_idle_max = std::chrono::seconds(2);  // between two replies
  Duration replay_total_max = std::chrono::seconds(120);
  Duration backoff_first = std::chrono::milliseconds(200);
  Duration backoff_max = std::chrono::seconds(30);
  std::size_t parked_batches_max = 10'000;  // live batches kept while a replay runs
  std::size_t parked_events_max = 1'000'000;
};

struct FollowerCounters {
  std::uint64_t batches_applied = 0;
  std::uint64_t batches_duplicate = 0;
  std::uint64_t batches_malformed = 0;
  std::uint64_t events_unknown = 0;
  std::uint64_t events_malformed = 0;
  std::uint64_t gaps = 0;
  std::uint64_t replays_asked = 0;
  std::uint64_t replays_failed = 0;
  std::uint64_t restarts = 0;
  std::uint64_t batches_dropped = 0;  // parked beyond the bound
};

// Thread rule: one owner. step never blocks and never fails.
class Follower {
 public:
  // `jitter_seed` spreads back-off among followers.
  Follower(FollowerOptions options, std::uint64_t jitter_seed);
  void step(FollowerInput input, Instant now, std::vector<FollowerEffect>& out);
  blocks::PublisherState state() const { return state_; }
  std::optional<PublisherSeq> last_applied() const { return last_applied_; }
  const FollowerCounters& counters() const { return counters_; }

 private:
  FollowerOptions options_;
  FollowerCounters counters_;
  blocks::PublisherState state_ = blocks::PublisherState::kLost;
  std::optional<PublisherSeq> last_applied_;
  // ... the room's own
};

}  // namespace warmpath::events
