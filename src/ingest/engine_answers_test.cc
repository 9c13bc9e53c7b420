#include "ingest/engine_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <fstream>

#include "ingest/rank_source.h"

namespace warmpath::ingest {
namespace {

// Bodies that real engines gave for `path`, in the order of the file.
std::vector<std::string> recorded(const std::string& path) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/ingest/answers.jsonl");
  EXPECT_TRUE(file.good());
  std::vector<std::string> bodies;
  simdjson::dom::parser parser;
  for (std::string line; std::getline(file, line);) {
    const simdjson::dom::element row = parser.parse(line);
    if (std::string_view(row["path"]) == path) bodies.emplace_back(std::string_view(row["body"]));
  }
  return bodies;
}

using Sources = std::map<std::uint32_t, RankSource>;

Result<Sources> sources_in(std::string_view json, const std::string& host) {
  auto told = read_event_sources(json, host);
  if (!told.ok()) return told.error();
  return followable(std::move(told).value());
}

TEST(EventSources, OfRealEngines) {
  const auto bodies = recorded("/kv_event_sources");
  ASSERT_EQ(bodies.size(), 3u);
  const auto one = sources_in(bodies[0], "10.0.0.7");
  ASSERT_TRUE(one.ok());
  ASSERT_EQ(one->size(), 1u);
  EXPECT_EQ(one->at(0).topic, "kv-events");
  const auto second = sources_in(bodies[1], "10.0.0.7");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->at(0).events, "tcp://10.0.0.7:5657");
  EXPECT_EQ(second->at(0).replay, "tcp://10.0.0.7:5658");
  const auto two = sources_in(bodies[2], "fd00::7");
  ASSERT_TRUE(two.ok());
  ASSERT_EQ(two->size(), 2u);
  EXPECT_EQ(two->at(0).events, "tcp://[fd00::7]:5757");
  EXPECT_EQ(two->at(0).replay, "tcp://[fd00::7]:5767");
  EXPECT_EQ(two->at(1).events, "tcp://[fd00::7]:5758");
  EXPECT_EQ(two->at(1).replay, "tcp://[fd00::7]:5768");
  EXPECT_EQ(two->at(1).side, EventSource::Side::kConnect);
}

TEST(EventSources, WhatIsOffOrUnusableIsLeftOut) {
  const auto keys = [](std::string_view json) {
    auto sources = sources_in(json, "h");
    EXPECT_TRUE(sources.ok());
    std::vector<std::uint32_t> ranks;
    if (!sources.ok()) return ranks;
    for (const auto& [rank, source] : *sources) ranks.push_back(rank);
    return ranks;
  };
  const std::string good = R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557"})";
  EXPECT_THAT(keys("{}"), ::testing::IsEmpty());
  EXPECT_THAT(keys("{\"0\":" + good + ",\"7\":" + good + "}"), ::testing::ElementsAre(0, 7));
  EXPECT_THAT(keys("{\"-1\":" + good + ",\"x\":" + good + ",\"4294967296\":" + good + ",\"1024\":" + good + "}"),
              ::testing::IsEmpty());
  for (const char* bad :
       {R"({"enable_kv_cache_events":false,"publisher":"zmq","endpoint":"tcp://*:5557"})",
        R"({"publisher":"zmq","endpoint":"tcp://*:5557"})", R"({"enable_kv_cache_events":"true","publisher":"zmq"})",
        R"({"enable_kv_cache_events":true,"publisher":"null","endpoint":"tcp://*:5557"})",
        R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"ipc:///tmp/x"})",
        R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":null})",
        R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":5557})",
        R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:70000"})", "null", "3", "[]",
        "\"zmq\""}) {
    EXPECT_THAT(keys(std::string("{\"0\":") + bad + "}"), ::testing::IsEmpty()) << bad;
  }
  const auto half = sources_in(
      R"({"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:1","replay_endpoint":null}})", "h");
  ASSERT_TRUE(half.ok());
  EXPECT_EQ(half->at(0).replay, "");
}

