// One test per rule of the scheduler and the prefix cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/test_driver.h"

namespace warmpath::engine {
namespace {

using testing::Driver;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::range;
using testing::small_options;

TEST(Model, GeneratesTheOutputItWasGiven) {
  Driver driver(small_options(4, 20));
  driver.add(1, range(100, 10), range(500, 5));
  driver.run();
  EXPECT_EQ(driver.outcomes[1].tokens, range(500, 5));
  EXPECT_TRUE(driver.outcomes[1].finished);
  EXPECT_EQ(driver.model->stats().finished, 1u);
  EXPECT_EQ(driver.model->stats().kv_usage, 0);
  EXPECT_FALSE(driver.step());
}

// The recorded chat (vLLM 0.32, block 32): turn 1 of 167 tokens and 24 generated stores 5 blocks; turn 2 of 215 finds
// those 5, stores its sixth, and generation fills the seventh; turn 2 again finds 6 and stores the seventh once more.
TEST(Model, ChatTurnsStoreAsRecorded) {
  Driver driver(small_options(32, 256, 2048));
  auto conversation = range(1'000, 300);
  const auto prompt = [&](std::size_t tokens) {
    return std::vector<TokenId>(conversation.begin(), conversation.begin() + static_cast<std::ptrdiff_t>(tokens));
  };
  driver.add(1, prompt(167), {conversation.begin() + 167, conversation.begin() + 167 + 24});
  EXPECT_THAT(driver.run(), ElementsAre("S5^"));
  driver.add(2, prompt(215), {conversation.begin() + 215, conversation.begin() + 215 + 24});
  EXPECT_THAT(driver.run(), ElementsAre("S1", "S1"));
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 160u);
  driver.add(3, prompt(215), {conversation.begin() + 215, conversation.begin() + 215 + 24});
  EXPECT_THAT(driver.run(), ElementsAre("S1"));
  EXPECT_EQ(driver.outcomes[3].cached_tokens, 192u);
}

TEST(Model, GeneratedTokensAreFoundByTheNextTurn) {
  Driver driver(small_options(4, 50));
  auto prompt = range(100, 6);
  driver.add(1, prompt, range(500, 7));  // 13 tokens; the last one's KV is never computed: 3 blocks
  EXPECT_THAT(driver.run(), ElementsAre("S1^", "S1", "S1"));
  for (TokenId id = 500; id < 507; ++id) prompt.push_back(id);
  prompt.push_back(900);
  driver.add(2, prompt, range(600, 1));
  driver.run();
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 12u);
}

TEST(Model, ABlockIsStoredWhenItsLastTokenIsComputedNotWhenSampled) {
  Driver driver(small_options(4, 50));
  driver.add(1, range(100, 3), range(500, 3));
  ASSERT_TRUE(driver.step());  // 3 computed, the 4th sampled
  EXPECT_THAT(driver.result.events, IsEmpty());
  ASSERT_TRUE(driver.step());
  EXPECT_EQ(testing::pattern(driver.result.events), "S1^");
  const auto& stored = std::get<blocks::BlockStored>(driver.result.events[0]);
  EXPECT_THAT(stored.token_ids, ElementsAre(100, 101, 102, 500));
}

// At most n-1 tokens are reused: a prompt of whole blocks computes its last block again and stores it again.
TEST(Model, NeverReusesTheWholePrompt) {
  Driver driver(small_options(4, 50));
  driver.add(1, range(100, 12), range(500, 1));
  EXPECT_THAT(driver.run(), ElementsAre("S3^"));
  driver.add(2, range(100, 12), range(500, 1));
  EXPECT_THAT(driver.run(), ElementsAre("S1"));
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 8u);
  EXPECT_EQ(driver.model->stats().blocks_cached, 4u);
  EXPECT_EQ(driver.model->cached_hashes().size(), 3u);
  driver.add(3, range(100, 13), range(500, 1));
  EXPECT_THAT(driver.run(), IsEmpty());
  EXPECT_EQ(driver.outcomes[3].cached_tokens, 12u);
}

