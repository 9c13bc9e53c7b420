// Asking engines for ids: what is told, what is remembered, and that every way of not being told ends in an answer.
#include "proxy/engine_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "proxy/test_engines.h"

namespace warmpath::proxy::testing {
namespace {

using ::testing::HasSubstr;

PoolOptions asking(AskEngine when = AskEngine::kAlways, Duration deadline = kPatience) {
  PoolOptions options;
  options.ask.when = when;
  options.ask.deadline = deadline;
  return options;
}

std::string ids_body(std::string_view key, int count) {
  std::string body = "{\"" + std::string(key) + "\":[";
  for (int i = 0; i < count; ++i) body += (i == 0 ? "" : ",") + std::to_string(100 + i);
  return body + "]}";
}

// By path: /render, /tokenize, else a completion.
struct Ways {
  ScriptedEngine::Script render = answers(200, ids_body("token_ids", 40));
  ScriptedEngine::Script tokenize = answers(200, ids_body("tokens", 30));
};
ScriptedEngine::Script by_path(Ways ways) {
  return [ways](const std::shared_ptr<http::Exchange>& exchange) {
    const std::string_view path = exchange->head().path();
    if (path.ends_with("/render")) return ways.render(exchange);
    if (path == "/tokenize") return ways.tokenize(exchange);
    answers(200, kWhole)(exchange);
  };
}

std::vector<std::string> paths(World& world) {
  std::vector<std::string> out;
  for (const auto& seen : world.engine().seen()) out.push_back(seen.head.target);
  return out;
}

void expect_not_told(const Ways& ways, AskOutcome outcome, Duration deadline = kPatience) {
  World world(1, {}, asking(AskEngine::kAlways, deadline));
  world.engine().script(by_path(ways));
  world.run();
  EXPECT_EQ(world.caller.post(world.address(), chat_body())->body(), kWhole)
      << "the client's answer comes all the same";
  EXPECT_FALSE(world.records(1)[0].exact);
  EXPECT_EQ(world.pool().asked().of(outcome), 1u) << ask_outcome_name(outcome);
  EXPECT_EQ(world.pool().asked().failed(), 1u);
  const std::string name(ask_outcome_name(outcome));
  const std::string page = world.registry.expose();
  EXPECT_THAT(page, HasSubstr(R"(warmpath_ids_asked_total{outcome=")" + name + R"(",pool="pool"} 1)"));
  EXPECT_THAT(page, HasSubstr(R"(chain="ask_)" + name + "\""));
}

TEST(Asking, ARendererTellsTheIdsOnce) {
  World world(1, {}, asking());
  world.engine().script(by_path({}));
  world.run();
  const std::string body = chat_body(R"(,"stream":false)");
  for (std::size_t i = 1; i <= 2; ++i) {
    EXPECT_EQ(world.caller.post(world.address(), body, {{"authorization", "Bearer k"}})->body(), kWhole);
    EXPECT_TRUE(world.records(i)[i - 1].exact);
    EXPECT_EQ(world.records(i)[i - 1].prompt_tokens, 40u);
  }
  EXPECT_THAT(paths(world),
              ::testing::ElementsAre("/v1/chat/completions/render", "/v1/chat/completions", "/v1/chat/completions"));
  EXPECT_EQ(world.engine().seen()[0].body, body) << "as the client wrote it";
  EXPECT_EQ(*world.engine().seen()[0].head.headers.find("authorization"), "Bearer k");
  EXPECT_EQ(world.pool().asked().of(AskOutcome::kTold), 1u);
  EXPECT_EQ(world.pool().asked().of(AskOutcome::kKnown), 1u);
  EXPECT_EQ(world.pool().asked().failed(), 0u);
}

TEST(Asking, WhereRenderingIsSwitchedOffTokenizeTells) {
  World world(1, {}, asking());
  world.engine().script(by_path({.render = answers(403, "{}")}));
  world.run();
  (void)world.caller.post(world.address(), chat_body(R"(,"tools":[],"add_generation_prompt":true)"));
  (void)world.caller.post(world.address(), R"({"prompt":"a \"b\"","add_special_tokens":false})", {}, "/v1/completions");
  EXPECT_EQ(world.records(2)[0].prompt_tokens, 30u);
  EXPECT_TRUE(world.records(2)[1].exact);
  EXPECT_THAT(paths(world), ::testing::ElementsAre("/v1/chat/completions/render", "/tokenize", "/v1/chat/completions",
                                                   "/tokenize", "/v1/completions"));
  const auto seen = world.engine().seen();
  EXPECT_EQ(seen[1].body, R"({"model":"m","messages":[{"role":"user","content":"xxxxxxxxxxxxxxxxxxxx"}],"tools":[],)"
                          R"("add_generation_prompt":true,"continue_final_message":false})");
  EXPECT_EQ(seen[3].body, R"({"model":"m","prompt":"a \"b\"","add_special_tokens":false})");
  // What /tokenize cannot say is not asked of it.
  (void)world.caller.post(world.address(), chat_body(R"(,"truncate_prompt_tokens":5)"));
  EXPECT_EQ(world.pool().asked().of(AskOutcome::kUnsupported), 1u);
}

