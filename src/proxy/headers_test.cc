#include "proxy/headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::proxy {
namespace {

http::Headers headers(std::initializer_list<std::pair<const char*, const char*>> list) {
  http::Headers out;
  for (const auto& [name, value] : list) out.add(name, value);
  return out;
}

std::vector<std::string> names(const http::Headers& list) {
  std::vector<std::string> out;
  for (const auto& header : list.all()) out.push_back(header.name + "=" + header.value);
  return out;
}

TEST(Headers, RoutingHeadersOfClientsNeverPass) {
  for (const char* name : {"X-data-parallel-rank", "x-data_parallel_rank", "x-prefiller-url", "X-Prefiller-Host-Port",
                           "x-gateway-destination-endpoint", "X-Gateway-Destination-Endpoint-Subset", "x-kv-cache-salt",
                           "x-kv-transfer-host", "x-encoder-hosts-ports", "x-warmpath-engine", "X_WARMPATH_ENGINE",
                           "x-forwarded-for", "Forwarded", "x-real-ip"}) {
    EXPECT_TRUE(is_routing_header(name)) << name;
    EXPECT_EQ(to_engine(headers({{name, "1"}}), "id", std::nullopt).find(name), nullptr) << name;
  }
  for (const char* name : {"authorization", "x-request-id", "user-agent", "x-data", "traceparent", "content-type"}) {
    EXPECT_FALSE(is_routing_header(name)) << name;
  }
}

TEST(Headers, TowardsTheEngine) {
  const auto out = to_engine(headers({{"Host", "gateway"},
                                      {"Authorization", "Bearer k"},
                                      {"Content-Length", "7"},
                                      {"Transfer-Encoding", "chunked"},
                                      {"Connection", "keep-alive, x-secret"},
                                      {"X-Secret", "1"},
                                      {"Keep-Alive", "5"},
                                      {"Accept-Encoding", "gzip"},
                                      {"Expect", "100-continue"},
                                      {"X-Request-Id", "theirs"},
                                      {"Content-Type", "application/json"}}),
                             "ours", 3);
  EXPECT_THAT(names(out), ::testing::ElementsAre("Authorization=Bearer k", "Content-Type=application/json",
                                                 "x-request-id=ours", "X-data-parallel-rank=3"));
}

TEST(Headers, TowardsTheClient) {
  const auto out = to_client(headers({{"content-type", "text/event-stream"},
                                      {"transfer-encoding", "chunked"},
                                      {"connection", "close"},
                                      {"content-length", "3"},
                                      {"x-request-id", "engine's"},
                                      {"retry-after", "2"}}),
                             "ours");
  EXPECT_THAT(names(out),
              ::testing::ElementsAre("content-type=text/event-stream", "retry-after=2", "x-request-id=ours"));
}

TEST(Headers, RequestIds) {
  EXPECT_TRUE(is_sane_request_id("req_1:a/b+c=d@e.f-g"));
  EXPECT_TRUE(is_sane_request_id(std::string(128, 'a')));
  for (const std::string& bad : {std::string(), std::string(129, 'a'), std::string("a b"), std::string("a\nb"),
                                 std::string("a\"b"), std::string("\xc3\xa9"), std::string("a\0b", 3)}) {
    EXPECT_FALSE(is_sane_request_id(bad)) << bad;
  }
}

}  // namespace
}  // namespace warmpath::proxy
