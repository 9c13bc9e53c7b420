// Loadgen against a scripted endpoint on loopback.
#include "loadgen/loadgen.h"

#include <gtest/gtest.h>

#include <set>

#include "api/api.h"
#include "io/test_loop.h"
#include "tokens/stable_words.h"
#include "tokens/test_models.h"

namespace warmpath::loadgen {
namespace {

// Answers every chat with the word it was told to, and keeps what it was asked.
class Endpoint {
 public:
  explicit Endpoint(io::Loop& loop) {
    http::ServerOptions options;
    options.errors = [](const Error& error, int& status, http::Headers&) {
      status = 400;
      return api::error_body(error);
    };
    auto opened = http::HttpListener::open(loop, {"127.0.0.1", 0}, std::move(options),
                                           [this](std::shared_ptr<http::Exchange> exchange) { serve(*exchange); });
    WP_CHECK(opened.ok());
    listener = std::move(opened).value();
  }

  void serve(http::Exchange& exchange) {
    bodies.push_back(exchange.body());
    if (fail_from && bodies.size() > *fail_from) {
      return exchange.respond(503, {}, "{\"error\":{\"message\":\"no\"}}");
    }
    http::Headers headers;
    headers.add("Content-Type", "text/event-stream");
    exchange.start(200, std::move(headers), std::nullopt);
    exchange.write("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + answer + "\"}}]}\n\n");
    exchange.write(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":1,\"prompt_tokens_details\":"
        "{\"cached_tokens\":4}},\"warmpath\":{\"ttft_ms\":7}}\n\n");
    if (!break_streams) exchange.write("data: [DONE]\n\n");
    exchange.end();
  }

  std::unique_ptr<http::HttpListener> listener;
  std::vector<std::string> bodies;
  std::string answer;
  std::optional<std::size_t> fail_from;
  bool break_streams = false;
};

class LoadgenTest : public testing::Test {
 protected:
  void SetUp() override {
    words = tokens::stable_word_ids(*tokenizer, 64);
    endpoint.answer = tokenizer->decode(std::vector<TokenId>{words[3]}, tokens::SpecialText::kKeep).value();
  }

  const Report& run(const workload::Options& wanted, Options options = {}) {
    source = workload::Source::create(wanted, words).value();
    options.address = endpoint.listener->address();
    options.url = http::parse_url("http://" + options.address.text()).value();
    options.model = "demo";
    load = std::make_unique<Loadgen>(loop, options, *tokenizer, *source);
    bool done = false;
    load->start([&] { done = true; });
    EXPECT_TRUE(io::RunUntil(loop, [&] { return done; }));
    return load->report();
  }

