// A whole gateway in this process, over loopback, with scripted engines.
#include "app/gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/log.h"
#include "proxy/test_engines.h"

namespace warmpath::app {
namespace {

using proxy::testing::Caller;
using proxy::testing::chat_body;
using proxy::testing::Flag;
using proxy::testing::kWhole;
using proxy::testing::LoopThread;
using proxy::testing::ScriptedEngine;
using ::testing::HasSubstr;

// Answers like a small vLLM.
ScriptedEngine::Script engine_script() {
  return [](const std::shared_ptr<http::Exchange>& exchange) {
    const std::string_view path = exchange->head().path();
    if (path == "/v1/models") {
      const api::ModelEntry models[] = {{"qwen", "Qwen/Qwen3", std::nullopt, 4096},
                                        {"lora", "x", "qwen", std::nullopt}};
      exchange->respond(200, proxy::testing::typed("application/json"), api::models_body(models, 1));
    } else if (path == "/health") {
      exchange->respond(200, {}, "");
    } else if (path == "/v1/chat/completions") {
      exchange->respond(200, proxy::testing::typed("application/json"), kWhole);
    } else {
      exchange->respond(404, {}, "");
    }
  };
}

config::GatewayConfig config_for(const std::vector<std::string>& urls) {
  config::GatewayConfig config;
  config.listen = "127.0.0.1:0";
  config.admin_listen = "127.0.0.1:0";
  config.io_threads = 1;
  config.health_interval = std::chrono::milliseconds(50);
  config::PoolConfig pool;
  pool.policy = "load";
  for (const std::string& url : urls) {
    config::EngineConfig engine;
    engine.url = url;
    pool.engines.push_back(engine);
  }
  config.pools.push_back(pool);
  return config;
}

class Running {
 public:
  explicit Running(const config::GatewayConfig& config) {
    auto opened = Gateway::open(config, nullptr);
    WP_CHECK(opened.ok());
    gateway = std::move(opened).value();
  }
  std::shared_ptr<proxy::testing::Call> get(const io::Address& to, const std::string& target) {
    auto call = caller.start(to, "GET", target, "");
    WP_CHECK(call->wait_end());
    return call;
  }
  // Waits until /ready says so.
  bool becomes_ready(int status = 200) {
    for (int tries = 0; tries < 400; ++tries) {
      if (get(gateway->admin_address(), "/ready")->status() == status) return true;
      clock.pass(std::chrono::milliseconds(10));
    }
    return false;
  }

  std::unique_ptr<Gateway> gateway;
  Caller caller;
  LoopThread clock;
};

TEST(Gateway, ServesEnginesThatTellTheirModels) {
  ScriptedEngine a, b;
  a.script(engine_script());
  b.script(engine_script());
  Running run(config_for({"http://" + a.address().text(), "http://" + b.address().text()}));
  ASSERT_TRUE(run.becomes_ready());
  const auto models = api::parse_models(run.get(run.gateway->address(), "/v1/models")->body());
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 2u);
  EXPECT_EQ((*models)[0].id, "lora");
  EXPECT_EQ((*models)[1].id, "qwen");
  for (const char* model : {"qwen", "lora"}) {
    const auto call = run.caller.post(run.gateway->address(), chat_body({}, 10, model));
    EXPECT_EQ(call->status(), 200);
    EXPECT_EQ(call->body(), kWhole);
  }
  const auto unknown = run.caller.post(run.gateway->address(), chat_body({}, 10, "nope"));
  EXPECT_EQ(unknown->status(), 404);
  EXPECT_THAT(unknown->body(), HasSubstr("lora, qwen"));
  EXPECT_THAT(run.get(run.gateway->admin_address(), "/decisions?limit=1")->body(), HasSubstr(R"("policy":"load")"));
  EXPECT_THAT(run.get(run.gateway->admin_address(), "/engines")->body(), HasSubstr("\"models\":\"qwen, lora\""));
  const auto metrics = run.get(run.gateway->admin_address(), "/metrics")->body();
  EXPECT_THAT(metrics, HasSubstr("warmpath_requests_total{"));
  EXPECT_THAT(metrics, HasSubstr("warmpath_engine_up{"));
}

TEST(Gateway, WaitsForEnginesThatAreDown) {
  io::Address address;
  {
    ScriptedEngine once;
    address = once.address();
  }
  Running run(config_for({"http://" + address.text()}));
  EXPECT_EQ(run.get(run.gateway->admin_address(), "/health")->status(), 200);
  const auto ready = run.get(run.gateway->admin_address(), "/ready");
  EXPECT_EQ(ready->status(), 503);
  EXPECT_THAT(ready->body(), HasSubstr(address.text()));
  const auto call = run.caller.post(run.gateway->address(), chat_body());
  EXPECT_EQ(call->status(), 503);
  EXPECT_NE(call->header("retry-after"), "");
}

TEST(Gateway, APrecisePoolWithoutTokenizerSaysItIsApproximate) {
  ScriptedEngine engine;
  engine.script(engine_script());
  auto config = config_for({"http://" + engine.address().text()});
  config.pools[0].policy = "precise";
  Running run(config);
  const auto pools = run.gateway->report(0);
  ASSERT_EQ(pools.size(), 1u);
  EXPECT_THAT(pools[0].mode, HasSubstr("approximate: precise needs the model's tokenizer"));
}

// The tokenizer that the demo ships with.
TEST(Gateway, AnEngineWithoutEventsIsApproximateByName) {
  ScriptedEngine engine;
  engine.script(engine_script());
  auto config = config_for({"http://" + engine.address().text()});
  config.pools[0].policy = "precise";
  config.pools[0].tokenizer = std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model";
  Running run(config);
  ASSERT_TRUE(run.becomes_ready());
  const std::string ready = run.get(run.gateway->admin_address(), "/ready")->body();
  EXPECT_THAT(ready,
              HasSubstr("precise; approximate for http://" + engine.address().text() + ": the engine does not tell"));
}

TEST(Gateway, WhatCannotBeUsedIsSaidAtTheStart) {
  auto config = config_for({"http://127.0.0.1:1"});
  config.pools[0].tokenizer = "/no/such/folder";
  auto opened = Gateway::open(config, nullptr);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message, HasSubstr("/no/such/folder"));

