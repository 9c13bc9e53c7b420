#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loadgen/loadgen.h"

namespace warmpath::loadgen {
namespace {

using testing::HasSubstr;

Outcome outcome(std::uint64_t id, double ttft, double latency) {
  Outcome one;
  one.id = id;
  one.ok = true;
  one.due_at = static_cast<double>(id);
  one.sent_at = static_cast<double>(id) + 0.5;
  one.ttft = ttft;
  one.latency = latency;
  one.prompt_tokens = 100;
  one.cached_tokens = 25;
  one.output_tokens = 11;
  return one;
}

TEST(Percentile, NearestRank) {
  EXPECT_EQ(percentile({}, 50), 0);
  EXPECT_EQ(percentile({5}, 99), 5);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 50), 2);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 75), 3);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 76), 4);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0), 1);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 100), 4);
}

TEST(Report, JsonHasInferencePerfsNames) {
  Report report;
  report.outcomes = {outcome(0, 0.25, 1.25), outcome(1, 0.75, 1.75)};
  report.seconds = 4;
  report.send_seconds = 2;
  Outcome failed;
  failed.id = 2;
  failed.failure = "status_503";
  failed.latency = 0.125;
  report.outcomes.push_back(failed);
  const std::string json = report_json(report);
  EXPECT_THAT(json, HasSubstr("\"load_summary\":{\"count\":3,\"schedule_delay\":{\"mean\""));
  EXPECT_THAT(json, HasSubstr("\"achieved_rate\":1.5}"));
  EXPECT_THAT(json, HasSubstr("\"successes\":{\"count\":2,\"latency\":{\"request_latency\":{\"mean\":1.5,\"min\":1.25,"));
  EXPECT_THAT(json, HasSubstr("\"time_to_first_token\":{\"mean\":0.5,"));
  EXPECT_THAT(json, HasSubstr("\"time_per_output_token\":{\"mean\":0.1,"));
  EXPECT_THAT(json, HasSubstr("\"inter_token_latency\":null"));
  EXPECT_THAT(json, HasSubstr("\"engine_time_to_first_token\":null"));
  EXPECT_THAT(json, HasSubstr("\"input_tokens_per_sec\":50"));
  EXPECT_THAT(json, HasSubstr("\"output_tokens_per_sec\":5.5"));
  EXPECT_THAT(json, HasSubstr("\"prefix_hit_ratio\":0.25"));
  EXPECT_THAT(json, HasSubstr("\"failures\":{\"count\":1,"));
  EXPECT_THAT(json, HasSubstr("\"by_label\":{\"status_503\":1}"));
}

TEST(Report, EmptyReportIsStillJson) {
  const std::string json = report_json({});
  EXPECT_THAT(json, HasSubstr("\"count\":0"));
  EXPECT_THAT(json, HasSubstr("\"request_latency\":null"));
}

TEST(Report, TableNamesFailures) {
  Report report;
  Outcome failed;
  failed.failure = "unavailable";
  report.outcomes = {outcome(0, 0.1, 1), failed};
  const std::string table = report_table(report);
  EXPECT_THAT(table, HasSubstr("requests 2, failed 1"));
  EXPECT_THAT(table, HasSubstr("failed: unavailable 1"));
}

}  // namespace
}  // namespace warmpath::loadgen
