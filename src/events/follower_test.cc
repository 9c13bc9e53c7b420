#include "events/follower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::events {
namespace {

using blocks::PublisherState;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

Batch batch_of(double ts, std::vector<blocks::KvEvent> events) {
  Batch batch;
  batch.ts = ts;
  batch.events = std::move(events);
  return batch;
}

blocks::KvEvent store(std::uint64_t hash, std::optional<std::string> medium = std::nullopt) {
  blocks::BlockStored event;
  event.block_hashes = {{EngineHash(hash), ""}};
  event.medium = std::move(medium);
  return event;
}

// Drives one Follower and keeps what it answered as words: "apply 3" (the batch's ts), "ask 0", "arm" …
class Rig {
 public:
  explicit Rig(FollowerOptions options = {}) : follower_(options, 1) {}

  std::vector<std::string> step(FollowerInput input) {
    std::vector<FollowerEffect> out;
    follower_.step(std::move(input), now_, out);
    return words_of(out);
  }
  std::vector<std::string> words_of(const std::vector<FollowerEffect>& out) {
    std::vector<std::string> words;
    for (const FollowerEffect& effect : out) {
      if (const auto* apply = std::get_if<Apply>(&effect)) {
        words.push_back("apply " + std::to_string(static_cast<int>(apply->batch.ts)));
      } else if (std::holds_alternative<ForgetAll>(effect)) {
        words.push_back("forget");
      } else if (const auto* ask = std::get_if<AskReplay>(&effect)) {
        words.push_back("ask " + std::to_string(ask->start.value()));
      } else if (std::holds_alternative<StopReplay>(effect)) {
        words.push_back("stop");
      } else if (const auto* arm = std::get_if<ArmTimer>(&effect)) {
        timer_ = arm->at;
      } else if (std::holds_alternative<DisarmTimer>(effect)) {
        timer_.reset();
      } else if (const auto* state = std::get_if<StateChanged>(&effect)) {
        words.push_back(std::string(blocks::publisher_state_name(state->state)));
        EXPECT_EQ(state->state, follower_.state());
      }
    }
    return words;
  }
  std::vector<std::string> resume(const FollowerMark& mark) {
    std::vector<FollowerEffect> out;
    follower_.resume(mark, now_, out);
    return words_of(out);
  }
  // Batches say their time as 1000 * life + sequence: two lives of an engine differ by it.
  std::vector<std::string> live(std::uint64_t seq, int life = 0) {
    return step(LiveBatch{PublisherSeq(seq), made(seq, life)});
  }
  std::vector<std::string> replay(std::uint64_t seq, int life = 0) {
    return step(ReplayBatch{PublisherSeq(seq), made(seq, life)});
  }
  std::vector<std::string> live_bad(std::uint64_t seq) {
    return step(LiveBatch{PublisherSeq(seq), Error{ErrorKind::kInvalid, "broken"}});
  }
  std::vector<std::string> replay_bad(std::uint64_t seq) {
    return step(ReplayBatch{PublisherSeq(seq), Error{ErrorKind::kInvalid, "broken"}});
  }
  std::vector<std::string> cleared(std::uint64_t seq) {
    return step(LiveBatch{PublisherSeq(seq), batch_of(static_cast<double>(seq), {blocks::AllBlocksCleared{}})});
  }
  // Moves to the armed time and reports it.
  std::vector<std::string> expire() {
    EXPECT_TRUE(timer_);
    if (!timer_) return {"no timer"};
    now_ = std::max(now_, *timer_);
    timer_.reset();
    return step(Timeout{});
  }
  void pass(Duration time) { now_ = now_ + time; }
  bool armed() const { return timer_.has_value(); }
  Duration until_timer() const { return *timer_ - now_; }
  Follower& follower() { return follower_; }
  const FollowerCounters& counters() const { return follower_.counters(); }
  PublisherState state() const { return follower_.state(); }

  // Connected, replay empty: exact from the start.
  void start_fresh() {
    step(Connected{});
    step(ReplayEnd{});
    ASSERT_EQ(state(), PublisherState::kExact);
  }
  // Exact with batches 0 … last applied.
  void start_at(std::uint64_t last) {
    start_fresh();
    for (std::uint64_t seq = 0; seq <= last; ++seq) live(seq);
    ASSERT_EQ(state(), PublisherState::kExact);
    pass(seconds(60));  // away from the burst bound of the first ask
  }

