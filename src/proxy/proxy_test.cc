// The proxy between scripted engines and a client, over loopback.
#include "proxy/proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proxy/test_engines.h"

namespace warmpath::proxy::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ProxyOptions with_timeouts(Duration first_byte, Duration idle) {
  ProxyOptions options;
  options.timeouts.first_byte = first_byte;
  options.timeouts.idle = idle;
  return options;
}

TEST(Relay, AWholeAnswerPassesUnchanged) {
  World world;
  world.engine().script(answers(200, kWhole, {{"x-engine-note", "n"}, {"x-request-id", "engine's own"}}));
  world.run();
  const std::string body = chat_body(R"(, "temperature": 0.5 , "unknown":[1e400] )");
  const auto call =
      world.caller.post(world.address(), body, {{"x-request-id", "req-1"}, {"authorization", "Bearer k"}});
  EXPECT_EQ(call->status(), 200);
  EXPECT_EQ(call->body(), kWhole);
  EXPECT_EQ(call->header("x-request-id"), "req-1");
  EXPECT_EQ(call->header("x-engine-note"), "n");
  EXPECT_EQ(call->header("content-type"), "application/json");
  const auto seen = world.engine().seen();
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].body, body);
  EXPECT_EQ(seen[0].head.target, "/v1/chat/completions");
  EXPECT_EQ(*seen[0].head.headers.find("x-request-id"), "req-1");
  EXPECT_EQ(*seen[0].head.headers.find("authorization"), "Bearer k");
  const AccessRecord record = world.records(1)[0];
  EXPECT_EQ(record.request_id, "req-1");
  EXPECT_EQ(record.model, "m");
  EXPECT_EQ(record.engine, "e0");
  EXPECT_EQ(record.status, 200);
  EXPECT_EQ(record.outcome, "ok");
  EXPECT_EQ(record.attempts, 1u);
  ASSERT_TRUE(record.usage);
  EXPECT_EQ(record.usage->cached_tokens, 4u);
  EXPECT_EQ(record.request_bytes, body.size());
  EXPECT_EQ(record.response_bytes, kWhole.size());
  EXPECT_EQ(world.inflight_after(1), 0u);
  const std::string page = world.registry.expose();
  EXPECT_THAT(page, HasSubstr(R"(warmpath_requests_total{engine="e0",model="m",outcome="ok",status="200"} 1)"));
  EXPECT_THAT(page, HasSubstr(R"(warmpath_cached_tokens_total{model="m"} 4)"));
}

TEST(Relay, AStreamPassesChunkByChunkAsItComes) {
  World world;
  Flag go_on;
  std::shared_ptr<http::Exchange> held;
  world.engine().script([&](const std::shared_ptr<http::Exchange>& exchange) {
    held = exchange;
    exchange->start(200, typed("text/event-stream"), std::nullopt);
    exchange->write(chunk("one"));
  });
  world.run();
  const auto call = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body(R"(,"stream":true)"));
  // The first event is here while the engine has not said more.
  ASSERT_TRUE(call->wait_body([](const std::string& body) { return body == chunk("one"); }));
  world.engine().run([&] {
    held->write(chunk("two") + usage_event());
    held->write(kDone);
    held->end();
    held.reset();
  });
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->failure(), "");
  EXPECT_EQ(call->body(), chunk("one") + chunk("two") + usage_event() + kDone);
  EXPECT_EQ(call->header("content-type"), "text/event-stream");
  EXPECT_EQ(call->header("x-request-id").size(), 32u);
  const AccessRecord record = world.records(1)[0];
  EXPECT_TRUE(record.stream);
  EXPECT_EQ(record.usage->prompt_tokens, 9u);
  EXPECT_GT(record.ttft, Duration(0));
  EXPECT_EQ(world.inflight_after(1), 0u);
}

TEST(Relay, CompletionsAreServedToo) {
  World world;
  world.engine().script(answers(200, kWhole));
  world.run();
  for (const char* body :
       {R"({"model":"m","prompt":"a"})", R"({"prompt":[1,2,3]})", R"({"model":"m","prompt":["a","b"]})"}) {
    const auto call = world.caller.post(world.address(), body, {}, "/v1/completions");
    EXPECT_EQ(call->status(), 200) << body;
    EXPECT_EQ(world.engine().seen().back().body, body);
    EXPECT_EQ(world.engine().seen().back().head.target, "/v1/completions");
  }
}

