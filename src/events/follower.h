// Follower: all logic of one publisher's stream. It performs nothing: it answers with what is to be done, and ingest
// (live) or sim (virtual) obeys.
//
//   Follower follower({.can_replay = true}, seed);
//   std::vector<FollowerEffect> out;
//   follower.step(Connected{}, now, out);            // out: AskReplay{0}, ArmTimer, StateChanged{partial}
//   follower.step(LiveBatch{seq, decode_batch(payload)}, now, out);
//
// What it holds to:
//   - Batches are applied in order, each once. A gap asks a replay; live batches wait in a bounded parking meanwhile.
//   - A replay that continues starts at the last applied batch, not behind it: if that one comes back different, the
//     engine was restarted, even if its new sequence has already passed the old one.
//   - A sequence that goes back to a batch that is not a copy is a restart: forget all, replay from 0.
//   - A replay may end without its marker or with a hole (vLLM up to 0.32 drops what a slow reader leaves): it is asked
//     again from the hole.
//   - A replay that brings nothing ends the parking: live batches are applied with the hole, state suspect, and the
//     replay is tried again in the background. It then rebuilds from 0: what was applied around a hole has no undo.
//   - Asks are bounded: after a failure exponential back-off with jitter; at all times at most 4 in any 4 s.
//   - What another life of the router had applied is gone on from: resume(). It is suspect until the replay that begins
//     at its last batch has shown that the engine is the same process, and has brought what followed.
//   - Exact: all since the engine's start, or since a clear of its only tier, was applied and kept.
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
struct Connected {};     // the subscription stands (again); implies Disconnected
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
struct Curtailed {
};  // what was applied could not be kept whole (a full index): known blocks are sound, some are missing
using FollowerInput = std::variant<Connected, Disconnected, LiveBatch, LiveBroken, ReplayBatch, ReplayEnd, ReplayBroken,
                                   Timeout, Curtailed>;

// Effects, in order.
struct Apply {
  Batch batch;
};
struct ForgetAll {};  // drop all blocks of this engine: it restarted, or truth is unknown
struct AskReplay {
  PublisherSeq start;
};
struct StopReplay {};  // close the replay exchange; late replies are to be ignored. Not sent after ReplayEnd
struct ArmTimer {
  Instant at;  // replaces the previous deadline
};
struct DisarmTimer {};
struct StateChanged {
  blocks::PublisherState state;
};
using FollowerEffect = std::variant<Apply, ForgetAll, AskReplay, StopReplay, ArmTimer, DisarmTimer, StateChanged>;

struct FollowerOptions {
  bool can_replay = true;                              // a replay endpoint is known
  Duration replay_idle_max = std::chrono::seconds(2);  // between two replies that bring the exchange on
  Duration replay_total_max = std::chrono::seconds(120);
  Duration backoff_first = std::chrono::milliseconds(200);
  // Short, so that a publisher is trusted again within 5 s of its replay endpoint's recovery.
  Duration backoff_max = std::chrono::seconds(2);
  std::size_t parked_batches_max = 10'000;  // live batches kept while a replay runs
  std::size_t parked_events_max = 1'000'000;
};

// How far a stream was applied, for another life of the router to go on from. A change of how digests are made is a new
// index::kSnapshotVersion.
struct FollowerMark {
  PublisherSeq seq;                                                 // of the last batch applied
  std::uint64_t digest = 0;                                         // of that batch
  blocks::PublisherState trust = blocks::PublisherState::kPartial;  // of what was applied
  bool unreadable_seen = false;
  bool other_tiers_seen = false;
  friend bool operator==(const FollowerMark&, const FollowerMark&) = default;
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
  // nullopt: what is applied is not all up to some batch, or there is nothing to know that batch by.
  std::optional<FollowerMark> mark() const;
  // What was applied up to `mark` is held already. Before any step. Suspect at once; lost if no connection stands
  // within kResumeConnectMax.
  void resume(const FollowerMark& mark, Instant now, std::vector<FollowerEffect>& out);
  static constexpr Duration kResumeConnectMax = std::chrono::seconds(10);
  blocks::PublisherState state() const { return state_; }
  std::optional<PublisherSeq> last_applied() const { return last_applied_; }
  const FollowerCounters& counters() const { return counters_; }
  // Batches known to be out that are not applied: waiting for a replay, or lost.
  std::uint64_t lag_batches() const;

