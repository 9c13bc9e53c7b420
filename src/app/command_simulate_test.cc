#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdio>

#include "app/app.h"
#include "app/test_run.h"
#include "schedule/schedule.h"

namespace warmpath::app {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;
using testing::outcome_of;

Outcome run(const std::vector<std::string>& args) { return outcome_of(run_app, args); }

const std::vector<std::string> kSmall = {"simulate", "--engines",         "2",   "--blocks",        "200", "--groups",
                                         "4",        "--prompts",         "3",   "--system-tokens", "500", "--requests",
                                         "24",       "--question-tokens", "100", "--output-tokens", "10",  "--rate",
                                         "5",        "--format",          "json"};

TEST(PoliciesCommand, NamesEachWithFormulaAndNeeds) {
  const Outcome table = run({"policies"});
  EXPECT_EQ(table.code, 0);
  const Outcome json = run({"policies", "--format", "json"});
  EXPECT_EQ(json.code, 0);
  simdjson::dom::parser parser;
  simdjson::dom::array listed;
  ASSERT_EQ(parser.parse(json.out)["policies"].get(listed), simdjson::SUCCESS) << json.out;
  ASSERT_EQ(listed.size(), schedule::policies().size());
  std::size_t i = 0;
  for (const auto one : listed) {
    const schedule::Policy& policy = *schedule::policies()[i++];
    EXPECT_THAT(table.out, HasSubstr(std::string(policy.name())));
    EXPECT_THAT(table.out, HasSubstr(std::string(policy.formula())));
    EXPECT_EQ(std::string_view(one["name"]), policy.name());
    EXPECT_EQ(std::string_view(one["formula"]), policy.formula());
    EXPECT_EQ(std::string_view(one["needs"]), schedule::needs_name(policy.needs()));
  }
}

TEST(SimulateCommand, AllPoliciesInOneJson) {
  const Outcome outcome = run(kSmall);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  simdjson::dom::parser parser;
  simdjson::dom::array arms;
  ASSERT_EQ(parser.parse(outcome.out)["arms"].get(arms), simdjson::SUCCESS) << outcome.out;
  ASSERT_EQ(arms.size(), schedule::policies().size());
  std::size_t i = 0;
  for (const auto arm : arms) {
    EXPECT_EQ(std::string_view(arm["policy"]), schedule::policies()[i++]->name());
    EXPECT_EQ(std::uint64_t(arm["requests"]), 24u);
    EXPECT_EQ(std::uint64_t(arm["failed"]), 0u);
    EXPECT_GT(double(arm["prefix_hit_ratio"]), 0.0);
    EXPECT_GT(std::uint64_t(arm["prefill_tokens"]["computed"]), 0u);
    EXPECT_GT(std::uint64_t(arm["prefill_tokens"]["saved"]), 0u);
    EXPECT_GT(double(arm["ttft_ms"]["p90"]), 0.0);
    EXPECT_GT(double(arm["output_tokens_per_s"]), 0.0);
    EXPECT_GT(double(arm["cost_per_million_tokens"]), 1.0);
    EXPECT_LT(double(arm["cost_per_million_tokens"]), 10.0);
  }
  EXPECT_EQ(run(kSmall).out, outcome.out) << "the same to the bit";
}

TEST(SimulateCommand, OnePolicyAsATable) {
  std::vector<std::string> args(kSmall.begin(), kSmall.end() - 2);
  args.insert(args.end(), {"--policy", "precise"});
  const Outcome outcome = run(args);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("precise"));
  EXPECT_THAT(outcome.out, ::testing::Not(HasSubstr("round-robin")));
}

TEST(SimulateCommand, ARecordedTrace) {
  const std::string file = std::string(WARMPATH_SOURCE_DIR) + "/data/mooncake/conversation.trace";
  const Outcome outcome = run({"simulate", "--policy", "precise", "--workload", "trace", "--trace", file,
                               "--length-factor", "0.02", "--requests", "40", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  simdjson::dom::parser parser;
  simdjson::dom::element arm;
  ASSERT_EQ(parser.parse(outcome.out)["arms"].at(0).get(arm), simdjson::SUCCESS) << outcome.out;
  EXPECT_EQ(std::uint64_t(arm["requests"]), 40u);
  EXPECT_EQ(std::uint64_t(arm["failed"]), 0u);
  const Outcome without = run({"simulate", "--workload", "trace"});
  EXPECT_EQ(without.code, 2);
  EXPECT_THAT(without.err, HasSubstr("--trace FILE"));
}

TEST(SimulateCommand, AMistypedPolicyIsAnsweredWithTheNearest) {
  const Outcome outcome = run({"simulate", "--policy", "precice"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("did you mean 'precise'?"));
}

}  // namespace
}  // namespace warmpath::app
