#include "route/route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "route/testing.h"

namespace warmpath::route {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CoreTest, GoesToTheEngineThatHoldsThePrefix) {
  Pool pool("precise");
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(2), ids);
  const Forward forward = pool.forwarded(1, ids);
  EXPECT_EQ(forward.engine, EngineId(2));
  EXPECT_EQ(forward.attempt, 1u);
  EXPECT_EQ(forward.predicted_cached_tokens, 96u);
  ASSERT_NE(forward.receipt, nullptr);
  EXPECT_TRUE(forward.receipt->exact);
  EXPECT_EQ(forward.receipt->chain_blocks, 6u);
  const Snapshot picture = pool.snapshot();
  EXPECT_EQ(picture.engines[2].inflight_tokens, 100u);
  EXPECT_EQ(picture.engines[2].inflight_prefill_tokens, 4u);
  pool.step(FirstByte{RequestId(1)});
  EXPECT_TRUE(pool.step(Finished{RequestId(1), Usage{100, 5, 96}}).empty());
  pool.expect_empty_books();
}

TEST(CoreTest, SeveralPromptsGoWhereMostOfAllOfThemIs) {
  Pool pool("precise");
  const auto longest = ids_of(1, 80);
  const std::vector<std::vector<TokenId>> others = {ids_of(1'000, 50), ids_of(2'000, 50), ids_of(3'000, 50)};
  pool.store(EngineId(0), longest);
  for (const auto& ids : others) pool.store(EngineId(2), ids);
  const auto prompts = std::vector<std::vector<TokenId>>{others[0], longest, others[1], others[2]};
  const Forward forward = Pool::only<Forward>(pool.step(pool.request(1, prompts)));
  EXPECT_EQ(forward.engine, EngineId(2)) << "9 blocks of three prompts, not 5 of the longest";
  EXPECT_EQ(forward.predicted_cached_tokens, 144u);
  EXPECT_EQ(forward.receipt->chain_blocks, 14u);
  EXPECT_TRUE(forward.receipt->exact);
  // Of engine 0's five blocks the last holds the prompt's last token, which is computed again.
  EXPECT_EQ(forward.receipt->candidates[0].matched_tokens, 64u);
  pool.step(Finished{RequestId(1), Usage{230, 5, 48}});
  EXPECT_TRUE(pool.snapshot().proofs.empty()) << "the engine reports what was cached of one of them";
  pool.expect_empty_books();
}

TEST(CoreTest, OfSeveralPromptsEachIsKnownOrPromised) {
  Pool pool("precise", 1);
  const auto promised = ids_of(1, 50);
  const auto known = ids_of(1'000, 66);
  pool.forwarded(1, promised);
  pool.store(EngineId(0), known);
  const auto both = std::vector<std::vector<TokenId>>{promised, known};
  const Forward forward = Pool::only<Forward>(pool.step(pool.request(2, both)));
  EXPECT_EQ(forward.predicted_cached_tokens, 48u + 64u) << "the larger of each, not the larger sum";
}

TEST(CoreTest, EachOfSeveralPromptsIsExpectedWhereTheyWereJustRouted) {
  Pool pool("precise", 8);
  const std::vector<std::vector<TokenId>> prompts = {ids_of(1, 50), ids_of(1'000, 50)};
  const Forward first = Pool::only<Forward>(pool.step(pool.request(1, prompts)));
  EXPECT_EQ(first.predicted_cached_tokens, 0u);
  const Forward second = pool.forwarded(2, prompts[1]);
  EXPECT_EQ(second.engine, first.engine);
  EXPECT_EQ(second.predicted_cached_tokens, 48u);
  pool.step(ClientGone{RequestId(1)});
  pool.step(ClientGone{RequestId(2)});
  pool.expect_empty_books();
}

TEST(CoreTest, GuessesOfSeveralPromptsAddUpAndAreCappedOneByOne) {
  CoreOptions options;
  Pool pool("approximate-2025", 2, options);
  const std::uint32_t cap = pool.core().policy().guess_blocks_max();
  ASSERT_GT(cap, 0u);
  for (std::uint32_t id = 0; id < 2; ++id) pool.set_state(EngineId(id), blocks::PublisherState::kLost);
  const std::size_t block_ids = pool.core().policy().guess_block_bytes() / 4;
  const std::vector<std::vector<TokenId>> prompts = {ids_of(1, (cap + 3) * block_ids), ids_of(500'000, 2 * block_ids)};
  const Forward first = Pool::only<Forward>(pool.step(pool.request(1, prompts)));
  EXPECT_EQ(first.receipt->guessed_blocks, cap + 2);
  const Forward second = Pool::only<Forward>(pool.step(pool.request(2, prompts)));
  EXPECT_EQ(second.engine, first.engine);
  EXPECT_EQ(second.receipt->candidates[first.engine.value()].matched_tokens / kBlockTokens,
            (cap + 2) * block_ids / kBlockTokens);
}

TEST(CoreTest, PredictionsAndReportsMeetInTheProof) {
  Pool pool("precise", 1);
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(0), ids);
  pool.forwarded(1, ids);
  pool.step(Finished{RequestId(1), Usage{100, 5, 96}});
  pool.forwarded(2, ids);
  pool.step(Finished{RequestId(2), Usage{100, 5, 64}});
  pool.forwarded(3, ids);
  pool.step(Finished{RequestId(3), Usage{100, 5, std::nullopt}});  // the engine does not tell: no proof
  pool.forwarded(4, ids);
  pool.step(Finished{RequestId(4), std::nullopt});
  const Snapshot picture = pool.snapshot();
  ASSERT_EQ(picture.proofs.size(), 1u);
  const EngineProof& proof = picture.proofs[0];
  EXPECT_EQ(proof.requests, 2u);
  EXPECT_EQ(proof.requests_equal, 1u);
  EXPECT_EQ(proof.predicted_cached_tokens, 192u);
  EXPECT_EQ(proof.reported_cached_tokens, 160u);
  EXPECT_EQ(proof.prompt_tokens, 200u);
  EXPECT_DOUBLE_EQ(proof.absolute_error_tokens_recent, 16.0);
  ASSERT_EQ(picture.decisions.size(), 4u);
  EXPECT_EQ(picture.decisions[0].id, RequestId(4)) << "newest first";
  EXPECT_EQ(picture.decisions[0].reported_cached_tokens, std::nullopt);
  EXPECT_EQ(picture.decisions[2].reported_cached_tokens, 64u);
  EXPECT_EQ(picture.decisions[3].reported_cached_tokens, 96u);
  EXPECT_EQ(picture.finished_total, 4u);
  EXPECT_EQ(picture.decisions_total, 4u);
}

TEST(CoreTest, GuessesDoNotEnterTheProof) {
  Pool pool("precise", 1);
  pool.set_state(EngineId(0), blocks::PublisherState::kLost);
  const auto ids = ids_of(1, 200);
  pool.forwarded(1, ids);
  pool.step(Finished{RequestId(1), Usage{200, 5, 0}});
  const Forward second = pool.forwarded(2, ids);
  EXPECT_EQ(second.predicted_cached_tokens, 192u) << "guessed";
  EXPECT_FALSE(second.receipt->exact);
  pool.step(Finished{RequestId(2), Usage{200, 5, 192}});
  EXPECT_TRUE(pool.snapshot().proofs.empty());
}

TEST(CoreTest, WhatWasJustRoutedDoesNotEnterTheProof) {
  Pool pool("precise", 1);
  const auto ids = ids_of(1, 200);
  pool.forwarded(1, ids);  // nothing held, nothing promised: a proof
  EXPECT_EQ(pool.forwarded(2, ids).predicted_cached_tokens, 192u) << "promised by the first";
  pool.step(Finished{RequestId(1), Usage{200, 5, 0}});
  pool.step(Finished{RequestId(2), Usage{200, 5, 192}});
  ASSERT_EQ(pool.snapshot().proofs.size(), 1u);
  EXPECT_EQ(pool.snapshot().proofs[0].requests, 1u);
  pool.store(EngineId(0), ids);  // the events tell as much as was promised
  pool.forwarded(3, ids);
  pool.step(Finished{RequestId(3), Usage{200, 5, 192}});
  EXPECT_EQ(pool.snapshot().proofs[0].requests, 2u);
  EXPECT_EQ(pool.snapshot().proofs[0].requests_equal, 2u);
}

TEST(CoreTest, ALastingDifferenceComesAndGoes) {
  Pool pool("precise", 1);
  std::uint64_t id = 0;
  const auto ask = [&](std::uint64_t reported) {
    ++id;
    pool.forwarded(id, ids_of(static_cast<std::uint32_t>(id), 200));
    pool.step(Finished{RequestId(id), Usage{200, 5, reported}});
    return pool.snapshot().proofs.at(0);
  };
  for (int i = 0; i < 49; ++i) EXPECT_FALSE(ask(192).differs()) << "too few to tell";
  EXPECT_TRUE(ask(192).differs());
  EXPECT_DOUBLE_EQ(ask(192).allowed_tokens(), 64.0);
  int equal = 0;
  while (ask(0).differs()) ASSERT_LT(++equal, 100) << "it ends";
  EXPECT_GT(equal, 20) << "not forgotten at once";
}

TEST(CoreTest, RequestsJustRoutedDrawTheirLike) {
  Pool pool("precise", 8);
  const auto ids = ids_of(1, 160);
  const Forward first = pool.forwarded(1, ids);
  EXPECT_EQ(first.predicted_cached_tokens, 0u);
  pool.step(FirstByte{RequestId(1)});
  const Forward second = pool.forwarded(2, ids);
  EXPECT_EQ(second.engine, first.engine);
  EXPECT_EQ(second.predicted_cached_tokens, 144u);
  pool.step(FirstByte{RequestId(2)});
  pool.now = pool.now + seconds(3);  // the entries have expired and no event came
  EXPECT_EQ(pool.forwarded(3, ids).predicted_cached_tokens, 0u);
}

// An engine that evicted or cleared what it computed a second ago says so in its events: they are believed.
TEST(CoreTest, OnceTheAnswerHasBegunEventsKnowBetterThanTheRouting) {
  for (const bool whole : {false, true}) {
    SCOPED_TRACE(whole);
    Pool pool("precise", 1);
    const auto ids = ids_of(1, 160);
    pool.forwarded(1, ids);
    pool.now = pool.now + milliseconds(1'000);
    if (!whole) pool.step(FirstByte{RequestId(1)});
    if (whole) pool.step(Finished{RequestId(1), {}});
    EXPECT_EQ(pool.forwarded(2, ids).predicted_cached_tokens, 144u) << "events may be on their way";
    pool.step(ClientGone{RequestId(2)});
    pool.now = pool.now + milliseconds(300);
    EXPECT_EQ(pool.forwarded(3, ids).predicted_cached_tokens, 0u);
  }
}

TEST(CoreTest, AClientThatLeavesIsCancelledAndItsEntriesRolledBack) {
  Pool pool("precise", 8);
  const auto ids = ids_of(1, 160);
  const Forward first = pool.forwarded(1, ids);
  const Cancel cancel = Pool::only<Cancel>(pool.step(ClientGone{RequestId(1)}));
  EXPECT_EQ(cancel.id, RequestId(1));
  EXPECT_EQ(cancel.engine, first.engine);
  EXPECT_TRUE(pool.step(ClientGone{RequestId(1)}).empty());
  EXPECT_TRUE(pool.step(Finished{RequestId(1), Usage{1, 1, 1}}).empty()) << "late news";
  EXPECT_EQ(pool.forwarded(2, ids).predicted_cached_tokens, 0u);
  EXPECT_EQ(pool.snapshot().cancelled_total, 1u);
  pool.step(ClientGone{RequestId(2)});
  pool.expect_empty_books();
}

TEST(CoreTest, AFailureBeforeTheFirstByteIsTriedElsewhere) {
  Pool pool("precise");
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(1), ids);
  ASSERT_EQ(pool.forwarded(1, ids).engine, EngineId(1));
  const Forward second = Pool::only<Forward>(pool.step(failed(1, EngineId(1), ErrorKind::kUnavailable)));
  EXPECT_NE(second.engine, EngineId(1));
  EXPECT_EQ(second.attempt, 2u);
  EXPECT_EQ(second.predicted_cached_tokens, 0u);
  EXPECT_EQ(second.receipt->candidates.size(), 2u);
  EXPECT_TRUE(pool.step(failed(1, EngineId(1))).empty()) << "that engine no longer has the request";
  const Forward third = Pool::only<Forward>(pool.step(failed(1, second.engine, ErrorKind::kUnavailable)));
  EXPECT_EQ(third.attempt, 3u);
  EXPECT_NE(third.engine, EngineId(1));
  EXPECT_NE(third.engine, second.engine);
  const Reject reject = Pool::only<Reject>(pool.step(failed(1, third.engine, ErrorKind::kUnavailable)));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUnavailable);
  EXPECT_GT(reject.retry_after, Duration(0));
  EXPECT_EQ(pool.snapshot().retries_total, 2u);
  EXPECT_EQ(pool.snapshot().rejected_total, 1u);
  pool.expect_empty_books();
}

TEST(CoreTest, AttemptsAreBounded) {
  Pool pool("random", 8, {.attempts_max = 2});
  const Forward first = pool.forwarded(1, {});
  const Forward second = Pool::only<Forward>(pool.step(failed(1, first.engine, ErrorKind::kUnavailable)));
  const Reject reject = Pool::only<Reject>(pool.step(failed(1, second.engine, ErrorKind::kUnavailable)));
  EXPECT_THAT(reject.error.message, HasSubstr("2 engines"));
}

TEST(CoreTest, NoRetryOnceAByteCameOrWhenTheCallerForbidsIt) {
  Pool pool("random");
  Forward forward = pool.forwarded(1, {});
  pool.step(FirstByte{RequestId(1)});
  Reject reject = Pool::only<Reject>(pool.step(failed(1, forward.engine)));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUpstream);
  forward = pool.forwarded(2, {});
  pool.step(Progress{RequestId(2), 5});
  Pool::only<Reject>(pool.step(failed(2, forward.engine)));
  forward = pool.forwarded(3, {});
  Failed final = failed(3, forward.engine, ErrorKind::kTimeoutEngine);
  final.retry = Failed::Retry::kMayNot;
  reject = Pool::only<Reject>(pool.step(final));
  EXPECT_EQ(reject.error.kind, ErrorKind::kTimeoutEngine);
  pool.expect_empty_books();
}

TEST(CoreTest, ARequestThatBreaksEnginesIsGivenUp) {
  Pool pool("random", 8, {.attempts_max = 8});
  Forward forward = pool.forwarded(1, {});
  forward = Pool::only<Forward>(pool.step(failed(1, forward.engine, ErrorKind::kUnavailable)));  // unreached: no death
  forward = Pool::only<Forward>(pool.step(failed(1, forward.engine, ErrorKind::kUpstream)));
  Failed busy = failed(1, forward.engine, ErrorKind::kExhausted);
  busy.blame = Failed::Blame::kNone;  // a 429: no death either
  forward = Pool::only<Forward>(pool.step(busy));
  const Reject reject = Pool::only<Reject>(pool.step(failed(1, forward.engine, ErrorKind::kTimeoutEngine)));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUpstream);
  EXPECT_THAT(reject.error.message, HasSubstr("2 engines broke off"));
  EXPECT_EQ(pool.snapshot().poisoned_total, 1u);
}

TEST(CoreTest, AnswersOfBusyEnginesDoNotSetThemAside) {
  Pool pool("random", 1);
  for (std::uint64_t id = 1; id <= 10; ++id) {
    const Forward forward = pool.forwarded(id, {});
    Failed busy = failed(id, forward.engine, ErrorKind::kExhausted);
    busy.blame = Failed::Blame::kNone;
    EXPECT_EQ(Pool::only<Reject>(pool.step(busy)).error.kind, ErrorKind::kExhausted);
  }
  EXPECT_EQ(pool.snapshot().engines[0].liveness, fleet::Liveness::kUnknown);
}

TEST(CoreTest, HalfTheEnginesRefusingCostsNoRequest) {
  Pool pool("random", 8, {.attempts_max = 5});
  std::uint64_t connects_refused = 0;
  for (std::uint64_t id = 1; id <= 1'000; ++id) {
    std::vector<Effect> effects = pool.arrive(id, {});
    while (true) {
      ASSERT_EQ(effects.size(), 1u);
      ASSERT_TRUE(std::holds_alternative<Forward>(effects[0])) << "request " << id << " was refused";
      const Forward forward = std::get<Forward>(effects[0]);
      if (forward.engine.value() % 2 == 1) break;
      ++connects_refused;
      effects = pool.step(failed(id, forward.engine, ErrorKind::kUnavailable));
    }
    pool.step(FirstByte{RequestId(id)});
    pool.step(Finished{RequestId(id), {}});
    pool.now = pool.now + milliseconds(1);
  }
  EXPECT_LE(connects_refused, 12u) << "three each, then set aside";
  pool.expect_empty_books();
}

TEST(CoreTest, OtherRanksOfAnUnreachedProcessAreTriedLast) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Pool pool("random", 0, {.seed = seed, .attempts_max = 8});
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      fleet::EngineInfo info = engine(rank);
      info.url = "http://one:8000";
      info.rank = rank;
      pool.add(info);
    }
    pool.add(engine(4));
    const Forward first = pool.forwarded(1, {});
    const Forward second = Pool::only<Forward>(pool.step(failed(1, first.engine, ErrorKind::kUnavailable)));
    if (first.engine != EngineId(4)) {
      EXPECT_EQ(second.engine, EngineId(4));
    }
    // Where no other process is left its ranks are better than nothing.
    Pool::only<Forward>(pool.step(failed(1, second.engine, ErrorKind::kUnavailable)));
  }
}