  ScriptedEngine taken;
  config = config_for({"http://127.0.0.1:1"});
  config.listen = taken.address().text();
  opened = Gateway::open(config, nullptr);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind, ErrorKind::kConflict);
  EXPECT_THAT(opened.error().message, HasSubstr("--listen: " + taken.address().text()));
  config = config_for({"http://127.0.0.1:1"});
  config.admin_listen = taken.address().text();
  opened = Gateway::open(config, nullptr);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message, HasSubstr("--admin-listen"));
}

TEST(Gateway, DrainsAndThenIsNotReady) {
  ScriptedEngine engine;
  std::shared_ptr<http::Exchange> held;
  Flag asked;
  const auto usual = engine_script();
  engine.script([&](const std::shared_ptr<http::Exchange>& exchange) {
    if (exchange->head().path() != "/v1/chat/completions") return usual(exchange);
    held = exchange;
    asked.set();
  });
  Running run(config_for({"http://" + engine.address().text()}));
  ASSERT_TRUE(run.becomes_ready());
  const auto call = run.caller.start(run.gateway->address(), "POST", "/v1/chat/completions", chat_body({}, 10, "qwen"));
  ASSERT_TRUE(asked.wait());
  EXPECT_EQ(run.gateway->requests_in_flight(), 1u);
  Flag drained;
  Gateway::Drained how = Gateway::Drained::kTimeout;
  run.gateway->drain(std::chrono::seconds(30), [&](Gateway::Drained answer) {
    how = answer;
    drained.set();
  });
  EXPECT_TRUE(run.becomes_ready(503));
  engine.loop().post([&] {
    held->respond(200, proxy::testing::typed("application/json"), kWhole);
    held.reset();
  });
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->status(), 200);
  ASSERT_TRUE(drained.wait());
  EXPECT_EQ(how, Gateway::Drained::kEmpty);
}

TEST(Gateway, ADrainThatTakesTooLongEnds) {
  ScriptedEngine engine;
  Flag asked;
  const auto usual = engine_script();
  engine.script([&](const std::shared_ptr<http::Exchange>& exchange) {
    if (exchange->head().path() != "/v1/chat/completions") return usual(exchange);
    asked.set();
  });
  Running run(config_for({"http://" + engine.address().text()}));
  ASSERT_TRUE(run.becomes_ready());
  const auto call = run.caller.start(run.gateway->address(), "POST", "/v1/chat/completions", chat_body({}, 10, "qwen"));
  ASSERT_TRUE(asked.wait());
  Flag drained;
  Gateway::Drained how = Gateway::Drained::kEmpty;
  run.gateway->drain(std::chrono::milliseconds(50), [&](Gateway::Drained answer) {
    how = answer;
    drained.set();
  });
  ASSERT_TRUE(drained.wait());
  EXPECT_EQ(how, Gateway::Drained::kTimeout);
  run.gateway.reset();
  ASSERT_TRUE(call->wait_end());
  EXPECT_EQ(call->failure(), "");
  EXPECT_EQ(call->status(), 503);
}

TEST(Log, LinesAreOneLineAndTyped) {
  std::mutex mutex;
  std::string text;
  const auto write = [&](std::string_view lines) {
    const std::lock_guard lock(mutex);
    text.append(lines);
  };
  proxy::AccessRecord record;
  record.request_id = "r1";
  record.model = "m";
  record.engine = "http://a:1";
  record.status = 200;
  {
    Log log(config::LogLevel::kInfo, config::LogFormat::kText, write);
    log.info("engine", {{"why", std::string_view("a \"b\"\nc")}, {"n", std::uint64_t{3}}});
    log.line(config::LogLevel::kDebug, "hidden", {});
    log.request(record);
  }
  EXPECT_THAT(text, HasSubstr(R"(info engine why="a \"b\"\nc" n=3)"));
  EXPECT_THAT(text, HasSubstr("info request id=r1 model=m engine=http://a:1 status=200 outcome=ok"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  text.clear();
  {
    Log(config::LogLevel::kInfo, config::LogFormat::kJson, write)
        .warn("w", {{"x", 0.5}, {"s", std::string_view("\n")}});
  }
  EXPECT_TRUE(text.starts_with("{\"ts\":\"20")) << text;
  EXPECT_TRUE(text.ends_with(R"("level":"warning","event":"w","x":0.5,"s":"\n"})"
                             "\n"))
      << text;
}

}  // namespace
}  // namespace warmpath::app
