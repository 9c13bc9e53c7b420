#include "events/msgpack.h"

#include <array>

#include "base/check.h"
#include "events/small_integers.h"

namespace warmpath::events::msgpack {
namespace {

constexpr std::array<Kind, 32> kKindsFromC0 = {
    Kind::kNil,      Kind::kBroken,   Kind::kBool,     Kind::kBool,      // c0 c1 c2 c3
    Kind::kBytes,    Kind::kBytes,    Kind::kBytes,    Kind::kExt,       // c4..c6 bin, c7..c9 ext
    Kind::kExt,      Kind::kExt,      Kind::kFloat,    Kind::kFloat,     // ca cb
    Kind::kUnsigned, Kind::kUnsigned, Kind::kUnsigned, Kind::kUnsigned,  // cc..cf
    Kind::kSigned,   Kind::kSigned,   Kind::kSigned,   Kind::kSigned,    // d0..d3
    Kind::kExt,      Kind::kExt,      Kind::kExt,      Kind::kExt,       // d4..d8 fixext
    Kind::kExt,      Kind::kText,     Kind::kText,     Kind::kText,      // d9..db
    Kind::kArray,    Kind::kArray,    Kind::kMap,      Kind::kMap,       // dc dd de df
};

Kind kind_of(std::uint8_t head) {
  if (head < 0x80) return Kind::kUnsigned;
  if (head < 0x90) return Kind::kMap;
  if (head < 0xa0) return Kind::kArray;
  if (head < 0xc0) return Kind::kText;
  if (head < 0xe0) return kKindsFromC0[head - 0xc0];
  return Kind::kSigned;
}

}  // namespace

bool Reader::break_at(const char* fault, std::size_t position) {
  if (fault_ == nullptr) {
    fault_ = fault;
    fault_position_ = position;
  }
  return false;
}

bool Reader::have(std::size_t bytes) {
  if (fault_ != nullptr) return false;
  return left() >= bytes || break_at("ends in the middle of a value", position());
}

std::uint64_t Reader::big_endian(std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | at_[i];
  return value;
}

Kind Reader::peek() {
  if (!have(1)) return Kind::kBroken;
  const Kind kind = kind_of(*at_);
  if (kind == Kind::kBroken) break_at("holds the reserved byte 0xc1", position());
  return kind;
}

bool Reader::take_nil() {
  if (peek() != Kind::kNil) return false;
  ++at_;
  return true;
}

std::optional<Reader::Integer> Reader::take_integer() {
  if (!have(1)) return std::nullopt;
  const std::uint8_t head = *at_;
  if (head < 0x80) {
    ++at_;
    return Integer{head, false};
  }
  if (head >= 0xe0) {
    ++at_;
    return Integer{static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int8_t>(head))), true};
  }
  if (head < 0xcc || head > 0xd3) return std::nullopt;
  const bool is_signed = head >= 0xd0;
  const std::size_t size = std::size_t{1} << (head & 3);
  if (!have(1 + size)) return std::nullopt;
  ++at_;
  std::uint64_t bits = big_endian(size);
  at_ += size;
  const std::uint64_t sign = std::uint64_t{1} << (8 * size - 1);
  const bool negative = is_signed && (bits & sign) != 0;
  if (negative && size < 8) bits |= ~std::uint64_t{0} << (8 * size);
  return Integer{bits, negative};
}

std::size_t Reader::take_small(std::uint32_t* out, std::size_t count) {
  if (fault_ != nullptr) return 0;
  const SmallRun run = decode_small(at_, end_, out, count);
  at_ = run.at;
  return run.taken;
}

std::optional<double> Reader::take_number() {
  const Kind kind = peek();
  if (kind == Kind::kUnsigned || kind == Kind::kSigned) {
    const auto integer = take_integer();
    if (!integer) return std::nullopt;
    return integer->negative ? static_cast<double>(static_cast<std::int64_t>(integer->bits))
                             : static_cast<double>(integer->bits);
  }
  if (kind != Kind::kFloat) return std::nullopt;
  const std::size_t size = *at_ == 0xca ? 4 : 8;
  if (!have(1 + size)) return std::nullopt;
  ++at_;
  const std::uint64_t bits = big_endian(size);
  at_ += size;
  if (size == 4) return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  return std::bit_cast<double>(bits);
}

// A length of `length_bytes` bytes behind the head; the cursor ends behind it.
std::optional<std::size_t> Reader::take_length(std::size_t length_bytes) {
  if (!have(1 + length_bytes)) return std::nullopt;
  ++at_;
  const std::uint64_t length = big_endian(length_bytes);
  at_ += length_bytes;
  return static_cast<std::size_t>(length);
}

std::optional<std::string_view> Reader::take_text() {
  if (peek() != Kind::kText) return std::nullopt;
  const std::size_t start = position();
  std::optional<std::size_t> length;
  if (*at_ < 0xc0) {
    length = *at_++ & 0x1fu;
  } else {
    length = take_length(std::size_t{1} << (*at_ - 0xd9));
  }
  if (!length) return std::nullopt;
  if (*length > left()) {
    break_at("claims a text longer than what is left", start);
    return std::nullopt;
  }
  const std::string_view text(reinterpret_cast<const char*>(at_), *length);
  at_ += *length;
  return text;
}