// ---- clients that leave ----

// A client that leaves is passed on within 50 ms: the quickest of a few, because a busy machine has no say in it.
void expect_quick_hang_ups(World& world, const std::function<std::shared_ptr<Call>()>& start) {
  constexpr std::size_t kTries = 5;
  auto quickest = std::chrono::steady_clock::duration::max();
  for (std::size_t tried = 1; tried <= kTries; ++tried) {
    world.engine().hung_up.clear();
    const auto call = start();
    ASSERT_NE(call, nullptr);
    const auto left = std::chrono::steady_clock::now();
    world.caller.cancel(*call);
    ASSERT_TRUE(world.engine().hung_up.wait());
    quickest = std::min(quickest, world.engine().hung_up.at() - left);
    EXPECT_EQ(world.records(tried)[tried - 1].outcome, "client_gone");
    EXPECT_EQ(world.inflight_after(tried), 0u);
  }
  EXPECT_LT(quickest, std::chrono::milliseconds(50));
}

TEST(Relay, EveryEndpointPassesItsBytesBothWays) {
  const std::vector<std::pair<const char*, const char*>> bodies = {
      {"/v1/responses", R"({"model" : "m","input":[{"role":"user","content":"a"}],"x":1e400})"},
      {"/v1/messages", R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"max_tokens":5})"},
      {"/v1/messages/count_tokens", R"({"messages":[{"role":"user","content":"a"}]})"},
      {"/v1/embeddings", R"({"input":["a",  "b"]})"},
      {"/inference/v1/generate", R"({"token_ids":[1,2],"sampling_params":{}})"}};
  World world;
  world.engine().script(answers(200, "{\"own\": \"form\"}"));
  world.run();
  for (const auto& [path, body] : bodies) {
    const auto call = world.caller.post(world.address(), body, {}, path);
    EXPECT_EQ(call->status(), 200) << path;
    EXPECT_EQ(call->body(), "{\"own\": \"form\"}");
    EXPECT_EQ(world.engine().seen().back().body, body);
    EXPECT_EQ(world.engine().seen().back().head.target, path);
  }
}

// Where usage stands differs; a stream that tells it unasked keeps it.
TEST(Relay, UsageIsFoundInEachApisStream) {
  PoolOptions pool;
  pool.usage = api::UsageSplice::kAdd;
  const std::string body = R"({"messages":[{"role":"user","content":"x"}],"max_tokens":5,"input":"x","stream":true})";
  const std::string message =
      "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":40,"
      "\"output_tokens\":0}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":8,"
      "\"output_tokens\":3,\"cache_read_input_tokens\":32}}\n\nevent: message_stop\ndata: "
      "{\"type\":\"message_stop\"}\n\n";
  const std::string response =
      "event: response.created\ndata: {\"response\":{\"usage\":null}}\n\nevent: response.completed\ndata: "
      "{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":40,\"input_tokens_details\":"
      "{\"cached_tokens\":32},\"output_tokens\":3},\"user\":null}}\n\n";
  for (const auto& [path, stream] : {std::pair{"/v1/messages", message}, std::pair{"/v1/responses", response}}) {
    World world(1, {}, pool);
    world.engine().script([stream](const std::shared_ptr<http::Exchange>& exchange) {
      exchange->start(200, typed("text/event-stream"), std::nullopt);
      exchange->write(stream);
      exchange->end();
    });
    world.run();
    const auto call = world.caller.post(world.address(), body, {}, path);
    EXPECT_EQ(call->body(), stream);
    EXPECT_EQ(world.engine().seen()[0].body, body) << "nothing to ask for";
    const auto record = world.records(1)[0];
    ASSERT_TRUE(record.usage) << path;
    EXPECT_EQ(record.usage->prompt_tokens, 40u);
    EXPECT_EQ(record.usage->completion_tokens, 3u);
    EXPECT_EQ(record.usage->cached_tokens, 32u);
  }
}

TEST(HangUp, CancelsTheEngineInTheMiddleOfAStream) {
  World world;
  world.engine().script([](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("text/event-stream"), std::nullopt);
    exchange->write(chunk("one"));
  });
  world.run();
  expect_quick_hang_ups(world, [&] {
    auto call = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body(R"(,"stream":true)"));
    return call->wait_body([](const std::string& body) { return !body.empty(); }) ? call : nullptr;
  });
}

