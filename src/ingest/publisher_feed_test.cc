// One publisher over loopback sockets, into a real index.
#include "ingest/publisher_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ingest/test_engine.h"
#include "io/test_loop.h"

namespace warmpath::ingest {
namespace {

using blocks::PublisherState;
using testing::prompt_ids;
using testing::stored;
using testing::TestPublisher;

struct FeedTest : ::testing::Test {
  static constexpr EngineId kEngine{3};

  void follow(TestPublisher& publisher) {
    follow(RankSource{publisher.live_endpoint(), publisher.replay_endpoint(), "", EventSource::Side::kConnect});
  }
  void follow(RankSource source) {
    ASSERT_TRUE(make(std::move(source)).ok());
    ASSERT_TRUE(io::RunUntil(loop, [&] { return feed->connected(); }));
  }
  Result<void> make(RankSource source) {
    PublisherFeed::Setup setup{kEngine, "e", std::move(source), "pool", {}, 1};
    setup.live_queue_max = live_queue_max;
    setup.follower.replay_idle_max = std::chrono::milliseconds(100);
    setup.follower.backoff_first = std::chrono::milliseconds(10);
    setup.follower.backoff_max = std::chrono::milliseconds(50);
    feed = std::make_unique<PublisherFeed>(loop, std::move(setup), *followed, registry,
                                           [this](PublisherState state) { states.push_back(state); });
    return feed->open();
  }
  std::uint32_t depth(std::uint64_t prompt, std::uint64_t blocks = 8) {
    index::MatchTable table;
    index.match(index.space().chain(prompt_ids(prompt, blocks), {}), table);
    const auto* row = table.find(kEngine);
    return row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
  }
  bool becomes(PublisherState state) {
    return io::RunUntil(loop, [&] { return feed->follower().state() == state; });
  }
  bool reaches(std::uint64_t prompt, std::uint32_t blocks) {
    return io::RunUntil(loop, [&] { return depth(prompt) == blocks; });
  }
  // As an engine that was restarted: same ports.
  void reopen(TestPublisher& publisher) {
    ASSERT_TRUE(io::RunUntil(loop, [&] { return publisher.open(); }));
  }
  std::uint64_t counted(const std::string& name) {
    return registry.counter(name, "", {{"pool", "pool"}, {"engine", "e"}}).value();
  }

  io::Loop loop;
  index::Index index{{.space = blocks::KeySpace(7, "qwen", testing::kBlockTokens)}};
  index::Index* followed = &index;
  int live_queue_max = 100'000;
  observe::Registry registry;
  std::vector<PublisherState> states;
  std::unique_ptr<PublisherFeed> feed;
};

TEST_F(FeedTest, WhatWasBeforeIsReplayedAndWhatFollowsIsApplied) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 3)});
  publisher.lose({stored(2, 0, 1)});
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(1), 3u);
  EXPECT_EQ(depth(2), 1u);
  publisher.publish({stored(1, 3, 2)});
  ASSERT_TRUE(reaches(1, 5));
  blocks::BlockRemoved removed;
  removed.block_hashes.push_back(stored(1, 4, 1).block_hashes[0]);
  publisher.publish({removed});
  ASSERT_TRUE(reaches(1, 4));
  publisher.publish({blocks::AllBlocksCleared{}, stored(2, 0, 2)});
  ASSERT_TRUE(reaches(2, 2));
  EXPECT_EQ(depth(1), 0u);
  EXPECT_EQ(feed->follower().state(), PublisherState::kExact);
  EXPECT_EQ(counted("warmpath_kv_batches_total"), 5u);
  EXPECT_EQ(counted("warmpath_kv_blocks_stored_total"), 8u);
  EXPECT_EQ(counted("warmpath_kv_gaps_total"), 0u);
  EXPECT_TRUE(feed->heard());
  EXPECT_EQ(publisher.replays_asked, 1u);
}

TEST_F(FeedTest, AGapIsReplayedAndExactAgainSoon) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(reaches(1, 1));
  publisher.lose({stored(1, 1, 1)});
  publisher.lose({stored(1, 2, 1)});
  publisher.publish({stored(1, 3, 1)});
  const Instant begun = loop.now();
  ASSERT_TRUE(reaches(1, 4));
  ASSERT_TRUE(becomes(PublisherState::kExact));
  RecordProperty("repair_ms",
                 static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(loop.now() - begun).count()));
  EXPECT_EQ(counted("warmpath_kv_gaps_total"), 1u);
  EXPECT_EQ(counted("warmpath_kv_replays_failed_total"), 0u);
}