 private:
  static Batch made(std::uint64_t seq, int life) { return batch_of(1000.0 * life + static_cast<double>(seq), {}); }

  Follower follower_;
  Instant now_{seconds(1000)};
  std::optional<Instant> timer_;
};

TEST(Follower, FirstContactReplaysFromZeroAndIsExact) {
  Rig rig;
  EXPECT_EQ(rig.state(), PublisherState::kLost);
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("ask 0", "partial"));
  EXPECT_TRUE(rig.armed());
  EXPECT_THAT(rig.live(2), ElementsAre()) << "waits for the replay";
  EXPECT_THAT(rig.replay(0), ElementsAre("apply 0", "suspect"));
  EXPECT_THAT(rig.replay(1), ElementsAre("apply 1"));
  EXPECT_THAT(rig.replay(2), ElementsAre("apply 2"));
  EXPECT_THAT(rig.live(3), ElementsAre());
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 3", "exact"));
  EXPECT_FALSE(rig.armed());
  EXPECT_THAT(rig.live(4), ElementsAre("apply 4"));
  EXPECT_EQ(rig.follower().last_applied(), PublisherSeq(4));
  EXPECT_EQ(rig.counters().batches_applied, 5u);
  EXPECT_EQ(rig.counters().gaps, 0u);
}

