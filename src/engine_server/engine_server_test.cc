// The whole engine on loopback: HTTP and ZMQ as a client and a router use them.
#include "engine_server/engine_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <map>

#include "api/api.h"
#include "engine_server/test_words.h"
#include "events/events.h"
#include "http/http.h"

namespace warmpath::engine_server {
namespace {

using simdjson::dom::element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::run_guarded;
using testing::run_until;

struct Answer {
  int status = 0;
  http::Headers headers;
  std::string body;
};

struct StreamSink final : http::ResponseSink {
  explicit StreamSink(io::Loop& on) : loop(on) {}
  void on_head(const http::ResponseHead& got) override { head = got; }
  void on_body(std::string_view bytes) override {
    EXPECT_TRUE(sse.feed(bytes, [this](std::string_view data) { chunks.emplace_back(data); }).ok());
    if (on_chunk) on_chunk();
  }
  void on_done() override {
    done = true;
    loop.stop();
  }
  void on_failed(const Error& error, bool, bool) override {
    ADD_FAILURE() << error.message;
    loop.stop();
  }
  io::Loop& loop;
  http::ResponseHead head;
  http::SseParser sse;
  std::vector<std::string> chunks;
  std::function<void()> on_chunk;
  bool done = false;
};

struct EngineServerTest : ::testing::Test {
  EngineServerTest() {
    options.listen = {"127.0.0.1", 0};
    options.model = "tiny";
    options.engine.profile.block_tokens = 4;
    options.engine.profile.kv_blocks = 1'000;
    options.engine.speed = 1'000;
    options.output_tokens_mean = 20;
    options.topic = "kv";
  }
  void open() {
    auto created = EngineServer::create(loop, options, tokenizer);
    ASSERT_TRUE(created.ok()) << created.error().message;
    server = std::move(*created);
    client = http::HttpClient::create(loop, {});
  }
  http::Origin origin() const { return {server->address(), "engine", nullptr}; }
  http::ClientRequest request(std::string method, std::string target, std::string body, http::Headers headers = {}) {
    http::ClientRequest made;
    made.method = std::move(method);
    made.target = std::move(target);
    made.headers = std::move(headers);
    if (!body.empty()) made.body = std::make_shared<const std::string>(std::move(body));
    return made;
  }
  Answer ask(std::string method, std::string target, std::string body = {}, http::Headers headers = {}) {
    Answer answer;
    auto call =
        client->fetch(origin(), request(std::move(method), std::move(target), std::move(body), std::move(headers)),
                      std::chrono::seconds(20), [&](Result<http::HttpClient::Whole> whole) {
                        EXPECT_TRUE(whole.ok()) << whole.error().message;
                        if (whole.ok()) answer = {whole->head.status, whole->head.headers, whole->body};
                        loop.stop();
                      });
    run_guarded(loop, "answer");
    return answer;
  }
  Answer complete(const std::string& body, http::Headers headers = {}) {
    return ask("POST", "/v1/completions", body, std::move(headers));
  }
  Answer chat(const std::string& body, http::Headers headers = {}) {
    return ask("POST", "/v1/chat/completions", body, std::move(headers));
  }
  std::vector<std::string> stream(const std::string& target, const std::string& body) {
    StreamSink sink(loop);
    auto call = client->start(origin(), request("POST", target, body), sink);
    run_guarded(loop, "stream");
    EXPECT_TRUE(sink.done);
    EXPECT_EQ(sink.head.status, 200);
    const std::string* type = sink.head.headers.find("content-type");
    EXPECT_TRUE(type != nullptr && type->starts_with("text/event-stream"));
    return sink.chunks;
  }
  // Every batch that a replay from 0 gives for a rank.
  std::vector<events::Batch> replayed(std::uint32_t rank) {
    std::vector<events::Batch> batches;
    io::ZmqOptions dealer_options;
    dealer_options.kind = io::ZmqKind::kDealer;
    dealer_options.endpoint = server->sources().at(rank).replay_endpoint;
    auto dealer = io::ZmqSocket::open(loop, dealer_options, {.message = [&](std::vector<std::string>&& frames) {
                                        const auto reply = events::parse_replay_reply(frames);
                                        ASSERT_TRUE(reply.ok());
                                        if (reply->end) return loop.stop();
                                        EXPECT_EQ(reply->seq.value(), batches.size());
                                        auto batch = events::decode_batch(reply->payload);
                                        ASSERT_TRUE(batch.ok());
                                        batches.push_back(std::move(*batch));
                                      }});
    EXPECT_TRUE(dealer.ok());
    EXPECT_TRUE((*dealer)->send(events::make_replay_request(PublisherSeq(0))));
    run_guarded(loop, "replay");
    return batches;
  }
  // What a consumer believes after them.
  static std::vector<EngineHash> believed(const std::vector<events::Batch>& batches) {
    std::map<EngineHash, int> copies;
    for (const auto& batch : batches) {
      for (const auto& event : batch.events) {
        if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
          for (const auto& hash : stored->block_hashes) ++copies[hash.value];
        } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
          for (const auto& hash : removed->block_hashes) {
            if (--copies.at(hash.value) == 0) copies.erase(hash.value);
          }
        } else {
          copies.clear();
        }
      }
    }
    std::vector<EngineHash> hashes;
    for (const auto& entry : copies) hashes.push_back(entry.first);
    return hashes;
  }
  static std::string message(std::string_view role, std::string_view content) {
    JsonWriter json;
    json.object().member("role", role).member("content", content).end();
    return json.take();
  }
  static std::string chat_body(const std::vector<std::string>& messages, std::string_view more) {
    std::string body = R"({"model":"tiny","messages":[)";
    for (std::size_t i = 0; i < messages.size(); ++i) body += (i == 0 ? "" : ",") + messages[i];
    return body + "]" + std::string(more) + "}";
  }
  static std::string ids(int first, int count) {
    std::string text = "[";
    for (int i = 0; i < count; ++i) text += (i == 0 ? "" : ",") + std::to_string(first + i);
    return text + "]";
  }

