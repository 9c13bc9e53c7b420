#include "events/load_stat.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "events/msgpack.h"

namespace warmpath::events {
namespace {

std::vector<std::uint8_t> bytes(std::string_view hex) {
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<std::uint8_t>(std::stoul(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

// Encoded by SGLang 0.5.23's own definitions.
constexpr std::string_view kRecorded =
    "9ba84c6f6164537461740302cda100ce0004000000cd1400cdb500cd0100ce000ef8f2ce0074cbb1";

TEST(LoadStat, OfSglang) {
  const auto stat = decode_load(bytes(kRecorded));
  ASSERT_TRUE(stat.ok()) << stat.error().message;
  const LoadStat expected{.running = 3,
                          .waiting = 2,
                          .kv_tokens_used = 41'216,
                          .kv_tokens_max = 262'144,
                          .rank = 0,
                          .waiting_uncached_tokens = 5'120,
                          .total_tokens = 46'336,
                          .running_max = 256,
                          .uncached_prefill_tokens = 981'234,
                          .prefill_busy_us = 7'654'321};
  EXPECT_EQ(*stat, expected);
}

std::vector<std::uint8_t> array(std::initializer_list<std::int64_t> fields, std::string_view tag = "LoadStat") {
  msgpack::Writer writer;
  writer.array(fields.size() + 1);
  writer.text(tag);
  for (const std::int64_t field : fields) writer.signed_integer(field);
  return writer.take();
}

TEST(LoadStat, OlderAndNewerOnes) {
  EXPECT_EQ(decode_load(array({1, 2, 3, 4}))->waiting, 2u);
  EXPECT_EQ(decode_load(array({1, 2, 3, 4}))->rank, std::nullopt);
  EXPECT_EQ(decode_load(array({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}))->prefill_busy_us, 10u);
  auto no_rank = array({1, 2, 3, 4, 0, 6});
  no_rank[no_rank.size() - 2] = 0xc0;
  EXPECT_EQ(decode_load(no_rank)->rank, std::nullopt);
  EXPECT_EQ(decode_load(no_rank)->waiting_uncached_tokens, 6u);
}

TEST(LoadStat, WhatIsNone) {
  const auto whole = bytes(kRecorded);
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    EXPECT_FALSE(decode_load(std::span(whole).first(cut)).ok()) << cut;
  }
  auto longer = whole;
  longer.push_back(0);
  EXPECT_FALSE(decode_load(longer).ok());
  EXPECT_FALSE(decode_load(array({1, 2, 3})).ok());
  EXPECT_FALSE(decode_load(array({1, -2, 3, 4})).ok());
  EXPECT_FALSE(decode_load(array({1, 2, 3, 4}, "Load")).ok());
}

}  // namespace
}  // namespace warmpath::events