TEST(Asking, NotBeingToldEndsInApproximateMatching) {
  expect_not_told({.render = silent()}, AskOutcome::kTimeout, std::chrono::milliseconds(30));
  expect_not_told({.render = answers(400, R"({"error":{"message":"no"}})")}, AskOutcome::kRefused);
  expect_not_told({.render = answers(500, "oh")}, AskOutcome::kError);
  expect_not_told({.render = answers(200, "<html>")}, AskOutcome::kError);
  expect_not_told({.render = answers(200, R"({"token_ids":["a"]})")}, AskOutcome::kError);
  expect_not_told({.render = dies()}, AskOutcome::kError);
  expect_not_told({.render = answers(404, "{}"), .tokenize = answers(404, "{}")}, AskOutcome::kRefused);
}

TEST(Asking, WithoutAnEngineNobodyIsAsked) {
  World world(0, {}, asking());
  world.run();
  EXPECT_EQ(world.caller.post(world.address(), chat_body())->status(), 503);
  EXPECT_EQ(world.pool().asked().of(AskOutcome::kNoEngine), 1u);
}

TEST(Asking, AClientThatLeavesEndsTheAsking) {
  World world(1, {}, asking());
  world.engine().script(by_path({.render = silent()}));
  world.run();
  const auto call = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body());
  ASSERT_TRUE(world.engine().asked.wait());
  world.caller.cancel(*call);
  ASSERT_TRUE(world.engine().hung_up.wait());
  EXPECT_EQ(world.records(1)[0].outcome, "client_gone");
  EXPECT_TRUE(world.empties());
}

api::Request parsed(std::string_view body, api::Endpoint endpoint = api::Endpoint::kChatCompletions) {
  auto request = api::parse_request(endpoint, body);
  WP_CHECK(request.ok());
  return *std::move(request);
}

struct EngineIdsTest : ::testing::Test {
  static EngineIds::Ids some(std::size_t count) { return std::make_shared<const std::vector<TokenId>>(count, 7u); }
  static Instant at(Duration since) { return Instant() + since; }
  observe::Registry registry;
};

TEST_F(EngineIdsTest, AsksOnlyWhatItIsFor) {
  const std::string chat = chat_body();
  const Plan exact;
  Plan guessed;
  guessed.chain_kind = "no_template";
  Plan refused;
  refused.chain_kind = "refused";
  const EngineIds never({.when = AskEngine::kNever}, "a", registry);
  const EngineIds sometimes({.when = AskEngine::kWhenInexact}, "b", registry);
  const EngineIds doubtful({.when = AskEngine::kWhenInexact, .ids_doubt = "rebuilt"}, "c", registry);
  const EngineIds always({.when = AskEngine::kAlways}, "d", registry);
  const auto wanted = [&](const EngineIds& ids, const Plan& plan) { return ids.wants(parsed(chat), plan); };
  EXPECT_FALSE(wanted(never, guessed));
  EXPECT_FALSE(wanted(sometimes, exact));
  EXPECT_TRUE(wanted(sometimes, guessed));
  EXPECT_FALSE(wanted(sometimes, refused));
  EXPECT_TRUE(wanted(doubtful, exact));
  EXPECT_TRUE(wanted(always, exact));
  const auto completion = [&](std::string_view body) {
    return always.wants(parsed(body, api::Endpoint::kCompletions), exact);
  };
  EXPECT_TRUE(completion(R"({"prompt":"a"})"));
  EXPECT_FALSE(completion(R"({"prompt":[1,2]})"));
  EXPECT_FALSE(completion(R"({"prompt":["a","b"]})"));
  EXPECT_FALSE(always.wants(
      parsed(R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]})"), exact));
  EXPECT_FALSE(always.wants(parsed(chat_body(R"(,"chat_template":"x")")), exact));
  const std::string both = R"({"input":"x","messages":[{"role":"user","content":"x"}],"max_tokens":1})";
  EXPECT_TRUE(always.wants(parsed(both, api::Endpoint::kResponses), exact));
  EXPECT_TRUE(always.wants(parsed(both, api::Endpoint::kMessages), exact));
  EXPECT_FALSE(always.wants(parsed(both, api::Endpoint::kCountTokens), exact));
  EXPECT_FALSE(always.wants(parsed(both, api::Endpoint::kEmbeddings), exact));
  EXPECT_FALSE(always.wants(parsed(R"({"messages":[{"role":"user","content":"x"}],"thinking":{"type":"disabled"}})",
                                   api::Endpoint::kMessages),
                            exact));
}