TEST(EventSources, HostileJson) {
  for (const std::string& bad :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("\xff"),
        std::string(100'000, '['), std::string("{\"0\":{}"), std::string("{} x")}) {
    EXPECT_FALSE(sources_in(bad, "h").ok()) << bad.substr(0, 20);
    EXPECT_FALSE(read_server_info(bad, "h").ok()) << bad.substr(0, 20);
    EXPECT_FALSE(read_served_models(bad).ok()) << bad.substr(0, 20);
  }
  std::string many = "{";
  for (int i = 0; i < 5'000; ++i) {
    many += (i ? ",\"" : "\"") + std::to_string(i) +
            R"(":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:1"})";
  }
  const auto sources = sources_in(many + "}", "h");
  ASSERT_TRUE(sources.ok());
  EXPECT_EQ(sources->size(), 1'024u);
}

TEST(ServerInfo, OfSglang) {
  const auto told = read_server_info(
      R"({"version":"0.5.23","kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":5557,"topic":"kv",
          "block_size":64,"dp_size":2,"replay_endpoint_port_base":6557}})",
      "10.0.0.7");
  ASSERT_TRUE(told.ok());
  EXPECT_EQ(told->block_tokens, 64u);
  ASSERT_EQ(followable(told->ranks).size(), 2u);
  EXPECT_EQ(followable(told->ranks).at(1).events, "tcp://10.0.0.7:5558");
  EXPECT_EQ(followable(told->ranks).at(1).replay, "tcp://10.0.0.7:6558");
  const auto named = read_server_info(
      R"({"kv_events":{"publisher":"zmq","endpoint_host":"kv.example","endpoint_port_base":1}})", "10.0.0.7");
  ASSERT_TRUE(named.ok());
  ASSERT_EQ(followable(named->ranks).size(), 1u);
  EXPECT_EQ(followable(named->ranks).at(0).events, "tcp://kv.example:1");
  EXPECT_EQ(followable(named->ranks).at(0).replay, "");
  EXPECT_EQ(named->block_tokens, std::nullopt);
}

TEST(ServerInfo, TellsWhereLoadIsPushed) {
  const auto told = read_server_info(
      R"({"kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":5557,"dp_size":2,
          "load_endpoint_port_base":7557,"load_topic":"load"}})",
      "10.0.0.7");
  ASSERT_TRUE(told.ok());
  ASSERT_EQ(told->loads.size(), 2u);
  EXPECT_EQ(told->loads.at(1), (LoadSource{"tcp://10.0.0.7:7558", "load"}));
  // Without events of its own, and ports that are none.
  EXPECT_EQ(read_server_info(R"({"kv_events":{"load_endpoint_port_base":9}})", "h")->loads.at(0),
            (LoadSource{"tcp://h:9", ""}));
  for (const char* none : {"0", "65536", "-1", "\"7\"", "null"}) {
    const std::string json = R"({"kv_events":{"load_endpoint_port_base":)" + std::string(none) + "}}";
    EXPECT_TRUE(read_server_info(json, "h")->loads.empty()) << none;
  }
}

TEST(ServerInfo, WithoutEventsOrWithNonsense) {
  for (const char* none : {"{}", R"({"kv_events":null})", R"({"kv_events":[]})", R"({"kv_events":{}})",
                           R"({"kv_events":{"publisher":"zmq","endpoint_port_base":0}})",
                           R"({"kv_events":{"publisher":"zmq","endpoint_port_base":-1}})",
                           R"({"kv_events":{"publisher":"zmq","endpoint_port_base":"5557"}})",
                           R"({"kv_events":{"publisher":"zmq","endpoint_port_base":65536}})",
                           R"({"kv_events":{"publisher":"null","endpoint_port_base":5557}})"}) {
    const auto told = read_server_info(none, "h");
    ASSERT_TRUE(told.ok()) << none;
    EXPECT_TRUE(followable(told->ranks).empty()) << none;
  }
  const auto huge = read_server_info(
      R"({"kv_events":{"publisher":"zmq","endpoint_port_base":65530,"dp_size":18446744073709551615,"block_size":0}})",
      "h");
  ASSERT_TRUE(huge.ok());
  EXPECT_EQ(followable(huge->ranks).size(), 6u);  // 65,530 to 65,535
  EXPECT_EQ(huge->block_tokens, std::nullopt);
}