// More than the sockets hold comes while we are busy: libzmq drops, the hole is seen, a replay fills it.
TEST_F(FeedTest, AFullQueueBecomesAGapAndIsRepaired) {
  constexpr std::uint64_t kPrompts = 1'000;
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer, {}, 100);
  live_queue_max = 100;
  follow(publisher);
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(reaches(1, 1));
  for (std::uint64_t prompt = 2; prompt <= kPrompts; ++prompt) publisher.publish({stored(prompt, 0, 8)});
  publisher.publish({stored(1, 1, 1)});
  // The end of the burst may be lost too: the engine's next step tells.
  ASSERT_TRUE(io::RunUntil(loop, [&] {
    if (counted("warmpath_kv_gaps_total") == 0) publisher.publish({stored(1, 2, 1)});
    return depth(1) >= 2 && feed->follower().state() == PublisherState::kExact && feed->follower().lag_batches() == 0;
  }));
  EXPECT_GE(counted("warmpath_kv_gaps_total"), 1u);
  for (std::uint64_t prompt = 2; prompt <= kPrompts; ++prompt) ASSERT_EQ(depth(prompt), 8u) << prompt;
}

TEST_F(FeedTest, WhatAFullIndexForgetsIsToldAsPartial) {
  index::Index small({.space = blocks::KeySpace(7, "qwen", testing::kBlockTokens), .bytes_max = 12'000});
  followed = &small;
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(io::RunUntil(loop, [&] { return counted("warmpath_kv_blocks_stored_total") == 1; }));
  EXPECT_EQ(feed->follower().state(), PublisherState::kExact);
  publisher.publish({stored(2, 0, 10'000)});  // more than there is room for
  ASSERT_TRUE(becomes(PublisherState::kPartial));
  EXPECT_EQ(states.back(), PublisherState::kPartial);
  EXPECT_EQ(counted("warmpath_kv_stores_dropped_total"), 1u);
  publisher.publish({blocks::AllBlocksCleared{}});
  ASSERT_TRUE(becomes(PublisherState::kExact));

  // Room is made at the expense of this engine, by another one's stores.
  publisher.publish({stored(3, 0, 4)});
  ASSERT_TRUE(
      io::RunUntil(loop, [&] { return small.holders(small.space().chain(prompt_ids(3, 4), {})[0]).size() == 1; }));
  const EngineId other(99);
  const std::uint64_t before = small.blocks_evicted(kEngine);
  small.set_state(other, PublisherState::kExact);
  for (std::uint64_t prompt = 10; small.blocks_evicted(kEngine) == before && prompt < 1'000; ++prompt) {
    const std::vector<blocks::KvEvent> events = {stored(prompt, 0, 8)};
    small.apply(other, events);
  }
  ASSERT_GT(small.blocks_evicted(kEngine), before);
  EXPECT_EQ(feed->follower().state(), PublisherState::kExact);
  feed->look_for_evictions();
  EXPECT_EQ(feed->follower().state(), PublisherState::kPartial);
  EXPECT_EQ(counted("warmpath_kv_blocks_evicted_total"), small.blocks_evicted(kEngine));
  feed.reset();
}

TEST_F(FeedTest, ARestartedEngineIsForgottenAndReadAnew) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  publisher.publish({stored(1, 0, 4)});
  publisher.publish({stored(2, 0, 4)});
  ASSERT_TRUE(reaches(2, 4));
  publisher.die();
  ASSERT_TRUE(becomes(PublisherState::kLost));
  EXPECT_EQ(depth(1), 0u);  // lost does not match
  reopen(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(2), 0u);
  publisher.publish({stored(3, 0, 2)});
  ASSERT_TRUE(reaches(3, 2));
  EXPECT_EQ(depth(1), 0u);
  EXPECT_EQ(counted("warmpath_kv_restarts_total"), 1u);
  EXPECT_EQ(feed->follower().state(), PublisherState::kExact);
}

// Its new sequence may have passed the old one before we are connected again.
TEST_F(FeedTest, ARestartIsNoticedWhenTheSequenceIsHigherAlready) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  publisher.publish({stored(1, 0, 4)});
  ASSERT_TRUE(reaches(1, 4));
  publisher.die();
  for (int i = 0; i < 5; ++i) publisher.lose({stored(10 + static_cast<std::uint64_t>(i), 0, 1)});
  ASSERT_TRUE(becomes(PublisherState::kLost));
  reopen(publisher);
  ASSERT_TRUE(reaches(14, 1));
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(1), 0u);
  EXPECT_EQ(counted("warmpath_kv_restarts_total"), 1u);
}

TEST_F(FeedTest, HurryingWhatIsConnectedDoesNothing) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  const auto before = states;
  feed->hurry();
  publisher.publish({stored(1, 0, 2)});
  ASSERT_TRUE(reaches(1, 2));
  EXPECT_EQ(states, before);
  EXPECT_EQ(publisher.replays_asked, 1u);
}

TEST_F(FeedTest, WithoutAReplayEndpointAnEngineFoundLateIsPartial) {
  TestPublisher publisher(loop, TestPublisher::Replay::kNone);
  publisher.lose({stored(1, 0, 1)});
  follow(publisher);
  EXPECT_EQ(feed->follower().state(), PublisherState::kPartial);
  EXPECT_FALSE(feed->heard());
  // The subscription reaches the publisher some time after the connection: what is sent before it is gone.
  ASSERT_TRUE(io::RunUntil(loop, [&] {
    publisher.publish({stored(2, 0, 2)});
    return depth(2) == 2;
  }));
  EXPECT_EQ(feed->follower().state(), PublisherState::kPartial);
  publisher.lose({stored(3, 0, 1)});
  publisher.publish({stored(4, 0, 1)});
  ASSERT_TRUE(reaches(4, 1));
  ASSERT_TRUE(becomes(PublisherState::kSuspect));  // a removal may be what was lost
  publisher.publish({blocks::AllBlocksCleared{}});
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(2), 0u);
}

