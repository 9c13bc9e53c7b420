// Text helpers without locale: hex, numbers, splitting, human sizes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmpath {

std::string to_hex(std::span<const std::uint8_t> bytes);  // lower case
// nullopt on an odd length or a character outside [0-9a-fA-F].
std::optional<std::vector<std::uint8_t>> from_hex(std::string_view text);

// The whole text must be the number: no sign for the unsigned ones, no spaces; nullopt otherwise.
std::optional<std::uint64_t> parse_u64(std::string_view text);
std::optional<std::int64_t> parse_i64(std::string_view text);
std::optional<double> parse_double(std::string_view text);  // finite only

std::vector<std::string_view> split(std::string_view text, char separator);  // "" gives one empty part
std::string_view trim(std::string_view text);                               // ASCII white space
bool equals_ignoring_case(std::string_view a, std::string_view b);          // ASCII
std::string to_lower(std::string_view text);                                // ASCII

// The candidate nearest to `name` by edit distance, if within a third of its length: for "did you mean".
std::optional<std::string_view> nearest_name(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace warmpath