TEST(Model, EventFieldsAreThoseOfVllm) {
  ModelOptions options = small_options(4, 50);
  options.hash_form = HashForm::kBytes;
  Driver driver(options);
  Request request;
  request.id = 1;
  request.prompt = range(100, 9);
  request.output = range(500, 1);
  request.lora = "adapter-x";
  request.lora_path = "/models/x";
  request.salt = "s1";
  ASSERT_TRUE(driver.model->add(request, driver.now).ok());
  driver.run();
  driver.add(2, range(100, 9), range(500, 1));
  ASSERT_TRUE(driver.step());
  const auto& base = std::get<blocks::BlockStored>(driver.result.events.at(0));
  EXPECT_EQ(base.lora_name, std::nullopt);
  EXPECT_EQ(base.lora_id, std::nullopt);
  ASSERT_TRUE(base.extra_keys.has_value());
  EXPECT_EQ(*base.extra_keys, std::vector<std::vector<blocks::ExtraKey>>(2));
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 0u) << "the adapter's blocks are not the base model's";

  request.id = 3;
  request.prompt = range(700, 9);
  ASSERT_TRUE(driver.model->add(request, driver.now).ok());
  ASSERT_TRUE(driver.step());
  const auto& event = std::get<blocks::BlockStored>(driver.result.events.at(0));
  EXPECT_EQ(event.block_hashes.size(), 2u);
  EXPECT_EQ(event.block_hashes[0].bytes.size(), 32u);
  EXPECT_EQ(event.parent_block_hash, std::nullopt);
  EXPECT_EQ(event.token_ids, range(700, 8));
  EXPECT_EQ(event.block_size, 4u);
  EXPECT_EQ(event.lora_id, 1);
  EXPECT_EQ(event.lora_name, "adapter-x");
  EXPECT_EQ(event.medium, "GPU");
  EXPECT_EQ(event.group_idx, 0u);
  EXPECT_EQ(event.kv_cache_spec_kind, "full_attention");
  using Keys = std::vector<blocks::ExtraKey>;
  const std::vector<Keys> keys{{blocks::ExtraText{"adapter-x"}, blocks::ExtraText{"s1"}},
                               {blocks::ExtraText{"adapter-x"}}};
  EXPECT_EQ(event.extra_keys, keys);
}

TEST(Model, SaltsDoNotShare) {
  Driver driver(small_options(4, 50));
  for (std::uint64_t id = 1; id <= 3; ++id) {
    Request request;
    request.id = id;
    request.prompt = range(100, 9);
    request.output = range(500, 1);
    request.salt = id == 2 ? "b" : "a";
    ASSERT_TRUE(driver.model->add(request, driver.now).ok());
    driver.run();
  }
  EXPECT_EQ(driver.outcomes[1].cached_tokens, 0u);
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 0u);
  EXPECT_EQ(driver.outcomes[3].cached_tokens, 8u);
}

TEST(Model, FullReportAnnouncesTheReusedPrefixAgain) {
  Driver driver(small_options(4, 50));
  driver.add(1, range(100, 21), range(500, 1));
  driver.run();
  Request request;
  request.id = 2;
  request.prompt = range(100, 26);
  request.output = range(500, 1);
  request.report = ReportMode::kFull;
  ASSERT_TRUE(driver.model->add(request, driver.now).ok());
  EXPECT_THAT(driver.run(), ElementsAre("S5^ S1"));
}

