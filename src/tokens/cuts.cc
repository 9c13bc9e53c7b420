#include "tokens/cuts.h"

#include <array>
#include <cstdint>

namespace warmpath::tokens {
namespace {

constexpr bool is_between(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

constexpr auto kAsciiLeft = [] {
  std::array<bool, 256> is{};
  for (char c = '0'; c <= '9'; ++c) is[static_cast<unsigned char>(c)] = true;
  for (char c = 'A'; c <= 'Z'; ++c) is[static_cast<unsigned char>(c)] = true;
  for (char c = 'a'; c <= 'z'; ++c) is[static_cast<unsigned char>(c)] = true;
  return is;
}();

bool is_ascii_right(unsigned char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

bool is_continuation(unsigned char c) { return (c & 0xC0) == 0x80; }

// The character of two or three bytes that ends right before `at`; 0 when there is none that is whole.
char32_t character_before(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t back) { return static_cast<unsigned char>(text[at - back]); };
  if (at >= 3 && (byte(3) & 0xF0) == 0xE0 && is_continuation(byte(2)) && is_continuation(byte(1))) {
    return (char32_t{byte(3)} & 0x0F) << 12 | (char32_t{byte(2)} & 0x3F) << 6 | (char32_t{byte(1)} & 0x3F);
  }
  if (at >= 2 && (byte(2) & 0xE0) == 0xC0 && is_continuation(byte(1))) {
    return (char32_t{byte(2)} & 0x1F) << 6 | (char32_t{byte(1)} & 0x3F);
  }
  return 0;
}

bool is_stop_at(std::string_view text, std::size_t at) {
  const std::string_view rest = text.substr(at, 3);
  return rest == "\u3001" || rest == "\u3002" || rest == "\uff0c";
}

}  // namespace

bool is_cut_left(char32_t c) {
  if (c < 0x80) return kAsciiLeft[static_cast<std::size_t>(c)];
  return is_between(c, 0xC0, 0xD6) || is_between(c, 0xD8, 0xF6) || is_between(c, 0xF8, 0xFF) ||
         is_between(c, 0x410, 0x44F) || is_between(c, 0x3041, 0x3096) || is_between(c, 0x30A1, 0x30FA) ||
         is_between(c, 0x4E00, 0x9FA5) || is_between(c, 0xAC00, 0xD7A3);
}

bool is_cut_right(char32_t c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == 0x3001 || c == 0x3002 || c == 0xFF0C;
}

bool is_cut(std::string_view text, std::size_t at) {
  if (at == 0 || at >= text.size()) return false;
  const auto right = static_cast<unsigned char>(text[at]);
  if (!is_ascii_right(right) && (right < 0xE3 || !is_stop_at(text, at))) return false;
  const auto left = static_cast<unsigned char>(text[at - 1]);
  if (left < 0x80) return kAsciiLeft[left];
  const char32_t c = character_before(text, at);
  return c >= 0x80 && is_cut_left(c);
}

}  // namespace warmpath::tokens
