// The whole way: requests to the simulated engine over HTTP, its events over ZMQ, into the index; the engine model's
// own cache is the oracle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_server/engine_server.h"
#include "ingest/test_engine.h"
#include "io/test_loop.h"

namespace warmpath::ingest {
namespace {

using testing::TestSink;

std::string demo_file(const std::string& name) {
  auto text = io::read_file(std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model/" + name, 16u << 20);
  EXPECT_TRUE(text.ok());
  return text.ok() ? std::move(text).value() : std::string();
}

std::shared_ptr<const tokens::Tokenizer> demo_tokenizer() {
  tokens::ModelFiles files;
  files.tokenizer_json = demo_file("tokenizer.json");
  files.tokenizer_config_json = demo_file("tokenizer_config.json");
  auto created = tokens::Tokenizer::create(files);
  EXPECT_TRUE(created.ok());
  return created.ok() ? std::move(created).value() : nullptr;
}

struct SimulatedEngineTest : ::testing::Test {
  SimulatedEngineTest() {
    options.listen = {"127.0.0.1", 0};
    options.model = "tiny";
    options.engine.profile.block_tokens = testing::kBlockTokens;
    options.engine.profile.kv_blocks = 64;
    options.engine.speed = 1'000;
    ingest_options.model = "tiny";
    ingest_options.health_interval = std::chrono::milliseconds(50);
  }
  void open() {
    auto created = engine_server::EngineServer::create(loop, options, tokenizer);
    ASSERT_TRUE(created.ok()) << created.error().message;
    server = std::move(created).value();
    client = http::HttpClient::create(loop, {});
  }
  void follow() {
    ingest = std::make_unique<Ingest>(loop, ingest_options, &index, sink, registry);
    EngineAddress address;
    address.url = http::parse_url("http://" + server->address().text()).value();
    ingest->add(std::move(address));
    ingest->start();
    const std::size_t ranks = options.ranks;
    ASSERT_TRUE(io::RunUntil(loop, [&] {
      for (std::uint32_t rank = 0; rank < ranks; ++rank) {
        if (!sink.exact(rank)) return false;
      }
      return true;
    }));
  }
  // A prompt of ids whose start is shared by prompts of one `family`.
  static std::vector<TokenId> prompt(std::uint32_t family, std::uint32_t member) {
    std::vector<TokenId> ids;
    for (std::uint32_t i = 0; i < 100; ++i) ids.push_back((family * 31 + i * 7 + (i < 64 ? 0 : member * 13)) % 200);
    return ids;
  }
  void complete(const std::vector<TokenId>& ids, const std::string& rank = {}) {
    std::string text;
    for (const TokenId id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
    http::ClientRequest request;
    request.method = "POST";
    request.target = "/v1/completions";
    request.headers.add("Content-Type", "application/json");
    if (!rank.empty()) request.headers.add("X-data-parallel-rank", rank);
    request.body = std::make_shared<const std::string>(
        R"({"model":"tiny","max_tokens":24,"ignore_eos":true,"prompt":[)" + text + "]}");
    int status = 0;
    const auto call = client->fetch({server->address(), "engine", nullptr}, std::move(request),
                                    std::chrono::seconds(20), [&](Result<http::HttpClient::Whole> answer) {
                                      status = answer.ok() ? answer->head.status : -1;
                                      EXPECT_EQ(status, 200) << (answer.ok() ? answer->body : answer.error().message);
                                    });
    ASSERT_TRUE(io::RunUntil(loop, [&] { return status != 0; }));
  }
  std::uint64_t held(std::uint32_t engine) const {
    for (const index::EngineStat& stat : index.stat().engines) {
      if (stat.engine == EngineId(engine)) return stat.blocks_held;
    }
    return 0;
  }
  std::uint32_t depth(std::uint32_t engine, const std::vector<TokenId>& ids) const {
    index::MatchTable table;
    index.match(index.space().chain(ids, {}), table);
    const auto* row = table.find(EngineId(engine));
    return row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
  }
  bool agrees(std::uint32_t rank) {
    return io::RunUntil(loop, [&] { return held(rank) == server->model(rank).cached_hashes().size(); });
  }

  io::Loop loop;
  std::shared_ptr<const tokens::Tokenizer> tokenizer = demo_tokenizer();
  engine_server::Options options;
  std::unique_ptr<engine_server::EngineServer> server;
  std::unique_ptr<http::HttpClient> client;
  index::Index index{{.space = blocks::KeySpace(7, "tiny", testing::kBlockTokens)}};
  observe::Registry registry;
  TestSink sink;
  IngestOptions ingest_options;
  std::unique_ptr<Ingest> ingest;
};

TEST_F(SimulatedEngineTest, TheIndexHoldsWhatTheEngineCaches) {
  open();
  complete(prompt(1, 0));  // before anyone follows: the replay brings it
  follow();
  ASSERT_TRUE(agrees(0));
  EXPECT_EQ(depth(0, prompt(1, 0)), 6u);
  EXPECT_EQ(depth(0, prompt(1, 1)), 4u);  // the shared 64 tokens
  EXPECT_EQ(depth(0, prompt(2, 0)), 0u);
  // 64 blocks: these push one another out.
  for (std::uint32_t i = 0; i < 30; ++i) complete(prompt(i % 7, i));
  // A full cache trades blocks one for one, so equal counts do not tell that the last batch has come: its prompt does.
  ASSERT_TRUE(io::RunUntil(loop, [&] { return depth(0, prompt(29 % 7, 29)) == 6; }));
  ASSERT_TRUE(agrees(0));
  EXPECT_GT(
      registry.counter("warmpath_kv_blocks_removed_total", "", {{"pool", ""}, {"engine", ingest->status()[0].name}})
          .value(),
      20u);
  EXPECT_TRUE(sink.exact(0));
  EXPECT_EQ(depth(0, prompt(29 % 7, 29)), 6u);
  EXPECT_EQ(sink.found.at(EngineId(0)).info.block_tokens, testing::kBlockTokens);
  EXPECT_EQ(sink.found.at(EngineId(0)).info.kv_tokens, 64u * testing::kBlockTokens);
}

TEST_F(SimulatedEngineTest, EachRankHasItsOwn) {
  options.ranks = 2;
  open();
  follow();
  for (std::uint32_t i = 0; i < 3; ++i) complete(prompt(i, 0), "1");
  complete(prompt(9, 0), "0");
  ASSERT_TRUE(agrees(0));
  ASSERT_TRUE(agrees(1));
  EXPECT_EQ(depth(1, prompt(2, 0)), 6u);
  EXPECT_EQ(depth(0, prompt(2, 0)), 0u);
  EXPECT_EQ(depth(0, prompt(9, 0)), 6u);
}

TEST_F(SimulatedEngineTest, ARestartLeavesNothingBehind) {
  open();
  follow();
  complete(prompt(1, 0));
  ASSERT_TRUE(agrees(0));
  // The same ports, another process.
  const auto port = [](const std::string& endpoint) {
    return static_cast<std::uint16_t>(*parse_u64(endpoint.substr(endpoint.rfind(':') + 1)));
  };
  options.listen = server->address();
  options.kv_events_port = port(server->sources()[0].endpoint);
  options.kv_replay_port = port(server->sources()[0].replay_endpoint);
  client.reset();
  server.reset();
  ASSERT_TRUE(io::RunUntil(loop, [&] { return sink.is(0, blocks::PublisherState::kLost); }));
  ASSERT_TRUE(io::RunUntil(loop, [&] {
    auto created = engine_server::EngineServer::create(loop, options, tokenizer);
    if (created.ok()) server = std::move(created).value();
    return server != nullptr;
  }));
  client = http::HttpClient::create(loop, {});
  ASSERT_TRUE(io::RunUntil(loop, [&] { return sink.exact(0) && sink.up(0); }));
  EXPECT_EQ(depth(0, prompt(1, 0)), 0u);
  complete(prompt(2, 0));
  ASSERT_TRUE(agrees(0));
  EXPECT_EQ(depth(0, prompt(2, 0)), 6u);
  EXPECT_EQ(depth(0, prompt(1, 0)), 0u);
}

}  // namespace
}  // namespace warmpath::ingest