  io::Loop loop;
  Endpoint endpoint{loop};
  const tokens::Tokenizer* tokenizer = &tokens::demo_model();
  std::vector<TokenId> words;
  std::unique_ptr<workload::Source> source;
  std::unique_ptr<Loadgen> load;
};

workload::Options conversations(std::uint32_t turns) {
  workload::Options options;
  options.population = workload::MultiTurn{.tenants = 2,
                                           .conversations_per_tenant = 2,
                                           .turns = turns,
                                           .system_prompt_tokens = 20,
                                           .user_tokens = 8,
                                           .output_tokens = 2,
                                           .think_seconds = 0,
                                           .salt_per_tenant = true};
  options.arrivals = workload::ClosedLoop{.users = 3};
  return options;
}

TEST_F(LoadgenTest, EveryRequestIsSentOnceAndMeasured) {
  const Report& report = run(conversations(3));
  ASSERT_EQ(report.outcomes.size(), 12u);
  EXPECT_EQ(endpoint.bodies.size(), 12u);
  std::set<std::uint64_t> ids;
  for (const Outcome& one : report.outcomes) {
    ids.insert(one.id);
    EXPECT_TRUE(one.ok) << one.failure;
    EXPECT_EQ(one.prompt_tokens, 10u);
    EXPECT_EQ(one.cached_tokens, 4u);
    ASSERT_TRUE(one.engine_ttft);
    EXPECT_DOUBLE_EQ(*one.engine_ttft, 0.007);
    EXPECT_GT(one.ttft, 0);
    EXPECT_GE(one.latency, one.ttft);
  }
  EXPECT_EQ(ids.size(), 12u);
}

TEST_F(LoadgenTest, TheNextTurnHoldsTheRealAnswer) {
  (void)run(conversations(2));
  std::size_t with_answer = 0;
  for (const std::string& body : endpoint.bodies) {
    const auto request = api::parse_request(api::Endpoint::kChatCompletions, body);
    ASSERT_TRUE(request.ok()) << request.error().message;
    EXPECT_FALSE(request->cache_salt.empty());
    EXPECT_TRUE(request->stream);
    EXPECT_TRUE(request->include_usage);
    EXPECT_TRUE(request->ignore_eos);
    if (request->messages.find("{\"role\":\"assistant\",\"content\":\"" + endpoint.answer + "\"}") != std::string::npos) {
      ++with_answer;
    }
  }
  EXPECT_EQ(with_answer, 4u);  // the second turn of each of four conversations
}

TEST_F(LoadgenTest, FailuresAreLabelledAndEndTheirConversation) {
  endpoint.fail_from = 2;
  const Report& report = run(conversations(3));
  std::size_t failed = 0;
  for (const Outcome& one : report.outcomes) {
    if (one.ok) continue;
    ++failed;
    EXPECT_EQ(one.failure, "status_503");
  }
  EXPECT_GE(failed, 3u);
  EXPECT_EQ(report.outcomes.size(), endpoint.bodies.size());
  EXPECT_LT(report.outcomes.size(), 12u);
}

TEST_F(LoadgenTest, ABrokenStreamIsNoSuccess) {
  endpoint.break_streams = true;
  const Report& report = run(conversations(1));
  for (const Outcome& one : report.outcomes) EXPECT_EQ(one.failure, "broken_stream");
}

TEST_F(LoadgenTest, NobodyThereIsUnavailable) {
  Options options;
  options.timeouts.connect = std::chrono::seconds(2);
  const io::Address gone = endpoint.listener->address();
  endpoint.listener->drain([] {});
  endpoint.listener.reset();
  source = workload::Source::create(conversations(1), words).value();
  options.address = gone;
  options.url = http::parse_url("http://" + gone.text()).value();
  options.model = "demo";
  Loadgen nobody(loop, options, *tokenizer, *source);
  bool done = false;
  nobody.start([&] { done = true; });
  ASSERT_TRUE(io::RunUntil(loop, [&] { return done; }));
  EXPECT_EQ(nobody.report().outcomes.size(), 4u);
  for (const Outcome& one : nobody.report().outcomes) EXPECT_EQ(one.failure, "unavailable");
}

TEST_F(LoadgenTest, CompletionsSendThePromptAsText) {
  Options options;
  options.api = Api::kCompletions;
  workload::Options wanted;
  wanted.population = workload::SharedPrefix{
      .groups = 1, .prompts_per_group = 2, .system_prompt_tokens = 5, .question_tokens = 3, .output_tokens = 1};
  wanted.arrivals = workload::ClosedLoop{.users = 1};
  (void)run(wanted, options);
  ASSERT_EQ(endpoint.bodies.size(), 2u);
  const auto request = api::parse_request(api::Endpoint::kCompletions, endpoint.bodies[0]);
  ASSERT_TRUE(request.ok()) << request.error().message;
  ASSERT_EQ(request->prompts.size(), 1u);
  const auto ids = tokenizer->encode(std::get<std::string>(request->prompts[0]), tokens::SpecialTokens::kNone);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), 8u);
}

}  // namespace
}  // namespace warmpath::loadgen
