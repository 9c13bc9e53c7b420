#include "http/message.h"

#include <gtest/gtest.h>

#include "http/client.h"

namespace warmpath::http {
namespace {

TEST(Headers, CompareNamesWithoutCase) {
  Headers headers;
  headers.add("A", "1");
  headers.add("b", "2");
  headers.add("a", "3");
  EXPECT_EQ(*headers.find("a"), "1");
  EXPECT_EQ(headers.count("A"), 2u);
  headers.set("A", "4");
  EXPECT_EQ(headers.count("a"), 1u);
  EXPECT_EQ(*headers.find("a"), "4");
  headers.remove("B");
  EXPECT_EQ(headers.find("b"), nullptr);
}

TEST(Headers, HopByHopAndWhatConnectionNamesIsRemoved) {
  Headers headers;
  for (const char* name : {"Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection",
                           "Proxy-Authorization", "Proxy-Authenticate"}) {
    headers.add(name, "close, X-Mine ,x-yours");
  }
  headers.add("x-mine", "1");
  headers.add("X-Yours", "1");
  headers.add("X-Theirs", "1");
  headers.add("Authorization", "1");
  remove_hop_by_hop(headers);
  ASSERT_EQ(headers.all().size(), 2u);
  EXPECT_NE(headers.find("x-theirs"), nullptr);
  EXPECT_NE(headers.find("authorization"), nullptr);
}

TEST(Query, DecodesOneValue) {
  EXPECT_EQ(query_value("a=1&b=x%20y+z&c", "b"), "x y z");
  EXPECT_EQ(query_value("a=1&b=2", "a"), "1");
  EXPECT_EQ(query_value("a=1&c", "c"), "");
  EXPECT_EQ(query_value("a=1", "b"), std::nullopt);
  EXPECT_EQ(query_value("", "b"), std::nullopt);
  EXPECT_EQ(query_value("b=%zz%4", "b"), "%zz%4");
  EXPECT_EQ(query_value("b=%e4%BD%a0", "b"), "\xe4\xbd\xa0");
  EXPECT_EQ(query_value("bb=1&b=2", "b"), "2");
}

TEST(Url, ParsesAndWritesBack) {
  const struct {
    const char* text;
    bool tls;
    const char* host;
    std::uint16_t port;
    const char* path;
    const char* back;
  } cases[] = {
      {"http://a", false, "a", 80, "", "http://a"},
      {"http://a:8000/", false, "a", 8000, "", "http://a:8000"},
      {"https://a.b-c:8443/v/x//", true, "a.b-c", 8443, "/v/x", "https://a.b-c:8443/v/x"},
      {"https://a:443", true, "a", 443, "", "https://a"},
      {"http://[::1]:80", false, "::1", 80, "", "http://[::1]"},
      {"http://[fe80::1]/p", false, "fe80::1", 80, "/p", "http://[fe80::1]/p"},
  };
  for (const auto& one : cases) {
    const auto url = parse_url(one.text);
    ASSERT_TRUE(url.ok()) << one.text;
    EXPECT_EQ(url->tls, one.tls);
    EXPECT_EQ(url->host, one.host);
    EXPECT_EQ(url->port, one.port);
    EXPECT_EQ(url->path, one.path);
    EXPECT_EQ(url->text(), one.back);
  }
}

TEST(Url, RefusesWithWhatIsExpected) {
  for (const char* bad : {"", "a:8000", "ftp://a", "http://", "http:///x", "http://:80", "http://a:", "http://a:0", "http://a:65536",
                          "http://a:x", "http://a:+8", "http://u@a", "http://u:p@a", "http://a?x", "http://a/#x", "http://a b", "http://a\n",
                          "http://[::1", "http://[::1]x", "http://[]", "http://[g]", "http://a\xc3\xa9", "http://::1:80"}) {
    const auto url = parse_url(bad);
    ASSERT_FALSE(url.ok()) << bad;
    EXPECT_EQ(url.error().kind, ErrorKind::kInvalid);
    EXPECT_NE(url.error().message.find("http://host:8000"), std::string::npos);
  }
}

}  // namespace
}  // namespace warmpath::http
