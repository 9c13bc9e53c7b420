#include "schedule/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "schedule/policy_list.h"

namespace warmpath::schedule {
namespace {

using std::chrono::milliseconds;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A candidate with a fresh, idle sample whose events are followed.
Candidate candidate(std::uint32_t id) {
  Candidate out;
  out.engine.id = EngineId(id);
  out.engine.liveness = fleet::Liveness::kUp;
  out.engine.block_tokens = 16;
  out.engine.sample_age = Duration(milliseconds(100));
  out.publisher = blocks::PublisherState::kExact;
  return out;
}

View view_of(std::span<const Candidate> candidates) {
  View view;
  view.candidates = candidates;
  view.prompt_tokens = 1'000;
  view.chain_blocks = 62;
  view.block_tokens = 16;
  view.guessed_blocks = 15;
  view.guess_block_tokens = 64;
  return view;
}

std::map<std::string, double> scores_of(const Receipt& receipt, std::uint32_t engine) {
  std::map<std::string, double> scores;
  for (const CandidateReceipt& one : receipt.candidates) {
    if (one.engine != EngineId(engine)) continue;
    for (const ScoreLine& line : one.lines) scores[std::string(line.scorer)] = line.score;
  }
  return scores;
}

const Policy& policy(std::string_view name) {
  const auto found = find_policy(name);
  WP_CHECK(found.ok());
  return **found;
}

double hostile_number(RandomStream& random) {
  constexpr double kNumbers[] = {kNan, kInfinity, -kInfinity, -1, -1e300, 1e300, 0, 0.5, 3, 5e-324};
  return kNumbers[random.below(std::size(kNumbers))];
}

Candidate any_candidate(std::uint32_t id, RandomStream& random, bool hostile) {
  Candidate out = candidate(id);
  const auto number = [&](double most) { return hostile ? hostile_number(random) : random.unit() * most; };
  out.engine.waiting = number(20);
  out.engine.running = number(100);
  out.engine.kv_usage = number(1);
  out.engine.ttft_ms_per_prefill_token = number(1);
  out.engine.inflight_since_sample = static_cast<std::uint32_t>(random.below(5));
  out.engine.inflight_requests = static_cast<std::uint32_t>(random.below(9));
  out.engine.inflight_prefill_tokens = hostile && random.below(2) == 0 ? random.next() : random.below(5'000);
  out.engine.prefill_tokens_recent = number(100'000);
  out.engine.block_tokens = random.below(4) == 0 ? 0 : 16;
  if (random.below(4) == 0) out.engine.sample_age.reset();
  if (random.below(8) == 0) out.engine.sample_age = std::chrono::hours(1);
  out.matched_blocks[0] = static_cast<std::uint32_t>(random.below(hostile ? 100'000 : 63));
  out.matched_blocks[1] = out.matched_blocks[0] + static_cast<std::uint32_t>(random.below(5));
  out.matched_blocks[2] = static_cast<std::uint32_t>(random.below(80));
  out.recent_blocks = static_cast<std::uint32_t>(random.below(63));
  out.approximate_blocks = static_cast<std::uint32_t>(random.below(hostile ? 100'000 : 16));
  out.publisher = static_cast<blocks::PublisherState>(random.below(4));
  return out;
}

// Conformance: every policy of the list, hostile views and sane ones.
class Conformance : public ::testing::TestWithParam<const Policy*> {};

TEST_P(Conformance, TellsWhatItIs) {
  const Policy& policy = *GetParam();
  EXPECT_FALSE(policy.name().empty());
  EXPECT_FALSE(policy.summary().empty());
  EXPECT_EQ(policy.summary().back(), '.');
  EXPECT_FALSE(policy.formula().empty());
  if (policy.needs() == Needs::kGuess) {
    EXPECT_GT(policy.guess_block_bytes(), 0u);
  }
  if (policy.needs() == Needs::kNothing) {
    EXPECT_EQ(policy.guess_block_bytes(), 0u);
  }
  for (const std::uint64_t kv_tokens :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4'096}, std::uint64_t{307'328}}) {
    EXPECT_GT(policy.guess_capacity(kv_tokens), 0u);
  }
}

TEST_P(Conformance, PicksACandidateWithFiniteScoresWhateverTheNumbersAre) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomStream random(seed, "hostile");
    const bool hostile = seed % 2 == 0;
    std::vector<Candidate> candidates;
    const std::uint64_t count = 1 + random.below(12);
    for (std::uint32_t i = 0; i < count; ++i) candidates.push_back(any_candidate(i * 3, random, hostile));
    View view = view_of(candidates);
    view.decisions = random.next();
    if (random.below(4) == 0) view.chain_blocks = 0;
    if (random.below(4) == 0) view.guessed_blocks = 0;
    if (random.below(8) == 0) view.prompt_tokens = static_cast<std::uint32_t>(random.below(2));
    RandomStream picks(seed, "picks");
    const Decision decision = decide(*GetParam(), view, picks);
    ASSERT_LT(decision.candidate, candidates.size());
    ASSERT_EQ(candidates[decision.candidate].engine.id, decision.engine);
    ASSERT_NE(decision.receipt, nullptr);
    const Receipt& receipt = *decision.receipt;
    EXPECT_EQ(receipt.policy, GetParam()->name());
    EXPECT_EQ(receipt.chosen, decision.engine);
    ASSERT_EQ(receipt.candidates.size(), candidates.size());
    EXPECT_GE(receipt.ties, 1u);
    double best = -kInfinity;
    double chosen_total = 0;
    for (const CandidateReceipt& one : receipt.candidates) {
      ASSERT_TRUE(std::isfinite(one.total));
      best = std::max(best, one.total);
      if (one.engine == decision.engine) chosen_total = one.total;
      double sum = 0;
      for (const ScoreLine& line : one.lines) {
        ASSERT_GE(line.score, 0.0) << line.scorer;
        ASSERT_LE(line.score, 1.0) << line.scorer;
        sum += line.weight * line.score;
      }
      EXPECT_DOUBLE_EQ(sum, one.total);
      EXPECT_LE(one.matched_tokens, view.prompt_tokens == 0 ? 0 : view.prompt_tokens - 1);
    }
    EXPECT_EQ(chosen_total, best) << "every policy so far picks the best total";
    EXPECT_EQ(decision.predicted_cached_tokens, predicted_cached_tokens(view, candidates[decision.candidate]));
  }
}

TEST_P(Conformance, SameSeedSamePickAndTheOrderOfCandidatesHasNoSay) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomStream random(seed, "order");
    std::vector<Candidate> candidates;
    for (std::uint32_t i = 0; i < 9; ++i) {
      // Few different values, so that there are ties.
      Candidate one = any_candidate(i, random, false);
      one.engine.waiting = static_cast<double>(random.below(2));
      one.engine.inflight_since_sample = 0;
      one.engine.kv_usage = 0.5;
      one.matched_blocks = {static_cast<std::uint32_t>(random.below(2)) * 30, 30, 30};
      one.recent_blocks = 0;
      one.approximate_blocks = static_cast<std::uint32_t>(random.below(2)) * 10;
      candidates.push_back(one);
    }
    View view = view_of(candidates);
    view.decisions = random.below(1'000);
    RandomStream first(seed, "picks");
    RandomStream second(seed, "picks");
    RandomStream third(seed, "picks");
    const Decision decision = decide(*GetParam(), view, first);
    EXPECT_EQ(decide(*GetParam(), view, second).engine, decision.engine);
    std::vector<Candidate> shuffled = candidates;
    for (std::size_t i = shuffled.size(); i > 1; --i) std::swap(shuffled[i - 1], shuffled[random.below(i)]);
    View other = view;
    other.candidates = shuffled;
    const Decision again = decide(*GetParam(), other, third);
    EXPECT_EQ(again.engine, decision.engine);
    EXPECT_EQ(again.receipt->ties, decision.receipt->ties);
  }
}

TEST_P(Conformance, OneCandidateIsTaken) {
  const std::vector<Candidate> candidates = {candidate(7)};
  View view = view_of(candidates);
  RandomStream random(1, "picks");
  for (int i = 0; i < 10; ++i) {
    view.decisions = static_cast<std::uint64_t>(i);
    EXPECT_EQ(decide(*GetParam(), view, random).engine, EngineId(7));
  }
}

TEST_P(Conformance, EqualCandidatesShareEvenly) {
  std::vector<Candidate> candidates;
  for (std::uint32_t i = 0; i < 8; ++i) candidates.push_back(candidate(i));
  View view = view_of(candidates);
  RandomStream random(11, "picks");
  std::map<std::uint32_t, int> picked;
  constexpr int kDraws = 8'000;
  for (int i = 0; i < kDraws; ++i) {
    view.decisions = static_cast<std::uint64_t>(i);
    ++picked[decide(*GetParam(), view, random).engine.value()];
  }
  ASSERT_EQ(picked.size(), 8u);
  for (const auto& [engine, count] : picked) {
    // 1,000 expected, standard deviation 30.
    EXPECT_NEAR(count, kDraws / 8, 150) << "engine " << engine;
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, Conformance, ::testing::ValuesIn(policies().begin(), policies().end()),
                         [](const auto& tested) {
                           std::string name(tested.param->name());
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(PolicyListTest, NamesAreUniqueAndFound) {
  std::set<std::string_view> names;
  for (const Policy* one : policies()) {
    EXPECT_TRUE(names.insert(one->name()).second) << one->name();
    const auto found = find_policy(one->name());
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(*found, one);
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({std::string_view("random"), std::string_view("round-robin"),
                                              std::string_view("load"), std::string_view("approximate-2025"),
                                              std::string_view("approximate"), std::string_view("precise"),
                                              std::string_view("least-work")}));
}

TEST(PolicyListTest, AMistypedNameIsAnsweredWithTheNearestAndAll) {
  const auto found = find_policy("precice");
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind, ErrorKind::kInvalid);
  EXPECT_THAT(found.error().message, ::testing::HasSubstr("did you mean 'precise'?"));
  for (const Policy* one : policies())
    EXPECT_THAT(found.error().message, ::testing::HasSubstr(std::string(one->name())));
  EXPECT_FALSE(find_policy("").ok());
}

TEST(PolicyListTest, TheDocumentTellsEveryPolicyWithItsFormula) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/docs/policies.md");
  ASSERT_TRUE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  for (const Policy* one : policies()) {
    EXPECT_THAT(text.str(), ::testing::HasSubstr("`" + std::string(one->name()) + "`"));
    EXPECT_THAT(text.str(), ::testing::HasSubstr(std::string(one->formula()))) << one->name();
    EXPECT_THAT(text.str(), ::testing::HasSubstr(std::string(one->summary()))) << one->name();
  }
}

TEST(LoadPolicyTest, ScoresAreLlmdsFormulas) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1), candidate(2)};
  candidates[0].engine.waiting = 10;
  candidates[0].engine.kv_usage = 0.9;
  candidates[1].engine.waiting = 2;
  candidates[1].engine.inflight_since_sample = 2;
  candidates[1].engine.kv_usage = 0.25;
  candidates[2].engine.waiting = 0;
  candidates[2].engine.kv_usage = 1;
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("load"), view_of(candidates), random);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 0)["queue"], 0.0);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 1)["queue"], 0.6);  // (10 - 4) / (10 - 0)
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 2)["queue"], 1.0);
  EXPECT_NEAR(scores_of(*decision.receipt, 0)["kv"], 0.1, 1e-12);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 1)["kv"], 0.75);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 2)["kv"], 0.0);
  EXPECT_EQ(decision.engine, EngineId(1));
  EXPECT_EQ(decision.receipt->ties, 1u);
}

