// The whole examination: against a simulated engine, and against servers that answer nonsense, hang or close.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "doctor/doctor.h"
#include "engine_server/engine_server.h"
#include "tokens/test_models.h"

namespace warmpath::doctor {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const tokens::Tokenizer> demo() { return {std::shared_ptr<void>(), &tokens::demo_model()}; }

// Something on a loop of its own thread; `make` runs there.
template <class T>
class OnAThread {
 public:
  explicit OnAThread(std::function<std::unique_ptr<T>(io::Loop&)> make) {
    std::promise<io::Address> ready;
    thread_ = std::thread([this, &make, &ready] {
      auto made = make(loop_);
      ready.set_value(made->address());
      loop_.run();
    });
    address_ = ready.get_future().get();
  }
  ~OnAThread() {
    loop_.stop();
    thread_.join();
  }
  http::Url url() const { return *http::parse_url("http://" + address_.text()); }

 private:
  io::Loop loop_;
  std::thread thread_;
  io::Address address_;
};

struct SimulatedEngine : OnAThread<engine_server::EngineServer> {
  explicit SimulatedEngine(engine_server::Options options = {})
      : OnAThread([options](io::Loop& loop) mutable {
          options.listen = {"127.0.0.1", 0};
          options.model = "demo";
          options.engine.profile.block_tokens = 16;
          options.engine.profile.kv_blocks = 2'000;
          options.engine.speed = 50;
          auto server = engine_server::EngineServer::create(loop, options, demo());
          WP_CHECK(server.ok());
          return *std::move(server);
        }) {}
};

// Answers /v1/models as an engine does, the rest by `answer` (empty: 404); -1 hangs, -2 closes.
struct Scripted {
  int status = 200;
  std::string body;
};
using Script = std::function<std::optional<Scripted>(const http::RequestHead&)>;
struct ScriptedEngine : OnAThread<http::HttpListener> {
  explicit ScriptedEngine(Script script)
      : OnAThread([script](io::Loop& loop) {
          http::ServerOptions server;
          server.errors = [](const Error& error, int&, http::Headers&) { return error.message; };
          auto opened = http::HttpListener::open(
              loop, {"127.0.0.1", 0}, std::move(server),
              [script, held = std::make_shared<std::vector<std::shared_ptr<http::Exchange>>>()](
                  const std::shared_ptr<http::Exchange>& exchange) {
                const auto answer = script(exchange->head());
                if (!answer) return exchange->respond(404, {}, R"({"detail":"Not Found"})");
                if (answer->status == -1) return held->push_back(exchange);
                if (answer->status == -2) return exchange->abort();
                exchange->respond(answer->status, {}, answer->body);
              });
          WP_CHECK(opened.ok());
          return *std::move(opened);
        }) {}
};

constexpr const char* kModels = R"({"object":"list","data":[{"id":"demo","parent":null,"max_model_len":4096}]})";

Options options_for(http::Url url) {
  Options options;
  options.url = std::move(url);
  options.nonce = 0x1234'5678'9abc'def0;
  options.step_max = std::chrono::seconds(10);
  return options;
}

const Finding& find(const Report& report, std::string_view check) {
  for (const Finding& finding : report.findings) {
    if (finding.check == check) return finding;
  }
  WP_CHECK(false);
  return report.findings.front();
}

TEST(Examination, AHealthyEngineIsCleanAndHardlyTouched) {
  engine_server::Options engine;
  engine.adapters = {{"adapter-x", "/x"}};
  const SimulatedEngine server(engine);
  const auto report = examine(options_for(server.url()), tokens::demo_model());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->count(Outcome::kOk), report->findings.size()) << to_table(*report);
  EXPECT_THAT(to_table(*report), HasSubstr("\nclean: "));
  EXPECT_THAT(to_json(*report), HasSubstr(R"("clean":true)"));
}

TEST(Examination, EveryRankIsListenedToAndOnePinned) {
  engine_server::Options engine;
  engine.ranks = 2;
  const SimulatedEngine server(engine);
  const auto report = examine(options_for(server.url()), tokens::demo_model());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->count(Outcome::kFault), 0u) << to_table(*report);
  EXPECT_EQ(find(*report, "ranks").outcome, Outcome::kOk);
  EXPECT_THAT(find(*report, "ranks").detail, HasSubstr("2, pinned"));
}

