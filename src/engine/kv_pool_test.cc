#include "engine/kv_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

namespace warmpath::engine {
namespace {

blocks::Digest digest_of(std::uint64_t value) {
  blocks::Digest digest;
  digest.size = 16;
  for (int i = 0; i < 8; ++i) digest.bytes[15 - i] = static_cast<std::uint8_t>(value >> (8 * i));
  return digest;
}

TEST(KvPool, NeverHandsOutBlockZero) {
  KvPool pool(4);
  EXPECT_EQ(pool.usable(), 3u);
  std::vector<BlockIndex> taken;
  std::vector<EvictedBlock> evicted;
  pool.allocate(3, taken, evicted);
  EXPECT_EQ(taken, (std::vector<BlockIndex>{1, 2, 3}));
  EXPECT_EQ(pool.free_blocks(), 0u);
  EXPECT_TRUE(evicted.empty());
}

TEST(KvPool, EvictsTailBeforeHeadAndOldestChainFirst) {
  KvPool pool(5);
  std::vector<BlockIndex> a;
  std::vector<BlockIndex> b;
  std::vector<EvictedBlock> evicted;
  pool.allocate(2, a, evicted);
  pool.allocate(2, b, evicted);
  for (int i = 0; i < 2; ++i) {
    pool.store(a[i], EngineHash(10 + i), digest_of(10 + i));
    pool.store(b[i], EngineHash(20 + i), digest_of(20 + i));
  }
  pool.release(b);
  pool.release(a);
  std::vector<BlockIndex> taken;
  pool.allocate(4, taken, evicted);
  std::vector<std::uint64_t> order;
  for (const auto& block : evicted) order.push_back(block.hash.value());
  EXPECT_EQ(order, (std::vector<std::uint64_t>{21, 20, 11, 10}));
  EXPECT_EQ(evicted[0].digest, digest_of(21));
  EXPECT_EQ(pool.cached_blocks(), 0u);
  EXPECT_EQ(pool.fault(), "");
}

TEST(KvPool, BlocksWithoutAHashAreTakenBeforeCachedOnes) {
  KvPool pool(6);
  std::vector<BlockIndex> taken;
  std::vector<EvictedBlock> evicted;
  pool.allocate(3, taken, evicted);
  pool.store(taken[0], EngineHash(1), digest_of(1));
  pool.store(taken[1], EngineHash(2), digest_of(2));
  pool.release(taken);
  std::vector<BlockIndex> again;
  pool.allocate(3, again, evicted);
  EXPECT_EQ(again, (std::vector<BlockIndex>{taken[2], 4, 5}));
  EXPECT_TRUE(evicted.empty());
  EXPECT_EQ(pool.fault(), "");
}

TEST(KvPool, FindGivesTheFirstOfSeveralAndTheNextOnceItIsGone) {
  KvPool pool(4);
  std::vector<BlockIndex> taken;
  std::vector<EvictedBlock> evicted;
  pool.allocate(2, taken, evicted);
  pool.store(taken[0], EngineHash(7), digest_of(7));
  pool.store(taken[1], EngineHash(7), digest_of(7));
  EXPECT_EQ(pool.find(EngineHash(7)), taken[0]);
  EXPECT_EQ(pool.cached_blocks(), 2u);
  EXPECT_EQ(pool.hashes().size(), 1u);
  pool.release(std::vector<BlockIndex>{taken[0]});
  std::vector<BlockIndex> again;
  pool.allocate(2, again, evicted);  // the never used one, then the one freed
  ASSERT_EQ(evicted.size(), 1u);
  EXPECT_EQ(pool.find(EngineHash(7)), taken[1]);
  EXPECT_EQ(pool.fault(), "");
}

TEST(KvPool, ClearIsRefusedWhileABlockIsInUse) {
  KvPool pool(4);
  std::vector<BlockIndex> taken;
  std::vector<EvictedBlock> evicted;
  pool.allocate(1, taken, evicted);
  pool.store(taken[0], EngineHash(7), digest_of(7));
  EXPECT_FALSE(pool.clear());
  EXPECT_TRUE(pool.find(EngineHash(7)).has_value());
  pool.release(taken);
  EXPECT_TRUE(pool.clear());
  EXPECT_FALSE(pool.find(EngineHash(7)).has_value());
  pool.allocate(3, taken, evicted);
  EXPECT_TRUE(evicted.empty());
}

// The naive twin: a deque as the free queue, and for every block its count and hash.
struct Twin {
  explicit Twin(std::uint32_t blocks) {
    for (BlockIndex b = 1; b < blocks; ++b) free.push_back(b);
  }
  std::deque<BlockIndex> free;
  std::map<BlockIndex, int> refs;
  std::map<BlockIndex, std::uint64_t> hash;
  std::map<std::uint64_t, std::vector<BlockIndex>> stored;

