// Little-endian numbers in and out of bytes, bounded. Private to index.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace warmpath::index {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie in memory");

template <class T>
void put(std::string& out, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
// Behind its length in 32 bits.
inline void put_text(std::string& out, std::string_view text) {
  put(out, static_cast<std::uint32_t>(text.size()));
  out.append(text);
}

// Where too little is left, what is read is 0 or empty and ok() says false from there on.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : left_(bytes) {}

  template <class T>
  T get() {
    T value{};
    if (const std::string_view bytes = take(sizeof value); !bytes.empty()) {
      std::memcpy(&value, bytes.data(), sizeof value);
    }
    return value;
  }
  // `count` items of `size` bytes each; size > 0.
  std::string_view take(std::uint64_t count, std::size_t size = 1) {
    if (!ok_ || count > left_.size() / size) {
      ok_ = false;
      return {};
    }
    const std::string_view bytes = left_.substr(0, count * size);
    left_.remove_prefix(bytes.size());
    return bytes;
  }
  std::string_view text(std::size_t bytes_max) {
    const auto size = get<std::uint32_t>();
    if (size > bytes_max) ok_ = false;
    return take(size);
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && left_.empty(); }
  std::size_t left() const { return left_.size(); }

 private:
  std::string_view left_;
  bool ok_ = true;
};

// The i-th of numbers that lie one behind the other, aligned or not.
template <class T>
T number_at(std::string_view bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
  return value;
}

}  // namespace warmpath::index
