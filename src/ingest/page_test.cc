#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "ingest/ingest.h"

namespace warmpath::ingest {
namespace {

using ::testing::Optional;

std::string golden(const std::string& name) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/ingest/" + name);
  EXPECT_TRUE(file.good()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Page, OfAnIdleEngine) {
  const PageFigures figures = read_page(golden("metrics_idle.prom"), std::nullopt);
  EXPECT_THAT(figures.running, Optional(0.0));
  EXPECT_THAT(figures.waiting, Optional(0.0));
  EXPECT_THAT(figures.kv_usage, Optional(0.0));
  EXPECT_THAT(figures.prefix_queries_tokens, Optional(0.0));
  EXPECT_THAT(figures.prefix_hits_tokens, Optional(0.0));
  EXPECT_THAT(figures.block_tokens, Optional(32u));
  EXPECT_THAT(figures.kv_tokens, Optional(8'192u));
  EXPECT_THAT(figures.prefix_caching, Optional(true));
  ASSERT_TRUE(figures.started_at_s);
  EXPECT_GT(*figures.started_at_s, 1.7e9);
}

TEST(Page, OfTwoRanks) {
  const std::string page = golden("metrics_dp2.prom");
  for (const std::uint32_t rank : {0u, 1u}) {
    const PageFigures figures = read_page(page, rank);
    EXPECT_THAT(figures.prefix_queries_tokens, Optional(1'000.0));
    EXPECT_THAT(figures.prefix_hits_tokens, Optional(192.0));
    EXPECT_THAT(figures.block_tokens, Optional(64u));
    EXPECT_THAT(figures.kv_tokens, Optional(8'192u));  // num_gpu_blocks counts both ranks: 256 * 64
  }
  const PageFigures both = read_page(page, std::nullopt);
  EXPECT_THAT(both.prefix_queries_tokens, Optional(2'000.0));
  EXPECT_THAT(both.prefix_hits_tokens, Optional(384.0));
  const PageFigures none = read_page(page, 2);
  EXPECT_EQ(none.prefix_queries_tokens, std::nullopt);
  EXPECT_EQ(none.block_tokens, std::nullopt);
}

TEST(Page, SumsRunningAndTakesTheFullestKv) {
  const std::string page =
      "vllm:num_requests_running{engine=\"0\"} 3.0\nvllm:num_requests_running{engine=\"1\"} 4.0\n"
      "vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 9.0\n"
      "vllm:num_requests_waiting{engine=\"0\"} 1.0 1795414840220\nvllm:num_requests_waiting_created{engine=\"0\"} "
      "1.7e9\n"
      "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.5\n";
  const PageFigures all = read_page(page, std::nullopt);
  EXPECT_THAT(all.running, Optional(7.0));
  EXPECT_THAT(all.waiting, Optional(1.0));
  EXPECT_THAT(all.kv_usage, Optional(0.5));
  EXPECT_THAT(read_page(page, 1).running, Optional(4.0));
  EXPECT_THAT(read_page(page, 0).kv_usage, Optional(0.25));
}

// vLLM 0.9 and 0.10 showed some figures under the old and the new name at once.
TEST(Page, OldAndNewNamesOfOneCounterAreNotAdded) {
  const PageFigures figures = read_page(
      "vllm:gpu_prefix_cache_queries_total 100\nvllm:prefix_cache_queries_total 100\n"
      "vllm:gpu_prefix_cache_hits_total 40\nvllm:prefix_cache_hits_total 40\n"
      "vllm:gpu_cache_usage_perc 0.125\nvllm:kv_cache_usage_perc 0.125\n",
      std::nullopt);
  EXPECT_THAT(figures.prefix_queries_tokens, Optional(100.0));
  EXPECT_THAT(figures.prefix_hits_tokens, Optional(40.0));
  EXPECT_THAT(figures.kv_usage, Optional(0.125));
}

TEST(Page, OtherEngines) {
  const PageFigures sglang = read_page(
      "sglang:num_running_reqs{model_name=\"m\"} 2\r\nsglang:num_queue_reqs{model_name=\"m\"} 5\r\n"
      "sglang:token_usage{model_name=\"m\"} 0.75\r\nsglang:cache_config_info{page_size=\"64\",num_pages=\"100\"} 1\r\n",
      std::nullopt);
  EXPECT_THAT(sglang.running, Optional(2.0));
  EXPECT_THAT(sglang.waiting, Optional(5.0));
  EXPECT_THAT(sglang.kv_usage, Optional(0.75));
  EXPECT_THAT(sglang.block_tokens, Optional(64u));
  EXPECT_THAT(sglang.kv_tokens, Optional(6'400u));
  const PageFigures trt = read_page(
      "trtllm_num_requests_running 1\ntrtllm_num_requests_waiting 2\ntrtllm_kv_cache_utilization 0.5\n", std::nullopt);
  EXPECT_THAT(trt.running, Optional(1.0));
  EXPECT_THAT(trt.waiting, Optional(2.0));
  EXPECT_THAT(trt.kv_usage, Optional(0.5));
}

TEST(Page, WhatCannotBeIsNotKnown) {
  for (const char* value : {"NaN", "nan", "+Inf", "-Inf", "-1", "-0.5", "", "x", "1x", "0x10", "1e999", "{", "}"}) {
    const PageFigures figures =
        read_page(std::string("vllm:num_requests_running{engine=\"0\"} ") + value + "\n", std::nullopt);
    EXPECT_EQ(figures.running, std::nullopt) << value;
  }
  EXPECT_THAT(read_page("vllm:kv_cache_usage_perc 17.0\n", std::nullopt).kv_usage, Optional(1.0));
  const PageFigures config =
      read_page("vllm:cache_config_info{block_size=\"0\",num_gpu_blocks=\"-4\",kv_cache_size_tokens=\"None\"} 1.0\n",
                std::nullopt);
  EXPECT_EQ(config.block_tokens, std::nullopt);
  EXPECT_EQ(config.kv_tokens, std::nullopt);
  EXPECT_EQ(read_page("vllm:cache_config_info{block_size=\"4294967312\"} 1\n", std::nullopt).block_tokens,
            std::nullopt);
  EXPECT_EQ(
      read_page("vllm:cache_config_info{kv_cache_size_tokens=\"18446744073709551615\"} 1\n", std::nullopt).kv_tokens,
      std::nullopt);
  EXPECT_EQ(
      read_page("vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"18446744073709551615\"} 1\n", std::nullopt)
          .kv_tokens,
      std::nullopt);
}

TEST(Page, LabelsThatLookLikeOthers) {
  const auto running = [](const std::string& labels, std::uint32_t rank) {
    return read_page("vllm:num_requests_running{" + labels + "} 5\n", rank).running;
  };
  EXPECT_THAT(running(R"(model_name="x,engine=",engine="0")", 0), Optional(5.0));
  EXPECT_THAT(running(R"(model_name="x,engine=\"1",engine="0")", 0), Optional(5.0));
  EXPECT_THAT(running(R"(model_name="a} 9",engine="0")", 0), Optional(5.0));
  EXPECT_THAT(running(R"(model_name="\\",engine="0")", 0), Optional(5.0));
  EXPECT_THAT(running(R"(xengine="1", engine="0",)", 0), Optional(5.0));
  EXPECT_EQ(running(R"(engine="1",model_name="engine=\"0\"")", 0), std::nullopt);
  EXPECT_EQ(running(R"(engine="00x")", 0), std::nullopt);
  EXPECT_THAT(running(R"(model_name="no rank told")", 3), Optional(5.0));
  // Broken labels cost their line.
  for (const char* broken : {"engine=\"0", "engine=", "engine", "engine=\"0\\\"", "\"0\"", "=\"0\" x"}) {
    EXPECT_EQ(running(broken, 0), std::nullopt) << broken;
  }
}

TEST(Page, ExemplarsAndTimestampsAreNoValues) {
  EXPECT_THAT(
      read_page("vllm:prefix_cache_hits_total{engine=\"0\"} 7.0 # {trace_id=\"a}b\"} 1.0 1e9\n", 0).prefix_hits_tokens,
      Optional(7.0));
}

TEST(Page, HostileShapes) {
  EXPECT_EQ(read_page("", std::nullopt).running, std::nullopt);
  EXPECT_EQ(read_page("\n\n\r\n#\n", std::nullopt).running, std::nullopt);
  EXPECT_EQ(read_page("vllm:num_requests_running", std::nullopt).running, std::nullopt);
  EXPECT_THAT(read_page("vllm:num_requests_running 1", std::nullopt).running, Optional(1.0));  // no newline at the end
  EXPECT_EQ(read_page("vllm:num_requests_runningx 1\nvllm:num_requests_runnin 1\n", std::nullopt).running,
            std::nullopt);
  EXPECT_EQ(read_page(std::string(10u << 20, 'v'), std::nullopt).running, std::nullopt);
  EXPECT_EQ(read_page("vllm:num_requests_running{" + std::string(10u << 20, '='), 0).running, std::nullopt);
  std::string long_name = "vllm:" + std::string(10u << 20, 'x') + " 1\nvllm:num_requests_running 2\n";
  EXPECT_THAT(read_page(long_name, std::nullopt).running, Optional(2.0));
  std::string many;
  for (int i = 0; i < 100'000; ++i) many += "vllm:num_requests_running{engine=\"" + std::to_string(i) + "\"} 1\n";
  EXPECT_THAT(read_page(many, std::nullopt).running, Optional(100'000.0));
  EXPECT_THAT(read_page(many, 99'999).running, Optional(1.0));
  using namespace std::string_view_literals;
  const auto zeros = "vllm:num_requests_running\0 1\nvllm:num_requests_waiting{a=\"\0\"} 3\n"sv;
  EXPECT_EQ(read_page(zeros, std::nullopt).running, std::nullopt);
  EXPECT_THAT(read_page(zeros, std::nullopt).waiting, Optional(3.0));
}

}  // namespace
}  // namespace warmpath::ingest