TEST(HangUp, CancelsTheEngineBeforeItAnswers) {
  World world;
  world.engine().script(silent());
  world.run();
  expect_quick_hang_ups(world, [&] {
    world.engine().asked.clear();
    auto call = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body());
    return world.engine().asked.wait() ? call : nullptr;
  });
  for (const AccessRecord& record : world.records(1)) EXPECT_EQ(record.status, 0);
}

// ---- engines that fail before anything was seen ----

class RetryBodies : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(Sizes, RetryBodies, ::testing::Values(2'000, 40'000, 4'000'000));

TEST_P(RetryBodies, ARefusedConnectionGoesToAnotherEngine) {
  World world(2);
  world.engine(0).refuse();
  world.engine(1).script(answers(200, kWhole));
  world.run();
  const std::string body = chat_body({}, GetParam());
  for (int i = 0; i < 4; ++i) {
    const auto call = world.caller.post(world.address(), body);
    EXPECT_EQ(call->status(), 200);
    EXPECT_EQ(world.engine(1).seen().back().body, body);
  }
  EXPECT_EQ(world.inflight_after(4), 0u);
}

TEST_P(RetryBodies, AnEngineThatDiesBeforeItAnswersIsLeft) {
  World world(2);
  world.engine(0).script(dies());
  world.engine(1).script(answers(200, kWhole));
  world.run();
  const std::string body = chat_body({}, GetParam());
  for (int i = 0; i < 2; ++i) {
    const auto call = world.caller.post(world.address(), body);
    EXPECT_EQ(call->status(), 200);
    EXPECT_EQ(world.engine(1).seen().back().body, body);
  }
  EXPECT_GE(world.engine(0).seen().size(), 1u);
  EXPECT_EQ(world.inflight_after(2), 0u);
}

TEST(Retry, AStreamWhoseHeadCameButNoEventIsTriedElsewhere) {
  World world(2);
  for (int i : {0, 1}) {
    auto& mine = world.engine(static_cast<std::size_t>(i));
    auto& other = world.engine(static_cast<std::size_t>(1 - i));
    mine.script([&mine, &other](const std::shared_ptr<http::Exchange>& exchange) {
      if (!other.seen().empty()) return streams({chunk("a"), kDone})(exchange);
      exchange->start(200, typed("text/event-stream"), std::nullopt);
      exchange->write("data: {\"half");
      mine.loop().post([exchange] { exchange->abort(); });
    });
  }
  world.run();
  const auto call = world.caller.post(world.address(), chat_body(R"(,"stream":true)"));
  EXPECT_EQ(call->status(), 200);
  EXPECT_EQ(call->body(), chunk("a") + kDone);
  EXPECT_EQ(world.records(1)[0].attempts, 2u);
}

TEST(Retry, ASilentEngineIsLeftAfterItsTime) {
  World world(2, with_timeouts(std::chrono::milliseconds(80), std::chrono::seconds(5)));
  world.engine(0).script(silent());
  world.engine(1).script(answers(200, kWhole));
  world.run();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(world.caller.post(world.address(), chat_body())->status(), 200);
  EXPECT_TRUE(world.engine(0).hung_up.wait());
}