  io::Loop loop;
  Options options;
  std::shared_ptr<tokens::Tokenizer> tokenizer = std::make_shared<testing::WordTokenizer>();
  std::unique_ptr<EngineServer> server;
  std::unique_ptr<http::HttpClient> client;
};

TEST_F(EngineServerTest, EmbeddingsAreVectorsOfThePrompt) {
  open();
  const auto vectors = [&](std::string_view body) {
    const Answer answer = ask("POST", "/v1/embeddings", std::string(body));
    EXPECT_EQ(answer.status, 200) << answer.body;
    simdjson::dom::parser parser;
    const element root = parser.parse(answer.body);
    EXPECT_EQ(root["usage"]["total_tokens"].get_uint64().value(), root["usage"]["prompt_tokens"].get_uint64().value());
    std::vector<std::vector<double>> all;
    for (const element one : root["data"].get_array()) {
      auto& vector = all.emplace_back();
      for (const element value : one["embedding"].get_array()) vector.push_back(value.get_double());
    }
    return all;
  };
  const auto first = vectors(R"({"input":["babo","dabo"],"dimensions":8})");
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0].size(), 8u);
  EXPECT_NE(first[0], first[1]);
  double squares = 0;
  for (const double value : first[0]) squares += value * value;
  EXPECT_NEAR(squares, 1.0, 1e-5);
  EXPECT_EQ(vectors(R"({"input":"dabo","dimensions":8})").at(0), first[1]);
  const Answer packed = ask("POST", "/v1/embeddings", R"({"input":"dabo","dimensions":8,"encoding_format":"base64"})");
  simdjson::dom::parser parser;
  EXPECT_EQ(parser.parse(packed.body)["data"].at(0)["embedding"].get_string().value().size(), 44u);
}

