// Named random streams: the same seed and name give the same numbers on every machine and compiler.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace warmpath {

// xoshiro256** seeded by splitmix64 over (seed, name). Own distributions: std's differ between libraries.
// Thread rule: one owner.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view name);

  std::uint64_t next();                     // 64 uniform bits
  std::uint64_t below(std::uint64_t bound);  // uniform in [0, bound), unbiased; bound >= 1
  double unit();                            // uniform in [0, 1), 53 bits
  double exponential(double mean);          // mean > 0
  double normal(double mean, double deviation);
  // Index drawn in proportion to weights (>= 0, sum > 0).
  std::size_t weighted(std::span<const double> weights);

 private:
  std::array<std::uint64_t, 4> state_{};
};

// FNV-1a folded through splitmix64: a stable 64-bit number for a name. Not for hostile input.
std::uint64_t stable_hash(std::string_view text);

}  // namespace warmpath