TEST(Model, ChunkedPrefillSharesStepsWithDecode) {
  Driver driver(small_options(4, 100, 16));
  driver.add(1, range(100, 4), range(500, 6));
  ASSERT_TRUE(driver.step());
  driver.add(2, range(200, 40), range(600, 1));
  ASSERT_TRUE(driver.step());
  EXPECT_EQ(driver.plan.decode_sequences, 1u);
  EXPECT_EQ(driver.plan.prefill_tokens, 15u);
  EXPECT_EQ(testing::pattern(driver.result.events), "S3^");
  ASSERT_TRUE(driver.step());
  EXPECT_EQ(driver.plan.prefill_tokens, 15u);  // 30 of 40
  EXPECT_EQ(testing::pattern(driver.result.events), "S4");
  ASSERT_TRUE(driver.step());
  EXPECT_EQ(driver.plan.prefill_tokens, 10u);
  EXPECT_EQ(driver.plan.decode_sequences, 1u);
  EXPECT_EQ(driver.outcomes[1].tokens.size(), 4u);
  EXPECT_TRUE(driver.outcomes[2].finished);
}

TEST(Model, SequencesMaxHoldsTheRestInOrder) {
  Driver driver(small_options(4, 100, 64, 2));
  for (std::uint64_t id = 1; id <= 4; ++id) driver.add(id, range(static_cast<TokenId>(100 * id), 4), range(500, 3));
  ASSERT_TRUE(driver.step());
  EXPECT_EQ(driver.model->stats().running, 2u);
  EXPECT_EQ(driver.model->stats().waiting, 2u);
  driver.run();
  EXPECT_LT(driver.outcomes[2].first_at, driver.outcomes[3].first_at);
  EXPECT_EQ(driver.outcomes[3].first_at, driver.outcomes[4].first_at);
}

// vLLM 0.32 admits only what fits whole, though a chunk would: and nobody overtakes the head of the queue.
TEST(Model, WaitsWhileTheWholePromptDoesNotFit) {
  Driver driver(small_options(4, 11, 8));  // 10 usable blocks
  driver.add(1, range(100, 20), range(500, 8));
  ASSERT_TRUE(driver.step());
  driver.add(2, range(200, 28), range(600, 1));  // 7 blocks; at most 5 are free while 1 runs
  driver.add(3, range(300, 4), range(700, 1));
  while (!driver.outcomes[1].finished) {
    EXPECT_EQ(driver.model->stats().waiting, 2u);
    ASSERT_TRUE(driver.step());
  }
  driver.run();
  EXPECT_TRUE(driver.outcomes[2].finished);
  EXPECT_LE(driver.outcomes[2].first_at, driver.outcomes[3].first_at);
  EXPECT_EQ(driver.model->stats().preemptions, 0u);
}

TEST(Model, PreemptsTheYoungestWhichResumesFirst) {
  Driver driver(small_options(4, 9, 64));  // 8 usable
  driver.add(1, range(100, 12), range(500, 12));
  driver.add(2, range(200, 12), range(600, 12));
  driver.add(3, range(300, 4), range(700, 2));
  std::uint32_t preempted = 0;
  while (driver.step()) {
    preempted += driver.plan.preempted;
  }
  EXPECT_GE(preempted, 1u);
  EXPECT_EQ(driver.model->stats().preemptions, preempted);
  EXPECT_EQ(driver.outcomes[1].tokens, range(500, 12));
  EXPECT_EQ(driver.outcomes[2].tokens, range(600, 12)) << "no token twice, none lost";
  EXPECT_LT(driver.outcomes[1].finished_at, driver.outcomes[2].finished_at);
  // Recomputation is work done, but neither a query of the prefix cache nor a prompt again.
  const Stats stats = driver.model->stats();
  EXPECT_EQ(stats.prompt_tokens, 28u);
  EXPECT_EQ(stats.prefix_queries_tokens, 28u);
  EXPECT_GT(stats.prefill_tokens_computed, 28u);
}

