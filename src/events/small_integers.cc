#include "events/small_integers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace warmpath::events::msgpack {
namespace {

constexpr std::size_t kWidthMax = 5;
constexpr std::uint8_t kNone = 0;  // the width of what is no small integer

// By a value's first byte: how many bytes it takes.
constexpr std::array<std::uint8_t, 256> kWidths = [] {
  std::array<std::uint8_t, 256> widths{};
  for (std::size_t head = 0; head < 0x80; ++head) widths[head] = 1;
  widths[0xcc] = 2;
  widths[0xcd] = 3;
  widths[0xce] = kWidthMax;
  return widths;
}();
constexpr std::uint32_t kMasks[kWidthMax + 1] = {0, 0x7f, 0xff, 0xffff, 0, 0xffffffff};

std::uint64_t word_at(const std::uint8_t* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

std::uint32_t value_of(std::uint64_t word, std::size_t width) {
  return static_cast<std::uint32_t>(__builtin_bswap64(word) >> (64 - 8 * width)) & kMasks[width];
}

// Two at a time out of one word: both widths are in it. Leaves what is near the end, or no small integer.
SmallRun decode_pairs(const std::uint8_t* at, const std::uint8_t* end, std::uint32_t* out, std::size_t count) {
  constexpr std::size_t kReach = kWidthMax + sizeof(std::uint64_t);
  std::size_t taken = 0;
  while (count - taken >= 2 && static_cast<std::size_t>(end - at) >= kReach) {
    const std::uint64_t word = word_at(at);
    const std::size_t first = kWidths[word & 0xff];
    const std::size_t second = kWidths[word >> (8 * first) & 0xff];
    if (first == kNone || second == kNone) break;
    out[taken] = value_of(word, first);
    out[taken + 1] = value_of(word_at(at + first), second);
    at += first + second;
    taken += 2;
  }
  return {at, taken};
}

#if defined(__x86_64__)

constexpr std::size_t kLanes = 32;
constexpr std::size_t kWindowMax = 512;  // bytes in which values begin
constexpr std::size_t kBehind = kLanes;  // of which widths are wanted too, and values end there
constexpr std::uint8_t kNoWidth = 0x80;
constexpr std::size_t kPairMax = 2 * kWidthMax;

// By the widths of a value and of it and the next: which bytes go where.
struct Shuffle {
  std::uint8_t from[16];
};
constexpr std::array<Shuffle, (kWidthMax + 1) * (kPairMax + 1)> kShuffles = [] {
  std::array<Shuffle, (kWidthMax + 1) * (kPairMax + 1)> out{};
  constexpr std::size_t kSizes[] = {1, 2, 3, 5};
  for (Shuffle& shuffle : out) {
    for (std::uint8_t& from : shuffle.from) from = 0x80;  // zero
  }
  for (const std::size_t first : kSizes) {
    for (const std::size_t second : kSizes) {
      Shuffle& shuffle = out[first * (kPairMax + 1) + first + second];
      const auto place = [&shuffle](std::size_t lane, std::size_t begin, std::size_t width) {
        for (std::size_t i = 0; i < std::max<std::size_t>(width - 1, 1); ++i) {
          shuffle.from[4 * lane + i] = static_cast<std::uint8_t>(begin + width - 1 - i);
        }
      };
      place(0, 0, first);
      place(1, first, second);
    }
  }
  return out;
}();

// Ids of a vocabulary take two widths at random, so that a branch on the width is mispredicted every other time, and
// without one each id waits for the width of the id before. So the width that *would* begin at each byte is computed
// for many bytes at once, and of it and the next together; a walk over those finds the real ones, two at a time.
#define WARMPATH_AVX2 __attribute__((target("avx2"), always_inline)) inline

WARMPATH_AVX2 __m256i load(const std::uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
WARMPATH_AVX2 void store(std::uint8_t* to, __m256i bytes) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), bytes); }
WARMPATH_AVX2 __m256i all(std::size_t byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
WARMPATH_AVX2 __m256i where(__m256i condition, std::size_t byte) { return _mm256_and_si256(condition, all(byte)); }

// What a value that begins at each byte would take; kNoWidth for what is no small integer.
WARMPATH_AVX2 __m256i widths_of(__m256i heads) {
  const __m256i one = where(_mm256_cmpgt_epi8(heads, all(0xff)), 1);
  const __m256i two = where(_mm256_cmpeq_epi8(heads, all(0xcc)), 2);
  const __m256i three = where(_mm256_cmpeq_epi8(heads, all(0xcd)), 3);
  const __m256i five = where(_mm256_cmpeq_epi8(heads, all(0xce)), 5);
  const __m256i some = _mm256_or_si256(_mm256_or_si256(one, two), _mm256_or_si256(three, five));
  return _mm256_or_si256(some, where(_mm256_cmpeq_epi8(some, _mm256_setzero_si256()), kNoWidth));
}

WARMPATH_AVX2 __m256i pair_after(__m256i first, const std::uint8_t* widths, std::size_t width) {
  const __m256i pair = _mm256_add_epi8(load(widths + width), all(width));
  return _mm256_and_si256(_mm256_cmpeq_epi8(first, all(width)), pair);
}

// The width of a value and the next together. Of a second value that is none the high bit stays, of a first one that is
// none nothing at all.
WARMPATH_AVX2 __m256i pairs_of(const std::uint8_t* widths) {
  const __m256i first = load(widths);
  return _mm256_or_si256(_mm256_or_si256(pair_after(first, widths, 1), pair_after(first, widths, 2)),
                         _mm256_or_si256(pair_after(first, widths, 3), pair_after(first, widths, 5)));
}

// `window` bytes (a multiple of kLanes) in which values begin.
__attribute__((target("avx2"))) SmallRun decode_window(const std::uint8_t* at, std::size_t window, std::uint32_t* out,
                                                       std::size_t count) {
  alignas(kLanes) std::uint8_t widths[kWindowMax + kLanes];
  alignas(kLanes) std::uint8_t pairs[kWindowMax];
  for (std::size_t i = 0; i < window + kLanes; i += kLanes) {
    store(widths + i, widths_of(load(at + i)));
  }
  for (std::size_t i = 0; i < window; i += kLanes) {
    store(pairs + i, pairs_of(widths + i));
  }
  std::size_t position = 0;
  std::size_t taken = 0;
  while (position < window && taken + 2 <= count) {
    const std::size_t pair = pairs[position];
    if (pair - 1 >= kPairMax) break;
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + position));
    const std::size_t shuffle = widths[position] * (kPairMax + 1) + pair;
    const __m128i from = _mm_loadu_si128(reinterpret_cast<const __m128i*>(&kShuffles[shuffle]));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + taken), _mm_shuffle_epi8(bytes, from));
    taken += 2;
    position += pair;
  }
  return {at + position, taken};
}