TEST_F(EngineServerTest, TokensInTokensOut) {
  const std::string body = R"({"token_ids":[300,302,304,306,308],"sampling_params":{"max_tokens":3})";
  open();
  EXPECT_EQ(ask("POST", "/inference/v1/generate", body + "}").status, 403);
  options.scale_out = ScaleOut::kServe;
  open();
  const Answer whole = ask("POST", "/inference/v1/generate", body + "}");
  ASSERT_EQ(whole.status, 200) << whole.body;
  simdjson::dom::parser parser;
  std::vector<std::uint64_t> ids;
  for (const element id : parser.parse(whole.body)["choices"].at(0)["token_ids"].get_array()) {
    ids.push_back(id.get_uint64());
  }
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_EQ(api::find_usage(whole.body)->prompt_tokens, 5u);
  const auto chunks =
      stream("/inference/v1/generate", body + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  ASSERT_EQ(chunks.size(), 5u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(parser.parse(chunks[i])["choices"].at(0)["token_ids"].at(0).get_uint64().value(), ids[i]);
  }
  EXPECT_TRUE(api::is_usage_only_chunk(chunks[3]));
  EXPECT_EQ(api::find_usage(chunks[3])->cached_tokens, 4u);
  EXPECT_EQ(chunks[4], "[DONE]");
}

TEST_F(EngineServerTest, SmallPathsAnswerAsVllm) {
  options.aliases = {"alias"};
  options.adapters = {{"adapter-x", "/models/x"}};
  options.root = "/models/tiny";
  open();
  EXPECT_EQ(ask("GET", "/health").body, "");
  EXPECT_EQ(ask("GET", "/health").status, 200);
  EXPECT_EQ(ask("GET", "/ping").status, 200);
  EXPECT_THAT(ask("GET", "/version").body, HasSubstr(R"({"version":"0.32.0)"));
  EXPECT_EQ(ask("GET", "/load").body, R"({"server_load":0})");
  const auto models = api::parse_models(ask("GET", "/v1/models").body);
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 3u);
  EXPECT_EQ((*models)[0].id, "tiny");
  EXPECT_EQ((*models)[0].root, "/models/tiny");
  EXPECT_EQ((*models)[0].max_model_len, 999u * 4 + 1)
      << "what the KV cache holds, though the profile's model takes more";
  EXPECT_EQ((*models)[2].parent, "tiny");
  const Answer tokenized = ask("POST", "/tokenize", R"({"model":"tiny","prompt":"!?"})");
  EXPECT_EQ(tokenized.body, R"({"count":2,"max_model_len":3997,"tokens":[33,63],"token_strs":null})");
  const Answer texts = ask("POST", "/tokenize", R"({"prompt":"babo!","return_token_strs":true})");
  EXPECT_THAT(texts.body, HasSubstr(R"("token_strs":["babo","!"])"));

  const Answer wrong_method = ask("GET", "/v1/chat/completions");
  EXPECT_EQ(wrong_method.status, 405);
  EXPECT_EQ(wrong_method.body, R"({"detail":"Method Not Allowed"})");
  ASSERT_NE(wrong_method.headers.find("allow"), nullptr);
  EXPECT_EQ(*wrong_method.headers.find("allow"), "POST");
  const Answer unknown = ask("POST", "/v1/images", "{}");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.body, R"({"detail":"Not Found"})");
}

// Shapes, status and message as recorded from vLLM 0.32.
TEST_F(EngineServerTest, RenderingIsForbiddenUnlessSwitchedOn) {
  open();
  const Answer refused = ask("POST", "/v1/chat/completions/render", chat_body({message("user", "babo")}, ""));
  EXPECT_EQ(refused.status, 403);
  EXPECT_EQ(refused.body,
            R"({"error":{"message":"Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to )"
            R"(enable them.","type":"PermissionDeniedError","param":null,"code":403}})");
  EXPECT_EQ(ask("POST", "/v1/completions/render", R"({"prompt":"babo"})").status, 403);
}