TEST(CoreTest, ModelsAndLivenessFilter) {
  Pool pool("random", 0);
  pool.add(engine(0, {"model", "adapter"}));
  pool.add(engine(1, {"model"}));
  Arrived arrived;
  arrived.model = "adapter";
  for (std::uint64_t id = 1; id <= 10; ++id) {
    arrived.id = RequestId(id);
    EXPECT_EQ(Pool::only<Forward>(pool.step(arrived)).engine, EngineId(0));
  }
  pool.step(EngineChanged{fleet::LivenessChanged{EngineId(0), fleet::Liveness::kDraining}});
  arrived.id = RequestId(11);
  const Reject reject = Pool::only<Reject>(pool.step(arrived));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUnavailable);
  EXPECT_GT(reject.retry_after, Duration(0));
  arrived.id = RequestId(12);
  arrived.model = "nobody's";
  Pool::only<Reject>(pool.step(arrived));
  EXPECT_EQ(pool.snapshot().rejected_total, 2u);
}

TEST(CoreTest, BoundOnRequestsInFlight) {
  Pool pool("random", 2, {.gate = {.inflight_requests_max = 2}});
  pool.forwarded(1, {});
  pool.forwarded(2, {});
  EXPECT_EQ(Pool::only<Reject>(pool.arrive(3, {})).error.kind, ErrorKind::kUnavailable);
  pool.step(Finished{RequestId(1), {}});
  pool.forwarded(4, {});
}

