// The bytes that CPython's C pickler writes at protocol 5 for the few shapes that vLLM hashes: nested tuples of str,
// bytes, int and None. Exact to the byte, frames and memo included (checked against CPython 3.11's output).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace warmpath::blocks {

// Calls must follow the tree: every tuple is opened, its items written, then closed. Thread rule: one owner.
class PickleWriter {
 public:
  using MemoIndex = std::uint32_t;

  // Appends to `out`, which must outlive the writer.
  explicit PickleWriter(std::vector<std::uint8_t>& out);

  void none();
  void integer(std::int64_t number);
  void integers(std::span<const std::uint32_t> numbers);
  MemoIndex text(std::string_view utf8);
  MemoIndex bytes(std::span<const std::uint8_t> data);
  // The same object once more (not an equal one): `index` is what its first writing returned.
  void again(MemoIndex index);
  void open_tuple(std::size_t items);   // items >= 1
  void close_tuple(std::size_t items);  // the same number
  void finish();

 private:
  void boundary();
  void opcode_bytes(const std::uint8_t* head, std::size_t head_size, std::span<const std::uint8_t> data = {});
  void begin_frame();
  void close_frame();
  MemoIndex memoize();
  void sized(std::span<const std::uint8_t> data, std::uint8_t op_short, std::uint8_t op_u32, std::uint8_t op_u64);

  std::vector<std::uint8_t>& out_;
  std::size_t frame_at_ = kNoFrame;
  MemoIndex memo_next_ = 0;
  static constexpr std::size_t kNoFrame = SIZE_MAX;
};

}  // namespace warmpath::blocks