TEST_F(EngineServerTest, RenderingTellsWhatAnAnswerWouldBeMadeOf) {
  options.scale_out = ScaleOut::kServe;
  open();
  const std::string body = chat_body({message("user", "babo dido")}, R"(,"cache_salt":"s","max_tokens":7)");
  const Answer rendered = ask("POST", "/v1/chat/completions/render", body);
  ASSERT_EQ(rendered.status, 200) << rendered.body;
  simdjson::dom::parser parser;
  const element one = parser.parse(rendered.body);
  std::vector<TokenId> ids;
  for (const auto id : one["token_ids"].get_array()) ids.push_back(static_cast<TokenId>(id.get_uint64().value()));
  EXPECT_EQ(*tokenizer->decode(ids, tokens::SpecialText::kKeep),
            "<|start|>user\nbabo dido<|end|>\n<|start|>assistant\n");
  EXPECT_EQ(std::string_view(one["cache_salt"]), "s");
  EXPECT_EQ(std::string_view(one["model"]), "tiny");
  EXPECT_TRUE(std::string_view(one["request_id"]).starts_with("chatcmpl-"));
  EXPECT_EQ(one["sampling_params"]["max_tokens"].get_uint64().value(), 7u);
  EXPECT_EQ(api::find_usage(chat(body).body)->prompt_tokens, ids.size());

  const Answer list = ask("POST", "/v1/completions/render", R"({"prompt":["!","??"]})");
  const element both = parser.parse(list.body);
  ASSERT_EQ(both.get_array().size(), 2u) << list.body;
  EXPECT_EQ(both.at(1)["token_ids"].get_array().size(), 2u);
  EXPECT_EQ(ask("POST", "/v1/chat/completions/render", R"({"model":"nope","messages":[]})").status, 400);
}

TEST_F(EngineServerTest, AFullReportIsAskedForInTheRequest) {
  open();
  const std::string more = R"(,"max_tokens":1,"vllm_xargs":{"kv_cache_report_mode":)";
  chat(chat_body({message("user", "babo dido")}, more + "\"incremental\"}"));
  const std::size_t before = replayed(0).size();
  chat(chat_body({message("user", "babo dido")}, more + "\"full\"}"));
  const auto batches = replayed(0);
  ASSERT_EQ(batches.size(), before + 1);
  const auto& stored = std::get<blocks::BlockStored>(batches.back().events.front());
  EXPECT_FALSE(stored.parent_block_hash.has_value());
  const auto& first = std::get<blocks::BlockStored>(batches.front().events.front());
  EXPECT_EQ(stored.block_hashes.front(), first.block_hashes.front());
}

TEST_F(EngineServerTest, AWholeChatTellsTextAndUsage) {
  open();
  const std::string body = chat_body({message("user", "babo dido")}, R"(,"max_tokens":5)");
  const Answer first = chat(body);
  ASSERT_EQ(first.status, 200) << first.body;
  simdjson::dom::parser parser;
  const element root = parser.parse(first.body);
  EXPECT_EQ(std::string_view(root["object"]), "chat.completion");
  EXPECT_TRUE(std::string_view(root["id"]).starts_with("chatcmpl-"));
  EXPECT_EQ(std::string_view(root["choices"].at(0)["finish_reason"]), "length");
  const auto usage = api::find_usage(first.body);
  ASSERT_TRUE(usage.has_value());
  EXPECT_EQ(usage->completion_tokens, 5u);
  EXPECT_EQ(usage->cached_tokens, 0u);
  EXPECT_EQ(first.body.find("warmpath"), std::string::npos);
  const Answer again = chat(body);
  EXPECT_EQ(api::text_of_response(again.body), api::text_of_response(first.body)) << "the same prompt, the same answer";
  EXPECT_EQ(api::find_usage(again.body)->cached_tokens, (usage->prompt_tokens - 1) / 4 * 4);
}

