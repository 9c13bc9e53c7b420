#include "index/guesses.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace warmpath::index {
namespace {

std::vector<BlockKey> random_chain(RandomStream& random) {
  // Chains share heads: key i follows from a short path.
  std::vector<BlockKey> chain;
  std::uint64_t path = 1;
  for (std::uint64_t n = random.below(8); n > 0; --n) {
    path = path * 3 + random.below(2);
    chain.emplace_back(path);
  }
  return chain;
}

TEST(ApproximateTable, IsAnLruPerEngine) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomStream random(seed, "lru");
    ApproximateTable table;
    struct Twin {
      std::size_t capacity = 31'250;
      std::vector<BlockKey> order;  // most recent last
    };
    std::vector<Twin> twins(3);
    std::uint64_t deepest = 0;
    for (int step = 0; step < 3000; ++step) {
      const std::size_t e = random.below(3);
      const EngineId engine(static_cast<std::uint32_t>(e));
      Twin& twin = twins[e];
      const auto chain = random_chain(random);
      switch (random.below(40)) {
        case 0:
          table.forget(engine);
          twin.order.clear();
          break;
        case 1:
          twin.capacity = random.below(12);
          table.set_capacity(engine, twin.capacity);
          break;
        default:
          table.routed(engine, chain);
          for (auto key = chain.rbegin(); key != chain.rend(); ++key) {
            std::erase(twin.order, *key);
            twin.order.push_back(*key);
          }
      }
      if (twin.order.size() > twin.capacity) {
        twin.order.erase(twin.order.begin(), twin.order.end() - static_cast<std::ptrdiff_t>(twin.capacity));
      }
      ASSERT_EQ(table.size(engine), twin.order.size());
      const auto probe = random_chain(random);
      std::uint32_t depth = 0;
      while (depth < probe.size() && std::ranges::find(twin.order, probe[depth]) != twin.order.end()) ++depth;
      ASSERT_EQ(table.depth(engine, probe), depth);
      deepest = std::max<std::uint64_t>(deepest, depth);
    }
    EXPECT_GT(deepest, 3u);
    EXPECT_EQ(table.depth(EngineId(77), random_chain(random)), 0u);
    EXPECT_EQ(table.size(EngineId(77)), 0u);
  }
}

TEST(RecentTable, AgreesWithAListOfEntries) {
  struct Entry {
    RequestId request;
    EngineId engine;
    std::vector<BlockKey> chain;
    Instant until;
    bool answered = false;
  };
  constexpr Duration kTtl = std::chrono::milliseconds(50);
  constexpr Duration kAnsweredTtl = std::chrono::milliseconds(15);
  constexpr std::size_t kEntriesMax = 12;
  constexpr std::size_t kBlocksMax = 40;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomStream random(seed, "recent");
    RecentTable table(kTtl, kAnsweredTtl, kEntriesMax, kBlocksMax);
    std::vector<Entry> twin;
    Instant now;
    std::uint64_t seen = 0;
    for (std::uint64_t step = 0; step < 4000; ++step) {
      now = now + std::chrono::milliseconds(random.below(8));
      std::erase_if(twin, [&](const Entry& entry) { return entry.until <= now; });
      const EngineId engine(static_cast<std::uint32_t>(random.below(3)));
      switch (random.below(15)) {
        case 0:
          table.forget(engine);
          std::erase_if(twin, [&](const Entry& entry) { return entry.engine == engine; });
          break;
        case 1:
        case 2: {
          const RequestId request(random.below(step + 1));
          table.rolled_back(request);
          std::erase_if(twin, [&](const Entry& entry) { return entry.request == request; });
          break;
        }
        case 3:
        case 4:
        case 5: {
          const RequestId request(step - random.below(std::min<std::uint64_t>(step, 8) + 1));
          table.answered(request, now);
          const auto entry = std::ranges::find(twin, request, &Entry::request);
          if (entry == twin.end() || entry->answered) break;
          entry->answered = true;
          entry->until = now + kAnsweredTtl;
          // Kept in the order in which they are given up: answered ones first, each kind by its end.
          std::rotate(entry, entry + 1, twin.end());
          std::ranges::stable_partition(twin, [](const Entry& one) { return one.answered; });
          break;
        }
        default: {
          const auto chain = random_chain(random);
          table.routed(RequestId(step), engine, chain, now);
          if (chain.empty()) break;
          const auto blocks = [&] {
            std::size_t sum = chain.size();
            for (const Entry& entry : twin) sum += entry.chain.size();
            return sum;
          };
          while (twin.size() >= kEntriesMax || blocks() > kBlocksMax) twin.erase(twin.begin());
          twin.push_back({RequestId(step), engine, chain, now + kTtl});
        }
      }
      const auto probe = random_chain(random);
      std::uint32_t depth = 0;
      while (depth < probe.size() && std::ranges::any_of(
                                         twin,
                                         [&](const Entry& entry) {
                                           return entry.engine == engine &&
                                                  std::ranges::find(entry.chain, probe[depth]) != entry.chain.end();
                                         })) {
        ++depth;
      }
      ASSERT_EQ(table.depth(engine, probe, now), depth) << step;
      seen += depth;
    }
    EXPECT_GT(seen, 500u);
  }
}

TEST(RecentTable, KeepsTheHeadOfAChainBeyondTheBound) {
  RecentTable table(std::chrono::seconds(2), std::chrono::seconds(1), 10, 3);
  const std::vector<BlockKey> chain{BlockKey(1), BlockKey(2), BlockKey(3), BlockKey(4)};
  table.routed(RequestId(1), EngineId(0), chain, Instant());
  EXPECT_EQ(table.depth(EngineId(0), chain, Instant()), 3u);
  EXPECT_EQ(table.depth(EngineId(0), chain, Instant(std::chrono::seconds(2))), 0u);
  RecentTable none(std::chrono::seconds(2), std::chrono::seconds(1), 0);
  none.routed(RequestId(1), EngineId(0), chain, Instant());
  EXPECT_EQ(none.depth(EngineId(0), chain, Instant()), 0u);
}

// What an engine has thrown away since must not be believed longer than its events need to say so.
TEST(RecentTable, EndsSoonAfterTheAnswerHasBegun) {
  RecentTable table(std::chrono::seconds(2), std::chrono::milliseconds(250), 10);
  const std::vector<BlockKey> chain{BlockKey(1), BlockKey(2)};
  const auto at = [](int ms) { return Instant(std::chrono::milliseconds(ms)); };
  table.routed(RequestId(1), EngineId(0), chain, at(0));
  table.answered(RequestId(1), at(100));
  table.answered(RequestId(1), at(300));  // only the first byte counts
  EXPECT_EQ(table.depth(EngineId(0), chain, at(349)), 2u);
  EXPECT_EQ(table.depth(EngineId(0), chain, at(350)), 0u);
  table.answered(RequestId(1), at(350));
  EXPECT_EQ(table.depth(EngineId(0), chain, at(360)), 0u);
}

}  // namespace
}  // namespace warmpath::index