TEST(Examination, TheModelIsChosenByNameAndTopicsAreCompared) {
  engine_server::Options engine;
  engine.faults.add(engine_server::Fault::kEventsTopic);
  const SimulatedEngine server(engine);
  Options options = options_for(server.url());
  options.model = "nobody";
  EXPECT_EQ(examine(options, tokens::demo_model()).error().kind, ErrorKind::kNotFound);
  options.model = "demo";
  const auto report = examine(options, tokens::demo_model());
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(find(*report, "event topic").cause, "events_topic");
}

TEST(Examination, NobodyThereIsAnError) {
  Options options = options_for(*http::parse_url("http://127.0.0.1:1"));
  const auto report = examine(options, tokens::demo_model());
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::kUnavailable);
}

TEST(Examination, NonsenseForModelsIsNoEngine) {
  for (const char* body : {"", "<html>", "{}", R"({"data":[]})", R"({"data":7})"}) {
    const ScriptedEngine server([body](const http::RequestHead&) { return Scripted{200, body}; });
    const auto report = examine(options_for(server.url()), tokens::demo_model());
    ASSERT_FALSE(report.ok()) << body;
    EXPECT_EQ(report.error().kind, ErrorKind::kUpstream) << body;
  }
  const ScriptedEngine locked([](const http::RequestHead&) { return Scripted{401, R"({"error":"Unauthorized"})"}; });
  EXPECT_EQ(examine(options_for(locked.url()), tokens::demo_model()).error().kind, ErrorKind::kUnauthorized);
}

TEST(Examination, NonsenseForEverythingElseIsReported) {
  const ScriptedEngine server([](const http::RequestHead& head) -> std::optional<Scripted> {
    if (head.path() == "/v1/models") return Scripted{200, kModels};
    return Scripted{200, R"({"0":{"enable_kv_cache_events":7},"tokens":{},"choices":"x","usage":[1,2]})"};
  });
  const auto report = examine(options_for(server.url()), tokens::demo_model());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(find(*report, "answers").outcome, Outcome::kFault) << to_table(*report);
  EXPECT_EQ(find(*report, "KV events").outcome, Outcome::kFault);
  EXPECT_EQ(find(*report, "tokenizer").outcome, Outcome::kNotTested);
}

// vLLM 0.32 refuses to render tools without --enable-auto-tool-choice, and tokenizes them.
TEST(Examination, ARefusalToRenderIsNoRefusalOfThePrompt) {
  const ScriptedEngine server([](const http::RequestHead& head) -> std::optional<Scripted> {
    if (head.path() == "/v1/models") return Scripted{200, kModels};
    if (head.path().ends_with("/render")) return Scripted{400, R"({"error":{"message":"no tools"}})"};
    if (head.path() == "/tokenize") return Scripted{200, R"({"tokens":[72]})"};
    return std::nullopt;
  });
  const auto report = examine(options_for(server.url()), tokens::demo_model());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_THAT(to_table(*report), ::testing::Not(HasSubstr("no tools")));
  EXPECT_EQ(find(*report, "tokenizer").cause, "tokenizer");
}

TEST(Examination, AnEngineThatHangsCostsItsDeadlineAndNoMore) {
  const ScriptedEngine silent([](const http::RequestHead&) { return Scripted{-1, ""}; });
  Options options = options_for(silent.url());
  options.step_max = std::chrono::milliseconds(50);
  EXPECT_EQ(examine(options, tokens::demo_model()).error().kind, ErrorKind::kTimeoutEngine);

  const ScriptedEngine stuck([](const http::RequestHead& head) -> std::optional<Scripted> {
    if (head.path() == "/v1/models") return Scripted{200, kModels};
    if (head.path().starts_with("/v1/")) return Scripted{-1, ""};
    return std::nullopt;
  });
  options.url = stuck.url();
  options.total_max = std::chrono::milliseconds(400);
  const auto report = examine(options, tokens::demo_model());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(find(*report, "answers").outcome, Outcome::kFault) << to_table(*report);
}

TEST(Examination, AnEngineThatClosesIsReported) {
  const ScriptedEngine server([](const http::RequestHead& head) -> std::optional<Scripted> {
    if (head.path() == "/v1/models") return Scripted{200, kModels};
    return Scripted{-2, ""};
  });
  const auto report = examine(options_for(server.url()), tokens::demo_model());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(find(*report, "answers").outcome, Outcome::kFault) << to_table(*report);
}

}  // namespace
}  // namespace warmpath::doctor