TEST(Retry, WithoutAnotherEngineTheFailureIsTold) {
  {
    World world(1, with_timeouts(std::chrono::milliseconds(80), std::chrono::seconds(5)));
    world.engine().script(silent());
    world.run();
    const auto call = world.caller.post(world.address(), chat_body());
    EXPECT_EQ(call->status(), 504);
    EXPECT_THAT(call->body(), HasSubstr(R"("code":"engine_timeout")"));
    EXPECT_EQ(world.inflight_after(1), 0u);
  }
  {
    World world;
    world.engine().script(dies());
    world.run();
    const auto call = world.caller.post(world.address(), chat_body());
    EXPECT_EQ(call->status(), 502);
    EXPECT_THAT(call->body(), HasSubstr(R"({"error":{"message":")"));
  }
  {
    World world;
    world.engine().refuse();
    world.run();
    const auto call = world.caller.post(world.address(), chat_body());
    EXPECT_EQ(call->status(), 503);
    EXPECT_EQ(call->header("retry-after"), "1");
  }
}

TEST(Retry, APoisonousRequestStopsAfterTwoDeaths) {
  World world(4);
  for (std::size_t i = 0; i < 4; ++i) world.engine(i).script(dies());
  world.run();
  EXPECT_EQ(world.caller.post(world.address(), chat_body())->status(), 502);
  std::size_t asked = 0;
  for (std::size_t i = 0; i < 4; ++i) asked += world.engine(i).seen().size();
  EXPECT_EQ(asked, 2u);
}

// ---- engines that break later ----

TEST(Broken, AStreamEndsInAnErrorEventAndNoDone) {
  World world;
  world.engine().script([&world](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("text/event-stream"), std::nullopt);
    exchange->write(chunk("one") + "data: {\"cut");
    world.engine().loop().post([exchange] { exchange->abort(); });
  });
  world.run();
  const auto call = world.caller.post(world.address(), chat_body(R"(,"stream":true)"));
  EXPECT_EQ(call->failure(), "");  // a clean end
  EXPECT_EQ(call->status(), 200);
  EXPECT_TRUE(call->body().starts_with(chunk("one") + "data: {\"error\":{")) << call->body();
  EXPECT_TRUE(call->body().ends_with("}}\n\n"));
  EXPECT_THAT(call->body(), Not(HasSubstr("[DONE]")));
  EXPECT_THAT(call->body(), Not(HasSubstr("cut")));
  EXPECT_EQ(world.records(1)[0].outcome, "broken");
  EXPECT_EQ(world.inflight_after(1), 0u);
}

TEST(Broken, EachApiIsToldInItsOwnForm) {
  for (const auto& [path, body, told] : std::initializer_list<std::tuple<const char*, const char*, const char*>>{
           {"/v1/messages", R"({"messages":[{"role":"user","content":"x"}],"max_tokens":5,"stream":true})",
            R"(data: {"type":"error","error":{"type":"api_error",)"},
           {"/v1/responses", R"({"input":"x","stream":true})", R"(data: {"type":"error","code":)"}}) {
    World world;
    world.engine().script([&world](const std::shared_ptr<http::Exchange>& exchange) {
      exchange->start(200, typed("text/event-stream"), std::nullopt);
      exchange->write("event: begun\ndata: {}\n\nevent: cut");
      world.engine().loop().post([exchange] { exchange->abort(); });
    });
    world.run();
    const auto call = world.caller.post(world.address(), body, {}, path);
    EXPECT_EQ(call->failure(), "");
    EXPECT_TRUE(call->body().starts_with("event: begun\ndata: {}\n\nevent: error\n" + std::string(told)))
        << call->body();
    EXPECT_THAT(call->body(), Not(HasSubstr("cut")));
  }
}

TEST(Broken, AStreamThatFallsSilentEndsTheSameWay) {
  World world(1, with_timeouts(std::chrono::seconds(5), std::chrono::milliseconds(80)));
  world.engine().script([](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("text/event-stream"), std::nullopt);
    exchange->write(chunk("one"));
  });
  world.run();
  const auto call = world.caller.post(world.address(), chat_body(R"(,"stream":true)"));
  EXPECT_EQ(call->failure(), "");
  EXPECT_THAT(call->body(), HasSubstr(R"("code":"engine_timeout")"));
  EXPECT_TRUE(world.engine().hung_up.wait());
}

TEST(Broken, AWholeAnswerThatBreaksIs502) {
  World world;
  world.engine().script([&world](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("application/json"), 100);
    exchange->write("{\"choices\":");
    world.engine().loop().post([exchange] { exchange->abort(); });
  });
  world.run();
  const auto call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->status(), 502);
  EXPECT_THAT(call->body(), HasSubstr("\"error\""));
}

TEST(Broken, AboveTheBoundAWholeAnswerBreaksWithItsEngine) {
  ProxyOptions options;
  options.whole_bytes_max = 1'000;
  World world(1, options);
  world.engine().script([&world](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("application/json"), 10'000);
    exchange->write(std::string(2'000, ' '));
    world.engine().loop().post([exchange] { exchange->abort(); });
  });
  world.run();
  const auto call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->status(), 200);
  EXPECT_NE(call->failure(), "");  // never a whole-looking answer
  EXPECT_EQ(world.records(1)[0].outcome, "broken");
}

TEST(Relay, ALargeWholeAnswerPassesThrough) {
  ProxyOptions options;
  options.whole_bytes_max = 10'000;
  World world(1, options);
  const std::string large = "{\"x\":\"" + std::string(3'000'000, 'y') + "\"}";
  world.engine().script(answers(200, large));
  world.run();
  const auto call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->failure(), "");
  EXPECT_EQ(call->body(), large);
  EXPECT_EQ(call->header("content-length"), std::to_string(large.size()));
}

