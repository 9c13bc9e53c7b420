#include <array>
#include <cmath>

#include "config/flags.h"

namespace warmpath::config {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array kTimes = {Unit{"ms", 1'000'000}, Unit{"us", 1'000}, Unit{"s", 1'000'000'000},
                               Unit{"m", 60'000'000'000}, Unit{"h", 3'600'000'000'000}};
constexpr std::array kSizes = {Unit{"KiB", 1u << 10}, Unit{"MiB", 1u << 20}, Unit{"GiB", 1u << 30}};
constexpr double kDaysMax = 366;

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  const Error error{ErrorKind::kInvalid,
                    "takes a time such as 500ms, 30s, 2m or 1h, at most 366 days, not '" + std::string(text) + "'"};
  if (text == "0") return Duration{0};
  for (const Unit& unit : kTimes) {
    if (!text.ends_with(unit.name)) continue;
    const std::string_view digits = text.substr(0, text.size() - unit.name.size());
    if (digits.empty() || digits.find_first_not_of("0123456789.") != std::string_view::npos) return error;
    const auto number = parse_double(digits);
    if (!number) return error;
    const double ns = *number * static_cast<double>(unit.factor);
    if (ns > kDaysMax * 24 * 3.6e12) return error;
    return Duration{std::llround(ns)};
  }
  return error;
}

std::string duration_text(Duration duration) {
  const auto ns = static_cast<std::uint64_t>(duration.count());
  if (ns == 0) return "0";
  constexpr std::array kDown = {Unit{"h", 3'600'000'000'000}, Unit{"m", 60'000'000'000}, Unit{"s", 1'000'000'000},
                                Unit{"ms", 1'000'000}, Unit{"us", 1'000}};
  for (const Unit& unit : kDown) {
    if (ns % unit.factor == 0) return std::to_string(ns / unit.factor) + std::string(unit.name);
  }
  JsonWriter w;
  w.value(static_cast<double>(ns) / 1'000.0);
  return w.take() + "us";
}

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t factor = 1;
  std::string_view digits = text;
  for (const Unit& unit : kSizes) {
    if (!text.ends_with(unit.name)) continue;
    factor = unit.factor;
    digits.remove_suffix(unit.name.size());
  }
  const auto number = parse_u64(digits);
  if (!number || *number > (std::uint64_t{1} << 62) / factor) {
    return Error{ErrorKind::kInvalid, "takes bytes such as 65536, 64KiB or 16MiB, not '" + std::string(text) + "'"};
  }
  return *number * factor;
}

std::string size_text(std::uint64_t bytes) {
  for (std::size_t i = kSizes.size(); i > 0; --i) {
    const Unit& unit = kSizes[i - 1];
    if (bytes != 0 && bytes % unit.factor == 0) return std::to_string(bytes / unit.factor) + std::string(unit.name);
  }
  return std::to_string(bytes);
}

}  // namespace warmpath::config