TEST(LoadPolicyTest, ABurstBetweenTwoSamplesSpreads) {
  std::vector<Candidate> candidates;
  for (std::uint32_t i = 0; i < 4; ++i) candidates.push_back(candidate(i));
  RandomStream random(3, "picks");
  std::map<std::uint32_t, int> picked;
  for (int i = 0; i < 400; ++i) {
    const Decision decision = decide(policy("load"), view_of(candidates), random);
    ++candidates[decision.candidate].engine.inflight_since_sample;
    ++picked[decision.engine.value()];
  }
  for (const auto& [engine, count] : picked) EXPECT_EQ(count, 100) << engine;
}

TEST(LoadPolicyTest, AStaleSampleSaysNothing) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].engine.waiting = 50;
  candidates[0].engine.kv_usage = 1;
  candidates[0].engine.sample_age = kSampleStaleAfter + Duration(1);
  candidates[1].engine.waiting = 1;
  candidates[1].engine.kv_usage = 0.5;
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("load"), view_of(candidates), random);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 0)["kv"], 0.5);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 0)["queue"], 1.0);
  candidates[0].engine.sample_age = kSampleStaleAfter;
  const Decision fresh = decide(policy("load"), view_of(candidates), random);
  EXPECT_EQ(fresh.engine, EngineId(1));
}

