#include "index/lines.h"

#include <gtest/gtest.h>

#include <unordered_map>

namespace warmpath::index {
namespace {

// Entries come and go beside a plain map, at a count around `level`. Slot s has hash `hash_of(s)`.
template <class HashOf>
void play(std::uint64_t seed, std::size_t level, int steps, HashOf&& name) {
  RandomStream random(seed, "lines");
  std::vector<std::uint64_t> hashes;  // by slot
  std::vector<Slot> there;
  std::unordered_map<std::uint64_t, Slot> twin;
  Lines lines;
  const auto hash_of = [&](Slot slot) { return hashes[slot]; };
  for (int step = 0; step < steps; ++step) {
    if (random.below(2 * level) >= there.size()) {
      const auto slot = static_cast<Slot>(hashes.size());
      hashes.push_back(name(random.below(4 * level)));
      lines.reserve(1, hash_of, [](Slot) {});
      const bool added = twin.try_emplace(hashes[slot], slot).second;
      ASSERT_EQ(lines.insert_new(hashes[slot], slot, hash_of), added);
      if (added) there.push_back(slot);
    } else {
      std::swap(there[random.below(there.size())], there.back());
      lines.erase(hashes[there.back()], there.back(), hash_of);
      twin.erase(hashes[there.back()]);
      there.pop_back();
    }
    ASSERT_EQ(lines.size(), twin.size());
    const std::uint64_t asked = name(random.below(4 * level));
    const auto found = twin.find(asked);
    ASSERT_EQ(lines.find(asked, hash_of), found == twin.end() ? kNoSlot : found->second);
  }
  std::size_t count = 0;
  lines.each([&](Slot slot) { count += twin.at(hashes[slot]) == slot ? 1 : 0; });
  EXPECT_EQ(count, twin.size());
}

TEST(Lines, AgreeWithAMap) {
  for (const std::size_t level : {4, 40, 1'000}) {
    play(level, level, 20'000, [](std::uint64_t n) { return n * 0x2545F4914F6CDD1Du + 1; });
  }
}

// Many entries want the same few lines: they lie far behind their home, and are fetched back over several lines.
TEST(Lines, AgreeWithAMapWhereHashesCluster) {
  constexpr std::uint64_t kInverse = 0xF1DE83E19937733Du;  // of the multiplier that spreads hashes
  static_assert(kInverse * 0x9E3779B97F4A7C15u == 1);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    play(seed, 400, 20'000, [](std::uint64_t n) {
      const std::uint64_t spread = (n % 5) << 61 | (n * 0x9E37u & 0xFFFF'FFFFu) << 20 | n;
      return spread * kInverse;
    });
  }
}

TEST(Lines, KeepNoMemoryForNothing) {
  Lines lines;
  EXPECT_EQ(lines.bytes(), 0u);
  const auto hash_of = [](Slot slot) { return std::uint64_t{slot}; };
  const std::size_t promised = lines.growth_bytes(100);
  lines.reserve(100, hash_of, [](Slot) {});
  EXPECT_LE(lines.bytes(), promised);
  lines.clear();
  EXPECT_EQ(lines.bytes(), 0u);
}

}  // namespace
}  // namespace warmpath::index