 private:
  enum class Exchange : std::uint8_t {
    kNone,
    kInFlight,  // asked, not ended
    kBackoff,   // to be asked at retry_at_
  };
  enum class Extent : std::uint8_t { kContinue, kFull };  // from the last applied batch, or from 0 anew
  using Effects = std::vector<FollowerEffect>;
  using Digest = std::uint64_t;

  static Digest digest_of(const Batch& batch);

  void on(const Connected&, Instant now, Effects& out);
  void on(const Disconnected&, Instant now, Effects& out);
  void on(LiveBatch& live, Instant now, Effects& out);
  void on(const LiveBroken&, Instant now, Effects& out);
  void on(ReplayBatch& reply, Instant now, Effects& out);
  void on(const ReplayEnd&, Instant now, Effects& out);
  void on(const ReplayBroken&, Instant now, Effects& out);
  void on(const Timeout&, Instant now, Effects& out);
  void on(const Curtailed&, Instant now, Effects& out);

  void accept(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out);
  void park(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out);
  void drain_parked(Effects& out);
  void flush_parked(Effects& out);
  void drop_parked();
  void take_first_reply(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out);
  void take_reply(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out);
  void apply_around_hole(PublisherSeq seq, Result<Batch> batch, Effects& out);
  void apply(PublisherSeq seq, Result<Batch> batch, Effects& out);
  void content_lost();
  void judge(const Batch& batch);

  void begin_repair(Instant now, Effects& out);
  void restart(Instant now, Effects& out);
  void forget(Effects& out);
  void hold_live(Instant now);
  void ask(Extent extent, Instant now, Effects& out);
  void replay_failed(Instant now, Effects& out);
  void stop_exchange(Effects& out);
  void caught_up();
  Duration backoff();
  void settle(Effects& out);

  bool parking() const { return exchange_ != Exchange::kNone && hold_live_; }
  bool clean(const Result<Batch>& batch) const { return batch.ok() && batch->events_malformed == 0; }
  bool is_copy(PublisherSeq seq, const Result<Batch>& batch) const;

  static constexpr std::size_t kTrailMax = 4'096;  // digests kept of the batches applied last
  static constexpr std::size_t kAskBurst = 4;      // asks in any kAskWindow
  static constexpr Duration kAskWindow = std::chrono::seconds(4);
  static constexpr std::uint32_t kHeldFailuresMax = 3;  // failed asks in a row while live batches wait

  FollowerOptions options_;
  FollowerCounters counters_;
  RandomStream random_;
  blocks::PublisherState state_ = blocks::PublisherState::kLost;
  std::optional<PublisherSeq> last_applied_;
  // Digests of the batches up to last_applied_, without holes; nullopt where the content was unreadable.
  std::deque<std::optional<Digest>> trail_;

  bool connected_ = false;
  std::optional<Instant> resumed_until_;  // resumed, and not connected yet
  // How what is applied relates to the engine's truth, holes aside.
  blocks::PublisherState trust_ = blocks::PublisherState::kPartial;
  bool hole_ = false;              // something is missing or unverified between what was applied and what is known of
  bool unreadable_seen_ = false;   // a replay proved that the engine itself sends unreadable batches
  bool other_tiers_seen_ = false;  // a clear of the gpu tier does not tell about the others
  bool recheck_ = false;           // a live message without a sequence came while a replay ran
  std::optional<PublisherSeq> live_last_;      // highest live sequence since the engine's start
  std::optional<PublisherSeq> unreadable_at_;  // a replay brought it unreadable once: asked again to be sure

  Exchange exchange_ = Exchange::kNone;
  Extent extent_ = Extent::kFull;         // of the exchange in flight or to come
  bool hold_live_ = false;                // park live batches while waiting or before the first reply
  std::optional<PublisherSeq> replayed_;  // last reply's sequence in this exchange
  bool progress_ = false;                 // this exchange brought a new batch
  Instant asked_at_;
  Instant replied_at_;
  Instant retry_at_;
  Instant hold_until_;  // parking ends here whatever comes
  std::uint32_t failures_ = 0;
  std::deque<Instant> asks_;  // the last kAskBurst
  std::optional<Instant> armed_;

  std::map<PublisherSeq, Result<Batch>> parked_;
  std::size_t parked_events_ = 0;
};

}  // namespace warmpath::events