TEST_F(EngineIdsTest, KeysAreApartWhereIdsMayBe) {
  const EngineIds ids({.when = AskEngine::kAlways}, "pool", registry);
  const blocks::KeySpace space(1, "m", 16);
  std::vector<BlockKey> keys;
  for (const std::string& body :
       {chat_body(), chat_body({}, 21), chat_body(R"(,"tools":[{}])"), chat_body(R"(,"documents":[{}])"),
        chat_body(R"(,"chat_template_kwargs":{"a":1})"), chat_body(R"(,"reasoning_effort":"low")"),
        chat_body(R"(,"add_generation_prompt":false)"), chat_body(R"(,"add_special_tokens":true)"),
        chat_body(R"(,"truncate_prompt_tokens":7)"),
        chat_body(R"(,"truncate_prompt_tokens":7,"truncation_side":"right")")}) {
    keys.push_back(ids.key_of(parsed(body), "m", space));
  }
  keys.push_back(ids.key_of(parsed(chat_body()), "other", space));
  keys.push_back(ids.key_of(parsed(R"({"prompt":"x"})", api::Endpoint::kCompletions), "m", space));
  keys.push_back(ids.key_of(parsed(R"({"input":"x"})", api::Endpoint::kResponses), "m", space));
  keys.push_back(
      ids.key_of(parsed(R"({"messages":[{"role":"user","content":"x"}]})", api::Endpoint::kMessages), "m", space));
  keys.push_back(ids.key_of(parsed(chat_body()), "m", blocks::KeySpace(2, "m", 16)));
  EXPECT_EQ(std::set<BlockKey>(keys.begin(), keys.end()).size(), keys.size());
  EXPECT_EQ(ids.key_of(parsed(chat_body(R"(,"temperature":1,"cache_salt":"s")")), "m", space), keys.front())
      << "what shapes no ids";
}

TEST_F(EngineIdsTest, WhatIsRememberedIsBoundedAndForgottenOldestFirst) {
  EngineIds ids({.when = AskEngine::kAlways, .cache_bytes_max = 3 * (400 + 200)}, "pool", registry);
  for (std::uint64_t key = 1; key <= 3; ++key) ids.keep(BlockKey(key), some(100), at({}));
  EXPECT_TRUE(ids.find(BlockKey(1), at({})));
  ids.keep(BlockKey(4), some(100), at({}));
  EXPECT_FALSE(ids.find(BlockKey(2), at({}))) << "the one that was not looked at for longest";
  EXPECT_TRUE(ids.find(BlockKey(1), at({})));
  EXPECT_TRUE(ids.find(BlockKey(4), at({})));
  ids.keep(BlockKey(5), some(10'000), at({}));
  EXPECT_FALSE(ids.find(BlockKey(5), at({}))) << "larger than all of it";
  EXPECT_TRUE(ids.find(BlockKey(4), at(EngineIds::kKeptMax)));
  EXPECT_FALSE(ids.find(BlockKey(4), at(EngineIds::kKeptMax + std::chrono::seconds(1)))) << "too old";
  EXPECT_FALSE(ids.find(BlockKey(4), at({}))) << "and gone";
}

TEST_F(EngineIdsTest, AnEngineThatDidNotAnswerIsLeftAloneForAWhile) {
  World world(1, {}, asking());
  EngineIds ids({.when = AskEngine::kAlways}, "pool", registry);
  const auto request = parsed(chat_body());
  AskOutcome why{};
  const auto begin = [&](Instant now) { return ids.begin(request, "m", nullptr, world.pool(), now, why); };
  const auto first = begin(at({}));
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->render);
  ids.ended(*first, AskOutcome::kTimeout, at({}));
  EXPECT_FALSE(begin(at({})));
  EXPECT_EQ(why, AskOutcome::kNoEngine);
  EXPECT_TRUE(begin(at(EngineIds::kAvoided)));
}

TEST_F(EngineIdsTest, AsksInFlightAreBounded) {
  World world(1, {}, asking());
  EngineIds ids({.when = AskEngine::kAlways}, "pool", registry);
  const auto request = parsed(chat_body());
  AskOutcome why{};
  std::vector<EngineIds::Question> open;
  for (std::size_t i = 0; i < EngineIds::kAsksMax; ++i) {
    open.push_back(*ids.begin(request, "m", nullptr, world.pool(), at({}), why));
  }
  EXPECT_FALSE(ids.begin(request, "m", nullptr, world.pool(), at({}), why));
  EXPECT_EQ(why, AskOutcome::kBusy);
  ids.ended(open.back(), AskOutcome::kTold, at({}));
  EXPECT_TRUE(ids.begin(request, "m", nullptr, world.pool(), at({}), why));
}

}  // namespace
}  // namespace warmpath::proxy::testing
