#include "blocks/pickle.h"

#include <cstring>
#include <initializer_list>
#include <limits>

#include "base/check.h"

namespace warmpath::blocks {
namespace {

// Names and values of the pickle protocol's opcodes.
enum Op : std::uint8_t {
  kProto = 0x80,
  kFrame = 0x95,
  kNone = 'N',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kBinUnicode = 'X',
  kBinUnicode8 = 0x8d,
  kShortBinBytes = 'C',
  kBinBytes = 'B',
  kBinBytes8 = 0x8e,
  kMemoize = 0x94,
  kBinGet = 'h',
  kLongBinGet = 'j',
  kMark = '(',
  kTuple = 't',
  kTuple1 = 0x85,
  kStop = '.',
};

constexpr std::size_t kFrameHeadBytes = 9;
constexpr std::size_t kFrameBytesMin = 4;            // shorter frames are written without their header
constexpr std::size_t kFrameBytesTarget = 64 * 1024;  // a frame ends at the first opcode boundary beyond it

void put_le(std::uint8_t* out, std::uint64_t number, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::uint8_t>(number >> (8 * i));
}

}  // namespace

PickleWriter::PickleWriter(std::vector<std::uint8_t>& out) : out_(out) {
  out_.push_back(kProto);
  out_.push_back(5);
}

void PickleWriter::begin_frame() {
  if (frame_at_ != kNoFrame) return;
  frame_at_ = out_.size();
  out_.resize(out_.size() + kFrameHeadBytes);
}

void PickleWriter::close_frame() {
  if (frame_at_ == kNoFrame) return;
  const std::size_t length = out_.size() - frame_at_ - kFrameHeadBytes;
  if (length >= kFrameBytesMin) {
    out_[frame_at_] = kFrame;
    put_le(&out_[frame_at_ + 1], length, 8);
  } else {
    const auto frame = out_.begin() + static_cast<std::ptrdiff_t>(frame_at_);
    out_.erase(frame, frame + kFrameHeadBytes);
  }
  frame_at_ = kNoFrame;
}

void PickleWriter::boundary() {
  if (frame_at_ != kNoFrame && out_.size() - frame_at_ - kFrameHeadBytes >= kFrameBytesTarget) close_frame();
}

void PickleWriter::opcode_bytes(const std::uint8_t* head, std::size_t head_size, std::span<const std::uint8_t> data) {
  begin_frame();
  out_.insert(out_.end(), head, head + head_size);
  out_.insert(out_.end(), data.begin(), data.end());
}

PickleWriter::MemoIndex PickleWriter::memoize() {
  const std::uint8_t op = kMemoize;
  opcode_bytes(&op, 1);
  return memo_next_++;
}

void PickleWriter::none() {
  boundary();
  const std::uint8_t op = kNone;
  opcode_bytes(&op, 1);
}

void PickleWriter::integer(std::int64_t number) {
  boundary();
  std::uint8_t code[10];
  if (number >= 0 && number < 0x100) {
    code[0] = kBinInt1;
    code[1] = static_cast<std::uint8_t>(number);
    opcode_bytes(code, 2);
  } else if (number >= 0 && number < 0x10000) {
    code[0] = kBinInt2;
    put_le(code + 1, static_cast<std::uint64_t>(number), 2);
    opcode_bytes(code, 3);
  } else if (number >= std::numeric_limits<std::int32_t>::min() && number <= std::numeric_limits<std::int32_t>::max()) {
    code[0] = kBinInt;
    put_le(code + 1, static_cast<std::uint64_t>(number), 4);
    opcode_bytes(code, 5);
  } else {
    // Two's complement, little-endian, as few bytes as keep the sign.
    std::size_t size = 8;
    while (size > 1) {
      const std::int64_t top = number >> (8 * (size - 1) - 1);  // the sign bit that would remain, and all above
      if (top != 0 && top != -1) break;
      --size;
    }
    code[0] = kLong1;
    code[1] = static_cast<std::uint8_t>(size);
    put_le(code + 2, static_cast<std::uint64_t>(number), size);
    opcode_bytes(code, 2 + size);
  }
}

void PickleWriter::integers(std::span<const std::uint32_t> numbers) {
  constexpr std::size_t kLongest = 7;
  const std::size_t used = frame_at_ == kNoFrame ? 0 : out_.size() - frame_at_;
  if (used + numbers.size() * kLongest >= kFrameBytesTarget) {
    for (const std::uint32_t number : numbers) integer(number);
    return;
  }
  // No frame can end in here: write without looking for its end.
  begin_frame();
  const std::size_t start = out_.size();
  out_.resize(start + numbers.size() * kLongest);
  std::uint8_t* at = out_.data() + start;
  for (const std::uint32_t number : numbers) {
    if (number < 0x100) {
      *at++ = kBinInt1;
      *at++ = static_cast<std::uint8_t>(number);
    } else if (number < 0x10000) {
      *at++ = kBinInt2;
      put_le(at, number, 2);
      at += 2;
    } else if (number < 0x80000000u) {
      *at++ = kBinInt;
      put_le(at, number, 4);
      at += 4;
    } else {
      *at++ = kLong1;
      *at++ = 5;
      put_le(at, number, 5);
      at += 5;
    }
  }
  out_.resize(static_cast<std::size_t>(at - out_.data()));
}

void PickleWriter::sized(std::span<const std::uint8_t> data, std::uint8_t op_short, std::uint8_t op_u32,
                         std::uint8_t op_u64) {
  std::uint8_t head[9];
  std::size_t head_size = 0;
  if (data.size() <= 0xff) {
    head[0] = op_short;
    head_size = 2;
  } else if (data.size() <= 0xffffffffu) {
    head[0] = op_u32;
    head_size = 5;
  } else {
    head[0] = op_u64;
    head_size = 9;
  }
  put_le(head + 1, data.size(), head_size - 1);
  if (data.size() >= kFrameBytesTarget) {
    // Large payloads stand outside any frame.
    close_frame();
    out_.insert(out_.end(), head, head + head_size);
    out_.insert(out_.end(), data.begin(), data.end());
  } else {
    opcode_bytes(head, head_size, data);
  }
}

PickleWriter::MemoIndex PickleWriter::text(std::string_view utf8) {
  boundary();
  sized({reinterpret_cast<const std::uint8_t*>(utf8.data()), utf8.size()}, kShortBinUnicode, kBinUnicode,
        kBinUnicode8);
  return memoize();
}

PickleWriter::MemoIndex PickleWriter::bytes(std::span<const std::uint8_t> data) {
  boundary();
  sized(data, kShortBinBytes, kBinBytes, kBinBytes8);
  return memoize();
}

void PickleWriter::again(MemoIndex index) {
  boundary();
  std::uint8_t code[5];
  if (index < 0x100) {
    code[0] = kBinGet;
    code[1] = static_cast<std::uint8_t>(index);
    opcode_bytes(code, 2);
  } else {
    code[0] = kLongBinGet;
    put_le(code + 1, index, 4);
    opcode_bytes(code, 5);
  }
}

void PickleWriter::open_tuple(std::size_t items) {
  WP_CHECK(items >= 1);
  boundary();
  if (items <= 3) return;
  const std::uint8_t op = kMark;
  opcode_bytes(&op, 1);
}

void PickleWriter::close_tuple(std::size_t items) {
  const std::uint8_t op = items <= 3 ? static_cast<std::uint8_t>(kTuple1 + items - 1) : std::uint8_t{kTuple};
  opcode_bytes(&op, 1);
  memoize();
}

void PickleWriter::finish() {
  const std::uint8_t op = kStop;
  opcode_bytes(&op, 1);
  close_frame();
}

}  // namespace warmpath::blocks
