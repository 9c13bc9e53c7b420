#include "api/json_scan.h"

#include <simdjson.h>

#include <bit>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace warmpath::api {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// A table: texts hold one every few dozen bytes.
bool is_simple_escape(char c) {
  static constexpr auto kSimple = [] {
    std::array<bool, 256> is{};
    for (const char one : std::string_view("\"\\/bfnrt")) is[static_cast<unsigned char>(one)] = true;
    return is;
  }();
  return kSimple[static_cast<unsigned char>(c)];
}

// The four digits at `p`, or -1.
int hex_four(const char* p, const char* end) {
  if (end - p < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// Writes a character's one to four bytes; returns where they end.
char* put_utf8(char* to, std::uint32_t code) {
  const auto put = [&to](std::uint32_t byte) { *to++ = static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
  return to;
}

// Copies up to the first backslash; `to` has room for all of [p, end).
void copy_to_backslash(const char*& p, const char* end, char*& to) {
#if defined(__SSE2__)
  const __m128i backslash = _mm_set1_epi8('\\');
  while (end - p >= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, backslash)));
    const int plain = mask != 0 ? std::countr_zero(mask) : 16;
    p += plain;
    to += plain;
    if (plain != 16) return;
  }
#endif
  while (p != end && *p != '\\') *to++ = *p++;
}

// First quote, backslash or control character at or after p.
const char* string_stop(const char* p, const char* end) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i last_control = _mm_set1_epi8(0x1F);
  while (end - p >= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, last_control), last_control);
    const __m128i stop =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)), control);
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(stop));
    if (mask != 0) return p + std::countr_zero(mask);
    p += 16;
  }
#endif
  while (p != end && *p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20) ++p;
  return p;
}

}  // namespace

JsonScan::JsonScan(std::string_view text, std::size_t depth_max)
    : begin_(text.data()), p_(text.data()), end_(text.data() + text.size()), depth_max_(depth_max) {
  WP_CHECK(depth_max >= 1 && depth_max <= kDepthMax);
}

JsonScan JsonScan::within(std::string_view part) const {
  JsonScan inner({begin_, static_cast<std::size_t>(end_ - begin_)}, depth_max_);
  inner.p_ = part.data();
  inner.end_ = part.data() + part.size();
  return inner;
}

void JsonScan::adopt(const JsonScan& inner) {
  if (inner.failed() && !failed()) fail_at(inner.what_, begin_ + inner.fault_offset_);
}

void JsonScan::fail_at(const char* what, const char* at) {
  if (failed()) return;
  what_ = what;
  fault_offset_ = static_cast<std::size_t>(at - begin_);
  p_ = end_;
}

void JsonScan::white() {
  while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\t' || *p_ == '\r')) ++p_;
}

JsonScan::Kind JsonScan::peek() {
  white();
  if (p_ == end_) return Kind::kNone;
  switch (*p_) {
    case '{': return Kind::kObject;
    case '[': return Kind::kArray;
    case '"': return Kind::kString;
    case 't': return Kind::kTrue;
    case 'f': return Kind::kFalse;
    case 'n': return Kind::kNull;
    default: return *p_ == '-' || is_digit(*p_) ? Kind::kNumber : Kind::kNone;
  }
}

bool JsonScan::open(char opening, char closing) {
  white();
  if (failed()) return false;
  if (p_ == end_ || *p_ != opening) {
    fail(opening == '{' ? "expected an object" : "expected an array");
    return false;
  }
  if (depth_ == depth_max_) {
    fail("nested too deeply");
    return false;
  }
  ++p_;
  ++depth_;
  white();
  if (p_ != end_ && *p_ == closing) {
    ++p_;
    --depth_;
    return false;
  }
  return true;
}