TEST(RoundRobinPolicyTest, GoesRoundById) {
  const std::vector<Candidate> candidates = {candidate(4), candidate(6), candidate(9)};
  View view = view_of(candidates);
  RandomStream random(1, "picks");
  std::vector<std::uint32_t> picked;
  for (std::uint64_t i = 0; i < 7; ++i) {
    view.decisions = i;
    picked.push_back(decide(policy("round-robin"), view, random).engine.value());
  }
  EXPECT_THAT(picked, ::testing::ElementsAre(4, 6, 9, 4, 6, 9, 4));
}

TEST(ApproximatePoliciesTest, WeightsAndTablesAreAsPublished) {
  const Policy& old = policy("approximate-2025");
  EXPECT_EQ(old.guess_block_bytes(), 64u);
  EXPECT_EQ(old.guess_blocks_max(), 256u);
  EXPECT_EQ(old.guess_capacity(307'328), 31'250u);
  const Policy& own = policy("approximate");
  EXPECT_EQ(own.guess_block_bytes(), 256u);
  EXPECT_EQ(own.guess_blocks_max(), 0u);
  EXPECT_EQ(own.guess_capacity(307'328), 4'802u) << "as many 64-token blocks as the engine has";
  EXPECT_EQ(own.guess_capacity(0), 31'250u);

  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].approximate_blocks = 12;
  candidates[0].engine.waiting = 1;
  candidates[0].engine.kv_usage = 0.5;
  candidates[1].engine.kv_usage = 0.5;
  RandomStream random(1, "picks");
  // 12 of 15 blocks: 0.8. Weighted 1:1:1 the queue of one wins (1.3 against 1.5), 3:2:2 the prefix does (3.4 against
  // 3).
  const Decision by_old = decide(old, view_of(candidates), random);
  EXPECT_EQ(by_old.engine, EngineId(1));
  EXPECT_DOUBLE_EQ(scores_of(*by_old.receipt, 0)["prefix"], 0.8);
  const Decision by_own = decide(own, view_of(candidates), random);
  EXPECT_EQ(by_own.engine, EngineId(0));
  EXPECT_DOUBLE_EQ(by_own.receipt->candidates[0].total, 3 * 0.8 + 2 * 0.5);
}

TEST(PrecisePolicyTest, TheLongestMatchWinsUnlessItsEngineIsBusy) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[1].matched_blocks = {31, 31, 31};
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("precise"), view_of(candidates), random);
  EXPECT_EQ(decision.engine, EngineId(1));
  EXPECT_TRUE(decision.exact);
  EXPECT_EQ(decision.predicted_cached_tokens, 31u * 16);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 1)["prefix"], 0.5);
  candidates[1].engine.waiting = 5;
  EXPECT_EQ(decide(policy("precise"), view_of(candidates), random).engine, EngineId(0));
}

