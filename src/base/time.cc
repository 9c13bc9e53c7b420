#include "base/time.h"

#include <cmath>
#include <limits>

namespace warmpath {

Duration from_seconds(double seconds) {
  const double ns = seconds * 1e9;
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  if (std::isnan(ns)) return Duration{0};
  if (ns >= static_cast<double>(kMax)) return Duration{kMax};
  if (ns <= -static_cast<double>(kMax)) return Duration{-kMax};
  return Duration{std::llround(ns)};
}

}  // namespace warmpath