TEST_F(EngineServerTest, AStreamTellsTheSameAnswerTokenByToken) {
  open();
  const std::vector<std::string> messages = {message("user", "babo dido")};
  const auto text = api::text_of_response(chat(chat_body(messages, R"(,"max_tokens":5)")).body);
  const auto chunks =
      stream("/v1/chat/completions",
             chat_body(messages, R"(,"max_tokens":5,"stream":true,"stream_options":{"include_usage":true})"));
  ASSERT_EQ(chunks.size(), 8u);  // role, five tokens, usage, [DONE]
  EXPECT_THAT(chunks[0], HasSubstr(R"("delta":{"role":"assistant","content":""})"));
  std::string streamed;
  for (std::size_t i = 1; i <= 5; ++i) {
    streamed += api::text_of_chunk(chunks[i]).value_or("?");
    EXPECT_EQ(chunks[i].find(R"("finish_reason":"length")") != std::string::npos, i == 5);
  }
  EXPECT_EQ(streamed, text);
  EXPECT_TRUE(api::is_usage_only_chunk(chunks[6]));
  EXPECT_EQ(api::find_usage(chunks[6])->completion_tokens, 5u);
  EXPECT_GT(api::find_usage(chunks[6])->cached_tokens, 0u);
  EXPECT_EQ(chunks[7], "[DONE]");
  const auto without = stream("/v1/completions", R"({"prompt":"babo","max_tokens":2,"stream":true})");
  EXPECT_EQ(without.size(), 3u) << "two tokens and [DONE]: no usage unless asked";
}

// The promise that makes a simulated conversation worth routing: what was generated is text, comes back as text, and
// encodes to the very ids whose blocks are cached.
TEST_F(EngineServerTest, ASecondTurnHitsTheFirstTurnsOutput) {
  open();
  const std::string question = message("user", "babo dido");
  const Answer first = chat(chat_body({question}, R"(,"max_tokens":40)"));
  const auto text = api::text_of_response(first.body);
  ASSERT_TRUE(text.has_value());
  const auto usage = *api::find_usage(first.body);
  const Answer second =
      chat(chat_body({question, message("assistant", *text), message("user", "bafo")}, R"(,"max_tokens":4)"));
  // All that the first turn computed, its last token's KV excepted.
  EXPECT_EQ(api::find_usage(second.body)->cached_tokens, (usage.prompt_tokens + usage.completion_tokens - 1) / 4 * 4);
}

TEST_F(EngineServerTest, ANaturalAnswersEndTokenIsCachedToo) {
  open();
  const std::string question = message("user", "dido");
  const Answer first = chat(chat_body({question}, ""));
  EXPECT_THAT(first.body, HasSubstr(R"("finish_reason":"stop")"));
  const auto usage = *api::find_usage(first.body);
  const Answer second =
      chat(chat_body({question, message("assistant", *api::text_of_response(first.body)), message("user", "x")}, ""));
  EXPECT_EQ(api::find_usage(second.body)->cached_tokens, (usage.prompt_tokens + usage.completion_tokens - 1) / 4 * 4);
}

