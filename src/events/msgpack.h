// A bounded msgpack reader and a writer: what KV events need of the format. Nothing is allocated by a claimed length.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmpath::events::msgpack {

enum class Kind : std::uint8_t { kNil, kBool, kUnsigned, kSigned, kFloat, kText, kBytes, kArray, kMap, kExt, kBroken };

// A cursor over one payload. The first structural fault (truncation, a reserved byte, a length beyond the end, too
// deep) sticks: fault() tells it and where; every later call answers nothing. A value of another kind than asked for
// is no fault: the call answers nothing and the cursor stays.
class Reader {
 public:
  Reader(std::span<const std::uint8_t> data, std::uint32_t depth_max)
      : begin_(data.data()), at_(data.data()), end_(data.data() + data.size()), depth_max_(depth_max) {}

  bool broken() const { return fault_ != nullptr; }
  const char* fault() const { return fault_; }
  std::size_t fault_position() const { return fault_position_; }
  std::size_t position() const { return static_cast<std::size_t>(at_ - begin_); }
  void seek(std::size_t position) { at_ = begin_ + position; }  // only to where the cursor has been
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  std::span<const std::uint8_t> between(std::size_t from, std::size_t to) const { return {begin_ + from, to - from}; }

  Kind peek();
  bool take_nil();
  // Any integer; a negative one as its 64 two's complement bits, told by `negative`.
  struct Integer {
    std::uint64_t bits;
    bool negative;
  };
  std::optional<Integer> take_integer();
  // An unsigned integer sent as 64 bits, which is what hashes nearly always are.
  std::optional<std::uint64_t> take_wide() {
    if (left() < 9 || *at_ != 0xcf || broken()) return std::nullopt;
    std::uint64_t bits;
    std::memcpy(&bits, at_ + 1, sizeof bits);
    at_ += 9;
    return std::endian::native == std::endian::little ? __builtin_bswap64(bits) : bits;
  }
  // Reads up to `count` unsigned integers of at most 32 bits into `out`, stops at whatever is anything else, and
  // answers how many it read: the fast way through a list of token ids.
  std::size_t take_small(std::uint32_t* out, std::size_t count);
  std::optional<double> take_number();  // integer or float
  std::optional<std::string_view> take_text();
  std::optional<std::span<const std::uint8_t>> take_bytes();
  // Number of elements (pairs for a map), which is never more than the bytes that are left can hold.
  std::optional<std::uint32_t> take_array();
  std::optional<std::uint32_t> take_map();
  // Skips one value of any kind; false on a fault.
  bool skip() { return skip(0); }

 private:
  bool skip(std::uint32_t depth);
  bool have(std::size_t bytes);
  bool break_at(const char* fault, std::size_t position);
  std::uint64_t big_endian(std::size_t bytes);  // checked by the caller
  std::optional<std::size_t> take_length(std::size_t length_bytes);

  const std::uint8_t* begin_;
  const std::uint8_t* at_;
  const std::uint8_t* end_;
  std::uint32_t depth_max_;
  const char* fault_ = nullptr;
  std::size_t fault_position_ = 0;
};

class Writer {
 public:
  void nil() { out_.push_back(0xc0); }
  void number(double value) {
    out_.push_back(0xcb);
    big_endian(std::bit_cast<std::uint64_t>(value), 8);
  }
  void integer(std::uint64_t value);
  void signed_integer(std::int64_t value);
  void text(std::string_view value);
  void bytes(std::string_view value);
  void array(std::size_t elements) { sized(elements, 0x90, 16, 0, 0xdc); }
  void map(std::size_t pairs) { sized(pairs, 0x80, 16, 0, 0xde); }
  std::vector<std::uint8_t> take() { return std::move(out_); }

 private:
  void big_endian(std::uint64_t value, std::size_t size);
  // `fix` with sizes below `fix_limit`, then op8 (0: none), op16, op16 + 1 for 32 bits.
  void sized(std::size_t size, std::uint8_t fix, std::size_t fix_limit, std::uint8_t op8, std::uint8_t op16);

  std::vector<std::uint8_t> out_;
};

}  // namespace warmpath::events::msgpack
