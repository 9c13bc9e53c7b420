#include "flow/flow.h"

#include <gtest/gtest.h>

namespace warmpath::flow {
namespace {

TEST(GateTest, AdmitsBelowTheBoundAndRefusesAtIt) {
  const Gate gate({.retry_after = std::chrono::seconds(2), .inflight_requests_max = 3});
  const std::vector<fleet::EngineView> engines(1);
  for (std::size_t inflight = 0; inflight < 3; ++inflight) {
    EXPECT_TRUE(std::holds_alternative<Admit>(gate.admit(engines, inflight))) << inflight;
  }
  const Verdict verdict = gate.admit(engines, 3);
  const auto* refuse = std::get_if<Refuse>(&verdict);
  ASSERT_NE(refuse, nullptr);
  EXPECT_EQ(refuse->error.kind, ErrorKind::kUnavailable);
  EXPECT_NE(refuse->error.message.find("3 requests"), std::string::npos) << refuse->error.message;
  EXPECT_EQ(refuse->retry_after, Duration(std::chrono::seconds(2)));
}

TEST(GateTest, NoCandidateIsUnavailableEvenWhenIdle) {
  const Gate gate(GateOptions{});
  const Verdict verdict = gate.admit({}, 0);
  const auto* refuse = std::get_if<Refuse>(&verdict);
  ASSERT_NE(refuse, nullptr);
  EXPECT_EQ(refuse->error.kind, ErrorKind::kUnavailable);
  EXPECT_GT(refuse->retry_after, Duration(0));
}

TEST(GateTest, ABoundOfZeroRefusesAll) {
  const Gate gate({.inflight_requests_max = 0});
  const std::vector<fleet::EngineView> engines(4);
  EXPECT_TRUE(std::holds_alternative<Refuse>(gate.admit(engines, 0)));
}

}  // namespace
}  // namespace warmpath::flow