TEST(PrecisePolicyTest, EntriesOfRequestsJustRoutedCountAsMatch) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].matched_blocks = {10, 10, 10};
  candidates[1].recent_blocks = 62;
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("precise"), view_of(candidates), random);
  EXPECT_EQ(decision.engine, EngineId(1));
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 1)["prefix"], 1.0);
}

TEST(PrecisePolicyTest, SlowerTiersAndDoubtfulMapsCountLess) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1), candidate(2), candidate(3), candidate(4)};
  for (Candidate& one : candidates) one.matched_blocks = {62, 62, 62};
  candidates[1].matched_blocks = {0, 62, 62};
  candidates[2].matched_blocks = {0, 0, 62};
  candidates[3].publisher = blocks::PublisherState::kPartial;
  candidates[4].publisher = blocks::PublisherState::kSuspect;
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("precise"), view_of(candidates), random);
  EXPECT_EQ(decision.engine, EngineId(0));
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 1)["prefix"], 0.8);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 2)["prefix"], 0.5);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 3)["prefix"], 0.95);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 4)["prefix"], 0.7);
}

TEST(PrecisePolicyTest, EnginesWithoutEventsAreScoredByGuessAtADiscount) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].publisher = blocks::PublisherState::kLost;
  candidates[0].approximate_blocks = 15;
  candidates[1].matched_blocks = {31, 31, 31};
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("precise"), view_of(candidates), random);
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 0)["prefix"], 0.7);
  EXPECT_EQ(decision.engine, EngineId(0));
  EXPECT_FALSE(decision.exact) << "the chosen engine's match is a guess";
  EXPECT_FALSE(decision.receipt->exact);
}