TEST(Follower, TruncatedHistoryIsPartialUntilAClear) {
  Rig rig;
  rig.step(Connected{});
  EXPECT_THAT(rig.replay(40), ElementsAre("apply 40", "suspect"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("partial"));
  EXPECT_THAT(rig.live(41), ElementsAre("apply 41"));
  EXPECT_THAT(rig.cleared(42), ElementsAre("apply 42", "exact"));
}

TEST(Follower, AClearDoesNotTellAboutOtherTiers) {
  Rig rig;
  rig.step(Connected{});
  rig.replay(40);
  rig.step(ReplayEnd{});
  rig.step(LiveBatch{PublisherSeq(41), batch_of(41, {store(1, "CPU")})});
  EXPECT_THAT(rig.cleared(42), ElementsAre("apply 42"));
  EXPECT_EQ(rig.state(), PublisherState::kPartial);
}

TEST(Follower, DuplicatesAreDropped) {
  Rig rig;
  rig.start_at(5);
  EXPECT_THAT(rig.live(5), ElementsAre());
  EXPECT_THAT(rig.live(2), ElementsAre());
  EXPECT_EQ(rig.counters().batches_duplicate, 2u);
  EXPECT_THAT(rig.live(6), ElementsAre("apply 6"));
}

TEST(Follower, GapIsReplayedFromTheLastAppliedAndParkedBatchesFollow) {
  Rig rig;
  rig.start_at(5);
  EXPECT_THAT(rig.live(8), ElementsAre("ask 5", "suspect"));
  EXPECT_THAT(rig.live(9), ElementsAre());
  EXPECT_THAT(rig.live(9), ElementsAre());
  EXPECT_THAT(rig.replay(5), ElementsAre()) << "the overlap proves that it is the same engine";
  EXPECT_THAT(rig.replay(6), ElementsAre("apply 6"));
  EXPECT_THAT(rig.replay(6), ElementsAre());
  EXPECT_THAT(rig.replay(7), ElementsAre("apply 7"));
  EXPECT_THAT(rig.replay(8), ElementsAre("apply 8"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 9", "exact"));
  EXPECT_EQ(rig.counters().gaps, 1u);
  EXPECT_EQ(rig.counters().batches_duplicate, 2u);
}

TEST(Follower, GapBeyondTheBufferForgetsAndIsPartial) {
  Rig rig;
  rig.start_at(5);
  rig.live(90);
  EXPECT_THAT(rig.replay(50), ElementsAre("forget", "apply 50"));
  for (std::uint64_t seq = 51; seq <= 90; ++seq) rig.replay(seq);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("partial"));
}

TEST(Follower, SequenceGoingBackIsARestart) {
  Rig rig;
  rig.start_at(50);
  EXPECT_THAT(rig.live(1, 1), ElementsAre("forget", "ask 0", "partial"));
  EXPECT_THAT(rig.replay(0, 1), ElementsAre("apply 1000", "suspect"));
  EXPECT_THAT(rig.replay(1, 1), ElementsAre("apply 1001"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
  EXPECT_EQ(rig.counters().restarts, 1u);
}

TEST(Follower, RestartIsSeenEvenWhenTheNewSequenceIsHigher) {
  Rig rig;
  rig.start_at(5);
  rig.step(Disconnected{});
  EXPECT_EQ(rig.state(), PublisherState::kLost);
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("ask 5", "suspect"));
  EXPECT_THAT(rig.live(6, 1), ElementsAre()) << "its sequence alone looks like the next one";
  EXPECT_THAT(rig.replay(5, 1), ElementsAre("stop", "forget", "ask 0", "partial"));
  EXPECT_EQ(rig.counters().restarts, 1u);
  for (std::uint64_t seq = 0; seq <= 6; ++seq) rig.replay(seq, 1);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, RestartIsSeenWhenTheNewLifeHasNotComeSoFar) {
  Rig rig;
  rig.start_at(5);
  rig.step(Disconnected{});
  rig.step(Connected{});
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("forget", "ask 0", "partial"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, ReconnectToTheSameEngineGoesOn) {
  Rig rig;
  rig.start_at(5);
  EXPECT_THAT(rig.step(Disconnected{}), ElementsAre("lost"));
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("ask 5", "suspect"));
  rig.replay(5);
  EXPECT_THAT(rig.replay(6), ElementsAre("apply 6"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
  EXPECT_EQ(rig.counters().restarts, 0u);
}

TEST(Follower, SilentReplayEndsTheWaitAndIsTriedAgain) {
  Rig rig;
  rig.start_at(5);
  rig.live(8);
  rig.live(9);
  rig.pass(seconds(2));
  EXPECT_THAT(rig.expire(), ElementsAre("stop", "apply 8", "apply 9")) << "never blind";
  EXPECT_EQ(rig.state(), PublisherState::kSuspect);
  EXPECT_THAT(rig.live(10), ElementsAre("apply 10"));
  EXPECT_GT(rig.until_timer(), milliseconds(99));
  EXPECT_LE(rig.until_timer(), milliseconds(200));
  EXPECT_THAT(rig.expire(), ElementsAre("ask 0")) << "what was applied around a hole has no undo";
  EXPECT_THAT(rig.live(11), ElementsAre("apply 11")) << "not held for an engine that failed to answer";
  EXPECT_THAT(rig.replay(0), ElementsAre("forget", "apply 0"));
  EXPECT_THAT(rig.live(12), ElementsAre());
  for (std::uint64_t seq = 1; seq <= 11; ++seq) rig.replay(seq);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 12", "exact"));
}

TEST(Follower, BackOffGrowsWithJitterUpToItsBound) {
  Rig rig;
  rig.start_at(5);
  rig.live(8);
  Duration longest{};
  for (int failure = 1; failure <= 12; ++failure) {
    rig.expire();  // the silent replay
    const Duration wait = rig.until_timer();
    const Duration full = std::min<Duration>(milliseconds(200) * (1 << (failure - 1)), seconds(2));
    EXPECT_GE(wait, full / 2) << failure;
    EXPECT_LE(wait, full) << failure;
    longest = std::max(longest, wait);
    EXPECT_THAT(rig.expire(), ElementsAre("ask 0"));
  }
  EXPECT_GE(longest, seconds(1));
  EXPECT_EQ(rig.counters().replays_failed, 12u);
}

TEST(Follower, ReplayWithoutEndMarkerIsAskedAgainFromTheHole) {
  Rig rig;
  rig.step(Connected{});
  for (std::uint64_t seq = 0; seq <= 3; ++seq) rig.replay(seq);
  rig.live(9);
  EXPECT_THAT(rig.expire(), ElementsAre("stop")) << "it brought something: live batches go on waiting";
  EXPECT_THAT(rig.expire(), ElementsAre("ask 3"));
  rig.replay(3);
  for (std::uint64_t seq = 4; seq <= 8; ++seq) rig.replay(seq);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 9", "exact"));
}

TEST(Follower, HoleInsideAReplayIsAskedAgain) {
  Rig rig;
  rig.step(Connected{});
  rig.replay(0);
  EXPECT_THAT(rig.replay(2), ElementsAre("stop"));
  EXPECT_THAT(rig.replay(3), ElementsAre()) << "late replies are ignored";
  EXPECT_THAT(rig.expire(), ElementsAre("ask 0"));
  rig.replay(0);
  rig.replay(1);
  rig.replay(2);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, EndMarkerBeforeWhatWasSeenLiveIsNotTheEnd) {
  Rig rig;
  rig.start_at(5);
  rig.live(9);
  rig.replay(5);
  rig.replay(6);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("ask 6"));
  rig.replay(6);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre()) << "nothing new: not asked again at once";
  EXPECT_THAT(rig.expire(), ElementsAre("ask 6"));
  for (std::uint64_t seq = 6; seq <= 9; ++seq) rig.replay(seq);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, LiveBatchThatTheEngineNeverHeardOfEndsInARestart) {
  Rig rig;
  rig.start_at(5);
  rig.live(9);
  int asks = 1;
  while (rig.counters().restarts == 0 && asks < 30) {
    rig.replay(5);
    rig.pass(seconds(1));
    rig.step(ReplayEnd{});
    rig.pass(seconds(10));  // away from the bound on asks
    if (rig.counters().restarts == 0 && rig.state() != PublisherState::kExact) rig.expire();
    ++asks;
  }
  EXPECT_EQ(rig.counters().restarts, 1u) << "after " << asks << " asks";
  rig.expire();  // the ask was silent for long
  rig.expire();
  for (std::uint64_t seq = 0; seq <= 5; ++seq) rig.replay(seq);
  rig.step(ReplayEnd{});
  EXPECT_EQ(rig.state(), PublisherState::kExact);
}

TEST(Follower, WrongSequencesAndBrokenRepliesFail) {
  Rig rig;
  rig.start_at(5);
  rig.live(8);
  EXPECT_THAT(rig.replay(3), ElementsAre("stop", "apply 8"));
  rig.expire();
  EXPECT_THAT(rig.step(ReplayBroken{}), ElementsAre("stop"));
  EXPECT_EQ(rig.counters().replays_failed, 2u);
  EXPECT_THAT(rig.step(ReplayBroken{}), ElementsAre()) << "of no exchange";
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre());
}

TEST(Follower, EndlessReplayIsCutOff) {
  Rig rig;
  rig.start_at(5);
  rig.live(7);
  rig.replay(5);
  std::vector<std::string> words;
  for (int i = 0; i < 4 && words.empty(); ++i) {  // repetitions do not keep it alive
    rig.pass(seconds(1));
    rig.replay(5);
    if (rig.until_timer() <= seconds(0)) words = rig.expire();
  }
  EXPECT_THAT(words, ElementsAre("stop"));
  EXPECT_EQ(rig.counters().replays_failed, 1u);
  EXPECT_THAT(rig.expire(), ElementsAre("ask 5"));
}

TEST(Follower, UnreadableLiveBatchIsAGap) {
  Rig rig;
  rig.start_at(5);
  EXPECT_THAT(rig.live_bad(6), ElementsAre("ask 5", "suspect"));
  rig.live(7);
  rig.replay(5);
  EXPECT_THAT(rig.replay(6), ElementsAre("apply 6"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 7", "exact"));
  EXPECT_EQ(rig.counters().batches_malformed, 1u);
  EXPECT_EQ(rig.counters().gaps, 1u);
}

TEST(Follower, BatchThatTheEngineItselfBrokeIsSkippedOnceProven) {
  Rig rig;
  rig.start_at(5);
  rig.live_bad(6);
  rig.replay(5);
  EXPECT_THAT(rig.replay_bad(6), ElementsAre("stop"));
  EXPECT_THAT(rig.expire(), ElementsAre("ask 5"));
  rig.replay(5);
  EXPECT_THAT(rig.replay_bad(6), ElementsAre()) << "proven";
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre());
  EXPECT_EQ(rig.state(), PublisherState::kSuspect);
  EXPECT_THAT(rig.live(7), ElementsAre("apply 7"));
  EXPECT_THAT(rig.live_bad(8), ElementsAre()) << "such an engine is not asked about each one";
  EXPECT_FALSE(rig.armed());
  EXPECT_THAT(rig.live(9), ElementsAre("apply 9"));
  EXPECT_THAT(rig.cleared(10), ElementsAre("apply 10", "exact"));
}

// Passed over while no replay came: what it said is read when one comes, from 0.
TEST(Follower, UnreadableBatchThatWasPassedOverIsReadAnew) {
  Rig rig;
  rig.step(Connected{});
  rig.expire();  // silent
  EXPECT_THAT(rig.live(3), ElementsAre("apply 3"));
  EXPECT_EQ(rig.state(), PublisherState::kPartial);
  EXPECT_THAT(rig.live_bad(4), ElementsAre("suspect"));
  rig.live(5);
  rig.step(Disconnected{});
  rig.pass(seconds(10));
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("ask 0", "suspect"));
  EXPECT_THAT(rig.replay(3), ElementsAre("forget", "apply 3"));
  EXPECT_THAT(rig.replay(4), ElementsAre("apply 4"));
  EXPECT_THAT(rig.replay(5), ElementsAre("apply 5"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("partial"));
}

TEST(Follower, BatchWithAMalformedEventIsAGapAndAppliedWhenProven) {
  Rig rig;
  rig.start_at(5);
  Batch dirty = batch_of(6, {store(1)});
  dirty.events_malformed = 1;
  EXPECT_THAT(rig.step(LiveBatch{PublisherSeq(6), dirty}), ElementsAre("ask 5", "suspect"));
  rig.replay(5);
  rig.step(ReplayBatch{PublisherSeq(6), dirty});
  rig.expire();
  rig.replay(5);
  EXPECT_THAT(rig.step(ReplayBatch{PublisherSeq(6), dirty}), ElementsAre("apply 6"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre());
  EXPECT_EQ(rig.state(), PublisherState::kSuspect);
  EXPECT_EQ(rig.counters().events_malformed, 1u);
}

TEST(Follower, MessageWithoutASequenceIsVerified) {
  Rig rig;
  rig.start_at(5);
  EXPECT_THAT(rig.step(LiveBroken{}), ElementsAre("ask 5", "suspect"));
  rig.replay(5);
  rig.replay(6);
  EXPECT_THAT(rig.step(LiveBroken{}), ElementsAre());
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("ask 6")) << "the second may have been 7";
  rig.replay(6);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, ParkingIsBoundedAndWhatItDroppedIsReplayed) {
  Rig rig({.parked_batches_max = 2});
  rig.start_at(5);
  rig.live(7);
  rig.live(8);
  rig.live(9);
  EXPECT_EQ(rig.counters().batches_dropped, 1u);
  rig.replay(5);
  rig.replay(6);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 7", "apply 8", "ask 8")) << "a gap again";
  rig.replay(8);
  rig.replay(9);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
  EXPECT_EQ(rig.counters().gaps, 2u);

  Rig by_events({.parked_events_max = 3});
  by_events.start_at(5);
  by_events.step(LiveBatch{PublisherSeq(7), batch_of(7, {store(1), store(2)})});
  by_events.step(LiveBatch{PublisherSeq(8), batch_of(8, {store(1), store(2)})});
  EXPECT_EQ(by_events.counters().batches_dropped, 1u);
}

TEST(Follower, AtMostFourAsksInFourSeconds) {
  Rig rig;
  rig.start_at(5);
  int asks = 0;
  for (int life = 1; life <= 50; ++life) {
    for (const std::string& word : rig.live(0, life)) asks += word.starts_with("ask") ? 1 : 0;
    rig.step(ReplayEnd{});
    rig.pass(milliseconds(10));
  }
  EXPECT_LE(asks, 4);
  EXPECT_GT(rig.counters().restarts, 3u);
}

TEST(Follower, WithoutReplay) {
  Rig rig({.can_replay = false});
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("partial"));
  EXPECT_FALSE(rig.armed());
  EXPECT_THAT(rig.live(0), ElementsAre("apply 0", "exact"));
  EXPECT_THAT(rig.live(1), ElementsAre("apply 1"));
  EXPECT_THAT(rig.live(4), ElementsAre("apply 4", "suspect"));
  EXPECT_THAT(rig.cleared(5), ElementsAre("apply 5", "exact"));
  EXPECT_THAT(rig.live(0, 1), ElementsAre("forget", "apply 1000"));
  EXPECT_EQ(rig.state(), PublisherState::kExact);
  EXPECT_THAT(rig.live_bad(1), ElementsAre("suspect"));
  EXPECT_THAT(rig.live(2, 1), ElementsAre("apply 1002"));
  rig.step(Disconnected{});
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("suspect"));

  Rig late({.can_replay = false});
  late.step(Connected{});
  EXPECT_THAT(late.live(7), ElementsAre("apply 7")) << "joined late";
  EXPECT_EQ(late.state(), PublisherState::kPartial);
}

TEST(Follower, DeadReplayEndpointAtFirstContact) {
  // All since the start came live: exact without any replay.
  Rig rig;
  rig.step(Connected{});
  rig.live(0);
  rig.live(1);
  EXPECT_THAT(rig.expire(), ElementsAre("stop", "apply 0", "apply 1", "exact"));
  EXPECT_FALSE(rig.armed());

  Rig late;
  late.step(Connected{});
  late.live(30);
  EXPECT_THAT(late.expire(), ElementsAre("stop", "apply 30"));
  EXPECT_EQ(late.state(), PublisherState::kPartial);
  EXPECT_TRUE(late.armed()) << "goes on asking";
}

TEST(Follower, ClearWhileAReplayDoesNotComeEndsTheNeedForIt) {
  Rig rig;
  rig.start_at(5);
  rig.live(8);
  rig.expire();
  EXPECT_EQ(rig.state(), PublisherState::kSuspect);
  EXPECT_THAT(rig.cleared(9), ElementsAre("apply 9", "exact"));
  EXPECT_FALSE(rig.armed());
}

TEST(Follower, LiveBeforeConnectedCountsAsConnected) {
  Rig rig;
  EXPECT_THAT(rig.live(3), ElementsAre("ask 0", "partial"));
}

TEST(Follower, WhatCouldNotBeKeptIsNotExactUntilAllIsReadAnew) {
  Rig rig;
  rig.start_at(5);
  EXPECT_THAT(rig.step(Curtailed{}), ElementsAre("partial"));
  EXPECT_THAT(rig.step(Curtailed{}), ElementsAre());
  rig.live(6);
  EXPECT_EQ(rig.state(), PublisherState::kPartial);
  EXPECT_THAT(rig.cleared(7), ElementsAre("apply 7", "exact"));
  rig.step(Curtailed{});
  rig.pass(seconds(60));
  EXPECT_THAT(rig.live(0, 1), ElementsAre("forget", "ask 0"));
  rig.replay(0, 1);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, TellsHowFarItIsBehind) {
  Rig rig;
  EXPECT_EQ(rig.follower().lag_batches(), 0u);
  rig.start_at(5);
  EXPECT_EQ(rig.follower().lag_batches(), 0u);
  rig.live(8);
  rig.live(9);
  EXPECT_EQ(rig.follower().lag_batches(), 4u);
  rig.replay(5);
  rig.replay(6);
  EXPECT_EQ(rig.follower().lag_batches(), 3u);
  rig.replay(7);
  rig.step(ReplayEnd{});
  EXPECT_EQ(rig.follower().lag_batches(), 0u);
}

TEST(Follower, EarlyTimeoutArmsAgain) {
  Rig rig;
  rig.step(Connected{});
  rig.pass(milliseconds(1500));
  rig.replay(0);
  rig.pass(milliseconds(500));
  EXPECT_THAT(rig.step(Timeout{}), ElementsAre()) << "the reply moved the deadline";
  EXPECT_TRUE(rig.armed());
  EXPECT_EQ(rig.until_timer(), milliseconds(1500));
}

FollowerMark mark_at(std::uint64_t last) {
  Rig rig;
  rig.start_at(last);
  return rig.follower().mark().value();
}

TEST(Follower, ResumedItIsSuspectUntilTheDifferenceIsReplayed) {
  const FollowerMark mark = mark_at(7);
  EXPECT_EQ(mark.seq, PublisherSeq(7));
  EXPECT_EQ(mark.trust, PublisherState::kExact);
  Rig rig;
  EXPECT_THAT(rig.resume(mark), ElementsAre("suspect"));
  EXPECT_EQ(rig.follower().mark(), mark);
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("ask 7"));
  EXPECT_THAT(rig.live(9), ElementsAre());
  EXPECT_THAT(rig.replay(7), ElementsAre()) << "the one it knows";
  EXPECT_THAT(rig.replay(8), ElementsAre("apply 8"));
  EXPECT_EQ(rig.state(), PublisherState::kSuspect);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("apply 9", "exact"));
  EXPECT_THAT(rig.live(10), ElementsAre("apply 10"));
  EXPECT_EQ(rig.counters().restarts, 0u);
}