TEST_F(EngineServerTest, CompletionsTakeListsAndN) {
  open();
  const Answer answer = complete(R"({"prompt":[[5,6,7],[8,9]],"max_tokens":3,"n":2})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  simdjson::dom::parser parser;
  const element root = parser.parse(answer.body);
  EXPECT_EQ(std::string_view(root["object"]), "text_completion");
  std::vector<std::string> texts;
  std::uint64_t index = 0;
  for (const element choice : root["choices"].get_array()) {
    EXPECT_EQ(std::uint64_t(choice["index"]), index++);
    texts.emplace_back(std::string_view(choice["text"]));
  }
  ASSERT_EQ(texts.size(), 4u);
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_NE(texts[0], texts[2]);
  const auto usage = *api::find_usage(answer.body);
  EXPECT_EQ(usage.prompt_tokens, 10u);
  EXPECT_EQ(usage.completion_tokens, 12u);
  EXPECT_EQ(complete(R"({"prompt":[5,6,7],"ignore_eos":true,"max_tokens":7})").status, 200);
}

TEST_F(EngineServerTest, RefusalsReachTheClient) {
  open();
  EXPECT_EQ(complete("nonsense").status, 400);
  const Answer unknown = complete(R"({"model":"nope","prompt":[1]})");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_THAT(unknown.body, HasSubstr("Valid aliases: tiny."));
  EXPECT_EQ(complete(R"({"prompt":)" + ids(0, 200) + R"(,"max_tokens":3900})").status, 400);
  EXPECT_EQ(ask("POST", "/tokenize", R"({"model":"nope","prompt":"x"})").status, 404);
}

TEST_F(EngineServerTest, AFullEngineAnswers503) {
  options.requests_max = 1;
  options.engine.speed = .001;
  open();
  StreamSink sink(loop);
  auto held = client->start(origin(), request("POST", "/v1/completions", R"({"prompt":[1],"stream":true})"), sink);
  run_until(loop, "one request in", [&] { return server->model(0).stats().running == 1; });
  EXPECT_EQ(complete(R"({"prompt":[1]})").status, 503);
  EXPECT_EQ(ask("GET", "/load").body, R"({"server_load":1})");
}

TEST_F(EngineServerTest, EventsTellTheTruth) {
  options.engine.profile.kv_blocks = 40;
  open();
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(complete(R"({"prompt":)" + ids(i % 3 * 30, 40 + i % 5 * 4) + R"(,"max_tokens":)" +
                       std::to_string(1 + i % 9) + "}")
                  .status,
              200);
  }
  EXPECT_EQ(believed(replayed(0)), server->model(0).cached_hashes());
  const auto& stats = server->model(0).stats();
  EXPECT_GT(stats.prompt_cached_tokens, 0u);

  simdjson::dom::parser parser;
  const Answer sources = ask("GET", "/kv_event_sources");
  const element root = parser.parse(sources.body);
  EXPECT_EQ(std::string_view(root["0"]["endpoint"]), server->sources()[0].endpoint);
  EXPECT_EQ(std::string_view(root["0"]["replay_endpoint"]), server->sources()[0].replay_endpoint);
  EXPECT_EQ(std::string_view(root["0"]["topic"]), "kv");
  EXPECT_EQ(std::string_view(root["0"]["publisher"]), "zmq");
  EXPECT_EQ(std::uint64_t(root["0"]["buffer_steps"]), 10'000u);
  EXPECT_TRUE(bool(root["0"]["enable_kv_cache_events"]));
}

TEST_F(EngineServerTest, LiveEventsCarryTheRankAndTheTopic) {
  open();
  std::vector<std::string> topics;
  io::ZmqOptions sub_options;
  sub_options.endpoint = server->sources()[0].endpoint;
  sub_options.topics = {"kv"};
  auto sub = io::ZmqSocket::open(loop, sub_options, {.message = [&](std::vector<std::string>&& frames) {
                                   const auto live = events::parse_live(frames);
                                   ASSERT_TRUE(live.ok());
                                   const auto batch = events::decode_batch(live->payload);
                                   ASSERT_TRUE(batch.ok());
                                   EXPECT_EQ(batch->rank, 0u);
                                   topics.emplace_back(live->topic);
                                 }});
  ASSERT_TRUE(sub.ok());
  for (int i = 0; topics.empty() && i < 1'000; ++i)
    complete(R"({"prompt":)" + ids(i % 200, 50) + R"(,"max_tokens":1})");
  ASSERT_FALSE(topics.empty());
  EXPECT_EQ(topics[0], "kv");
}

TEST_F(EngineServerTest, WithoutEventsThereAreNoSources) {
  options.kv_events = KvEvents::kOff;
  open();
  EXPECT_EQ(complete(R"({"prompt":[1,2,3,4,5],"max_tokens":1})").status, 200);
  EXPECT_EQ(ask("GET", "/kv_event_sources").body, "{}");
}

TEST_F(EngineServerTest, RanksAlternateUnlessPinned) {
  options.ranks = 2;
  open();
  const auto finished = [&] { return std::pair(server->model(0).stats().finished, server->model(1).stats().finished); };
  for (int i = 0; i < 6; ++i) complete(R"({"prompt":)" + ids(i * 20, 9) + R"(,"max_tokens":1})");
  EXPECT_EQ(finished(), std::pair(std::uint64_t{3}, std::uint64_t{3}));
  http::Headers pin;
  pin.add("X-data-parallel-rank", "1");
  for (int i = 0; i < 2; ++i) complete(R"({"prompt":)" + ids(100, 9) + R"(,"max_tokens":1})", pin);
  EXPECT_EQ(finished(), std::pair(std::uint64_t{3}, std::uint64_t{5}));
  http::Headers out;
  out.add("X-data-parallel-rank", "7");
  const Answer refused = complete(R"({"prompt":[1,2,3]})", out);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.body,
            R"x({"error":{"message":"data_parallel_rank 7 is out of range [0, 2).","type":"BadRequestError",)x"
            R"x("param":null,"code":400}})x");
  ASSERT_EQ(server->sources().size(), 2u);
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    const auto batches = replayed(rank);
    EXPECT_EQ(believed(batches), server->model(rank).cached_hashes());
    for (const auto& batch : batches) EXPECT_EQ(batch.rank, rank);
  }
  EXPECT_THAT(ask("GET", "/metrics").body, HasSubstr(R"(vllm:prompt_tokens_total{engine="1",model_name="tiny"} 45)"));
}

