// Random loads: whatever comes, requests finish in full, nothing leaks, and events tell the truth after every step.
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/test_driver.h"

namespace warmpath::engine {
namespace {

class RandomLoad : public ::testing::TestWithParam<std::uint64_t> {};

ModelOptions random_options(RandomStream& random) {
  const std::uint32_t block = 1u << random.below(5);
  ModelOptions options =
      testing::small_options(block, 8 + random.below(60), static_cast<std::uint32_t>(1 + random.below(200)),
                             static_cast<std::uint32_t>(1 + random.below(12)));
  return options;
}

// Prompts from a small family of prefixes, so that sharing, duplicates and evictions all happen.
Request random_request(RandomStream& random, std::uint64_t id, std::uint64_t tokens_max) {
  Request request;
  request.id = id;
  const std::uint64_t total = 2 + random.below(tokens_max - 1);
  const std::uint64_t output = 1 + random.below(total - 1);
  const auto family = static_cast<TokenId>(random.below(3));
  for (std::uint64_t i = 0; i < total - output; ++i)
    request.prompt.push_back(family * 10'000 + static_cast<TokenId>(i));
  if (random.below(3) == 0) request.prompt.back() += 5'000;
  const auto answer = static_cast<TokenId>(random.below(2));
  for (std::uint64_t i = 0; i < output; ++i) {
    request.output.push_back(answer == 0 ? family * 10'000 + static_cast<TokenId>(request.prompt.size() + i)
                                         : static_cast<TokenId>(random.below(1'000'000)));
  }
  if (random.below(6) == 0) request.salt = "s";
  if (random.below(6) == 0) request.lora = "l";
  return request;
}

TEST_P(RandomLoad, FinishesEverythingAndTellsTheTruth) {
  RandomStream random(GetParam(), "engine load");
  const ModelOptions options = random_options(random);
  testing::Driver driver(options);
  testing::EventReplay replay;
  const std::uint64_t tokens_max = (options.profile.kv_blocks - 1) * options.profile.block_tokens + 1;
  std::map<std::uint64_t, Request> asked;
  std::set<std::uint64_t> aborted;
  std::uint64_t next_id = 1;
  const auto act = [&] {
    const std::uint64_t what = random.below(100);
    if (what < 35 && next_id <= 120) {
      Request request = random_request(random, next_id, tokens_max);
      asked[next_id] = request;
      ASSERT_TRUE(driver.model->add(std::move(request), driver.now).ok());
      ++next_id;
    } else if (what < 40 && next_id > 1) {
      const std::uint64_t id = 1 + random.below(next_id - 1);
      const bool there = !driver.outcomes[id].finished && !aborted.contains(id);
      ASSERT_EQ(driver.model->abort(id), there);
      if (there) aborted.insert(id);
    } else if (what < 45) {
      const bool idle = driver.model->stats().kv_usage == 0;
      ASSERT_EQ(driver.model->reset_prefix_cache(), idle);
    }
  };
  int idle_rounds = 0;
  while (idle_rounds < 20 || next_id <= 120) {
    act();
    const auto plan = driver.model->begin_step(driver.now);
    if (!plan) {
      ++idle_rounds;
      continue;
    }
    idle_rounds = 0;
    ASSERT_GT(plan->duration.count(), 0);
    ASSERT_LE(plan->prefill_tokens + plan->decode_sequences, options.profile.batched_tokens_max);
    if (random.below(4) == 0) act();  // in mid-step
    driver.now = driver.now + plan->duration;
    driver.model->finish_step(driver.now, driver.result);
    for (const Emitted& emitted : driver.result.emitted) {
      ASSERT_FALSE(aborted.contains(emitted.id));
      auto& outcome = driver.outcomes[emitted.id];
      ASSERT_EQ(emitted.first, outcome.tokens.empty());
      ASSERT_LT(emitted.cached_tokens, asked[emitted.id].prompt.size());
      outcome.tokens.insert(outcome.tokens.end(), emitted.tokens.begin(), emitted.tokens.end());
      outcome.finished = emitted.finished;
    }
    ASSERT_EQ(replay.apply(driver.result.events), "");
    const Stats stats = driver.model->stats();
    ASSERT_LE(stats.running, options.profile.sequences_max);
    ASSERT_EQ(replay.hashes(), driver.model->cached_hashes());
    ASSERT_EQ(replay.copies(), stats.blocks_cached);
  }
  for (const auto& [id, request] : asked) {
    if (aborted.contains(id)) continue;
    ASSERT_TRUE(driver.outcomes[id].finished) << "request " << id;
    ASSERT_EQ(driver.outcomes[id].tokens, request.output) << "request " << id;
  }
  const Stats stats = driver.model->stats();
  EXPECT_EQ(stats.running + stats.waiting, 0u);
  EXPECT_EQ(stats.kv_usage, 0);
  EXPECT_EQ(stats.finished + aborted.size(), asked.size());
}
INSTANTIATE_TEST_SUITE_P(Seeds, RandomLoad, ::testing::Range<std::uint64_t>(1, 61));

TEST(RandomLoadRuns, SameSeedSameRunToTheBit) {
  const auto run = [](std::uint64_t seed) {
    RandomStream random(seed, "engine twice");
    testing::Driver driver(testing::small_options(8, 40, 100, 6));
    std::vector<std::string> log;
    for (std::uint64_t id = 1; id <= 60; ++id) {
      WP_CHECK(driver.model->add(random_request(random, id, 200), driver.now).ok());
      for (int i = 0; i < 3; ++i) {
        driver.step();
        log.push_back(testing::pattern(driver.result.events) + "@" + std::to_string(driver.now.since_zero().count()));
      }
    }
    driver.run();
    log.push_back(std::to_string(driver.model->stats().preemptions));
    log.push_back(std::to_string(driver.now.since_zero().count()));
    return log;
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

// Under a steady overload the oldest always moves: nobody waits behind more than those who came before.
TEST(RandomLoadRuns, FirstTokensComeInOrderOfArrival) {
  testing::Driver driver(testing::small_options(4, 30, 32, 4));
  for (std::uint64_t id = 1; id <= 40; ++id) {
    driver.add(id, testing::range(static_cast<TokenId>(id * 1'000), 20 + id % 7), testing::range(1, 5 + id % 11));
  }
  driver.run();
  Instant last;
  for (std::uint64_t id = 1; id <= 40; ++id) {
    ASSERT_TRUE(driver.outcomes[id].finished);
    EXPECT_GE(driver.outcomes[id].first_at, last);
    last = driver.outcomes[id].first_at;
  }
}

}  // namespace
}  // namespace warmpath::engine
