#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace warmpath {
namespace {

// Golden: a change here changes every simulation, so it has to be meant.
TEST(RandomStream, GivesTheSameNumbersEverywhere) {
  RandomStream stream(42, "arrivals");
  const std::vector<std::uint64_t> golden = {0x36d3c2565ce7f9a2ULL, 0x8af27525429dbe94ULL, 0x4c6f1d8a77f532b1ULL,
                                             0x189feb5f491a03efULL};
  for (const std::uint64_t number : golden) EXPECT_EQ(stream.next(), number);
  EXPECT_EQ(stable_hash(""), 0xc3817c016ba4ff30ULL);
  EXPECT_EQ(stable_hash("arrivals"), 0xff296b98b6dbd2cbULL);
}

TEST(RandomStream, SeedAndNameBothMatter) {
  RandomStream a(1, "x");
  RandomStream same(1, "x");
  RandomStream other_seed(2, "x");
  RandomStream other_name(1, "y");
  const auto first = a.next();
  EXPECT_EQ(first, same.next());
  EXPECT_NE(first, other_seed.next());
  EXPECT_NE(first, other_name.next());
}

// Chi-square over `cells` equally likely cells; 5 standard deviations above its mean is no accident.
void expect_uniform(const std::vector<double>& counts, double expected) {
  double chi2 = 0;
  for (const double count : counts) chi2 += (count - expected) * (count - expected) / expected;
  const double freedom = static_cast<double>(counts.size() - 1);
  EXPECT_LE(chi2, freedom + 5 * std::sqrt(2 * freedom));
}

TEST(RandomStream, BelowIsUniformAndInRange) {
  RandomStream stream(7, "below");
  for (const std::uint64_t bound : {1ull, 2ull, 7ull, 100ull}) {
    std::vector<double> counts(bound);
    for (int i = 0; i < 20'000; ++i) {
      const auto number = stream.below(bound);
      ASSERT_LT(number, bound);
      ++counts[number];
    }
    expect_uniform(counts, 20'000.0 / static_cast<double>(bound));
  }
  // A bound just above 2^63 rejects almost half of the draws: both halves must still be reached.
  const std::uint64_t large = (std::uint64_t{1} << 63) + 1;
  int upper = 0;
  for (int i = 0; i < 1'000; ++i) upper += stream.below(large) >= large / 2 ? 1 : 0;
  EXPECT_NEAR(upper, 500, 100);
}

TEST(RandomStream, UnitIsUniformInTheHalfOpenInterval) {
  RandomStream stream(7, "unit");
  std::vector<double> counts(50);
  for (int i = 0; i < 50'000; ++i) {
    const double u = stream.unit();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++counts[static_cast<std::size_t>(u * 50)];
  }
  expect_uniform(counts, 1'000);
}

TEST(RandomStream, ExponentialAndNormalHaveTheirMoments) {
  RandomStream stream(11, "moments");
  constexpr int kDraws = 100'000;
  double sum = 0;
  int above_mean = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.exponential(3.0);
    ASSERT_GE(x, 0.0);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    above_mean += x > 3.0 ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, 3.0, 0.05);
  EXPECT_NEAR(above_mean / double(kDraws), std::exp(-1.0), 0.01);

  double mean = 0;
  double square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal(5.0, 2.0);
    ASSERT_TRUE(std::isfinite(x));
    mean += x / kDraws;
    square += (x - 5.0) * (x - 5.0) / kDraws;
  }
  EXPECT_NEAR(mean, 5.0, 0.04);
  EXPECT_NEAR(std::sqrt(square), 2.0, 0.04);
  EXPECT_EQ(RandomStream(1, "n").normal(5.0, 0.0), 5.0);
}

TEST(RandomStream, WeightedFollowsTheWeightsAndNeverPicksZero) {
  RandomStream stream(13, "weighted");
  const std::vector<double> weights = {0.0, 1.0, 0.0, 3.0, 0.0};
  std::vector<int> counts(weights.size());
  for (int i = 0; i < 40'000; ++i) ++counts[stream.weighted(weights)];
  EXPECT_EQ(counts[0] + counts[2] + counts[4], 0);
  EXPECT_NEAR(counts[3] / 40'000.0, 0.75, 0.01);
  const std::vector<double> one = {2.0};
  EXPECT_EQ(stream.weighted(one), 0u);
}

TEST(RandomStreamDeathTest, RefusesImpossibleDraws) {
  RandomStream stream(1, "x");
  const std::vector<double> zero = {0.0, 0.0};
  EXPECT_DEATH(stream.below(0), "bug");
  EXPECT_DEATH(stream.weighted(zero), "bug");
  EXPECT_DEATH(stream.weighted({}), "bug");
}

}  // namespace
}  // namespace warmpath