TEST_F(FeedTest, ASilentReplaySocketDoesNotStopLiveEvents) {
  TestPublisher publisher(loop, TestPublisher::Replay::kSilent);
  publisher.lose({stored(2, 0, 2)});
  follow(publisher);
  ASSERT_TRUE(io::RunUntil(loop, [&] {
    publisher.publish({stored(1, 0, 2)});
    return depth(1) == 2;
  }));
  EXPECT_EQ(feed->follower().state(), PublisherState::kPartial);
  EXPECT_EQ(depth(2), 0u);
  ASSERT_TRUE(io::RunUntil(loop, [&] { return publisher.replays_asked >= 2; }));
  EXPECT_GE(counted("warmpath_kv_replays_failed_total"), 1u);
  publisher.set_replay(TestPublisher::Replay::kAnswer);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(1), 2u);
  EXPECT_EQ(depth(2), 2u);
}

// vLLM up to 0.32 drops what a slow reader leaves, the end marker included.
TEST_F(FeedTest, AReplayThatBreaksOffIsAskedAgainFromTheHole) {
  TestPublisher publisher(loop, TestPublisher::Replay::kNoMarker);
  publisher.replay_pieces_max = 4;
  for (std::uint64_t prompt = 1; prompt <= 6; ++prompt) publisher.lose({stored(prompt, 0, 2)});
  follow(publisher);
  ASSERT_TRUE(io::RunUntil(loop, [&] { return depth(6) == 2; }));
  publisher.set_replay(TestPublisher::Replay::kAnswer);
  publisher.replay_pieces_max = 100;
  ASSERT_TRUE(becomes(PublisherState::kExact));
  for (std::uint64_t prompt = 1; prompt <= 6; ++prompt) EXPECT_EQ(depth(prompt), 2u) << prompt;
  EXPECT_GE(publisher.replays_asked, 3u);
}

