// Time as the core sees it: an Instant is handed in, never read.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace warmpath {

using Duration = std::chrono::nanoseconds;
using std::chrono::duration_cast;

// A point on a monotonic clock whose zero means nothing. 8 bytes.
class Instant {
 public:
  constexpr Instant() = default;
  constexpr explicit Instant(Duration since_zero) : since_zero_(since_zero) {}
  constexpr Duration since_zero() const { return since_zero_; }
  friend constexpr auto operator<=>(Instant, Instant) = default;
  friend constexpr Instant operator+(Instant a, Duration d) { return Instant(a.since_zero_ + d); }
  friend constexpr Instant operator-(Instant a, Duration d) { return Instant(a.since_zero_ - d); }
  friend constexpr Duration operator-(Instant a, Instant b) { return a.since_zero_ - b.since_zero_; }

 private:
  Duration since_zero_{0};
};

constexpr double to_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
constexpr double to_ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }
// Rounds to the nearest nanosecond; values beyond about 292 years saturate.
Duration from_seconds(double seconds);

// Where time comes from. The live clock is io's; the virtual one is sim's.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
};

}  // namespace warmpath