TEST(Model, EvictsOnePerEventBeforeTheStoresThatTakeTheirPlace) {
  Driver driver(small_options(4, 9));
  driver.add(1, range(100, 17), range(500, 1));  // 5 blocks, 4 stored
  driver.run();
  driver.add(2, range(200, 25), range(600, 1));  // 7 blocks: 3 fresh, the unhashed one, then the tail of request 1
  EXPECT_THAT(driver.run(), ElementsAre("R1 R1 R1 S6^"));
  driver.add(3, range(100, 17), range(500, 1));
  driver.run();
  EXPECT_EQ(driver.outcomes[3].cached_tokens, 4u) << "the head outlives the tail";
}

TEST(Model, ResetIsRefusedWhileRunningAndToldWithTheNextStep) {
  Driver driver(small_options(4, 50));
  driver.add(1, range(100, 9), range(500, 2));
  ASSERT_TRUE(driver.step());
  EXPECT_FALSE(driver.model->reset_prefix_cache());
  driver.run();
  EXPECT_TRUE(driver.model->reset_prefix_cache());
  EXPECT_THAT(driver.model->cached_hashes(), IsEmpty());
  EXPECT_FALSE(driver.step()) << "an idle engine says nothing";
  driver.add(2, range(100, 9), range(500, 1));
  EXPECT_THAT(driver.run(), ElementsAre("C S2^"));
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 0u);
}

TEST(Model, WithoutPrefixCachingNothingIsStoredOrFound) {
  ModelOptions options = small_options(4, 50);
  options.prefix_caching = false;
  Driver driver(options);
  driver.add(1, range(100, 9), range(500, 9));
  driver.add(2, range(100, 9), range(500, 9));
  EXPECT_THAT(driver.run(), IsEmpty());
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 0u);
  EXPECT_EQ(driver.model->stats().prefix_queries_tokens, 0u);
  EXPECT_TRUE(driver.model->reset_prefix_cache());
  driver.add(3, range(100, 9), range(500, 1));
  EXPECT_THAT(driver.run(), IsEmpty());
}

TEST(Model, WithADraftModelTheLastMatchedBlockOfAHitIsComputedAgain) {
  ModelOptions options = small_options(4, 100);
  options.last_hit = LastHit::kDropped;
  Driver driver(options);
  driver.add(1, range(0, 17), {900});
  driver.run();
  driver.add(2, range(0, 17), {900});
  driver.add(3, range(0, 7), {900});
  driver.run();
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 12u) << "four blocks match";
  EXPECT_EQ(driver.outcomes[3].cached_tokens, 0u) << "one block matches";
}

TEST(Model, RequestsOfOneStepShareWhatTheFirstStores) {
  Driver driver(small_options(4, 50, 64));
  driver.add(1, range(100, 13), range(500, 1));
  driver.add(2, range(100, 13), range(500, 1));
  EXPECT_THAT(driver.run(), ElementsAre("S3^"));
  EXPECT_EQ(driver.outcomes[2].cached_tokens, 12u);
  EXPECT_EQ(driver.outcomes[1].first_at, driver.outcomes[2].first_at);
}

TEST(Model, AbortsWaitingRunningAndInMidStep) {
  Driver driver(small_options(4, 50, 64, 1));
  driver.add(1, range(100, 9), range(500, 9));
  driver.add(2, range(200, 9), range(500, 9));
  ASSERT_TRUE(driver.step());
  EXPECT_TRUE(driver.model->abort(2));
  EXPECT_FALSE(driver.model->abort(2));
  ASSERT_TRUE(driver.model->begin_step(driver.now).has_value());
  EXPECT_TRUE(driver.model->abort(1));
  driver.model->finish_step(driver.now, driver.result);
  EXPECT_THAT(driver.result.emitted, IsEmpty());
  EXPECT_EQ(driver.model->stats().kv_usage, 0);
  EXPECT_EQ(driver.model->stats().running, 0u);
  EXPECT_FALSE(driver.step());
  driver.add(3, range(100, 9), range(500, 1));
  driver.run();
  EXPECT_EQ(driver.outcomes[3].cached_tokens, 8u) << "blocks of an aborted request stay cached";
}