TEST_F(FeedTest, BrokenFramesAreCountedAndRepaired) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(reaches(1, 1));
  const std::string far = std::string(7, '\0') + '\x09';
  for (const std::vector<std::string>& frames :
       std::vector<std::vector<std::string>>{{""},
                                             {"kv", "short", "x"},
                                             {"kv", far},
                                             {"kv", far, "\x93", "more"},
                                             {"kv", std::string(8, '\0'), "\xc1garbage"}}) {
    publisher.send_frames(frames);
  }
  ASSERT_TRUE(io::RunUntil(loop, [&] { return counted("warmpath_kv_batches_malformed_total") >= 4; }));
  ASSERT_TRUE(becomes(PublisherState::kExact));
  // A batch whose content cannot be read is a hole: the replay brings it whole.
  publisher.lose({stored(1, 1, 1)});
  publisher.send_frames({"kv", std::string(7, '\0') + '\x01', "\x93\xc1"});
  ASSERT_TRUE(reaches(1, 2));
  ASSERT_TRUE(becomes(PublisherState::kExact));
}

TEST_F(FeedTest, BoundTheEngineDialsOutToUs) {
  io::ZmqOptions probe;
  probe.kind = io::ZmqKind::kSub;
  probe.attach = io::ZmqOptions::Attach::kBind;
  probe.endpoint = "tcp://127.0.0.1:*";
  probe.topics = {""};
  std::string address;
  {
    auto socket = io::ZmqSocket::open(loop, probe, {});
    ASSERT_TRUE(socket.ok());
    address = (*socket)->bound_endpoint();
    const auto taken = make({address, "", "", EventSource::Side::kBind});
    ASSERT_FALSE(taken.ok());
    EXPECT_EQ(taken.error().kind, ErrorKind::kConflict);
  }
  ASSERT_TRUE(io::RunUntil(loop, [&] { return make({address, "", "", EventSource::Side::kBind}).ok(); }));
  TestPublisher publisher(loop, TestPublisher::Replay::kNone, address);
  ASSERT_TRUE(io::RunUntil(loop, [&] { return feed->connected(); }));
  ASSERT_TRUE(io::RunUntil(loop, [&] {
    publisher.publish({stored(1, 0, 3)});
    return depth(1) == 3;
  }));
  feed->hurry();  // a bound socket has nobody to hurry to
  publisher.die();
  ASSERT_TRUE(becomes(PublisherState::kLost));
}

TEST_F(FeedTest, AddressesThatAreNone) {
  for (const char* bad : {"tcp://", "tcp://127.0.0.1", "ipc:///tmp/x", "nonsense", "tcp://127.0.0.1:99999"}) {
    const auto opened = make({bad, "", "", EventSource::Side::kConnect});
    ASSERT_FALSE(opened.ok()) << bad;
    EXPECT_EQ(opened.error().kind, ErrorKind::kInvalid) << bad;
  }
}

TEST_F(FeedTest, AnEngineThatIsBackIsConnectedAtOnceWhenHurried) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(reaches(1, 1));
  publisher.die();
  ASSERT_TRUE(becomes(PublisherState::kLost));
  // libzmq tries at 0.1 s, 0.2 s, … 5 s: after a long time away it would be seconds.
  reopen(publisher);
  feed->hurry();
  const Instant begun = loop.now();
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_LT(loop.now() - begun, std::chrono::seconds(2));
}

TEST_F(FeedTest, DestroyedAtAnyMoment) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  for (std::uint64_t i = 0; i < 40; ++i) publisher.lose({stored(i + 1, 0, 2)});
  // After 0, 1, 2, … turns of the loop: before the connection, in the replay, behind it.
  for (int turns = 0; turns < 60; ++turns) {
    ASSERT_TRUE(make({publisher.live_endpoint(), publisher.replay_endpoint(), "", EventSource::Side::kConnect}).ok());
    int turn = 0;
    io::Timer keep_turning;
    std::function<void()> again = [&] { keep_turning = loop.after(Duration{0}, again); };
    again();
    ASSERT_TRUE(io::RunUntil(loop, [&] { return ++turn > turns * 5; }));
    publisher.publish({stored(1, 0, 2)});
    feed.reset();
    io::Settle(loop);
  }
}