SmallRun decode_windows(const std::uint8_t* at, const std::uint8_t* end, std::uint32_t* out, std::size_t count) {
  std::size_t taken = 0;
  while (count - taken >= 2) {
    const auto left = static_cast<std::size_t>(end - at);
    if (left < kLanes + kBehind) break;
    const std::size_t wanted = ((count - taken) * kWidthMax + kLanes - 1) / kLanes * kLanes;
    const std::size_t window = std::min({wanted, (left - kBehind) / kLanes * kLanes, kWindowMax});
    const SmallRun run = decode_window(at, window, out + taken, count - taken);
    taken += run.taken;
    const bool whole = run.at >= at + window;
    at = run.at;
    if (!whole) break;
  }
  return {at, taken};
}

bool has_windows() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}

#endif

}  // namespace

SmallRun decode_small_portable(const std::uint8_t* at, const std::uint8_t* end, std::uint32_t* out, std::size_t count) {
  SmallRun run = decode_pairs(at, end, out, count);
  while (run.taken < count && run.at < end) {
    const std::size_t width = kWidths[*run.at];
    if (width == kNone || static_cast<std::size_t>(end - run.at) < width) break;
    std::uint32_t value = width == 1 ? *run.at : 0;
    for (std::size_t i = 1; i < width; ++i) value = value << 8 | run.at[i];
    out[run.taken++] = value;
    run.at += width;
  }
  return run;
}

SmallRun decode_small(const std::uint8_t* at, const std::uint8_t* end, std::uint32_t* out, std::size_t count) {
  SmallRun begun{at, 0};
#if defined(__x86_64__)
  constexpr std::size_t kWindowsFrom = 16;  // fewer are not worth a window
  if (count >= kWindowsFrom && has_windows()) begun = decode_windows(at, end, out, count);
#endif
  const SmallRun rest = decode_small_portable(begun.at, end, out + begun.taken, count - begun.taken);
  return {rest.at, begun.taken + rest.taken};
}

}  // namespace warmpath::events::msgpack
