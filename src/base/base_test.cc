#include "base/base.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <type_traits>
#include <unordered_set>

namespace warmpath {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error{ErrorKind::kInvalid, "odd"};
  return number / 2;
}

TEST(Result, HoldsAValueOrAnError) {
  const auto good = half(8);
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(static_cast<bool>(good));
  EXPECT_EQ(*good, 4);
  const auto bad = half(7);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(bad.error().message, "odd");
}

TEST(Result, MovesValuesAndErrorsOut) {
  Result<std::unique_ptr<int>> owned = std::make_unique<int>(3);
  *owned.value() += 1;
  EXPECT_EQ(**owned, 4);
  const std::unique_ptr<int> taken = std::move(owned).value();
  EXPECT_EQ(*taken, 4);
  Result<int> bad = Error{ErrorKind::kNotFound, "gone"};
  const Error error = std::move(bad).error();
  EXPECT_EQ(error.message, "gone");
}

TEST(Result, TellsErrorFromAValueOfTheSameType) {
  Result<std::string> text = std::string("x");
  EXPECT_EQ(text->size(), 1u);
  Result<void> done;
  EXPECT_TRUE(done.ok());
  done = Error{ErrorKind::kTooLarge, "big"};
  EXPECT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kTooLarge);
}

TEST(ResultDeathTest, ReadingTheWrongSideIsABug) {
  const Result<int> good = 1;
  const Result<int> bad = Error{};
  EXPECT_DEATH(static_cast<void>(good.error()), "bug");
  EXPECT_DEATH(static_cast<void>(bad.value()), "bug");
  EXPECT_DEATH(static_cast<void>(Result<void>().error()), "bug");
}

TEST(ErrorKind, EveryKindHasItsOwnStableName) {
  std::set<std::string_view> names;
  constexpr int kKinds = static_cast<int>(ErrorKind::kTimeoutEngine) + 1;
  for (int kind = 0; kind < kKinds; ++kind) {
    const auto name = error_kind_name(static_cast<ErrorKind>(kind));
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string_view::npos) << name;
    names.insert(name);
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kKinds));
  EXPECT_EQ(error_kind_name(ErrorKind::kTimeoutEngine), "engine_timeout");
}

TEST(CheckDeathTest, NamesTheConditionAndThePlace) {
  EXPECT_DEATH(WP_CHECK(1 + 1 == 3), "bug: 1 \\+ 1 == 3 does not hold at .*base_test.cc:");
  int calls = 0;
  WP_CHECK(++calls == 1);
  EXPECT_EQ(calls, 1);
}

TEST(StrongId, ComparesHashesAndNeverMixes) {
  EXPECT_EQ(EngineId(3), EngineId(3));
  EXPECT_LT(EngineId(3), EngineId(4));
  EXPECT_EQ(EngineId().value(), 0u);
  std::unordered_set<RequestId> seen = {RequestId(1), RequestId(2), RequestId(1)};
  EXPECT_EQ(seen.size(), 2u);
  static_assert(!std::is_convertible_v<std::uint32_t, EngineId>);
  static_assert(!std::is_convertible_v<EngineId, std::uint32_t>);
  static_assert(!std::is_constructible_v<RequestId, BlockKey>);
  static_assert(!std::is_constructible_v<BlockKey, EngineHash>);
  static_assert(sizeof(EngineId) == 4 && sizeof(BlockKey) == 8);
}

TEST(Time, InstantsAndDurationsAdd) {
  const Instant start(std::chrono::seconds(5));
  const Instant later = start + std::chrono::milliseconds(250);
  EXPECT_EQ(later - start, std::chrono::milliseconds(250));
  EXPECT_EQ(later - std::chrono::milliseconds(250), start);
  EXPECT_GT(later, start);
  EXPECT_EQ(Instant().since_zero(), Duration{0});
  EXPECT_DOUBLE_EQ(to_seconds(later - start), 0.25);
  EXPECT_DOUBLE_EQ(to_ms(later - start), 250.0);
}

TEST(Time, FromSecondsRoundsAndSaturates) {
  EXPECT_EQ(from_seconds(1.5), std::chrono::milliseconds(1'500));
  EXPECT_EQ(from_seconds(-0.25), -std::chrono::milliseconds(250));
  EXPECT_EQ(from_seconds(1.4e-9), Duration{1});
  EXPECT_EQ(from_seconds(1.6e-9), Duration{2});
  EXPECT_EQ(from_seconds(1e300), Duration::max());
  EXPECT_EQ(from_seconds(-1e300), -Duration::max());
  EXPECT_EQ(from_seconds(std::numeric_limits<double>::quiet_NaN()), Duration{0});
}

}  // namespace
}  // namespace warmpath
