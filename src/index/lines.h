// Engine hash -> slot, for one lane: 12 entries to a cache line, five and a third bytes each. The hashes themselves lie
// with the blocks; a tag of 8 bits keeps strangers from being looked up there. Private to index.
#pragma once

#include <algorithm>
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

// An entry that finds its home line full lies in the next one that is not. All lines between are full, and stay so: a
// removal fetches back what lies further on. So a look-up ends at the first line with room, however long entries have
// come and gone. `hash_of(slot)` tells the hash of an entry. Thread rule: one owner.
class Lines {
 public:
  void prefetch(std::uint64_t hash) const { ask_for(lines_.data() + home(mix(hash), lines_.size())); }

  // Says early whose hashes a look-up will ask for. What prefetch() asked for should be there.
  template <class Ahead>
  void foresee(std::uint64_t hash, Ahead&& ahead) const {
    const std::uint64_t mixed = mix(hash);
    const Line& line = lines_[home(mixed, lines_.size())];
    for (std::uint32_t hits = line.hits(tag_of(mixed)); hits != 0; hits &= hits - 1) {
      ahead(line.slots[static_cast<std::size_t>(__builtin_ctz(hits))]);
    }
    if (line.free() == 0) ask_for(&line + 1);
  }
  // kNoSlot: absent.
  template <class HashOf>
  Slot find(std::uint64_t hash, HashOf&& hash_of) const {
    if (count_ == 0) return kNoSlot;
    return search(hash, hash_of).slot;
  }
  // Room for `more` entries beyond those there. Cost: now and then a pass over all of them, for which `ahead(slot)`
  // says early whose hash will be asked for.
  template <class HashOf, class Ahead>
  void reserve(std::size_t more, HashOf&& hash_of, Ahead&& ahead) {
    const std::size_t wanted = lines_for(count_ + more);
    if (wanted <= lines_.size()) return;
    std::vector<Line> old(grown(wanted));
    old.swap(lines_);
    count_ = 0;
    constexpr std::size_t kLinesAhead = 4;
    for (std::size_t at = 0; at < old.size() + kLinesAhead; ++at) {
      if (at < old.size()) old[at].each(ahead);
      if (at < kLinesAhead) continue;
      old[at - kLinesAhead].each([&](Slot slot) { insert(hash_of(slot), slot); });
    }
  }
  // Inserts unless the hash is there: then says false. Precondition: room reserved.
  template <class HashOf>
  bool insert_new(std::uint64_t hash, Slot slot, HashOf&& hash_of) {
    const Found found = search(hash, hash_of);
    if (found.slot != kNoSlot) return false;
    put(hash, slot, found);
    return true;
  }
  // Precondition: absent, room reserved.
  void insert(std::uint64_t hash, Slot slot) {
    Found found{.line = home(mix(hash), lines_.size())};
    for (; lines_[found.line].free() == 0; found.line = next(found.line)) ++found.passed;
    put(hash, slot, found);
  }
  // Precondition: there.
  template <class HashOf>
  void erase(std::uint64_t hash, Slot slot, HashOf&& hash_of) {
    const std::uint64_t mixed = mix(hash);
    const std::uint8_t tag = tag_of(mixed);
    std::size_t at = home(mixed, lines_.size());
    for (std::size_t passed = 0; passed < lines_.size(); ++passed, at = next(at)) {
      Line& line = lines_[at];
      for (std::uint32_t hits = line.hits(tag); hits != 0; hits &= hits - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctz(hits));
        if (line.slots[i] != slot) continue;
        const bool full = line.free() == 0;
        line.drop(i);
        --count_;
        if (full) fetch_back(at, i, hash_of);
        return;
      }
    }
    WP_CHECK(false);
  }
  template <class Use>
  void each(Use&& use) const {
    for (const Line& line : lines_) line.each(use);
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
    return wanted <= lines_.size() ? 0 : (grown(wanted) - lines_.size()) * sizeof(Line);
  }

 private:
  static constexpr std::size_t kEntries = 12;
  static constexpr std::size_t kFewLines = 512;
  static constexpr std::uint32_t kFar = 3;  // the greatest distance that an entry's two bits tell: 3 or more
  struct alignas(64) Line {
    std::uint8_t tags[kEntries] = {};  // 0: free
    std::uint32_t distances = 0;       // lines that each entry lies behind its home, two bits each; 0 where free
    Slot slots[kEntries];

    std::uint32_t distance(std::size_t i) const { return distances >> (2 * i) & kFar; }
    void put(std::size_t i, std::uint8_t tag, Slot slot, std::size_t distance) {
      tags[i] = tag;
      slots[i] = slot;
      const auto told = static_cast<std::uint32_t>(std::min<std::size_t>(distance, kFar));
      distances = (distances & ~(kFar << (2 * i))) | told << (2 * i);
    }
    void drop(std::size_t i) {
      tags[i] = 0;
      distances &= ~(kFar << (2 * i));
    }
    std::uint32_t free() const { return hits(0); }
    template <class Use>
    void each(Use&& use) const {
      for (std::uint32_t left = ~free() & ((1u << kEntries) - 1); left != 0; left &= left - 1) {
        use(slots[static_cast<std::size_t>(__builtin_ctz(left))]);
      }
    }
    // Entries with this tag, a bit each.
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

  // Where a hash is, or where it would be put.
  struct Found {
    std::size_t line = 0;
    std::size_t passed = 0;  // lines from its home to there
    Slot slot = kNoSlot;
  };
  template <class HashOf>
  Found search(std::uint64_t hash, HashOf&& hash_of) const {
    const std::uint64_t mixed = mix(hash);
    const std::uint8_t tag = tag_of(mixed);
    const Line* const lines = lines_.data();
    Found found{.line = home(mixed, lines_.size())};
    for (;; ++found.passed, found.line = next(found.line)) {
      const Line& line = lines[found.line];
      for (std::uint32_t hits = line.hits(tag); hits != 0; hits &= hits - 1) {
        const Slot slot = line.slots[static_cast<std::size_t>(__builtin_ctz(hits))];
        if (hash_of(slot) != hash) continue;
        found.slot = slot;
        return found;
      }
      if (line.free() != 0) return found;
    }
  }
  void put(std::uint64_t hash, Slot slot, const Found& found) {
    Line& line = lines_[found.line];
    line.put(static_cast<std::size_t>(__builtin_ctz(line.free())), tag_of(mix(hash)), slot, found.passed);
    ++count_;
  }
  // Line `to`, which was full, has room at `place` now: fills it with an entry from further on that may lie there, and
  // so on, until a line that was not full.
  template <class HashOf>
  void fetch_back(std::size_t to, std::size_t place, HashOf&& hash_of) {
    std::size_t passed = 1;  // lines from `to` to `from`
    for (std::size_t from = next(to); from != to; from = next(from), ++passed) {
      Line& line = lines_[from];
      const std::uint32_t free = line.free();
      const auto [i, distance] = fetchable(from, passed, hash_of);
      if (i < kEntries) {
        lines_[to].put(place, line.tags[i], line.slots[i], distance - passed);
        line.drop(i);
        to = from;
        place = i;
        passed = 0;
      }
      if (free != 0) return;
    }
  }
  // An entry of the line that lies at least so far behind its home, and how far; kEntries: none.
  template <class HashOf>
  std::pair<std::size_t, std::size_t> fetchable(std::size_t at, std::size_t distance_min, HashOf&& hash_of) const {
    const Line& line = lines_[at];
    constexpr std::uint32_t kLowBits = 0x555555;
    const std::uint32_t low = line.distances & kLowBits;
    const std::uint32_t high = line.distances >> 1 & kLowBits;
    const std::uint32_t told = distance_min == 1 ? low ^ high : distance_min == 2 ? high & ~low : 0;
    if (told != 0) {
      const auto i = static_cast<std::size_t>(__builtin_ctz(told)) / 2;
      return {i, line.distance(i)};
    }
    for (std::uint32_t far = low & high; far != 0; far &= far - 1) {
      const auto i = static_cast<std::size_t>(__builtin_ctz(far)) / 2;
      const std::size_t start = home(mix(hash_of(line.slots[i])), lines_.size());
      const std::size_t distance = (at + lines_.size() - start) % lines_.size();
      if (distance >= distance_min) return {i, distance};
    }
    return {kEntries, 0};
  }

  static std::uint64_t mix(std::uint64_t hash) { return hash * 0x9E3779B97F4A7C15u; }
  static std::uint8_t tag_of(std::uint64_t mixed) {
    const auto tag = static_cast<std::uint8_t>(mixed >> 20);
    return tag == 0 ? std::uint8_t{1} : tag;
  }
  static std::size_t home(std::uint64_t mixed, std::size_t lines) {
    return static_cast<std::size_t>((mixed >> 32) * lines >> 32);
  }
  std::size_t next(std::size_t line) const { return line + 1 == lines_.size() ? 0 : line + 1; }
  // Three quarters full at most: so there is always a line with room, and most lines have.
  static std::size_t lines_for(std::size_t entries) { return (entries * 4 + kEntries * 3 - 1) / (kEntries * 3); }
  std::size_t grown(std::size_t wanted) const {
    if (lines_.empty()) return wanted;
    return wanted + (wanted < kFewLines ? wanted / 2 : wanted / 4);
  }

  std::vector<Line> lines_;
  std::size_t count_ = 0;
};

}  // namespace warmpath::index
