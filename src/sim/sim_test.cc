#include "sim/sim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <numeric>

#include "sim/event_queue.h"
#include "sim/machine.h"

namespace warmpath::sim {
namespace {

using std::chrono::milliseconds;

// Small engines, so that a working set of 70 % of the fleet stays small too.
engine::ModelOptions small_engine(std::uint64_t kv_blocks, std::uint32_t block_tokens = 64) {
  engine::ModelOptions options;
  options.profile.name = "small";
  options.profile.block_tokens = block_tokens;
  options.profile.kv_blocks = kv_blocks;
  return options;
}

// 16 groups of 5 prompts over 4 engines: 57,600 of 81,664 tokens, 70 % of the fleet's KV.
SimOptions shared_prefix(std::string policy) {
  SimOptions options;
  options.policy = std::move(policy);
  options.engines = 4;
  options.engine = small_engine(320);
  workload::SharedPrefix population;
  population.groups = 16;
  population.prompts_per_group = 5;
  population.system_prompt_tokens = 2'000;
  population.question_tokens = 256;
  population.output_tokens = 64;
  options.workload.population = population;
  options.workload.arrivals = workload::Poisson{.per_second = 10};
  options.workload.requests_max = 500;
  return options;
}

// Conversations that salt their tenants apart.
SimOptions conversations(std::string policy) {
  SimOptions options;
  options.policy = std::move(policy);
  options.engines = 3;
  options.engine = small_engine(400, 16);
  workload::MultiTurn population;
  population.tenants = 4;
  population.conversations_per_tenant = 4;
  population.turns = 4;
  population.system_prompt_tokens = 300;
  population.user_tokens = 60;
  population.output_tokens = 30;
  population.salt_per_tenant = true;
  options.workload.population = population;
  options.workload.arrivals = workload::Poisson{.per_second = 10};
  return options;
}

Report run_or_fail(const SimOptions& options) {
  const auto report = run(options);
  EXPECT_TRUE(report.ok()) << (report.ok() ? "" : report.error().message);
  return report.ok() ? *report : Report{};
}

void expect_all_answered(const Report& report, std::uint64_t requests) {
  EXPECT_EQ(report.requests, requests);
  EXPECT_EQ(report.failed, 0u);
  EXPECT_EQ(report.inflight_left, 0u);
  EXPECT_EQ(std::accumulate(report.requests_by_engine.begin(), report.requests_by_engine.end(), std::uint64_t{0}),
            requests);
  EXPECT_GE(report.prefill_tokens_computed + report.prefill_tokens_saved, report.prompt_tokens);
}

TEST(EventQueueTest, ByTimeThenByOrderOfPush) {
  EventQueue<int> queue;
  const auto at = [](int ms) { return Instant(milliseconds(ms)); };
  queue.push(at(2), 20);
  queue.push(at(1), 10);
  queue.push(at(2), 21);
  queue.push(at(0), 0);
  queue.push(at(1), 11);
  std::vector<int> order;
  while (!queue.empty()) order.push_back(queue.pop());
  EXPECT_THAT(order, ::testing::ElementsAre(0, 10, 11, 20, 21));
}

TEST(MachineTest, ReplaysWhatItKeptFromTheStartAskedFor) {
  auto model = engine::Model::create(small_engine(8));
  ASSERT_TRUE(model.ok());
  Machine machine(*std::move(model), 3);
  EXPECT_TRUE(machine.publish({}, Instant()).empty()) << "a step without events publishes nothing";
  for (int i = 0; i < 5; ++i) EXPECT_EQ(machine.publish({blocks::AllBlocksCleared{}}, Instant()).size(), 3u);
  const auto ask = [&](std::uint64_t start) {
    auto frames = events::make_replay_request(PublisherSeq(start));
    frames.insert(frames.begin(), "me");
    std::vector<std::uint64_t> seqs;
    for (const auto& reply : machine.replay(frames)) {
      const auto parsed = events::parse_replay_reply(reply);
      EXPECT_TRUE(parsed.ok());
      if (parsed.ok() && !parsed->end) seqs.push_back(parsed->seq.value());
      if (parsed.ok() && parsed->end) seqs.push_back(99);
    }
    return seqs;
  };
  EXPECT_THAT(ask(0), ::testing::ElementsAre(2, 3, 4, 99));
  EXPECT_THAT(ask(4), ::testing::ElementsAre(4, 99));
  EXPECT_THAT(ask(7), ::testing::ElementsAre(99));
  EXPECT_TRUE(machine.replay({"me", "", "short"}).empty());
}

TEST(SimTest, EveryFaultOfTheOptionsIsNamed) {
  SimOptions options;
  options.policy = "precice";
  options.engines = 0;
  options.link.event_loss = 1.5;
  options.scrape_interval = Duration(0);
  options.engine.profile.kv_blocks = 0;
  options.workload.population = workload::SharedPrefix{.groups = 0};
  const auto report = run(options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::kInvalid);
  for (const char* part : {"precise", "engines", "event_loss", "scrape_interval", "groups"}) {
    EXPECT_THAT(report.error().message, ::testing::HasSubstr(part));
  }
  SimOptions no_blocks;
  no_blocks.engine.profile.kv_blocks = 0;
  EXPECT_FALSE(run(no_blocks).ok());
  SimOptions nan_loss;
  nan_loss.link.event_loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(run(nan_loss).ok());
}

TEST(SimTest, ARunThatDoesNotEndIsAnError) {
  SimOptions options = conversations("load");
  options.virtual_time_max = milliseconds(50);
  const auto report = run(options);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::kExhausted);
}

TEST(SimTest, SameOptionsSameRunToTheBit) {
  for (const schedule::Policy* policy : schedule::policies()) {
    SimOptions options = conversations(std::string(policy->name()));
    options.link.event_loss = 0.1;
    options.link.event_duplicate = 0.1;
    const Report first = run_or_fail(options);
    const Report second = run_or_fail(options);
    EXPECT_EQ(first.digest, second.digest) << policy->name();
    EXPECT_EQ(first.ttft_ms.p99, second.ttft_ms.p99);
    EXPECT_EQ(first.requests_by_engine, second.requests_by_engine);
    options.seed = 2;
    EXPECT_NE(run_or_fail(options).digest, first.digest) << policy->name();
    options.seed = 1;
    options.workload.seed = 2;
    EXPECT_NE(run_or_fail(options).digest, first.digest) << policy->name();
    expect_all_answered(first, 64);
  }
}

TEST(SimTest, EngineTimeDoesNotDependOnTheSpeed) {
  SimOptions options = conversations("random");
  options.link.request_delay = Duration(0);
  options.workload.arrivals = workload::ClosedLoop{.users = 1};
  const Report slow = run_or_fail(options);
  options.engine.speed = 8;
  const Report fast = run_or_fail(options);
  EXPECT_NEAR(fast.ttft_ms.p50, slow.ttft_ms.p50, 0.01 * slow.ttft_ms.p50);
  EXPECT_NEAR(fast.seconds, slow.seconds, 0.01 * slow.seconds);
}

// The point of it all, in virtual time: one working set of 70 % of the fleet's KV, four policies, one seed.
TEST(SimTest, PreciseBeatsTheOthersOnASharedPrefixWorkingSet) {
  const std::uint64_t working_set = workload::working_set_tokens(shared_prefix("random").workload);
  const std::uint64_t capacity = 4 * 319 * 64;
  EXPECT_GE(working_set, capacity * 6 / 10);
  EXPECT_LE(working_set, capacity * 8 / 10);
  std::map<std::string, Report> arms;
  for (const char* policy : {"random", "load", "approximate-2025", "approximate", "precise", "least-work"}) {
    arms[policy] = run_or_fail(shared_prefix(policy));
    expect_all_answered(arms[policy], 500);
    const Report& arm = arms[policy];
    std::printf(
        "%-17s hit ratio %.3f  computed %7llu saved %7llu  ttft ms p50 %6.1f p90 %6.1f p99 %7.1f  %6.1f tok/s  exact "
        "%.3f\n",
        policy, arm.prefix_hit_ratio, static_cast<unsigned long long>(arm.prefill_tokens_computed),
        static_cast<unsigned long long>(arm.prefill_tokens_saved), arm.ttft_ms.p50, arm.ttft_ms.p90, arm.ttft_ms.p99,
        arm.output_tokens_per_s, static_cast<double>(arm.predictions_equal) / static_cast<double>(arm.predictions));
  }
  EXPECT_GE(arms["precise"].prefix_hit_ratio, 2 * arms["random"].prefix_hit_ratio);
  EXPECT_LE(2 * arms["precise"].ttft_ms.p90, arms["random"].ttft_ms.p90);
  EXPECT_GT(arms["precise"].prefix_hit_ratio, arms["load"].prefix_hit_ratio);
  EXPECT_GE(arms["least-work"].prefix_hit_ratio, arms["precise"].prefix_hit_ratio - 0.01);
  EXPECT_LE(arms["least-work"].ttft_ms.p90, 1.1 * arms["precise"].ttft_ms.p90);
  EXPECT_LT(arms["precise"].prefill_tokens_computed, arms["random"].prefill_tokens_computed / 2);
}

// Conversations that fill the fleet's KV 1.7 times, about as fast as it can serve them: a queue that is a little longer
// must not send a conversation away from its prefix.
TEST(SimTest, LeastWorkKeepsConversationsWhereTheyAreUnderLoad) {
  SimOptions options;
  options.engines = 2;
  options.engine.profile.kv_blocks = 640;
  options.workload.population = workload::MultiTurn{.tenants = 12,
                                                    .conversations_per_tenant = 6,
                                                    .turns = 4,
                                                    .system_prompt_tokens = 2'000,
                                                    .user_tokens = 200,
                                                    .output_tokens = 200,
                                                    .think_seconds = 3};
  options.workload.arrivals = workload::Poisson{.per_second = 6};
  std::map<std::string, Report> arms;
  for (const char* policy : {"precise", "least-work"}) {
    options.policy = policy;
    arms[policy] = run_or_fail(options);
    expect_all_answered(arms[policy], 288);
    std::printf("%-12s hit ratio %.3f  ttft ms p50 %6.1f p90 %6.1f\n", policy, arms[policy].prefix_hit_ratio,
                arms[policy].ttft_ms.p50, arms[policy].ttft_ms.p90);
  }
  EXPECT_GT(arms["least-work"].prefix_hit_ratio, arms["precise"].prefix_hit_ratio + 0.02);
  EXPECT_LT(arms["least-work"].ttft_ms.p90, arms["precise"].ttft_ms.p90);
}

TEST(SimTest, SequentialRequestsArePredictedExactly) {
  for (const char* policy : {"precise", "random"}) {
    SimOptions options = conversations(policy);
    options.workload.arrivals = workload::ClosedLoop{.users = 1};
    auto& population = std::get<workload::MultiTurn>(options.workload.population);
    population.think_seconds = 1;  // the events of one request arrive before the next
    const Report report = run_or_fail(options);
    expect_all_answered(report, 64);
    EXPECT_EQ(report.predictions, 64u) << policy;
    EXPECT_EQ(report.predictions_equal, 64u) << policy;
    EXPECT_GT(report.prefix_hit_ratio, 0.3);
  }
}

TEST(SimTest, TheIndexEqualsTheEnginesCachesWhateverTheLinkLoses) {
  for (const double loss : {0.0, 0.05, 0.4}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      SCOPED_TRACE("loss " + std::to_string(loss) + ", seed " + std::to_string(seed));
      SimOptions options = conversations("precise");
      options.engine = small_engine(120, 16);  // small: evictions as well
      options.seed = seed;
      options.link.event_loss = loss;
      options.link.event_duplicate = loss;
      options.index_check = IndexCheck::kAgainstEngines;
      const Report report = run_or_fail(options);
      expect_all_answered(report, 64);
      ASSERT_TRUE(report.index_truth.has_value());
      const IndexTruth& truth = *report.index_truth;
      EXPECT_GT(truth.blocks_cached, 0u);
      EXPECT_EQ(truth.blocks_indexed, truth.blocks_cached);
      EXPECT_GT(truth.chains_nonzero, 0u);
      EXPECT_EQ(truth.chains_equal, truth.chains);
      EXPECT_EQ(report.frames_lost > 0, loss > 0);
      if (loss > 0) {
        EXPECT_GT(report.replays_asked, 3u) << "more than the first contacts";
      }
    }
  }
}