bool JsonScan::next(char closing) {
  white();
  if (failed()) return false;
  if (p_ != end_ && *p_ == ',') {
    ++p_;
    return true;
  }
  if (p_ != end_ && *p_ == closing) {
    ++p_;
    --depth_;
    return false;
  }
  if (p_ == end_) {
    fail("ends inside a value");
  } else {
    fail(closing == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
  }
  return false;
}

std::string_view JsonScan::key() {
  white();
  std::string_view content;
  bool escaped = false;
  if (p_ == end_ || *p_ != '"') {
    fail(p_ == end_ ? "ends inside an object" : "expected a member name in quotes");
    return {};
  }
  if (!raw_string(content, escaped)) return {};
  white();
  if (p_ == end_ || *p_ != ':') {
    fail("expected ':'");
    return {};
  }
  ++p_;
  if (!escaped) return content;
  key_scratch_ = unescape_json(content);
  return key_scratch_;
}

bool JsonScan::raw_string(std::string_view& content, bool& escaped) {
  const char* const start = ++p_;
  escaped = false;
  while (true) {
    p_ = string_stop(p_, end_);
    if (p_ == end_) {
      fail("ends inside a string");
      return false;
    }
    if (*p_ == '"') break;
    if (*p_ != '\\') {
      fail("control character in a string (must be escaped)");
      return false;
    }
    escaped = true;
    if (end_ - p_ >= 2 && is_simple_escape(p_[1])) {
      p_ += 2;
      continue;
    }
    if (!escape()) return false;
  }
  content = {start, static_cast<std::size_t>(p_ - start)};
  ++p_;
  return true;
}

bool JsonScan::escape() {
  const char* const at = p_++;
  if (p_ == end_) {
    fail("ends inside a string");
    return false;
  }
  const char kind = *p_++;
  if (kind != 'u') {
    if (is_simple_escape(kind)) return true;
    fail_at("unknown escape in a string", at);
    return false;
  }
  const int unit = hex_four(p_, end_);
  if (unit < 0) {
    fail_at("\\u needs four hexadecimal digits", at);
    return false;
  }
  p_ += 4;
  if (unit < 0xD800 || unit > 0xDFFF) return true;
  const bool followed = unit < 0xDC00 && end_ - p_ >= 6 && p_[0] == '\\' && p_[1] == 'u';
  const int low = followed ? hex_four(p_ + 2, end_) : -1;
  if (low < 0xDC00 || low > 0xDFFF) {
    fail_at("lone surrogate escape (not Unicode text)", at);
    return false;
  }
  p_ += 6;
  return true;
}

void JsonScan::raw_number() {
  const char* const at = p_;
  const auto digits = [this] {
    const char* const first = p_;
    while (p_ != end_ && is_digit(*p_)) ++p_;
    return p_ != first;
  };
  if (p_ != end_ && *p_ == '-') ++p_;
  bool good = true;
  if (p_ != end_ && *p_ == '0') {
    ++p_;
  } else {
    good = digits();
  }
  if (good && p_ != end_ && *p_ == '.') {
    ++p_;
    good = digits();
  }
  if (good && p_ != end_ && (*p_ == 'e' || *p_ == 'E')) {
    ++p_;
    if (p_ != end_ && (*p_ == '+' || *p_ == '-')) ++p_;
    good = digits();
  }
  if (good && p_ != end_ && (is_digit(*p_) || *p_ == '.' || *p_ == '-' || *p_ == '+')) good = false;
  if (!good) fail_at("malformed number", at);
}

void JsonScan::literal(std::string_view word) {
  if (static_cast<std::size_t>(end_ - p_) < word.size() || std::string_view(p_, word.size()) != word) {
    fail("expected a value");
    return;
  }
  p_ += word.size();
}

void JsonScan::scalar() {
  std::string_view content;
  bool escaped = false;
  switch (peek()) {
    case Kind::kString: raw_string(content, escaped); return;
    case Kind::kNumber: raw_number(); return;
    case Kind::kTrue: literal("true"); return;
    case Kind::kFalse: literal("false"); return;
    case Kind::kNull: literal("null"); return;
    default: fail(p_ == end_ ? "ends where a value is expected" : "expected a value"); return;
  }
}

Slice JsonScan::skip() {
  white();
  const char* const start = p_;
  std::array<char, kDepthMax> closing{};
  std::size_t open_here = 0;
  do {
    const Kind kind = peek();
    bool inside = false;
    if (kind == Kind::kObject || kind == Kind::kArray) {
      const char close = kind == Kind::kObject ? '}' : ']';
      inside = open(*p_, close);
      if (inside) closing[open_here++] = close;
    } else {
      scalar();
    }
    while (!failed() && !inside && open_here != 0) {
      inside = next(closing[open_here - 1]);
      if (!inside) --open_here;
    }
    if (!failed() && inside && closing[open_here - 1] == '}') key();
  } while (!failed() && open_here != 0);
  if (failed()) return {};
  return {static_cast<std::size_t>(start - begin_), static_cast<std::size_t>(p_ - start)};
}

std::string JsonScan::string() {
  if (peek() != Kind::kString) {
    fail("expected a string");
    return {};
  }
  std::string_view content;
  bool escaped = false;
  if (!raw_string(content, escaped)) return {};
  return escaped ? unescape_json(content) : std::string(content);
}

Slice JsonScan::number() {
  if (peek() != Kind::kNumber) {
    fail("expected a number");
    return {};
  }
  const char* const start = p_;
  raw_number();
  if (failed()) return {};
  return {static_cast<std::size_t>(start - begin_), static_cast<std::size_t>(p_ - start)};
}

std::optional<bool> JsonScan::boolean() {
  const Kind kind = peek();
  if (kind != Kind::kTrue && kind != Kind::kFalse) {
    fail("expected true or false");
    return std::nullopt;
  }
  scalar();
  if (failed()) return std::nullopt;
  return kind == Kind::kTrue;
}

void JsonScan::finish() {
  white();
  if (!failed() && p_ != end_) fail("something follows the JSON value");
}

std::string unescape_json(std::string_view content) {
  // No escape is shorter than what it stands for.
  std::string out(content.size(), '\0');
  char* to = out.data();
  const char* p = content.data();
  const char* const end = p + content.size();
  while (true) {
    copy_to_backslash(p, end, to);
    if (p == end) break;
    const char kind = p[1];
    p += 2;
    switch (kind) {
      case 'b': *to++ = '\b'; break;
      case 'f': *to++ = '\f'; break;
      case 'n': *to++ = '\n'; break;
      case 'r': *to++ = '\r'; break;
      case 't': *to++ = '\t'; break;
      case 'u': {
        auto code = static_cast<std::uint32_t>(hex_four(p, end));
        p += 4;
        if (code >= 0xD800 && code < 0xDC00) {
          code = 0x10000 + ((code - 0xD800) << 10) + (static_cast<std::uint32_t>(hex_four(p + 2, end)) - 0xDC00);
          p += 6;
        }
        to = put_utf8(to, code);
        break;
      }
      default: *to++ = kind; break;
    }
  }
  out.resize(static_cast<std::size_t>(to - out.data()));
  return out;
}

std::optional<std::size_t> first_bad_utf8(std::string_view text) {
  if (simdjson::validate_utf8(text.data(), text.size())) return std::nullopt;
  std::size_t i = 0;
  while (i < text.size()) {
    const auto byte = [&](std::size_t at) -> unsigned {
      return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
    };
    const auto tail = [&](std::size_t at) { return (byte(at) & 0xC0) == 0x80; };
    const unsigned lead = byte(i);
    std::size_t length = 0;
    if (lead < 0x80) {
      length = 1;
    } else if (lead >= 0xC2 && lead <= 0xDF && tail(i + 1)) {
      length = 2;
    } else if ((lead & 0xF0) == 0xE0 && tail(i + 1) && tail(i + 2)) {
      const bool overlong = lead == 0xE0 && byte(i + 1) < 0xA0;
      const bool surrogate = lead == 0xED && byte(i + 1) >= 0xA0;
      if (!overlong && !surrogate) length = 3;
    } else if (lead >= 0xF0 && lead <= 0xF4 && tail(i + 1) && tail(i + 2) && tail(i + 3)) {
      const bool overlong = lead == 0xF0 && byte(i + 1) < 0x90;
      const bool beyond = lead == 0xF4 && byte(i + 1) >= 0x90;
      if (!overlong && !beyond) length = 4;
    }
    if (length == 0) return i;
    i += length;
  }
  return text.size();
}

}  // namespace warmpath::api