TEST(CoreTest, RequestsOfARemovedEngineRunOnOrAreRetried) {
  Pool pool("precise", 3);
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(1), ids);
  ASSERT_EQ(pool.forwarded(1, ids).engine, EngineId(1));
  pool.step(FirstByte{RequestId(1)});
  ASSERT_EQ(pool.forwarded(2, ids).engine, EngineId(1));
  EXPECT_TRUE(pool.step(EngineChanged{fleet::Removed{EngineId(1)}}).empty());
  EXPECT_TRUE(pool.step(Finished{RequestId(1), Usage{100, 1, 96}}).empty());
  EXPECT_TRUE(pool.snapshot().proofs.empty()) << "no proof is kept of an engine that is gone";
  const Forward retry = Pool::only<Forward>(pool.step(failed(2, EngineId(1))));
  EXPECT_NE(retry.engine, EngineId(1));
  pool.step(PublisherChanged{EngineId(1), blocks::PublisherState::kExact});  // late news
  pool.step(Finished{RequestId(2), {}});
  pool.expect_empty_books();
}

TEST(CoreTest, WhatWasJustRoutedToAnEngineThatWentDownIsNoLongerGuessed) {
  Pool pool("precise", 1);
  const auto ids = ids_of(1, 100);
  pool.forwarded(1, ids);
  pool.step(FirstByte{RequestId(1)});
  pool.step(Finished{RequestId(1), {}});
  EXPECT_GT(pool.forwarded(2, ids).predicted_cached_tokens, 0u);
  pool.step(Finished{RequestId(2), {}});
  pool.step(EngineChanged{fleet::LivenessChanged{EngineId(0), fleet::Liveness::kDown}});
  pool.step(EngineChanged{fleet::LivenessChanged{EngineId(0), fleet::Liveness::kUp}});
  EXPECT_EQ(pool.forwarded(3, ids).predicted_cached_tokens, 0u);
}

