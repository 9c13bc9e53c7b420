// apply_hashed() against a naive twin, at a scale where runs branch, break, end and begin: many chains over few first
// blocks, holes, growth block by block, several sizes of engine block, and a cap.
#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "index/index.h"

namespace warmpath::index {
namespace {

// Keys and hashes of made-up chains: a path of small numbers names a block.
using Path = std::vector<std::uint8_t>;

struct Options {
  std::uint64_t seed = 1;
  std::uint32_t keys_per_block = 1;
  std::size_t engines = 4;
  bool one_seed = true;
  std::size_t bytes_max = std::size_t{1} << 30;
  int steps = 3000;
  std::uint64_t branches = 2;
  std::uint64_t stores_percent = 55;  // the rest is mostly removals
};

class Play {
 public:
  explicit Play(const Options& options)
      : options_(options),
        random_(options.seed, "hashed"),
        index_({.space = blocks::KeySpace(1, "m", 16), .bytes_max = options.bytes_max}),
        held_(options.engines) {
    for (std::uint32_t e = 0; e < options.engines; ++e) {
      index_.set_state(EngineId(e), blocks::PublisherState::kExact);
    }
  }

  void run() {
    for (int i = 0; i < options_.steps && !::testing::Test::HasFailure(); ++i) {
      const std::size_t e = random_.below(options_.engines);
      const std::uint64_t what = random_.below(100);
      if (what < options_.stores_percent) {
        store(e);
      } else if (what < 97) {
        remove(e);
      } else if (what < 99) {
        const HashedEvent cleared{.kind = HashedEvent::Kind::kCleared};
        index_.apply_hashed(engine(e), std::span(&cleared, 1));
        held_[e].clear();
      } else {
        index_.forget(engine(e));
        held_[e].clear();
      }
      compare();
    }
    EXPECT_GT(rows_, static_cast<std::uint64_t>(options_.steps) / 2);
    if (capped()) {
      EXPECT_GT(index_.stat().blocks_evicted, 0u);
    }
    for (std::size_t e = 0; e < options_.engines; ++e) index_.forget(engine(e));
    EXPECT_EQ(index_.stat().bytes, 0u);
    EXPECT_EQ(index_.stat().keys, 0u);
  }

 private:
  static EngineId engine(std::size_t e) { return EngineId(static_cast<std::uint32_t>(e)); }
  bool capped() const { return options_.bytes_max < std::size_t{1} << 30; }

  BlockKey key(const Path& path, std::uint32_t part) const {
    std::string text(path.begin(), path.end());
    return BlockKey(stable_hash(text + '#' + std::to_string(part)));
  }
  EngineHash hash(std::size_t e, const Path& path) const {
    return EngineHash(
        stable_hash(std::string(path.begin(), path.end()) + '@' + std::to_string(options_.one_seed ? 0 : e)));
  }
  std::vector<BlockKey> chain(const Path& path) const {
    std::vector<BlockKey> keys;
    for (std::size_t i = 1; i <= path.size(); ++i) {
      for (std::uint32_t part = 0; part < options_.keys_per_block; ++part) {
        keys.push_back(key(Path(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(i)), part));
      }
    }
    return keys;
  }
  // Few branches near the root, long tails.
  Path random_path() {
    Path path;
    const std::size_t length = 1 + random_.below(random_.below(4) == 0 ? 60 : 12);
    for (std::size_t i = 0; i < length; ++i) {
      path.push_back(static_cast<std::uint8_t>(random_.below(i < 3                    ? options_.branches
                                                             : random_.below(12) == 0 ? 3
                                                                                      : 1)));
    }
    return path;
  }

  // What is not held of the path, behind the part of it whose blocks are all held: as an engine would.
  void store(std::size_t e) {
    const Path path = random_path();
    std::size_t from = 0;
    const auto head = [&](std::size_t n) { return Path(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(n)); };
    while (from < path.size() && held_[e].contains(head(from + 1))) ++from;
    if (from == path.size()) return;
    std::size_t to = from + 1;
    while (to < path.size() && !held_[e].contains(head(to + 1))) ++to;
    if (random_.below(3) == 0) to = from + 1;  // growth
    std::vector<EngineHash> hashes;
    for (std::size_t i = from; i < to; ++i) hashes.push_back(hash(e, head(i + 1)));
    const std::vector<BlockKey> keys = chain(head(to));
    HashedEvent event{.kind = HashedEvent::Kind::kStored, .parent = {}, .hashes = hashes, .keys = {}};
    if (from > 0) event.parent = hash(e, head(from));
    event.keys = std::span(keys).subspan(from * options_.keys_per_block);
    const Applied applied = index_.apply_hashed(engine(e), std::span(&event, 1));
    if (applied.stores_dropped == 0) {
      EXPECT_EQ(applied.blocks_stored, to - from);
    } else {
      EXPECT_TRUE(capped());
      return;  // never told: its children cannot come either, but the twin may claim less than the index only
    }
    for (std::size_t i = from; i < to; ++i) held_[e].insert(head(i + 1));
  }