// ---- what is changed, and what never passes ----

TEST(Rewrite, AnAliasBecomesTheEnginesName) {
  PoolOptions pool;
  pool.aliases = {"fast"};
  World world(1, {}, pool);
  world.engine().script(answers(200, kWhole));
  world.run();
  const auto call = world.caller.post(world.address(), chat_body(R"( , "x":"fast")", 5, "fast"));
  EXPECT_EQ(call->status(), 200);
  EXPECT_EQ(world.engine().seen()[0].body, chat_body(R"( , "x":"fast")", 5, "m"));
  EXPECT_EQ(world.records(1)[0].model, "m");
}

TEST(Rewrite, UsageIsAskedForAndItsChunkTakenOut) {
  PoolOptions pool;
  pool.usage = api::UsageSplice::kAdd;
  World world(1, {}, pool);
  world.engine().script(streams({chunk("a"), usage_event(100, 96), kDone}));
  world.run();
  auto call = world.caller.post(world.address(), chat_body(R"(,"stream":true)"));
  EXPECT_EQ(call->body(), chunk("a") + kDone);
  EXPECT_THAT(world.engine().seen()[0].body, HasSubstr(R"("stream_options":{"include_usage":true})"));
  EXPECT_EQ(world.records(1)[0].usage->cached_tokens, 96u);
  // A client that asked gets it, and its bytes go unchanged.
  const std::string asking = chat_body(R"(,"stream":true,"stream_options":{"include_usage":true})");
  call = world.caller.post(world.address(), asking);
  EXPECT_EQ(call->body(), chunk("a") + usage_event(100, 96) + kDone);
  EXPECT_EQ(world.engine().seen()[1].body, asking);
  // What is no stream has usage anyway.
  world.engine().script(answers(200, kWhole));
  call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(world.engine().seen()[2].body, chat_body());
}

TEST(Hygiene, RoutingHeadersAreTheGatewaysAlone) {
  World world(0);
  ScriptedEngine engine;
  engine.script(answers(200, kWhole));
  world.add(engine.address(), 3);
  world.run();
  world.caller.post(world.address(), chat_body(),
                    {{"X-data-parallel-rank", "0"},
                     {"x-prefiller-host-port", "evil:1"},
                     {"x-gateway-destination-endpoint", "evil:1"},
                     {"x-kv-cache-hit", "1"},
                     {"x_encoder_hosts_ports", "evil:1"},
                     {"x-warmpath-engine", "e0"},
                     {"x-request-id", "has space"},
                     {"te", "trailers"},
                     {"x-custom", "stays"}});
  const auto seen = engine.seen();
  ASSERT_EQ(seen.size(), 1u);
  const http::Headers& headers = seen[0].head.headers;
  EXPECT_EQ(headers.count("X-data-parallel-rank"), 1u);
  EXPECT_EQ(*headers.find("X-data-parallel-rank"), "3");
  EXPECT_EQ(*headers.find("x-custom"), "stays");
  EXPECT_EQ(headers.find("x-request-id")->size(), 32u);  // not theirs
  for (const char* gone : {"x-prefiller-host-port", "x-gateway-destination-endpoint", "x-kv-cache-hit",
                           "x_encoder_hosts_ports", "x-warmpath-engine", "te"}) {
    EXPECT_EQ(headers.find(gone), nullptr) << gone;
  }
}

// ---- pressure and many at once ----