TEST(PrecisePolicyTest, WithoutAnExactChainItGuessesAndSaysSo) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].approximate_blocks = 12;
  View view = view_of(candidates);
  view.chain_blocks = 0;
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("precise"), view, random);
  EXPECT_EQ(decision.engine, EngineId(0));
  EXPECT_DOUBLE_EQ(scores_of(*decision.receipt, 0)["prefix"], 0.8);
  EXPECT_FALSE(decision.receipt->exact);
  EXPECT_EQ(decision.receipt->chain_blocks, 0u);
  EXPECT_EQ(decision.receipt->guessed_blocks, 15u);
}

TEST(LeastWorkPolicyTest, AMatchIsWorthThreeTimesItsTokensOfQueue) {
  // 62 blocks of 16 in a prompt of 1,000 tokens: engine 1 holds half of it, 496 tokens.
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[1].matched_blocks = {31, 31, 31};
  RandomStream random(1, "picks");
  for (const auto& [queued, expected] : {std::pair{0u, 1u}, {496u, 1u}, {1'450u, 1u}, {1'550u, 0u}, {90'000u, 0u}}) {
    SCOPED_TRACE(queued);
    candidates[1].engine.inflight_prefill_tokens = queued;
    const Decision decision = decide(policy("least-work"), view_of(candidates), random);
    EXPECT_EQ(decision.engine, EngineId(expected));
    EXPECT_TRUE(decision.exact);
  }
}

TEST(LeastWorkPolicyTest, TheTotalsAreTokensOfWork) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].matched_blocks = {62, 62, 62};
  candidates[0].engine.inflight_prefill_tokens = 4'000;
  candidates[1].engine.inflight_requests = 10;
  RandomStream random(1, "picks");
  const Decision decision = decide(policy("least-work"), view_of(candidates), random);
  auto warm = scores_of(*decision.receipt, 0);
  auto idle = scores_of(*decision.receipt, 1);
  EXPECT_DOUBLE_EQ(warm["prefix"], 0.25) << "a prompt of 1,000 over a scale of 4,000";
  EXPECT_DOUBLE_EQ(warm["queue"], 0.0);
  EXPECT_DOUBLE_EQ(idle["queue"], 1 - 160.0 / 4'000) << "ten running requests";
  EXPECT_DOUBLE_EQ(warm["kv"], 0.25);
  EXPECT_EQ(decision.engine, EngineId(1));
}

TEST(LeastWorkPolicyTest, WhatNobodyHoldsGoesWhereTheCacheWasRewrittenLeast) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1), candidate(2)};
  for (std::uint32_t i = 0; i < 3; ++i) candidates[i].engine.prefill_tokens_recent = 10'000 - 100.0 * i;
  RandomStream random(1, "picks");
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(2));
  candidates[0].matched_blocks = {10, 10, 10};
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(0)) << "a match is worth more";
}

