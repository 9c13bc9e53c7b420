// Engine hash -> slot, for one lane: 12 entries to a cache line, five and a third bytes each. The hashes themselves lie
// with the blocks; a tag of 8 bits keeps strangers from being looked up there. Private to index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/base.h"
#include "index/slots.h"

namespace warmpath::index {

// An entry that finds its home line full goes to the next one and is counted at each line it passed, so that a removal
// leaves no tombstone. Thread rule: one owner.
class Lines {
 public:
  void prefetch(std::uint64_t hash) const { __builtin_prefetch(lines_.data() + home(mix(hash), lines_.size())); }

  // `hash_of(slot)` tells the hash of an entry. kNoSlot: absent.
  template <class HashOf>
  Slot find(std::uint64_t hash, HashOf&& hash_of) const {
    if (count_ == 0) return kNoSlot;
    const std::uint64_t mixed = mix(hash);
    const std::uint8_t tag = tag_of(mixed);
    const Line* const lines = lines_.data();
    const std::size_t count = lines_.size();
    std::size_t at = home(mixed, count);
    for (std::size_t passed = 0; passed < count; ++passed) {
      const Line& line = lines[at];
      for (std::uint32_t hits = line.hits(tag); hits != 0; hits &= hits - 1) {
        const Slot slot = line.slots[static_cast<std::size_t>(__builtin_ctz(hits))];
        if (hash_of(slot) == hash) return slot;
      }
      if (line.passed == 0) break;
      at = at + 1 == count ? 0 : at + 1;
    }
    return kNoSlot;
  }
  // Room for `more` entries beyond those there. Cost: now and then a pass over all of them.
  template <class HashOf>
  void reserve(std::size_t more, HashOf&& hash_of) {
    const std::size_t wanted = lines_for(count_ + more);
    if (wanted <= lines_.size()) return;
    std::vector<Line> old(wanted + (lines_.size() == 0 ? 0 : wanted / 6));
    old.swap(lines_);
    count_ = 0;
    for (const Line& line : old) {
      for (std::size_t i = 0; i < kEntries; ++i) {
        if (line.tags[i] != 0) insert(hash_of(line.slots[i]), line.slots[i]);
      }
    }
  }
  // Inserts unless the hash is there: then says false. Precondition: room reserved.
  template <class HashOf>
  bool insert_new(std::uint64_t hash, Slot slot, HashOf&& hash_of) {
    const std::uint64_t mixed = mix(hash);
    const std::uint8_t tag = tag_of(mixed);
    Line* const lines = lines_.data();
    const std::size_t count = lines_.size();
    const std::size_t start = home(mixed, count);
    std::size_t place = count;  // the first line with room
    for (std::size_t at = start, seen = 0; seen < count; ++seen, at = at + 1 == count ? 0 : at + 1) {
      const Line& line = lines[at];
      for (std::uint32_t hits = line.hits(tag); hits != 0; hits &= hits - 1) {
        if (hash_of(line.slots[__builtin_ctz(hits)]) == hash) return false;
      }
      if (place == count && line.hits(0) != 0) place = at;
      if (line.passed == 0) break;
    }
    std::size_t at = start;
    for (; at != place && (place != count || lines[at].hits(0) == 0); at = at + 1 == count ? 0 : at + 1) {
      ++lines[at].passed;
    }
    Line& line = lines[at];
    const int i = __builtin_ctz(line.hits(0));
    line.tags[i] = tag;
    line.slots[i] = slot;
    ++count_;
    return true;
  }
  // Precondition: absent, room reserved.
  void insert(std::uint64_t hash, Slot slot) {
    const std::uint64_t mixed = mix(hash);
    Line* const lines = lines_.data();
    const std::size_t count = lines_.size();
    std::size_t at = home(mixed, count);
    for (;;) {
      Line& line = lines[at];
      const std::uint32_t free = line.hits(0);
      if (free != 0) {
        const auto i = static_cast<std::size_t>(__builtin_ctz(free));
        line.tags[i] = tag_of(mixed);
        line.slots[i] = slot;
        ++count_;
        return;
      }
      ++line.passed;
      at = at + 1 == count ? 0 : at + 1;
    }
  }
  // Precondition: there.
  void erase(std::uint64_t hash, Slot slot) {
    const std::uint64_t mixed = mix(hash);
    const std::uint8_t tag = tag_of(mixed);
    Line* const lines = lines_.data();
    const std::size_t count = lines_.size();
    std::size_t at = home(mixed, count);
    for (std::size_t passed = 0; passed < count; ++passed) {
      Line& line = lines[at];
      for (std::uint32_t hits = line.hits(tag); hits != 0; hits &= hits - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctz(hits));
        if (line.slots[i] != slot) continue;
        line.tags[i] = 0;
        --count_;
        return;
      }
      WP_CHECK(line.passed > 0);
      --line.passed;
      at = at + 1 == count ? 0 : at + 1;
    }
    WP_CHECK(false);
  }
  template <class Use>
  void each(Use&& use) const {
    for (const Line& line : lines_) {
      for (std::size_t i = 0; i < kEntries; ++i) {
        if (line.tags[i] != 0) use(line.slots[i]);
      }
    }
  }
  void clear() {
    std::vector<Line>().swap(lines_);
    count_ = 0;
  }

  std::size_t size() const { return count_; }
  std::size_t bytes() const { return lines_.capacity() * sizeof(Line); }
  // At most what reserve(more) would add to bytes().
  std::size_t growth_bytes(std::size_t more) const {
    const std::size_t wanted = lines_for(count_ + more);
    return wanted <= lines_.size() ? 0 : (wanted + wanted / 6 - lines_.size()) * sizeof(Line);
  }

 private:
  static constexpr std::size_t kEntries = 12;
  struct alignas(64) Line {
    std::uint8_t tags[kEntries] = {};  // 0: free
    std::uint16_t passed = 0;          // entries that wanted to lie here or passed by
    std::uint16_t unused = 0;
    Slot slots[kEntries];

    std::uint32_t hits(std::uint8_t tag) const {
#if defined(__SSE2__)
      const __m128i all = _mm_load_si128(reinterpret_cast<const __m128i*>(tags));
      const int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_set1_epi8(static_cast<char>(tag))));
      return static_cast<std::uint32_t>(equal) & ((1u << kEntries) - 1);
#else
      std::uint32_t equal = 0;
      for (std::size_t i = 0; i < kEntries; ++i) equal |= static_cast<std::uint32_t>(tags[i] == tag) << i;
      return equal;
#endif
    }
  };
  static_assert(sizeof(Line) == 64);

  static std::uint64_t mix(std::uint64_t hash) { return hash * 0x9E3779B97F4A7C15u; }
  static std::uint8_t tag_of(std::uint64_t mixed) {
    const auto tag = static_cast<std::uint8_t>(mixed >> 20);
    return tag == 0 ? std::uint8_t{1} : tag;
  }
  static std::size_t home(std::uint64_t mixed, std::size_t lines) {
    return static_cast<std::size_t>((mixed >> 32) * lines >> 32);
  }
  // Seven eighths full at most.
  static std::size_t lines_for(std::size_t entries) { return (entries * 8 + kEntries * 7 - 1) / (kEntries * 7); }

  std::vector<Line> lines_;
  std::size_t count_ = 0;
};

}  // namespace warmpath::index
