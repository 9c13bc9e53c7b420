#include "doctor/told.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::doctor {
namespace {

using ::testing::SizeIs;

// As vLLM 0.32 answers, and with a rank whose events are off.
TEST(Told, EventSourcesWithDisabledOnes) {
  const auto told = read_event_sources(
      R"({"1":{"enable_kv_cache_events":false,"publisher":"null","endpoint":"tcp://*:5558","topic":""},)"
      R"("0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":)"
      R"("tcp://*:5657","buffer_steps":10000,"topic":"kv"},"x":1})",
      "10.0.0.7");
  ASSERT_TRUE(told.ok());
  ASSERT_THAT(*told, SizeIs(2));
  EXPECT_TRUE((*told)[0].enabled);
  EXPECT_EQ((*told)[0].events, "tcp://10.0.0.7:5557");
  EXPECT_EQ((*told)[0].replay, "tcp://10.0.0.7:5657");
  EXPECT_EQ((*told)[0].topic, "kv");
  EXPECT_FALSE((*told)[1].enabled);
  EXPECT_THAT(*read_event_sources("{}", "h"), SizeIs(0));
  EXPECT_FALSE(read_event_sources("[]", "h").ok());
  EXPECT_FALSE(read_event_sources("{", "h").ok());
}

TEST(Told, SglangsServerInfo) {
  const auto told = read_server_info(
      R"({"kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":5557,"topic":"kv","dp_size":2,)"
      R"("replay_endpoint_port_base":6557}})",
      "::1");
  ASSERT_TRUE(told.ok());
  ASSERT_THAT(*told, SizeIs(2));
  EXPECT_EQ((*told)[1].events, "tcp://[::1]:5558");
  EXPECT_EQ((*told)[1].replay, "tcp://[::1]:6558");
  EXPECT_THAT(*read_server_info(R"({"kv_events":null})", "h"), SizeIs(0));
  EXPECT_FALSE(read_server_info("7", "h").ok());
}

TEST(Told, EndpointsOfRanks) {
  EXPECT_EQ(endpoint_for("tcp://h:5557", 2, "x"), "tcp://h:5559");
  EXPECT_EQ(endpoint_for("tcp://*:5557", 0, "x"), "tcp://x:5557");
  EXPECT_EQ(endpoint_for("tcp://[::]:5557", 0, "::1"), "tcp://[::1]:5557");
  for (const char* bad : {"", "ipc:///tmp/x", "tcp://h", "tcp://h:0", "tcp://h:x", "tcp://", "tcp:", "tcp://h:65535"}) {
    EXPECT_EQ(endpoint_for(bad, 1, "x"), "") << bad;
  }
}

TEST(Told, AnEnginesWordsAreShownWithoutControlCharacters) {
  EXPECT_EQ(printable("kv@h\x1b[31m\xff\n"), "kv@h?[31m??");
  EXPECT_EQ(printable(std::string(500, 'a')).size(), 128u);
  EXPECT_EQ(read_version(R"({"version":"1\u001b[0m"})"), "1?[0m");
  EXPECT_EQ(read_version("[]"), "");
}

TEST(Told, RefusalsAreOneLine) {
  EXPECT_EQ(read_refusal(400, R"({"error":{"message":"one\ntwo","code":400}})"), "400: one two");
  EXPECT_EQ(read_refusal(404, R"({"detail":"Not Found"})"), "404: Not Found");
  EXPECT_EQ(read_refusal(500, "<html>"), "500");
  const std::string longer = read_refusal(400, R"({"message":")" + std::string(199, 'a') + R"(ééé"})");
  EXPECT_EQ(longer, "400: " + std::string(199, 'a') + "…");
}

}  // namespace
}  // namespace warmpath::doctor
