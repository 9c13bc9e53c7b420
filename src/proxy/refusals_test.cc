// What the proxy answers when engines say no, and when requests never get as far as an engine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proxy/proxy.h"
#include "proxy/test_engines.h"

namespace warmpath::proxy::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// ---- engines that say no ----

TEST(Refusals, BusyEverywhereIsPassedOnWithRetryAfter) {
  World world(3);
  for (std::size_t i = 0; i < 3; ++i)
    world.engine(i).script(answers(429, R"({"error":"full"})", {{"retry-after", "7"}}));
  world.run();
  const auto call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->status(), 429);
  EXPECT_EQ(call->header("retry-after"), "7");
  EXPECT_EQ(call->body(), R"({"error":"full"})");
  std::size_t asked = 0;
  for (std::size_t i = 0; i < 3; ++i) asked += world.engine(i).seen().size();
  EXPECT_EQ(asked, 2u);  // one other, no more
  EXPECT_EQ(world.inflight_after(1), 0u);
}

TEST(Refusals, BusyAloneIsPassedOn) {
  World world;
  world.engine().script(answers(503, "busy", {{"retry-after", "3"}}));
  world.run();
  const auto call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->status(), 503);
  EXPECT_EQ(call->body(), "busy");
  EXPECT_EQ(call->header("retry-after"), "3");
  EXPECT_EQ(world.records(1)[0].outcome, "refused_by_engine");
  EXPECT_EQ(world.inflight_after(1), 0u);
}

TEST(Refusals, AnotherEngineMayTakeIt) {
  World world(2);
  world.engine(0).script(answers(429, "full"));
  world.engine(1).script(answers(200, kWhole));
  world.run();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.caller.post(world.address(), chat_body())->body(), kWhole);
}

TEST(Refusals, OtherAnswersAreFinal) {
  for (const int status : {400, 401, 404, 422, 500}) {
    World world(2);
    for (std::size_t i = 0; i < 2; ++i) world.engine(i).script(answers(status, R"({"error":{"message":"no"}})"));
    world.run();
    const auto call = world.caller.post(world.address(), chat_body(R"(,"stream":true)"));
    EXPECT_EQ(call->status(), status);
    EXPECT_EQ(call->body(), R"({"error":{"message":"no"}})");
    EXPECT_EQ(world.engine(0).seen().size() + world.engine(1).seen().size(), 1u) << status;
  }
}

TEST(Refusals, AFullEngineIsLeftAlone) {
  ProxyOptions options;
  options.engine_calls_max = 1;
  World world(1, options);
  world.engine().script(silent());
  world.run();
  const auto first = world.caller.start(world.address(), "POST", "/v1/chat/completions", chat_body());
  ASSERT_TRUE(world.engine().asked.wait());
  const auto second = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(second->status(), 429);
  EXPECT_EQ(second->header("retry-after"), "1");
  EXPECT_EQ(world.engine().seen().size(), 1u);
  world.caller.cancel(*first);
  ASSERT_TRUE(world.empties());
  world.engine().script(answers(200, kWhole));
  EXPECT_EQ(world.caller.post(world.address(), chat_body())->status(), 200);  // its place was given back
}

TEST(Refusals, NonsenseIsABadGateway) {
  World world(0);
  LoopThread io;
  std::unique_ptr<io::Listener> listener;
  std::vector<std::shared_ptr<io::Stream>> streams;
  const io::Address address = io.run([&] {
    listener = io::listen(io.loop(), {"127.0.0.1", 0}, {}, [&](std::shared_ptr<io::Stream> stream) {
                 stream->write("SSH-2.0-OpenSSH_9.2\r\n\r\n");
                 streams.push_back(std::move(stream));
               }).value();
    return listener->address();
  });
  world.add(address);
  world.run();
  EXPECT_EQ(world.caller.post(world.address(), chat_body())->status(), 502);
  io.run([&] {
    streams.clear();
    listener.reset();
  });
}

// ---- what never reaches an engine ----

TEST(Refused, PathsAndMethods) {
  World world;
  world.run();
  auto call = world.caller.start(world.address(), "GET", "/v1/nothing", "");
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->status(), 404);
  EXPECT_THAT(call->body(), HasSubstr("/v1/chat/completions"));
  call = world.caller.start(world.address(), "GET", "/v1/chat/completions", "");
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->status(), 405);
  EXPECT_EQ(call->header("allow"), "POST");
  call = world.caller.start(world.address(), "POST", "/health", "");
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->status(), 405);
  EXPECT_EQ(call->header("allow"), "GET");
  call = world.caller.start(world.address(), "GET", "/health?x", "");
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->status(), 200);
  EXPECT_TRUE(world.engine().seen().empty());
}

TEST(Refused, BadBodies) {
  ProxyOptions options;
  options.limits.body_bytes_max = 10'000;
  World world(1, options);
  world.run();
  auto call = world.caller.post(world.address(), R"({"model":"m","messages":[)");
  EXPECT_EQ(call->status(), 400);
  EXPECT_THAT(call->body(), HasSubstr("at byte 25"));
  EXPECT_THAT(call->body(), HasSubstr(R"("param":"messages")"));
  call = world.caller.post(world.address(), chat_body({}, 20'000));
  EXPECT_EQ(call->status(), 413);
  EXPECT_THAT(call->body(), HasSubstr(R"({"error":{"message":")"));
  call = world.caller.post(world.address(), chat_body(), {{"content-encoding", "gzip"}});
  EXPECT_EQ(call->status(), 400);
  EXPECT_THAT(call->body(), HasSubstr("content-encoding"));
  EXPECT_TRUE(world.engine().seen().empty());
  EXPECT_EQ(world.inflight_after(2), 0u);
}

TEST(Refused, AnUnknownModelNamesThoseThereAre) {
  PoolOptions pool;
  pool.aliases = {"fast"};
  World world(1, {}, pool);
  world.run();
  const auto call = world.caller.post(world.address(), chat_body({}, 5, "nope"));
  EXPECT_EQ(call->status(), 404);
  EXPECT_THAT(call->body(), HasSubstr("`nope`"));
  EXPECT_THAT(call->body(), HasSubstr("fast, m"));
  EXPECT_THAT(call->body(), HasSubstr(R"("param":"model")"));
  EXPECT_EQ(world.records(1)[0].model, "other");
  EXPECT_THAT(world.registry.expose(), Not(HasSubstr("nope")));
}

TEST(Refused, NoEngineYet) {
  World world(0);
  world.open();  // the brain is not alive yet
  auto call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->status(), 503);
  EXPECT_EQ(call->header("retry-after"), "1");
  world.start_brain();  // alive, but without engines
  call = world.caller.post(world.address(), chat_body());
  EXPECT_EQ(call->status(), 503);
  EXPECT_EQ(call->header("retry-after"), "1");
  ScriptedEngine engine;
  engine.script(answers(200, kWhole));
  world.add(engine.address());
  EXPECT_EQ(world.caller.post(world.address(), chat_body())->status(), 200);
  world.close();
}

TEST(Models, TheUnionOfWhatIsServed) {
  PoolOptions pool;
  pool.aliases = {"fast"};
  World world(1, {}, pool);
  world.run();
  const auto call = world.caller.start(world.address(), "GET", "/v1/models", "");
  ASSERT_TRUE(call->wait_end());
  const auto models = api::parse_models(call->body());
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].id, "fast");
  EXPECT_EQ((*models)[1].id, "m");
  EXPECT_EQ((*models)[1].max_model_len, 4096u);
}

}  // namespace
}  // namespace warmpath::proxy::testing