TEST(CoreTest, ApproximateFollowsItsOwnDecisions) {
  for (const std::string_view name : {"approximate", "approximate-2025"}) {
    SCOPED_TRACE(name);
    Pool pool(name, 8);
    const auto ids = ids_of(1, 640);
    const EngineId first = pool.forwarded(1, ids).engine;
    pool.step(FirstByte{RequestId(1)});
    pool.step(Finished{RequestId(1), {}});
    for (std::uint64_t id = 2; id <= 20; ++id) {
      pool.now = pool.now + seconds(10);  // no expiry: an LRU
      EXPECT_EQ(pool.forwarded(id, ids).engine, first);
      pool.step(FirstByte{RequestId(id)});
      pool.step(Finished{RequestId(id), {}});
    }
    pool.step(EngineChanged{fleet::Removed{first}});
    EXPECT_NE(pool.forwarded(21, ids).engine, first);
  }
}

TEST(CoreTest, GuessedChainsAreCutAtThePolicysCap) {
  Pool pool("approximate-2025", 1);
  const Forward forward = pool.forwarded(1, ids_of(1, 16 * 300));
  EXPECT_EQ(forward.receipt->guessed_blocks, 256u);
}

TEST(CoreTest, ReceiptsAreARing) {
  Pool pool("random", 2, {.receipts_max = 3});
  for (std::uint64_t id = 1; id <= 5; ++id) pool.forwarded(id, {});
  pool.step(Finished{RequestId(1), Usage{1, 1, 0}});  // its record is gone: nothing to fill in
  pool.step(Finished{RequestId(4), Usage{1, 1, 0}});
  const Snapshot picture = pool.snapshot();
  std::vector<std::uint64_t> ids;
  for (const DecisionRecord& record : picture.decisions) ids.push_back(record.id.value());
  EXPECT_THAT(ids, ElementsAre(5, 4, 3));
  EXPECT_EQ(picture.decisions[1].reported_cached_tokens, 0u);
  EXPECT_EQ(pool.snapshot(1).decisions.size(), 1u);
}