TEST(BackPressure, ASlowClientHoldsTheEngineBack) {
  World world;
  constexpr std::size_t kTotal = 64u << 20;
  const std::string piece = chunk(std::string(16'000, 'z'));
  std::atomic<std::size_t> written{0};
  // Writes as long as it is let; what is queued at the engine itself counts as held back.
  world.engine().script([&](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("text/event-stream"), std::nullopt);
    auto feed = std::make_shared<std::function<void()>>();
    *feed = [&, exchange] {
      while (written < kTotal && !exchange->above_high()) {
        exchange->write(piece);
        written += piece.size();
      }
      if (written >= kTotal) exchange->end();
    };
    exchange->on_drained([feed] { (*feed)(); });
    (*feed)();
  });
  world.run();
  const auto call = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body(R"(,"stream":true)"));
  ASSERT_TRUE(call->wait_body([](const std::string& body) { return !body.empty(); }));
  world.caller.pause(*call);
  // It stands still once buffers are full: nothing moves between two looks that are far apart in loop turns.
  std::size_t before = 1;
  for (int turn = 0; turn < 200 && before != written; ++turn) {
    before = written;
    world.engine().pass(std::chrono::milliseconds(50));
  }
  const std::size_t held = written;
  EXPECT_LT(held, kTotal / 2);  // kernel buffers of two connections, no more
  world.caller.resume(*call);
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->failure(), "");
  EXPECT_EQ(call->body().size(), written.load());
}

TEST(Load, ManyAtOnceAllEndAndNothingStays) {
  World world(3);
  world.engine(0).script(streams({chunk("a"), chunk("b"), usage_event(), kDone}));
  world.engine(1).script(answers(200, kWhole));
  world.engine(2).script(dies());
  world.run();
  constexpr std::size_t kCalls = 300;
  std::vector<std::shared_ptr<Call>> calls;
  for (std::size_t i = 0; i < kCalls; ++i) {
    calls.push_back(world.caller.start(world.address(), "POST", "/v1/chat/completions",
                                       chat_body(R"(,"stream":true)", i % 7 == 0 ? 100'000 : 50)));
    if (i % 10 == 9) world.caller.cancel(*calls.back());
  }
  for (std::size_t i = 0; i < kCalls; ++i) {
    if (i % 10 == 9) continue;
    ASSERT_TRUE(calls[i]->wait_end());
    EXPECT_EQ(calls[i]->status(), 200);
  }
  EXPECT_TRUE(world.empties());
}

TEST(Drain, RunningExchangesEndAndNewOnesAreRefused) {
  World world;
  std::shared_ptr<http::Exchange> held;
  world.engine().script([&](const std::shared_ptr<http::Exchange>& exchange) {
    held = exchange;
    exchange->start(200, typed("text/event-stream"), std::nullopt);
    exchange->write(chunk("one"));
  });
  world.run();
  const auto call = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body(R"(,"stream":true)"));
  ASSERT_TRUE(call->wait_body([](const std::string& body) { return !body.empty(); }));
  Flag drained;
  world.proxy().drain([&] { drained.set(); });
  // Refused once the listeners are closed; until then a connection may still be in a backlog.
  Caller other;
  for (int tries = 0; tries < 100; ++tries) {
    const auto late = other.start(world.address(), "GET", "/health", "");
    ASSERT_TRUE(late->wait_end());
    if (!late->failure().empty()) break;
    ASSERT_LT(tries, 99);
  }
  world.engine().run([&] {
    held->write(kDone);
    held->end();
    held.reset();
  });
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->body(), chunk("one") + kDone);
  EXPECT_TRUE(drained.wait());
}

TEST(Open, ATakenPortIsAConflict) {
  World first;
  first.run();
  observe::Registry registry;
  ProxyOptions options;
  options.listen = first.address();
  options.io_threads = 2;
  const auto second = Proxy::open(options, {&first.pool()}, registry);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr(first.address().text() + " is in use"));
}

TEST(Proof, PredictionsAndReportsMeetInTheMetrics) {
  World world;
  world.engine().script(streams({chunk("a"), usage_event(100, 96), kDone}));
  world.run();
  world.caller.post(world.address(), chat_body(R"(,"stream":true)"));
  (void)world.records(1);
  world.pool().refresh_metrics();
  const std::string page = world.registry.expose();
  EXPECT_THAT(page, HasSubstr(R"(warmpath_engine_up{engine="e0",pool="pool"} 1)"));
  EXPECT_THAT(page, HasSubstr(R"(warmpath_decisions_total{pool="pool"} 1)"));
  EXPECT_THAT(page, HasSubstr(R"(warmpath_prompts_total{chain="no_tokenizer",pool="pool"} 1)"));
  const auto snapshot = world.pool().snapshot(10);
  ASSERT_EQ(snapshot.decisions.size(), 1u);
  EXPECT_EQ(snapshot.decisions[0].reported_cached_tokens, 96u);
}

}  // namespace
}  // namespace warmpath::proxy::testing
