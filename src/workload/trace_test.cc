#include <algorithm>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>
#include <unordered_set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "workload/workload.h"

namespace warmpath::workload {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error(std::string_view text) {
  const auto rows = parse_trace(text);
  EXPECT_FALSE(rows.ok()) << text;
  return rows.ok() ? std::string() : rows.error().message;
}

TEST(ParseTrace, ReadsMooncakesLines) {
  const auto rows =
      parse_trace(R"({"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [77, 12]})"
                  "\r\n\n"
                  R"({"timestamp": 1500, "input_length": 1, "output_length": 0, "hash_ids": [77], "more": {}})");
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_EQ((*rows)[1].at_seconds, 1.5);
  EXPECT_EQ((*rows)[0].input_tokens, 600u);
  EXPECT_EQ((*rows)[0].output_tokens, 5u);
  EXPECT_THAT((*rows)[0].hash_ids, ElementsAre(0, 1));  // numbered in order of first use
  EXPECT_THAT((*rows)[1].hash_ids, ElementsAre(0));
}

TEST(ParseTrace, ReadsTheCompactForm) {
  const auto rows = parse_trace(
      "# a comment\nwarmpath-trace 1 block_tokens=512\n0 1025 9 -\n10 1024 1 1\n# another\n5 2000 2 0\n0 3 4 -\n");
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  ASSERT_EQ(rows->size(), 4u);
  EXPECT_THAT((*rows)[0].hash_ids, ElementsAre(0, 1, 2));
  EXPECT_THAT((*rows)[1].hash_ids, ElementsAre(0, 1));
  EXPECT_THAT((*rows)[2].hash_ids, ElementsAre(0, 3, 4, 5));
  EXPECT_THAT((*rows)[3].hash_ids, ElementsAre(6));
  EXPECT_EQ((*rows)[2].at_seconds, 0.015);
}

TEST(ParseTrace, NamesTheLineOfAFault) {
  const std::string head = "warmpath-trace 1 block_tokens=512\n";
  EXPECT_THAT(error(""), HasSubstr("no rows"));
  EXPECT_THAT(error(head), HasSubstr("no rows"));
  EXPECT_THAT(error("0 1 1 -\n"), HasSubstr("line 1: expected"));
  EXPECT_THAT(error("warmpath-trace 1 block_tokens=16\n"), HasSubstr("line 1: expected"));
  EXPECT_THAT(error(head + "0 1 1\n"), HasSubstr("line 2: four fields"));
  EXPECT_THAT(error(head + "0 x 1 -\n"), HasSubstr("line 2: a field is not"));
  EXPECT_THAT(error(head + "0 -1 1 -\n"), HasSubstr("line 2: a field is not"));
  EXPECT_THAT(error(head + "0 0 1 -\n"), HasSubstr("line 2: a prompt has"));
  EXPECT_THAT(error(head + "0 999999999 1 -\n"), HasSubstr("line 2: a prompt has"));
  EXPECT_THAT(error(head + "0 1 1 -\n0 1 1 5\n"), HasSubstr("line 3: last_shared names"));
  EXPECT_THAT(error(head + "0 1500 1 -\n0 1 1 2\n"), HasSubstr("line 3: last_shared lies deeper"));
  EXPECT_THAT(error(head + "18446744073709551615 1 1 -\n"), HasSubstr("beyond"));
  EXPECT_THAT(error("{\n"), HasSubstr("line 1: not JSON"));
  EXPECT_THAT(error("{}\n"), HasSubstr("line 1: timestamp"));
  const std::string good = R"({"timestamp": 5, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]})"
                           "\n";
  EXPECT_THAT(error(good + R"({"timestamp": 4, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]})"),
              HasSubstr("line 2: the timestamp is before"));
  EXPECT_THAT(error(good + R"({"timestamp": 5, "input_length": 600, "output_length": 5, "hash_ids": [2, 1]})"),
              HasSubstr("line 2: hash id 2 follows another"));
  EXPECT_THAT(error(R"({"timestamp": 5, "input_length": 600, "output_length": 5, "hash_ids": [1, 1]})"),
              HasSubstr("follows another"));
  EXPECT_THAT(error(good + R"({"timestamp": 5, "input_length": 600, "output_length": 5, "hash_ids": [1]})"),
              HasSubstr("line 2: hash_ids must have one id"));
  EXPECT_THAT(error(R"({"timestamp": 5, "input_length": 6, "output_length": 5, "hash_ids": ["a"]})"),
              HasSubstr("not a whole number"));
  EXPECT_THAT(error(R"({"timestamp": -5, "input_length": 6, "output_length": 5, "hash_ids": [1]})"),
              HasSubstr("whole numbers"));
}

std::vector<TraceRow> conversation() {
  std::ifstream file(WARMPATH_SOURCE_DIR "/data/mooncake/conversation.trace");
  std::stringstream text;
  text << file.rdbuf();
  auto rows = parse_trace(text.str());
  EXPECT_TRUE(rows.ok()) << rows.error().message;
  return rows.ok() ? std::move(rows).value() : std::vector<TraceRow>();
}