TEST(Follower, ResumedWithNothingNewItIsExactToo) {
  Rig rig;
  rig.resume(mark_at(7));
  rig.step(Connected{});
  rig.replay(7);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
}

TEST(Follower, ResumedPartialStaysPartial) {
  FollowerMark mark = mark_at(7);
  mark.trust = PublisherState::kPartial;
  Rig rig;
  rig.resume(mark);
  rig.step(Connected{});
  rig.replay(7);
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("partial"));
}

TEST(Follower, ResumedAfterARestartOfTheEngineItForgets) {
  {  // whose sequence has passed ours
    Rig rig;
    rig.resume(mark_at(7));
    rig.step(Connected{});
    EXPECT_THAT(rig.replay(7, 1), ElementsAre("stop", "forget", "ask 0", "partial"));
    rig.replay(0, 1);
    EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("exact"));
  }
  {  // or not
    Rig rig;
    rig.resume(mark_at(7));
    rig.step(Connected{});
    EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("forget", "ask 0", "partial"));
  }
  {  // or shows it live
    Rig rig;
    rig.resume(mark_at(7));
    rig.step(Connected{});
    EXPECT_THAT(rig.live(3, 1), ElementsAre("stop", "forget", "ask 0", "partial"));
  }
}

TEST(Follower, ResumedBehindTheReplaysWindowItBeginsAnew) {
  Rig rig;
  rig.resume(mark_at(7));
  rig.step(Connected{});
  EXPECT_THAT(rig.replay(50), ElementsAre("forget", "apply 50"));
  EXPECT_THAT(rig.step(ReplayEnd{}), ElementsAre("partial"));
}