  void reference(BlockIndex b) {
    if (refs[b]++ == 0) free.erase(std::find(free.begin(), free.end(), b));
  }
  BlockIndex allocate(std::vector<std::uint64_t>& evicted) {
    const BlockIndex b = free.front();
    free.pop_front();
    if (const auto it = hash.find(b); it != hash.end()) {
      evicted.push_back(it->second);
      auto& list = stored[it->second];
      list.erase(std::find(list.begin(), list.end(), b));
      if (list.empty()) stored.erase(it->second);
      hash.erase(it);
    }
    refs[b] = 1;
    return b;
  }
  void release(BlockIndex b) {
    if (--refs[b] > 0) return;
    if (hash.contains(b)) {
      free.push_back(b);
    } else {
      free.push_front(b);
    }
  }
};

class KvPoolRandom : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(KvPoolRandom, EqualsItsNaiveTwin) {
  RandomStream random(GetParam(), "kv_pool");
  const auto blocks = static_cast<std::uint32_t>(2 + random.below(40));
  KvPool pool(blocks);
  Twin twin(blocks);
  std::vector<std::vector<BlockIndex>> chains;  // as requests would hold them
  for (int round = 0; round < 3'000; ++round) {
    const std::uint64_t what = random.below(100);
    if (what < 40 && pool.free_blocks() > 0) {
      const auto count = static_cast<std::uint32_t>(1 + random.below(pool.free_blocks()));
      std::vector<BlockIndex> taken;
      std::vector<EvictedBlock> evicted;
      std::vector<std::uint64_t> expected;
      pool.allocate(count, taken, evicted);
      for (std::uint32_t i = 0; i < count; ++i) ASSERT_EQ(taken[i], twin.allocate(expected));
      ASSERT_EQ(evicted.size(), expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(evicted[i].hash.value(), expected[i]);
      chains.push_back(std::move(taken));
    } else if (what < 60 && !chains.empty()) {
      for (const BlockIndex b : chains[random.below(chains.size())]) {
        if (twin.hash.contains(b)) continue;
        const std::uint64_t value = random.below(30);  // few values: duplicates are common
        pool.store(b, EngineHash(value), digest_of(value));
        twin.hash[b] = value;
        twin.stored[value].push_back(b);
      }
    } else if (what < 75) {
      const std::uint64_t value = random.below(30);
      const auto found = pool.find(EngineHash(value));
      ASSERT_EQ(found.has_value(), twin.stored.contains(value));
      if (!found) continue;
      ASSERT_EQ(*found, twin.stored[value].front());
      ASSERT_EQ(pool.is_free(*found), twin.refs[*found] == 0);
      pool.reference(*found);
      twin.reference(*found);
      chains.push_back({*found});
    } else if (what < 98 && !chains.empty()) {
      const std::size_t i = random.below(chains.size());
      pool.release(chains[i]);
      for (auto it = chains[i].rbegin(); it != chains[i].rend(); ++it) twin.release(*it);
      chains.erase(chains.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      const bool idle = chains.empty();
      ASSERT_EQ(pool.clear(), idle);
      if (idle) {
        twin.hash.clear();
        twin.stored.clear();
      }
    }
    ASSERT_EQ(pool.fault(), "") << "round " << round;
    ASSERT_EQ(pool.free_blocks(), twin.free.size());
    ASSERT_EQ(pool.cached_blocks(), twin.hash.size());
    ASSERT_EQ(pool.hashes().size(), twin.stored.size());
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, KvPoolRandom, ::testing::Range<std::uint64_t>(1, 21));

}  // namespace
}  // namespace warmpath::engine