TEST_F(EngineServerTest, AResetIsToldWithTheNextBatch) {
  open();
  complete(R"({"prompt":)" + ids(0, 9) + R"(,"max_tokens":1})");
  EXPECT_EQ(ask("POST", "/reset_prefix_cache").body, R"({"success":true})");
  EXPECT_EQ(replayed(0).size(), 1u) << "an idle engine says nothing";
  const Answer again = complete(R"({"prompt":)" + ids(0, 9) + R"(,"max_tokens":1})");
  EXPECT_EQ(api::find_usage(again.body)->cached_tokens, 0u);
  const auto batches = replayed(0);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<blocks::AllBlocksCleared>(batches[1].events.at(0)));
}

TEST_F(EngineServerTest, AHangUpAbortsTheRequestWithin50Ms) {
  constexpr int kTries = 3;  // the quickest counts: a busy machine has no say in it
  options.engine.speed = 1;
  open();
  Duration quickest = std::chrono::hours(1);
  for (int i = 0; i < kTries; ++i) {
    StreamSink sink(loop);
    sink.on_chunk = [&] { loop.stop(); };
    auto call = client->start(
        origin(), request("POST", "/v1/completions", R"({"prompt":[1,2,3],"stream":true,"ignore_eos":true})"), sink);
    run_guarded(loop, "first chunk");
    sink.on_chunk = nullptr;
    ASSERT_EQ(server->model(0).stats().running, 1u);
    const Instant hung_up = loop.now();
    call->cancel();
    run_until(loop, "abort", [&] { return server->model(0).stats().running == 0; });
    quickest = std::min<Duration>(quickest, loop.now() - hung_up);
    EXPECT_EQ(server->model(0).stats().kv_usage, 0);
  }
  EXPECT_LE(quickest, std::chrono::milliseconds(50));
  EXPECT_THAT(ask("GET", "/metrics").body, HasSubstr(R"(finished_reason="abort",model_name="tiny"} 3)"));
  EXPECT_EQ(complete(R"({"prompt":[1,2,3],"max_tokens":1})").status, 200);
}