// What one life of the router writes down and the next one goes on from.
struct RestoreTest : FeedTest {
  index::SnapshotEngine written() {
    auto standing = feed->standing();
    EXPECT_TRUE(standing);
    auto blocks = index.copy(kEngine);
    standing->blocks = blocks->blocks;
    standing->parts = std::move(blocks->parts);
    standing->started_at_s = 1'000;
    return *std::move(standing);
  }
  // Another index takes the place of the first.
  Result<std::uint64_t> begin_again(TestPublisher& publisher, index::SnapshotEngine from,
                                    std::optional<double> started_at_s, std::string replay) {
    feed.reset();
    states.clear();
    index.forget(kEngine);
    index.set_state(kEngine, PublisherState::kLost);
    EXPECT_TRUE(make({publisher.live_endpoint(), std::move(replay), "", EventSource::Side::kConnect}).ok());
    return feed->restore(std::move(from), started_at_s);
  }
};

TEST_F(RestoreTest, ItMatchesAtOnceAndTheDifferenceIsReplayed) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 6)});
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  const index::SnapshotEngine from = written();
  publisher.lose({stored(1, 6, 2)});
  const auto restored = begin_again(publisher, from, 1'000.4, publisher.replay_endpoint());
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(*restored, 6u);
  EXPECT_EQ(depth(1), 6u) << "before a connection stands";
  EXPECT_EQ(states, std::vector<PublisherState>{PublisherState::kSuspect});
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(1), 8u);
  EXPECT_EQ(counted("warmpath_kv_restarts_total"), 0u);
}

TEST_F(RestoreTest, AnEngineThatWasRestartedIsForgotten) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 6)});
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  const index::SnapshotEngine from = written();
  feed.reset();
  publisher.die();
  reopen(publisher);
  publisher.lose({stored(2, 0, 3)});  // the same sequence, another batch
  ASSERT_TRUE(begin_again(publisher, from, std::nullopt, publisher.replay_endpoint()).ok());
  EXPECT_EQ(depth(1), 6u) << "suspect: nobody knows yet";
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(1), 0u);
  EXPECT_EQ(depth(2), 3u);
  EXPECT_EQ(counted("warmpath_kv_restarts_total"), 1u);
}

TEST_F(RestoreTest, WhereItsStartTellsTheRestartNothingIsTakenOver) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 6)});
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_FALSE(begin_again(publisher, written(), 2'000, publisher.replay_endpoint()).ok());
  EXPECT_EQ(depth(1), 0u);
  ASSERT_TRUE(becomes(PublisherState::kExact)) << "learned anew";
}

TEST_F(RestoreTest, WithoutAReplaySocketOnlyItsStartTells) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 6)});
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  const index::SnapshotEngine from = written();
  EXPECT_FALSE(begin_again(publisher, from, std::nullopt, "").ok());
  EXPECT_EQ(depth(1), 0u);
  ASSERT_TRUE(begin_again(publisher, from, 1'000, "").ok());
  EXPECT_EQ(depth(1), 6u);
  ASSERT_TRUE(io::RunUntil(loop, [&] { return feed->heard() || (publisher.publish({stored(1, 6, 1)}), false); }));
  EXPECT_EQ(feed->follower().state(), PublisherState::kSuspect);
}

TEST_F(RestoreTest, BlocksThatAreNotAsWrittenAreRefused) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  publisher.lose({stored(1, 0, 6)});
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  index::SnapshotEngine from = written();
  from.parts.at(0).pop_back();
  EXPECT_FALSE(begin_again(publisher, from, std::nullopt, publisher.replay_endpoint()).ok());
  ASSERT_TRUE(becomes(PublisherState::kExact));
  EXPECT_EQ(depth(1), 6u) << "learned anew";
}

TEST_F(FeedTest, HeldItWaitsAndReleasedItGoesOn) {
  TestPublisher publisher(loop, TestPublisher::Replay::kAnswer);
  follow(publisher);
  ASSERT_TRUE(becomes(PublisherState::kExact));
  publisher.publish({stored(1, 0, 1)});
  ASSERT_TRUE(reaches(1, 1));
  feed->hold();
  publisher.publish({stored(1, 1, 2)});
  bool passed = false;
  const auto timer = loop.after(std::chrono::milliseconds(100), [&] { passed = true; });
  ASSERT_TRUE(io::RunUntil(loop, [&] { return passed; }));
  EXPECT_EQ(depth(1), 1u);
  EXPECT_EQ(feed->standing()->mark.seq, PublisherSeq(0));
  feed->release();
  ASSERT_TRUE(reaches(1, 3));
  EXPECT_EQ(counted("warmpath_kv_gaps_total"), 0u);
}

}  // namespace
}  // namespace warmpath::ingest