TEST(CoreTest, WorksWithoutAnIndex) {
  CoreOptions options;
  options.policy = policy("precise");
  Core core(options, nullptr);
  std::vector<Effect> out;
  core.step(EngineChanged{fleet::Added{engine(0)}}, at_ms(0), out);
  Arrived arrived;
  arrived.id = RequestId(1);
  arrived.chain = {BlockKey(1), BlockKey(2)};
  arrived.prompt_tokens = 128;
  core.step(arrived, at_ms(0), out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<Forward>(out[0]));
  EXPECT_EQ(core.snapshot(at_ms(0), 1).policy, "precise");
}

TEST(CoreDeathTest, AnIdInFlightTwiceIsABug) {
  Pool pool("random", 1);
  pool.forwarded(1, {});
  EXPECT_DEATH(pool.arrive(1, {}), "requests.contains");
}

TEST(CoreTest, SameSeedSameDecisions) {
  for (const schedule::Policy* one : schedule::policies()) {
    std::vector<std::uint32_t> runs[3];
    for (int run = 0; run < 3; ++run) {
      Pool pool(one->name(), 8, {.seed = run == 2 ? 8u : 7u});
      for (std::uint64_t id = 1; id <= 64; ++id) {
        runs[run].push_back(pool.forwarded(id, ids_of(static_cast<std::uint32_t>(id % 5) * 1'000, 100)).engine.value());
      }
    }
    EXPECT_EQ(runs[0], runs[1]) << one->name();
    if (one->name() != "round-robin") {
      EXPECT_NE(runs[0], runs[2]) << one->name();
    }
  }
}

}  // namespace
}  // namespace warmpath::route