TEST(ServedModels, OfRealEngines) {
  const auto bodies = recorded("/v1/models");
  ASSERT_EQ(bodies.size(), 3u);
  const auto plain = read_served_models(bodies[0]);
  ASSERT_TRUE(plain.ok());
  ASSERT_EQ(plain->size(), 1u);
  EXPECT_EQ(plain->at(0).id, "tiny-qwen3");
  EXPECT_EQ(plain->at(0).parent, std::nullopt);
  EXPECT_EQ(plain->at(0).max_model_len, 4'096u);
  const auto lora = read_served_models(bodies[1]);
  ASSERT_TRUE(lora.ok());
  ASSERT_EQ(lora->size(), 3u);
  EXPECT_EQ(lora->at(1).id, "qwen-alias");
  EXPECT_EQ(lora->at(1).root, lora->at(0).root);
  EXPECT_EQ(lora->at(2).parent, "tiny-qwen3");
}

TEST(ServedModels, EntriesThatAreNone) {
  const auto models = read_served_models(
      R"({"data":[null,3,{},{"id":""},{"id":7},{"id":"a","root":3,"parent":4,"max_model_len":-1}]})");
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 1u);
  EXPECT_EQ(models->at(0).id, "a");
  EXPECT_EQ(models->at(0).root, "");
  EXPECT_EQ(models->at(0).parent, std::nullopt);
  EXPECT_EQ(models->at(0).max_model_len, std::nullopt);
  EXPECT_FALSE(read_served_models(R"({"data":{}})").ok());
  EXPECT_FALSE(read_served_models("{}").ok());
  std::string many = R"({"data":[{"id":"x"})";
  for (int i = 0; i < 10'000; ++i) many += R"(,{"id":"x"})";
  EXPECT_EQ(read_served_models(many + "]}")->size(), 4'096u);
}

TEST(RankEndpoint, Forms) {
  using std::string;
  using ::testing::Optional;
  EXPECT_THAT(rank_endpoint("tcp://*:5557", 0, "10.0.0.7"), Optional(string("tcp://10.0.0.7:5557")));
  EXPECT_THAT(rank_endpoint("tcp://0.0.0.0:5557", 3, "10.0.0.7"), Optional(string("tcp://10.0.0.7:5560")));
  EXPECT_THAT(rank_endpoint("tcp://[::]:5557", 1, "fd00::7"), Optional(string("tcp://[fd00::7]:5558")));
  EXPECT_THAT(rank_endpoint("tcp://:::5557", 1, "fd00::7"), Optional(string("tcp://[fd00::7]:5558")));
  EXPECT_THAT(rank_endpoint("tcp://:5557", 0, "h"), Optional(string("tcp://h:5557")));
  EXPECT_THAT(rank_endpoint("tcp://kv.example:5557", 2, "h"), Optional(string("tcp://kv.example:5559")));
  EXPECT_THAT(rank_endpoint("tcp://[fd00::1]:5557", 2, "h"), Optional(string("tcp://[fd00::1]:5559")));
  EXPECT_THAT(rank_endpoint("tcp://fd00::1:5557", 0, "h"), Optional(string("tcp://[fd00::1]:5557")));
  // To bind.
  EXPECT_THAT(rank_endpoint("tcp://*:5557", 1, "*"), Optional(string("tcp://*:5558")));
  EXPECT_THAT(rank_endpoint("tcp://[::]:5557", 1, "*"), Optional(string("tcp://[::]:5558")));
  EXPECT_THAT(rank_endpoint("tcp://127.0.0.1:5557", 1, "*"), Optional(string("tcp://127.0.0.1:5558")));
  for (const char* bad : {"", "tcp://", "tcp://h", "tcp://h:", "tcp://h:0", "tcp://h:x", "tcp://h:65536", "ipc:///x",
                          "inproc://x", "udp://h:1", "h:5557", "tcp://h:-1", "tcp://h:5557/"}) {
    EXPECT_EQ(rank_endpoint(bad, 0, "h"), std::nullopt) << bad;
  }
  EXPECT_EQ(rank_endpoint("tcp://h:65535", 1, "h"), std::nullopt);
}

}  // namespace
}  // namespace warmpath::ingest