TEST(Follower, ResumedAndNeverConnectedItIsLost) {
  Rig rig;
  rig.resume(mark_at(7));
  EXPECT_TRUE(rig.armed());
  EXPECT_EQ(rig.until_timer(), Follower::kResumeConnectMax);
  EXPECT_THAT(rig.expire(), ElementsAre("lost"));
  EXPECT_FALSE(rig.armed());
  EXPECT_THAT(rig.step(Connected{}), ElementsAre("ask 7", "suspect")) << "what it holds may still be good";
}

TEST(Follower, ResumedWithoutAReplayEndpointItStaysSuspect) {
  Rig rig({.can_replay = false});
  rig.resume(mark_at(7));
  EXPECT_THAT(rig.step(Connected{}), ElementsAre());
  EXPECT_FALSE(rig.armed());
  EXPECT_THAT(rig.live(8), ElementsAre("apply 8"));
  EXPECT_EQ(rig.state(), PublisherState::kSuspect);
  EXPECT_THAT(rig.live(2, 1), ElementsAre("forget", "apply 1002", "partial")) << "another life";
}

TEST(Follower, AroundAHoleThereIsNoMark) {
  Rig rig;
  EXPECT_EQ(rig.follower().mark(), std::nullopt);
  rig.start_at(5);
  rig.live(8);  // a gap: what is applied is whole up to 5
  EXPECT_EQ(rig.follower().mark()->seq, PublisherSeq(5));
  for (int tries = 0; tries < 8 && rig.follower().last_applied() == PublisherSeq(5); ++tries) rig.expire();
  EXPECT_EQ(rig.follower().last_applied(), PublisherSeq(8));
  EXPECT_EQ(rig.follower().mark(), std::nullopt);
}

}  // namespace
}  // namespace warmpath::events