TEST(LeastWorkPolicyTest, QueuesOfOtherRoutersAndFullKvCount) {
  std::vector<Candidate> candidates = {candidate(0), candidate(1)};
  candidates[0].matched_blocks = {31, 31, 31};
  RandomStream random(1, "picks");
  candidates[0].engine.waiting = 3;  // none of them ours: 3,000 tokens
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(1));
  candidates[0].engine.inflight_requests = 3;  // they are ours, and counted as tokens (none) already
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(0));
  candidates[0].engine.waiting = 0;
  candidates[0].matched_blocks = {10, 10, 10};
  candidates[0].engine.kv_usage = 0.8;
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(0));
  candidates[0].engine.kv_usage = 1;
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(1));
  candidates[0].engine.sample_age = std::chrono::hours(1);  // nobody knows any more
  EXPECT_EQ(decide(policy("least-work"), view_of(candidates), random).engine, EngineId(0));
}

TEST(PredictionTest, NeverTheWholePromptAndWholeEngineBlocksOnly) {
  Candidate one = candidate(0);
  View view;
  view.block_tokens = 16;
  view.prompt_tokens = 64;
  view.chain_blocks = 4;
  one.matched_blocks = {4, 4, 4};
  EXPECT_EQ(predicted_cached_tokens(view, one), 48u) << "63 tokens at most: three blocks";
  view.prompt_tokens = 65;
  EXPECT_EQ(predicted_cached_tokens(view, one), 64u);
  one.engine.block_tokens = 48;  // a bigger engine block, whose divisor the router's is
  EXPECT_EQ(predicted_cached_tokens(view, one), 48u);
  one.engine.block_tokens = 128;
  EXPECT_EQ(predicted_cached_tokens(view, one), 0u);
  one.engine.block_tokens = 0;  // not known: the router's
  EXPECT_EQ(predicted_cached_tokens(view, one), 64u);
  one.matched_blocks = {1, 4, 4};  // what is in a slower tier has to be fetched first
  EXPECT_EQ(predicted_cached_tokens(view, one), 16u);
  one.recent_blocks = 2;
  EXPECT_EQ(predicted_cached_tokens(view, one), 32u);
  view.prompt_tokens = 1;
  EXPECT_EQ(predicted_cached_tokens(view, one), 0u);
  view.prompt_tokens = 0;
  EXPECT_EQ(predicted_cached_tokens(view, one), 0u);
}

TEST(PredictionTest, WithoutEventsTheGuessStandsIn) {
  Candidate one = candidate(0);
  one.publisher = blocks::PublisherState::kLost;
  one.matched_blocks = {9, 9, 9};
  one.approximate_blocks = 3;
  View view = view_of({&one, 1});
  EXPECT_EQ(predicted_cached_tokens(view, one), 192u);
  view.guess_block_tokens = 0;
  EXPECT_EQ(predicted_cached_tokens(view, one), 0u);
}

TEST(ReceiptTest, KeepsTheBestOfManyAndTheChosenOne) {
  std::vector<Candidate> candidates;
  RandomStream random(5, "many");
  for (std::uint32_t i = 0; i < 1'000; ++i) candidates.push_back(any_candidate(i, random, false));
  RandomStream picks(1, "picks");
  const Decision decision = decide(policy("precise"), view_of(candidates), picks);
  const Receipt& receipt = *decision.receipt;
  EXPECT_EQ(receipt.candidates_total, 1'000u);
  ASSERT_EQ(receipt.candidates.size(), kReceiptCandidatesMax);
  EXPECT_TRUE(std::is_sorted(receipt.candidates.begin(), receipt.candidates.end(),
                             [](const auto& a, const auto& b) { return a.engine < b.engine; }));
  EXPECT_TRUE(std::any_of(receipt.candidates.begin(), receipt.candidates.end(),
                          [&](const auto& one) { return one.engine == decision.engine; }));
  // Random picks whom it likes; that one must be in its receipt.
  for (int i = 0; i < 50; ++i) {
    const Decision by_chance = decide(policy("random"), view_of(candidates), picks);
    EXPECT_TRUE(std::any_of(by_chance.receipt->candidates.begin(), by_chance.receipt->candidates.end(),
                            [&](const auto& one) { return one.engine == by_chance.engine; }));
  }
}

TEST(DecideDeathTest, NoCandidateIsABug) {
  RandomStream random(1, "picks");
  EXPECT_DEATH(decide(policy("random"), View{}, random), "count > 0");
}

}  // namespace
}  // namespace warmpath::schedule
