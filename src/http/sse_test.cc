#include "http/sse.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/base.h"

namespace warmpath::http {
namespace {

using Events = std::vector<std::string>;

Events parse(std::string_view bytes, std::size_t piece) {
  SseParser parser;
  Events events;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    EXPECT_TRUE(parser.feed(bytes.substr(at, piece), [&](std::string_view data) { events.emplace_back(data); }).ok());
  }
  return events;
}

TEST(Sse, TableWholeAndInPieces) {
  const struct {
    const char* bytes;
    Events events;
  } cases[] = {
      {"data: a\n\n", {"a"}},
      {"data:a\n\n", {"a"}},
      {"data:  a\n\n", {" a"}},
      {"data: a\r\n\r\ndata: b\r\n\r\n", {"a", "b"}},
      {"data: a\r\rdata: b\r\r", {"a", "b"}},
      {"data: a\ndata: b\n\n", {"a\nb"}},
      {"data\n\n", {""}},
      {"data:\n\n", {""}},
      {": comment\n\n", {}},
      {": keep\ndata: a\n: more\n\n", {"a"}},
      {"event: x\nid: 1\nretry: 5\ndata: a\n\n", {"a"}},
      {"datax: a\n\ndat: b\n\n", {}},
      {"data: a", {}},
      {"data: a\n", {}},
      {"\n\n\ndata: a\n\n\n\n", {"a"}},
      {"data: [DONE]\n\n", {"[DONE]"}},
      {"\xef\xbb\xbf" "data: a\n\n", {"a"}},
      {"data: \xe4\xbd\xa0\n\n", {"\xe4\xbd\xa0"}},
  };
  for (const auto& one : cases) {
    const std::string_view bytes = one.bytes;
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
      EXPECT_EQ(parse(bytes, piece), one.events) << bytes << " in pieces of " << piece;
    }
  }
}

TEST(Sse, WritesWhatItReads) {
  RandomStream random(11, "sse");
  std::string stream;
  Events sent;
  for (int i = 0; i < 300; ++i) {
    std::string data;
    const auto size = random.below(40);
    for (std::uint64_t j = 0; j < size; ++j) data += static_cast<char>(32 + random.below(90));
    sent.push_back(data);
    stream += sse_event(data);
  }
  EXPECT_EQ(parse(stream, 1 + random.below(100)), sent);
}

TEST(Sse, AnEventAboveItsBoundIsAnError) {
  const auto drop = [](std::string_view) {};
  SseParser one_line(100);
  EXPECT_EQ(one_line.feed("data: " + std::string(100, 'x'), drop).error().kind, ErrorKind::kTooLarge);
  SseParser many_lines(100);
  Result<void> result;
  for (int i = 0; i < 50 && result.ok(); ++i) result = many_lines.feed("data: 12345\n", drop);
  EXPECT_FALSE(result.ok());
  SseParser comments(100);
  for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(comments.feed(": 0123456789\n", drop).ok());
}

}  // namespace
}  // namespace warmpath::http