  void remove(std::size_t e) {
    if (held_[e].empty()) return;
    auto at = held_[e].begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random_.below(held_[e].size())));
    std::vector<Path> gone{*at};
    // Mostly the tail first and what stands before it, as engines do; else a hole.
    if (random_.below(4) != 0) {
      for (auto next = std::next(at); next != held_[e].end() && starts_with(*next, *at); ++next) gone.push_back(*next);
      std::ranges::reverse(gone);
    }
    std::vector<EngineHash> hashes;
    for (const Path& path : gone) hashes.push_back(hash(e, path));
    const HashedEvent event{.kind = HashedEvent::Kind::kRemoved, .parent = {}, .hashes = hashes, .keys = {}};
    const Applied applied = index_.apply_hashed(engine(e), std::span(&event, 1));
    EXPECT_EQ(applied.blocks_removed + applied.blocks_unknown, hashes.size());
    if (!capped()) EXPECT_EQ(applied.blocks_unknown, 0u);
    for (const Path& path : gone) held_[e].erase(path);
  }
  static bool starts_with(const Path& path, const Path& head) {
    return path.size() >= head.size() && std::equal(head.begin(), head.end(), path.begin());
  }

  void compare() {
    const Path path = random_path();
    const std::vector<BlockKey> keys = chain(path);
    index_.match(keys, table_);
    for (std::size_t e = 0; e < options_.engines; ++e) {
      std::size_t depth = 0;
      while (depth < path.size() &&
             held_[e].contains(Path(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(depth) + 1))) {
        ++depth;
      }
      const MatchRow* const row = table_.find(engine(e));
      const std::size_t got = row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
      if (capped()) {
        EXPECT_LE(got, depth * options_.keys_per_block);
      } else {
        EXPECT_EQ(got, depth * options_.keys_per_block);
      }
      rows_ += row != nullptr ? 1 : 0;
    }
    const IndexStat stat = index_.stat();
    EXPECT_LE(stat.bytes, options_.bytes_max);
    ASSERT_EQ(stat.engines.size(), options_.engines);
    for (std::size_t e = 0; e < options_.engines && !capped(); ++e) {
      EXPECT_EQ(stat.engines[e].blocks_held, held_[e].size());
      EXPECT_EQ(stat.engines[e].router_blocks_held, held_[e].size() * options_.keys_per_block);
    }
  }

  const Options options_;
  RandomStream random_;
  Index index_;
  std::vector<std::set<Path>> held_;
  MatchTable table_;
  std::uint64_t rows_ = 0;
};

void play(Options options) {
  SCOPED_TRACE("seed " + std::to_string(options.seed));
  Play(options).run();
}

TEST(HashedEvents, AgreeWithATwin) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) play({.seed = seed});
  play({.seed = 5, .engines = 40, .branches = 5, .stores_percent = 70});
}

TEST(HashedEvents, AgreeWithATwinUnderManySeedsOfEngines) {
  for (std::uint64_t seed = 11; seed <= 13; ++seed) play({.seed = seed, .engines = 12, .one_seed = false});
}

TEST(HashedEvents, AgreeWithATwinWhenAnEngineBlockHasSeveralKeys) {
  for (std::uint64_t seed = 21; seed <= 23; ++seed) play({.seed = seed, .keys_per_block = 3});
  play({.seed = 24, .keys_per_block = 4, .one_seed = false});
}

TEST(HashedEvents, ClaimNothingFalseAtTheCap) {
  for (std::uint64_t seed = 31; seed <= 33; ++seed)
    play({.seed = seed, .bytes_max = 40'000, .branches = 4, .stores_percent = 80});
  play({.seed = 34, .keys_per_block = 2, .one_seed = false, .bytes_max = 60'000, .branches = 4, .stores_percent = 80});
}

TEST(HashedEvents, AreDroppedWhenTheyDoNotAddUp) {
  Index index({.space = blocks::KeySpace(1, "m", 16)});
  const std::vector<EngineHash> hashes{EngineHash(1), EngineHash(2)};
  const std::vector<BlockKey> keys{BlockKey(11), BlockKey(12), BlockKey(13)};
  HashedEvent event{.kind = HashedEvent::Kind::kStored, .parent = {}, .hashes = hashes, .keys = keys};
  EXPECT_EQ(index.apply_hashed(EngineId(0), std::span(&event, 1)).stores_dropped, 1u);
  event.keys = {};
  EXPECT_EQ(index.apply_hashed(EngineId(0), std::span(&event, 1)).stores_dropped, 1u);
  event.keys = std::span(keys).first(2);
  event.parent = EngineHash(9);
  EXPECT_EQ(index.apply_hashed(EngineId(0), std::span(&event, 1)).stores_dropped, 1u);
  event.parent.reset();
  EXPECT_EQ(index.apply_hashed(EngineId(0), std::span(&event, 1)).blocks_stored, 2u);
  const std::vector<EngineHash> others{EngineHash(5), EngineHash(6)};  // the same keys under other names
  event.hashes = others;
  EXPECT_EQ(index.apply_hashed(EngineId(0), std::span(&event, 1)).stores_dropped, 1u);
}

}  // namespace
}  // namespace warmpath::index