// The published statistics of the original file.
TEST(ConversationTrace, IsTheOriginal) {
  const auto rows = conversation();
  ASSERT_EQ(rows.size(), 12'031u);
  EXPECT_NEAR(rows.back().at_seconds, 3'537.0, 0.05);
  std::set<double> times;
  std::set<std::uint32_t> firsts;
  std::unordered_set<std::uint32_t> seen;
  std::vector<std::uint64_t> inputs;
  std::vector<std::uint64_t> outputs;
  std::uint64_t blocks = 0;
  std::uint64_t hits = 0;
  std::uint64_t hit_tokens = 0;
  std::uint64_t mostly_hit = 0;
  for (const TraceRow& row : rows) {
    times.insert(row.at_seconds);
    firsts.insert(row.hash_ids.front());
    inputs.push_back(row.input_tokens);
    outputs.push_back(row.output_tokens);
    blocks += row.hash_ids.size();
    std::uint64_t row_hits = 0;
    for (const std::uint32_t id : row.hash_ids) row_hits += seen.insert(id).second ? 0u : 1u;
    hits += row_hits;
    const std::uint64_t tokens = std::min<std::uint64_t>(row_hits * kTraceBlockTokens, row.input_tokens);
    hit_tokens += tokens;
    if (static_cast<double>(tokens) >= 0.8 * row.input_tokens) ++mostly_hit;
  }
  EXPECT_EQ(times.size(), 1'180u);
  EXPECT_EQ(firsts.size(), 1u);
  EXPECT_EQ(blocks, 288'500u);
  EXPECT_EQ(seen.size(), 182'790u);
  EXPECT_NEAR(static_cast<double>(hits) / static_cast<double>(blocks), 0.366, 0.0005);
  const auto total = std::accumulate(inputs.begin(), inputs.end(), std::uint64_t{0});
  EXPECT_NEAR(static_cast<double>(hit_tokens) / static_cast<double>(total), 0.374, 0.0005);
  EXPECT_NEAR(static_cast<double>(mostly_hit) / 12'031, 0.218, 0.002);
  EXPECT_NEAR(static_cast<double>(total), 144.8e6, 0.05e6);
  EXPECT_EQ(total / 12'031, 12'035u);
  const auto quantile = [](std::vector<std::uint64_t> values, double q) {
    std::ranges::sort(values);
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size()))];
  };
  EXPECT_NEAR(static_cast<double>(quantile(inputs, 0.5)), 6'909, 5);
  EXPECT_NEAR(static_cast<double>(quantile(inputs, 0.9)), 27'367, 50);
  EXPECT_NEAR(static_cast<double>(quantile(inputs, 0.99)), 85'400, 200);
  EXPECT_EQ(std::ranges::max(inputs), 126'195u);
  EXPECT_NEAR(static_cast<double>(std::accumulate(outputs.begin(), outputs.end(), std::uint64_t{0})) / 12'031, 343,
              0.5);
  EXPECT_EQ(quantile(outputs, 0.5), 350u);
  EXPECT_EQ(quantile(outputs, 0.9), 597u);
  EXPECT_EQ(std::ranges::max(outputs), 2'000u);
}

// Both forms of the same rows give the same trace.
TEST(ConversationTrace, SurvivesTheOriginalForm) {
  const auto rows = conversation();
  std::string json;
  for (std::size_t i = 0; i < 500; ++i) {
    const TraceRow& row = rows[i];
    json += "{\"timestamp\": " + std::to_string(static_cast<std::uint64_t>(row.at_seconds * 1000 + 0.5)) +
            ", \"input_length\": " + std::to_string(row.input_tokens) +
            ", \"output_length\": " + std::to_string(row.output_tokens) + ", \"hash_ids\": [";
    for (std::size_t k = 0; k < row.hash_ids.size(); ++k)
      json += (k == 0 ? "" : ", ") + std::to_string(row.hash_ids[k]);
    json += "]}\n";
  }
  const auto again = parse_trace(json);
  ASSERT_TRUE(again.ok()) << again.error().message;
  ASSERT_EQ(again->size(), 500u);
  for (std::size_t i = 0; i < 500; ++i) {
    EXPECT_EQ((*again)[i].hash_ids, rows[i].hash_ids);
    EXPECT_EQ((*again)[i].at_seconds, rows[i].at_seconds);
    EXPECT_EQ((*again)[i].input_tokens, rows[i].input_tokens);
  }
}

TEST(ConversationTrace, PromptsShareWhatTheBlocksShare) {
  auto rows = conversation();
  rows.resize(300);
  std::vector<TokenId> vocabulary(1000);
  std::iota(vocabulary.begin(), vocabulary.end(), 10u);
  auto source = Source::create({.population = Trace{.rows = rows}}, vocabulary);
  ASSERT_TRUE(source.ok());
  std::vector<Request> all;
  (*source)->due(Instant(std::chrono::hours(2)), all);
  ASSERT_EQ(all.size(), 300u);
  EXPECT_TRUE((*source)->exhausted());
  for (std::size_t i = 1; i < all.size(); ++i) {
    const auto a = all[i - 1].flat();
    const auto b = all[i].flat();
    ASSERT_EQ(b.size(), rows[i].input_tokens);
    std::size_t blocks = 0;
    while (blocks < std::min(rows[i].hash_ids.size(), rows[i - 1].hash_ids.size()) &&
           rows[i].hash_ids[blocks] == rows[i - 1].hash_ids[blocks]) {
      ++blocks;
    }
    const std::size_t shared = std::min({blocks * kTraceBlockTokens, a.size(), b.size()});
    const auto differ = std::ranges::mismatch(a, b);
    const auto common = static_cast<std::size_t>(differ.in1 - a.begin());
    EXPECT_GE(common, shared);
    EXPECT_LT(common, shared + 8) << "beyond the shared blocks texts differ at once";
  }
}

}  // namespace
}  // namespace warmpath::workload
