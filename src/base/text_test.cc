#include "base/text.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace warmpath {
namespace {

TEST(Hex, RoundTripsEveryByte) {
  std::vector<std::uint8_t> bytes(256);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);
  const std::string text = to_hex(bytes);
  EXPECT_EQ(text.size(), 512u);
  EXPECT_EQ(text.substr(0, 6), "000102");
  EXPECT_EQ(text.substr(506), "fdfeff");
  EXPECT_EQ(from_hex(text), bytes);
  EXPECT_EQ(from_hex(""), std::vector<std::uint8_t>{});
  EXPECT_EQ(from_hex("aBCd"), (std::vector<std::uint8_t>{0xab, 0xcd}));
}

TEST(Hex, RefusesOddLengthAndForeignCharacters) {
  for (const auto* text : {"a", "abc", "0g", "g0", " 0", "0x", "é0"}) EXPECT_FALSE(from_hex(text)) << text;
}

TEST(ParseNumber, TakesTheWholeTextOrNothing) {
  EXPECT_EQ(parse_u64("0"), 0u);
  EXPECT_EQ(parse_u64("18446744073709551615"), ~std::uint64_t{0});
  for (const auto* text : {"", " 1", "1 ", "-1", "+1", "1.0", "0x1", "18446744073709551616", "a"}) {
    EXPECT_FALSE(parse_u64(text)) << text;
  }
  EXPECT_EQ(parse_i64("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  for (const auto* text : {"", "--1", "+1", "9223372036854775808", "1e3"}) EXPECT_FALSE(parse_i64(text)) << text;
  EXPECT_EQ(parse_double("-2.5e3"), -2500.0);
  EXPECT_EQ(parse_double("0"), 0.0);
  for (const auto* text : {"", "nan", "inf", "-inf", "1e999", "1,5", "1.5 "}) EXPECT_FALSE(parse_double(text)) << text;
}

TEST(Split, KeepsEmptyParts) {
  using Parts = std::vector<std::string_view>;
  EXPECT_EQ(split("", ','), Parts{""});
  EXPECT_EQ(split("a", ','), Parts{"a"});
  EXPECT_EQ(split(",a,,b,", ','), (Parts{"", "a", "", "b", ""}));
}

TEST(Trim, TakesAsciiWhiteSpaceOffBothEnds) {
  EXPECT_EQ(trim(""), "");
  EXPECT_EQ(trim(" \t\r\n\f\v"), "");
  EXPECT_EQ(trim("  a b\n"), "a b");
  EXPECT_EQ(trim("a"), "a");
}

TEST(Case, ComparesAsciiLettersOnly) {
  EXPECT_TRUE(equals_ignoring_case("Content-LENGTH", "content-length"));
  EXPECT_FALSE(equals_ignoring_case("content", "content-length"));
  EXPECT_FALSE(equals_ignoring_case("[", "{"));  // these differ by the case bit alone
  EXPECT_FALSE(equals_ignoring_case("@", "`"));
  EXPECT_TRUE(equals_ignoring_case("", ""));
  EXPECT_EQ(to_lower("AZaz[@É"), "azaz[@É");
}

TEST(NearestName, FindsTyposAndNothingElse) {
  constexpr std::array<std::string_view, 5> kNames = {"listen", "admin_listen", "policy", "tokenizer", "dp"};
  EXPECT_EQ(nearest_name("lisen", kNames), "listen");
  EXPECT_EQ(nearest_name("polcy", kNames), "policy");
  EXPECT_EQ(nearest_name("tokeniser", kNames), "tokenizer");
  EXPECT_EQ(nearest_name("db", kNames), "dp");
  EXPECT_EQ(nearest_name("listen", kNames), "listen");
  EXPECT_FALSE(nearest_name("kubernetes", kNames));
  EXPECT_FALSE(nearest_name("", std::span(kNames).first(4)));
  EXPECT_FALSE(nearest_name("listen", {}));
}

TEST(NearestName, PrefersTheFewestEditsAndThenTheFirst) {
  constexpr std::array<std::string_view, 3> kNames = {"abcdex", "abcdef", "abcdey"};
  EXPECT_EQ(nearest_name("abcdef", kNames), "abcdef");
  EXPECT_EQ(nearest_name("abcdez", kNames), "abcdex");
}

}  // namespace
}  // namespace warmpath