TEST_F(EngineServerTest, EngineTimeIsToldWhenAsked) {
  options.lag_max = std::chrono::seconds(100);
  open();
  http::Headers headers;
  headers.add("x-warmpath-timing", "1");
  headers.add("x-request-id", "my-id");
  const Answer answer = complete(R"({"prompt":[1,2,3],"max_tokens":3})", headers);
  simdjson::dom::parser parser;
  const element root = parser.parse(answer.body);
  EXPECT_EQ(std::string_view(root["id"]), "cmpl-my-id");
  EXPECT_NEAR(double(root["warmpath"]["ttft_ms"]), 12, 1e-6);  // a step's base, whatever the speed
  EXPECT_EQ(double(root["warmpath"]["queue_ms"]), 0);
  EXPECT_NEAR(double(root["warmpath"]["e2e_ms"]), 36, .01);
  EXPECT_THAT(answer.body, HasSubstr(R"("warmpath":{"ttft_ms":)")) << "as the load generator reads it";
  const std::string page = ask("GET", "/metrics").body;
  EXPECT_THAT(page, HasSubstr(R"(vllm:time_to_first_token_seconds_bucket{engine="0",model_name="tiny",le="0.01"} 0)"));
  EXPECT_THAT(page, HasSubstr(R"(vllm:time_to_first_token_seconds_bucket{engine="0",model_name="tiny",le="0.02"} 1)"));
  EXPECT_THAT(page, HasSubstr(R"(vllm:inter_token_latency_seconds_count{engine="0",model_name="tiny"} 2)"));
}

TEST_F(EngineServerTest, PromptDetailsCanBeHidden) {
  options.prompt_details = PromptDetails::kHide;
  open();
  EXPECT_EQ(api::find_usage(complete(R"({"prompt":[1,2,3],"max_tokens":1})").body)->cached_tokens, std::nullopt);
}

TEST_F(EngineServerTest, ManyAtOnceAllAnswer) {
  options.engine.profile.kv_blocks = 60;
  options.engine.profile.sequences_max = 4;
  open();
  std::size_t answered = 0;
  std::vector<std::unique_ptr<http::ClientCall>> calls;
  for (int i = 0; i < 60; ++i) {
    const std::string body = R"({"prompt":)" + ids(i, 30) + R"(,"max_tokens":30})";
    calls.push_back(client->fetch(origin(), request("POST", "/v1/completions", body), std::chrono::seconds(20),
                                  [&](Result<http::HttpClient::Whole> whole) {
                                    ASSERT_TRUE(whole.ok());
                                    EXPECT_EQ(whole->head.status, 200);
                                    EXPECT_EQ(api::find_usage(whole->body)->completion_tokens, 30u);
                                    if (++answered == 60) loop.stop();
                                  }));
  }
  run_guarded(loop, "60 answers");
  EXPECT_EQ(answered, 60u);
  EXPECT_GT(server->model(0).stats().preemptions, 0u);
  EXPECT_EQ(believed(replayed(0)), server->model(0).cached_hashes());
}

TEST_F(EngineServerTest, DrainsWhatRuns) {
  options.engine.speed = 100;
  open();
  StreamSink sink(loop);
  auto call = client->start(
      origin(), request("POST", "/v1/completions", R"({"prompt":[1],"max_tokens":50,"stream":true})"), sink);
  run_until(loop, "running", [&] { return server->model(0).stats().running == 1; });
  bool drained = false;
  server->drain([&] { drained = true; });
  run_guarded(loop, "the stream's end");
  EXPECT_TRUE(sink.done);
  EXPECT_EQ(sink.chunks.size(), 51u);
  run_until(loop, "drained", [&] { return drained; });
}

TEST_F(EngineServerTest, FaultyOptionsAreRefused) {
  const auto refused = [&](auto change) {
    Options changed = options;
    change(changed);
    const auto created = EngineServer::create(loop, changed, tokenizer);
    return created.ok() ? std::string() : created.error().message;
  };
  EXPECT_EQ(refused([](Options&) {}), "");
  EXPECT_THAT(refused([](Options& o) { o.model.clear(); }), HasSubstr("--model"));
  EXPECT_THAT(refused([](Options& o) { o.ranks = 0; }), HasSubstr("1 to 64"));
  EXPECT_THAT(refused([](Options& o) { o.ranks = 2, o.kv_events_port = 65'535; }), HasSubstr("below 65536"));
  EXPECT_THAT(refused([](Options& o) { o.engine.profile.kv_blocks = 1; }), HasSubstr("kv_blocks"));
  open();
  EXPECT_NE(refused([&](Options& o) { o.listen.port = server->address().port; }), "");
}

}  // namespace
}  // namespace warmpath::engine_server
