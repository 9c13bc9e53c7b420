// The page beside a real one: what we tell has vLLM 0.32's names, kinds, labels and buckets.
#include "engine_server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

namespace warmpath::engine_server {
namespace {

struct Family {
  std::string kind;
  std::set<std::string> labels;
  std::map<std::string, std::set<std::string>> values;  // of labels other than engine, model_name, le
  std::vector<double> bounds;
};

std::vector<std::string> parts(const std::string& text, char by) {
  std::vector<std::string> out;
  if (text == "-") return out;
  for (const auto part : split(text, by)) out.emplace_back(part);
  return out;
}

std::map<std::string, Family> recorded() {
  std::map<std::string, Family> families;
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/engine/vllm_0_32_metrics.tsv");
  std::string line;
  while (std::getline(file, line)) {
    const auto columns = parts(line, '\t');
    Family& family = families[columns.at(0)];
    family.kind = columns.at(1);
    for (const auto& label : parts(columns.at(2), ',')) family.labels.insert(label);
    for (const auto& label : parts(columns.at(3), ';')) {
      const auto equals = label.find('=');
      for (const auto& value : parts(label.substr(equals + 1), ','))
        family.values[label.substr(0, equals)].insert(value);
    }
    for (const auto& bound : parts(columns.at(4), ',')) family.bounds.push_back(*parse_double(bound));
  }
  WP_CHECK(families.size() > 30);
  return families;
}

std::map<std::string, Family> read_page(const std::string& page) {
  std::map<std::string, Family> families;
  std::istringstream lines(page);
  std::string line;
  std::string last;
  while (std::getline(lines, line)) {
    if (line.starts_with("# TYPE ")) {
      const auto words = parts(line, ' ');
      last = words.at(2);
      families[last].kind = words.at(3);
      continue;
    }
    if (line.starts_with("#") || line.empty()) continue;
    const auto open = line.find('{');
    const bool second_rank = line.find("engine=\"1\"") != std::string::npos;
    Family& family = families[last];
    for (const auto& label : parts(line.substr(open + 1, line.find('}') - open - 1), ',')) {
      const auto equals = label.find('=');
      const std::string name = label.substr(0, equals);
      const std::string value = label.substr(equals + 2, label.size() - equals - 3);
      if (name == "le") {
        if (value != "+Inf" && !second_rank) family.bounds.push_back(*parse_double(value));
        continue;
      }
      family.labels.insert(name);
      if (name != "engine" && name != "model_name") family.values[name].insert(value);
    }
  }
  return families;
}

engine::ModelOptions options_of(std::uint32_t rank) {
  engine::ModelOptions options;
  options.profile.model_tokens_max = 4'096;
  options.profile.block_tokens = 64;
  options.profile.kv_blocks = 128;
  options.rank = rank;
  return options;
}

TEST(Metrics, EveryFamilyOfOursIsOneOfVllms) {
  observe::Registry registry;
  RankMetrics zero(registry, "tiny", options_of(0), 2);
  RankMetrics one(registry, "tiny", options_of(1), 2);
  const auto real = recorded();
  std::size_t compared = 0;
  for (const auto& [name, family] : read_page(registry.expose())) {
    if (name.starts_with("warmpath_")) continue;
    ASSERT_TRUE(real.contains(name)) << name;
    const Family& expected = real.at(name);
    EXPECT_EQ(family.kind, expected.kind) << name;
    EXPECT_EQ(family.bounds, expected.bounds) << name;
    if (name == "vllm:cache_config_info") {
      for (const auto& label : family.labels) EXPECT_TRUE(expected.labels.contains(label)) << label;
    } else {
      EXPECT_EQ(family.labels, expected.labels) << name;
      EXPECT_EQ(family.values, expected.values) << name;
    }
    ++compared;
  }
  EXPECT_GE(compared, 30u);
}

TEST(Metrics, WhatARouterReadsIsThere) {
  observe::Registry registry;
  RankMetrics page(registry, "tiny", options_of(1), 2);
  engine::Stats stats;
  stats.running = 3;
  stats.waiting = 2;
  stats.kv_usage = .25;
  stats.prompt_tokens = 1'000;
  stats.prompt_cached_tokens = 400;
  stats.prefix_queries_tokens = 1'200;
  page.refresh(stats, nullptr, std::chrono::milliseconds(1'500));
  page.finished(FinishReason::kLength, {.queue_seconds = .5,
                                        .prefill_seconds = .1,
                                        .decode_seconds = .9,
                                        .prompt_tokens = 100,
                                        .cached_tokens = 64,
                                        .output_tokens = 10});
  const std::string text = registry.expose();
  using ::testing::HasSubstr;
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{engine=\"1\",model_name=\"tiny\"} 3"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_waiting{engine=\"1\",model_name=\"tiny\"} 2"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"tiny\"} 0.25"));
  EXPECT_THAT(text, HasSubstr("vllm:prefix_cache_queries_total{engine=\"1\",model_name=\"tiny\"} 1200"));
  EXPECT_THAT(text, HasSubstr("source=\"local_compute\"} 600"));
  EXPECT_THAT(text, HasSubstr("num_gpu_blocks=\"256\"")) << "of both ranks, as vLLM tells";
  EXPECT_THAT(text, HasSubstr("kv_cache_size_tokens=\"8192\"")) << "of this rank";
  EXPECT_THAT(text, HasSubstr("prefix_caching_hash_algo=\"sha256_cbor\""));
  EXPECT_THAT(text, HasSubstr("vllm:e2e_request_latency_seconds_sum{engine=\"1\",model_name=\"tiny\"} 1.5"));
  EXPECT_THAT(text, HasSubstr("vllm:request_prefill_kv_computed_tokens_sum{engine=\"1\",model_name=\"tiny\"} 36"));
  EXPECT_THAT(text, HasSubstr("vllm:request_time_per_output_token_seconds_sum{engine=\"1\",model_name=\"tiny\"} 0.1"));
  EXPECT_THAT(text, HasSubstr("warmpath_engine_slipped_seconds_total{engine=\"1\",model_name=\"tiny\"} 1.5"));
}

}  // namespace
}  // namespace warmpath::engine_server