TEST(Model, TellsWhenARequestWasAddedAndScheduled) {
  Driver driver(small_options(4, 50, 64, 1));
  driver.now = Instant(std::chrono::seconds(5));
  driver.add(1, range(100, 9), range(500, 2));
  driver.add(2, range(200, 9), range(500, 1));
  std::vector<Emitted> firsts;
  while (driver.step()) {
    for (const auto& emitted : driver.result.emitted) {
      if (emitted.first) firsts.push_back(emitted);
    }
  }
  ASSERT_EQ(firsts.size(), 2u);
  EXPECT_EQ(firsts[1].added_at, Instant(std::chrono::seconds(5)));
  EXPECT_EQ(firsts[1].scheduled_at, driver.outcomes[1].finished_at);
}

TEST(Model, RefusesWhatCannotBeServed) {
  ModelOptions options = small_options(4, 11);
  options.profile.model_tokens_max = 50;
  options.requests_max = 2;
  Driver driver(options);
  const auto refused = [&](std::uint64_t id, std::size_t prompt, std::size_t output) {
    Request request;
    request.id = id;
    request.prompt = range(1, prompt);
    request.output = range(1, output);
    const auto added = driver.model->add(std::move(request), driver.now);
    return added.ok() ? "" : std::string(error_kind_name(added.error().kind)) + ": " + added.error().message;
  };
  EXPECT_THAT(refused(1, 0, 1), HasSubstr("invalid: the prompt holds no token"));
  EXPECT_THAT(refused(1, 1, 0), HasSubstr("at least one token"));
  EXPECT_THAT(refused(1, 40, 11), HasSubstr("51 tokens, the model's limit is 50"));
  EXPECT_THAT(refused(1, 40, 2), HasSubstr("42 tokens, the KV cache holds 40"));
  EXPECT_EQ(refused(1, 40, 1), "") << "the last token's KV is never needed";
  EXPECT_THAT(refused(1, 1, 1), HasSubstr("request id 1 is in use"));
  EXPECT_EQ(refused(2, 1, 1), "");
  EXPECT_THAT(refused(3, 1, 1), HasSubstr("exhausted: the engine holds 2 requests"));
  driver.run();
  EXPECT_EQ(driver.model->stats().finished, 2u);
}

TEST(Model, RefusesImpossibleOptions) {
  const auto refused = [](auto change) {
    ModelOptions options = small_options(4, 10);
    change(options);
    const auto created = Model::create(options);
    return created.ok() ? std::string() : created.error().message;
  };
  EXPECT_EQ(refused([](ModelOptions&) {}), "");
  EXPECT_THAT(refused([](ModelOptions& o) { o.profile.kv_blocks = 1; }), HasSubstr("kv_blocks"));
  EXPECT_THAT(refused([](ModelOptions& o) { o.profile.block_tokens = 0; }), HasSubstr("block_tokens"));
  EXPECT_THAT(refused([](ModelOptions& o) { o.profile.batched_tokens_max = 0; }), HasSubstr("batched_tokens_max"));
  EXPECT_THAT(refused([](ModelOptions& o) { o.profile.sequences_max = 0; }), HasSubstr("sequences_max"));
  EXPECT_THAT(refused([](ModelOptions& o) { o.profile.step_base_ms = -1; }), HasSubstr("times"));
  EXPECT_THAT(refused([](ModelOptions& o) { o.speed = 0; }), HasSubstr("speed"));
  EXPECT_THAT(refused([](ModelOptions& o) { o.requests_max = 0; }), HasSubstr("requests_max"));
  EXPECT_NE(refused([](ModelOptions& o) {
              o.scheme = blocks::Scheme::kVllmXxhash;
              o.hash_seed = std::nullopt;
            }),
            "");
}

}  // namespace
}  // namespace warmpath::engine
