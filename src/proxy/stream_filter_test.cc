#include "proxy/stream_filter.h"

#include <gtest/gtest.h>

namespace warmpath::proxy {
namespace {

constexpr std::size_t kEventMax = 1u << 20;

std::string event(std::string_view data) { return "data: " + std::string(data) + "\n\n"; }
std::string chunk(std::string_view text) {
  return event(R"({"choices":[{"delta":{"content":")" + std::string(text) + R"("}}]})");
}
const std::string kUsage = event(
    R"({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}})");
const std::string kDone = event("[DONE]");

// Feeds `stream` in pieces cut by `random`; checks that every output ends an event.
std::string run(StreamFilter& filter, std::string_view stream, RandomStream& random, std::size_t piece_max) {
  std::string out;
  while (!stream.empty()) {
    const std::size_t n = std::min<std::size_t>(stream.size(), 1 + random.below(piece_max));
    const std::string piece(stream.substr(0, n));
    const std::string_view passed = filter.feed(piece);
    if (!passed.empty()) {
      EXPECT_TRUE(passed.ends_with("\n\n") || passed.ends_with("\n\r\n")) << passed;
    }
    EXPECT_TRUE(filter.at_boundary());
    out.append(passed);
    stream.remove_prefix(n);
  }
  out.append(filter.finish());
  return out;
}

TEST(StreamFilter, AnySplitGivesTheSameBytes) {
  std::string stream = ": ping\n\n" + chunk("a") + chunk("say \\\"usage\\\"") + "event: x\r\ndata: {}\r\n\r\n";
  stream += event(R"({"choices":[{}],"usage":null})") + chunk("\xe4\xbd\xa0") + kUsage + kDone + "data: cut";
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomStream random(seed, "stream_filter");
    StreamFilter filter(StreamFilter::UsageChunk::kPass, kEventMax);
    EXPECT_EQ(run(filter, stream, random, 1 + seed % 200), stream);
    ASSERT_TRUE(filter.usage());
    EXPECT_EQ(filter.usage()->cached_tokens, 8u);
  }
}

TEST(StreamFilter, StripsOnlyTheExtraChunk) {
  const std::string with_choice =
      event(R"({"choices":[{"index":0}],"usage":{"prompt_tokens":9,"completion_tokens":1}})");
  const std::string before = chunk("a") + with_choice + chunk("b");
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    RandomStream random(seed, "strip");
    StreamFilter filter(StreamFilter::UsageChunk::kStrip, kEventMax);
    EXPECT_EQ(run(filter, before + kUsage + kDone, random, 1 + seed % 300), before + kDone);
    EXPECT_EQ(filter.usage()->completion_tokens, 3u);
  }
}

TEST(StreamFilter, WholeEventsAreNotCopied) {
  StreamFilter filter(StreamFilter::UsageChunk::kPass, kEventMax);
  const std::string piece = chunk("a") + kUsage;
  EXPECT_EQ(filter.feed(piece).data(), piece.data());
}

TEST(StreamFilter, APartialEventWaits) {
  StreamFilter filter(StreamFilter::UsageChunk::kPass, kEventMax);
  EXPECT_EQ(filter.feed("data: {\"a\""), "");
  EXPECT_EQ(filter.feed(":1}\n"), "");
  EXPECT_EQ(filter.feed("\ndata: x"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(filter.finish(), "data: x");
}

TEST(StreamFilter, AnOverlongEventPassesInPieces) {
  StreamFilter filter(StreamFilter::UsageChunk::kPass, 10);
  std::string out(filter.feed("data: 0123456789"));
  EXPECT_EQ(out, "data: 0123456789");
  EXPECT_FALSE(filter.at_boundary());
  out = filter.feed("abc\n");
  EXPECT_EQ(out, "abc\n");
  EXPECT_FALSE(filter.at_boundary());
  out = filter.feed("\ndata: y");
  EXPECT_EQ(out, "\n");
  EXPECT_TRUE(filter.at_boundary());
  out = filter.feed("\n\n");
  EXPECT_EQ(out, "data: y\n\n");
  EXPECT_EQ(filter.finish(), "");
}

TEST(StreamFilter, RandomBoundsNeverLoseABytes) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    RandomStream random(seed, "bounds");
    std::string stream;
    for (int i = 0; i < 20; ++i) {
      stream += "data: " + std::string(random.below(60), 'x') + (random.below(2) == 0 ? "\n\n" : "\r\n\r\n");
    }
    StreamFilter filter(StreamFilter::UsageChunk::kPass, 1 + random.below(50));
    std::string out;
    std::string_view left = stream;
    while (!left.empty()) {
      const std::size_t n = std::min<std::size_t>(left.size(), 1 + random.below(40));
      out.append(filter.feed(std::string(left.substr(0, n))));
      left.remove_prefix(n);
    }
    out.append(filter.finish());
    EXPECT_EQ(out, stream);
  }
}

}  // namespace
}  // namespace warmpath::proxy