std::optional<std::span<const std::uint8_t>> Reader::take_bytes() {
  if (peek() != Kind::kBytes) return std::nullopt;
  const std::size_t start = position();
  const auto length = take_length(std::size_t{1} << (*at_ - 0xc4));
  if (!length) return std::nullopt;
  if (*length > left()) {
    break_at("claims more bytes than what is left", start);
    return std::nullopt;
  }
  const std::span<const std::uint8_t> bytes(at_, *length);
  at_ += *length;
  return bytes;
}

std::optional<std::uint32_t> Reader::take_array() {
  if (peek() != Kind::kArray) return std::nullopt;
  const std::size_t start = position();
  const auto count = *at_ < 0xc0 ? std::optional<std::size_t>(*at_++ & 0x0fu) : take_length(*at_ == 0xdc ? 2 : 4);
  if (!count) return std::nullopt;
  if (*count > left()) {
    break_at("claims an array longer than what is left", start);
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(*count);
}

std::optional<std::uint32_t> Reader::take_map() {
  if (peek() != Kind::kMap) return std::nullopt;
  const std::size_t start = position();
  const auto count = *at_ < 0xc0 ? std::optional<std::size_t>(*at_++ & 0x0fu) : take_length(*at_ == 0xde ? 2 : 4);
  if (!count) return std::nullopt;
  if (*count > left() / 2) {
    break_at("claims a map longer than what is left", start);
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(*count);
}

bool Reader::skip(std::uint32_t depth) {
  const std::size_t start = position();
  switch (peek()) {
    case Kind::kBroken: return false;
    case Kind::kNil:
    case Kind::kBool: ++at_; return true;
    case Kind::kUnsigned:
    case Kind::kSigned: return take_integer().has_value();
    case Kind::kFloat: return take_number().has_value();
    case Kind::kText: return take_text().has_value();
    case Kind::kBytes: return take_bytes().has_value();
    case Kind::kExt: {
      // d4..d8: 1, 2, 4, 8, 16 bytes; c7..c9: a length of 1, 2, 4 bytes. The type byte stands before the content.
      const std::uint8_t head = *at_;
      std::optional<std::size_t> length;
      if (head >= 0xd4) {
        length = std::size_t{1} << (head - 0xd4);
        ++at_;
      } else {
        length = take_length(std::size_t{1} << (head - 0xc7));
      }
      if (!length) return false;
      if (*length >= left()) return break_at("claims an extension longer than what is left", start);
      at_ += *length + 1;
      return true;
    }
    case Kind::kArray:
    case Kind::kMap: {
      if (depth >= depth_max_) return break_at("is nested too deep", start);
      const bool is_map = peek() == Kind::kMap;
      const auto count = is_map ? take_map() : take_array();
      if (!count) return false;
      const std::uint64_t values = std::uint64_t{*count} * (is_map ? 2 : 1);
      for (std::uint64_t i = 0; i < values; ++i) {
        if (!skip(depth + 1)) return false;
      }
      return true;
    }
  }
  return false;
}

void Writer::big_endian(std::uint64_t value, std::size_t size) {
  for (std::size_t i = size; i-- > 0;) out_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void Writer::integer(std::uint64_t value) {
  if (value < 0x80) {
    out_.push_back(static_cast<std::uint8_t>(value));
    return;
  }
  const std::uint8_t log = value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffffu ? 2 : 3;
  out_.push_back(static_cast<std::uint8_t>(0xcc + log));
  big_endian(value, std::size_t{1} << log);
}

void Writer::signed_integer(std::int64_t value) {
  if (value >= 0) return integer(static_cast<std::uint64_t>(value));
  const auto bits = static_cast<std::uint64_t>(value);
  if (value >= -32) {
    out_.push_back(static_cast<std::uint8_t>(bits));
    return;
  }
  const std::uint8_t log = value >= INT8_MIN ? 0 : value >= INT16_MIN ? 1 : value >= INT32_MIN ? 2 : 3;
  out_.push_back(static_cast<std::uint8_t>(0xd0 + log));
  big_endian(bits, std::size_t{1} << log);
}

void Writer::sized(std::size_t size, std::uint8_t fix, std::size_t fix_limit, std::uint8_t op8, std::uint8_t op16) {
  WP_CHECK(size <= 0xffffffffu);
  if (size < fix_limit) {
    out_.push_back(static_cast<std::uint8_t>(fix | size));
  } else if (op8 != 0 && size <= 0xff) {
    out_.push_back(op8);
    big_endian(size, 1);
  } else if (size <= 0xffff) {
    out_.push_back(op16);
    big_endian(size, 2);
  } else {
    out_.push_back(static_cast<std::uint8_t>(op16 + 1));
    big_endian(size, 4);
  }
}

void Writer::text(std::string_view value) {
  sized(value.size(), 0xa0, 32, 0xd9, 0xda);
  out_.insert(out_.end(), value.begin(), value.end());
}

void Writer::bytes(std::string_view value) {
  sized(value.size(), 0, 0, 0xc4, 0xc5);
  out_.insert(out_.end(), value.begin(), value.end());
}

}  // namespace warmpath::events::msgpack