TEST(SimTest, AReplayBufferTooShortCostsRoutingNotAnswers) {
  SimOptions options = conversations("precise");
  options.link.event_loss = 0.5;
  options.replay_buffer_batches = 1;
  options.index_check = IndexCheck::kAgainstEngines;
  const Report report = run_or_fail(options);
  expect_all_answered(report, 64);
}

TEST(SimTest, RouterBlocksJoinSmallerEngineBlocks) {
  SimOptions options = conversations("precise");
  options.engine = small_engine(3'000, 4);
  options.workload.arrivals = workload::ClosedLoop{.users = 1};
  std::get<workload::MultiTurn>(options.workload.population).think_seconds = 1;
  options.index_check = IndexCheck::kAgainstEngines;
  const Report report = run_or_fail(options);
  expect_all_answered(report, 64);
  ASSERT_TRUE(report.index_truth.has_value());
  EXPECT_EQ(report.index_truth->chains_equal, report.index_truth->chains);
  EXPECT_GT(report.prefix_hit_ratio, 0.3);
}

TEST(SimTest, EnginesWithoutEventsAreServedByGuesses) {
  SimOptions options = shared_prefix("precise");
  options.engines_without_events = 4;
  options.workload.requests_max = 300;
  const Report blind = run_or_fail(options);
  expect_all_answered(blind, 300);
  EXPECT_EQ(blind.predictions, 0u) << "guesses are not in the proof";
  EXPECT_EQ(blind.frames_published, 0u);
  options.policy = "random";
  EXPECT_GT(blind.prefix_hit_ratio, 1.5 * run_or_fail(options).prefix_hit_ratio);
}

TEST(SimTest, ARequestLongerThanTheKvIsRefusedAndTheRestGoOn) {
  SimOptions options = shared_prefix("precise");
  options.engine = small_engine(20);  // 1,216 tokens: no prompt of 2,256 fits
  options.workload.requests_max = 10;
  const Report report = run_or_fail(options);
  EXPECT_EQ(report.requests, 10u);
  EXPECT_EQ(report.failed, 10u);
  EXPECT_EQ(report.inflight_left, 0u);
  EXPECT_EQ(report.ttft_ms.p50, 0);
}

}  // namespace
}  // namespace warmpath::sim
