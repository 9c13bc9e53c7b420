// The snapshot's bytes: whole, torn, flipped, forged.
#include "index/snapshot.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "index/byte_codec.h"
#include "index/engine_copy.h"
#include "index/index.h"

namespace warmpath::index {
namespace {

using blocks::Tier;

constexpr std::uint32_t kBlock = 16;
const EngineId kEngine(0);

blocks::KeySpace space() { return {7, "m", kBlock}; }

blocks::KvEvent stored(std::uint64_t first_hash, std::size_t count, std::uint32_t block,
                       std::optional<std::uint64_t> parent = std::nullopt, const char* medium = "GPU") {
  blocks::BlockStored event;
  for (std::size_t i = 0; i < count; ++i)
    event.block_hashes.push_back({.value = EngineHash(first_hash + i), .bytes = {}});
  for (std::size_t i = 0; i < count * block; ++i)
    event.token_ids.push_back(static_cast<TokenId>(first_hash * 1'000 + i));
  if (parent) event.parent_block_hash = blocks::WireHash{.value = EngineHash(*parent), .bytes = {}};
  event.block_size = block;
  event.medium = medium;
  return event;
}

blocks::KvEvent removed(std::uint64_t hash) {
  blocks::BlockRemoved event;
  event.block_hashes.push_back({.value = EngineHash(hash), .bytes = {}});
  return event;
}

// A compact engine with a hole, a second tier and a block of two references; a joined one; one with two KV groups.
std::vector<std::unique_ptr<Index>> some() {
  std::vector<std::unique_ptr<Index>> out;
  const auto add = [&](std::vector<blocks::KvEvent> events) {
    out.push_back(std::make_unique<Index>(IndexOptions{.space = space()}));
    out.back()->set_state(kEngine, blocks::PublisherState::kExact);
    out.back()->apply(kEngine, events);
  };
  add({stored(1, 5, 16), stored(10, 2, 16, 3), removed(2), stored(20, 1, 16, 5, "CPU"), stored(10, 1, 16, 3)});
  add({stored(1, 30, 1), stored(100, 7, 1, 20), stored(200, 3, 20), removed(5)});
  auto first = std::get<blocks::BlockStored>(stored(1, 2, 32));
  first.group_idx = 0;
  first.kv_cache_spec_kind = "full_attention";
  auto second = std::get<blocks::BlockStored>(stored(1, 2, 16));
  second.group_idx = 1;
  second.kv_cache_spec_kind = "sliding_window";
  add({first, second});
  return out;
}

SnapshotEngine engine_of(const Index& index, std::string name) {
  auto copy = index.copy(kEngine);
  EXPECT_TRUE(copy);
  return {.name = std::move(name),
          .mark = {.seq = PublisherSeq(41), .digest = 99, .trust = blocks::PublisherState::kExact},
          .started_at_s = 1.5,
          .blocks = copy->blocks,
          .parts = std::move(copy->parts)};
}

std::string small_snapshot(const std::vector<std::unique_ptr<Index>>& indexes) {
  SnapshotWriter writer;
  std::string bytes = writer.begin(1'234);
  bytes +=
      writer.pool({.name = "a", .secret = 7, .tokenizer = 3, .block_tokens = kBlock, .key_probe = key_probe(space())});
  for (std::size_t i = 0; i < indexes.size(); ++i) {
    EXPECT_TRUE(writer.engine(engine_of(*indexes[i], std::to_string(i)), bytes));
  }
  return bytes + writer.end();
}

SnapshotContent read(std::string_view bytes) {
  SnapshotReader reader;
  reader.feed(bytes);
  return reader.finish();
}

// What was held, to the reference: a second copy says it all.
std::vector<std::string> state_of(const std::vector<std::string>& parts) {
  Index index({.space = space()});
  const auto adopted = index.adopt(kEngine, parts);
  if (!adopted.ok()) return {"refused"};
  auto copy = index.copy(kEngine);
  std::vector<std::string> out;
  for (const HeldBlock& block : index.held(kEngine)) {
    out.push_back(std::to_string(block.group) + ' ' + std::to_string(block.hash.value()) + ' ' +
                  std::to_string(block.tiers));
  }
  out.push_back(std::to_string(copy->blocks));
  return out;
}

TEST(Snapshot, RoundTrip) {
  const auto indexes = some();
  const SnapshotContent content = read(small_snapshot(indexes));
  EXPECT_TRUE(content.complete);
  EXPECT_EQ(content.why, "");
  EXPECT_EQ(content.written_at_ms, 1'234);
  ASSERT_EQ(content.pools.size(), 1u);
  const SnapshotContent::Pool& pool = content.pools[0];
  EXPECT_EQ(pool.pool.name, "a");
  EXPECT_EQ(pool.pool.secret, 7u);
  EXPECT_EQ(pool.pool.tokenizer, 3u);
  EXPECT_EQ(pool.pool.block_tokens, kBlock);
  ASSERT_EQ(pool.engines.size(), indexes.size());
  for (std::size_t i = 0; i < indexes.size(); ++i) {
    const SnapshotEngine& engine = pool.engines[i];
    EXPECT_EQ(engine.name, std::to_string(i));
    EXPECT_EQ(engine.mark.seq, PublisherSeq(41));
    EXPECT_EQ(engine.mark.digest, 99u);
    EXPECT_EQ(engine.mark.trust, blocks::PublisherState::kExact);
    EXPECT_EQ(engine.started_at_s, 1.5);
    Index index({.space = space()});
    index.set_state(kEngine, blocks::PublisherState::kSuspect);
    const auto adopted = index.adopt(kEngine, engine.parts);
    ASSERT_TRUE(adopted.ok());
    EXPECT_TRUE(adopted->whole);
    EXPECT_EQ(index.held(kEngine), indexes[i]->held(kEngine));
    EXPECT_EQ(index.stat().engines[0].router_blocks_held, indexes[i]->stat().engines[0].router_blocks_held);
    EXPECT_EQ(index.stat().engines[0].block_tokens, indexes[i]->stat().engines[0].block_tokens);
    EXPECT_EQ(index.stat().keys, indexes[i]->stat().keys);
    index.forget(kEngine);
    index.set_state(kEngine, blocks::PublisherState::kLost);
    EXPECT_EQ(index.stat().bytes, 0u);
  }
}

TEST(Snapshot, MatchesWithoutAnEvent) {
  Index before({.space = space()});
  const blocks::KvEvent event = stored(1, 40, 16);
  before.set_state(kEngine, blocks::PublisherState::kExact);
  before.apply(kEngine, {&event, 1});
  Index after({.space = space()});
  after.set_state(kEngine, blocks::PublisherState::kSuspect);
  ASSERT_TRUE(after.adopt(kEngine, before.copy(kEngine)->parts).ok());
  MatchTable table;
  after.match(space().chain(std::get<blocks::BlockStored>(event).token_ids, {}), table);
  ASSERT_NE(table.find(kEngine), nullptr);
  EXPECT_EQ(table.find(kEngine)->depth(Tier::kGpu), 40u);
}

// Every prefix: whole engines and no others.
TEST(Snapshot, TornAtEveryByte) {
  const auto indexes = some();
  const std::string bytes = small_snapshot(indexes);
  const SnapshotContent whole = read(bytes);
  std::set<std::size_t> counts;
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    const SnapshotContent content = read(std::string_view(bytes).substr(0, cut));
    EXPECT_FALSE(content.complete);
    EXPECT_NE(content.why, "") << cut;
    const std::size_t engines = content.pools.empty() ? 0 : content.pools[0].engines.size();
    counts.insert(engines);
    for (std::size_t i = 0; i < engines; ++i) {
      EXPECT_EQ(content.pools[0].engines[i].parts, whole.pools[0].engines[i].parts);
    }
  }
  EXPECT_EQ(counts.size(), indexes.size() + 1);
}

// Every flipped byte: what is left is what was written.
TEST(Snapshot, FlippedAtEveryByte) {
  const auto indexes = some();
  const std::string bytes = small_snapshot(indexes);
  const SnapshotContent whole = read(bytes);
  std::map<std::string, std::vector<std::string>> right;
  for (const SnapshotEngine& engine : whole.pools[0].engines) right[engine.name] = engine.parts;
  std::size_t isolated = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int mask : {0x01, 0x80, 0xFF}) {
      std::string flipped = bytes;
      flipped[at] = static_cast<char>(flipped[at] ^ mask);
      const SnapshotContent content = read(flipped);
      EXPECT_NE(content.why, "") << at;
      std::size_t engines = 0;
      for (const SnapshotContent::Pool& pool : content.pools) {
        EXPECT_EQ(pool.pool.secret, 7u);
        engines += pool.engines.size();
        for (const SnapshotEngine& engine : pool.engines) {
          ASSERT_TRUE(right.contains(engine.name));
          EXPECT_EQ(engine.parts, right[engine.name]);
          EXPECT_EQ(engine.mark.seq, PublisherSeq(41));
        }
      }
      EXPECT_LE(engines, indexes.size());
      isolated += content.complete && content.engines_refused == 1 && engines == indexes.size() - 1 ? 1 : 0;
    }
  }
  EXPECT_GT(isolated, bytes.size());  // most bytes are some engine's own, and cost that engine alone
}

// Parts under a right checksum but with any byte changed: refused, or something that an index can hold and forget.
TEST(Snapshot, ForgedPartsAreSafe) {
  const auto indexes = some();
  std::size_t refused = 0;
  std::size_t taken = 0;
  for (const auto& from : indexes) {
    const std::vector<std::string> parts = from->copy(kEngine)->parts;
    for (std::size_t part = 0; part < parts.size(); ++part) {
      for (std::size_t at = 0; at < parts[part].size(); ++at) {
        for (const int mask : {0x01, 0xFF}) {
          std::vector<std::string> forged = parts;
          forged[part][at] = static_cast<char>(forged[part][at] ^ mask);
          Index index({.space = space()});
          const auto adopted = index.adopt(kEngine, forged);
          adopted.ok() ? ++taken : ++refused;
          EXPECT_TRUE(adopted.ok() || index.held(kEngine).empty());
          if (adopted.ok()) {
            const auto again = index.copy(kEngine);
            EXPECT_EQ(state_of(again->parts), state_of(forged));
          }
          index.forget(kEngine);
          EXPECT_EQ(index.stat().bytes, 0u);
        }
      }
      for (std::size_t cut = 0; cut < parts[part].size(); ++cut) {
        std::vector<std::string> torn = parts;
        torn[part].resize(cut);
        Index index({.space = space()});
        std::ignore = index.adopt(kEngine, torn);
        index.forget(kEngine);
        EXPECT_EQ(index.stat().bytes, 0u);
      }
    }
  }
  EXPECT_GT(refused, 100u);
  EXPECT_GT(taken, 100u);
}

std::string chain(std::uint64_t parent, bool root, std::uint32_t depth, std::vector<std::uint64_t> hashes,
                  std::uint32_t claimed) {
  std::string out;
  put(out, parent);
  put(out, static_cast<std::uint8_t>(root));
  put(out, std::uint8_t{1});
  put(out, depth);
  put(out, claimed);
  for (const std::uint64_t hash : hashes) put(out, hash);
  for (const std::uint64_t hash : hashes) put(out, hash * 31);
  return out;
}

std::string part_of(const std::string& chains) {
  std::string out;
  put(out, std::uint32_t{0});
  put(out, std::uint8_t{0});
  put(out, std::uint8_t{1});
  put(out, kBlock);
  put(out, std::uint32_t{1});
  put(out, kBlock);
  return out + chains;
}

TEST(Snapshot, CyclesDoublesAndHugeCountsAreRefused) {
  const auto refused = [](const std::string& part) {
    Index index({.space = space()});
    const auto adopted = index.adopt(kEngine, std::vector<std::string>{part});
    EXPECT_EQ(index.held(kEngine).size(), adopted.ok() ? adopted->blocks : 0u);
    return !adopted.ok();
  };
  EXPECT_FALSE(refused(part_of(chain(0, true, 0, {1, 2, 3}, 3))));
  EXPECT_TRUE(refused(part_of(chain(0, true, 0, {1, 2, 1}, 3))));                              // one hash twice
  EXPECT_TRUE(refused(part_of(chain(0, true, 0, {1, 2}, 2) + chain(0, true, 0, {2, 3}, 2))));  // in two chains
  EXPECT_TRUE(refused(part_of(chain(0, true, 0, {1, 2}, 0xFFFF'FFFF))));                       // more than there is
  EXPECT_TRUE(refused(part_of(chain(0, true, 0, {1, 2}, 2) + chain(2, false, 7, {3}, 1))));    // a wrong depth
  EXPECT_TRUE(refused(part_of(chain(0, true, 0, {1}, 1) + chain(0, true, 0, {1}, 1))));        // one block twice
  std::string one_key = chain(0, true, 0, {1, 2}, 2);
  one_key.replace(one_key.size() - 8, 8, one_key, one_key.size() - 16, 8);
  EXPECT_TRUE(refused(part_of(one_key)));  // one key at two places
  // Each other's parents: nobody knows either.
  Index index({.space = space()});
  const auto cycle =
      index.adopt(kEngine, std::vector<std::string>{part_of(chain(2, false, 1, {1}, 1) + chain(1, false, 1, {2}, 1))});
  ASSERT_TRUE(cycle.ok());
  EXPECT_FALSE(cycle->whole);
  EXPECT_TRUE(index.held(kEngine).empty());
}

TEST(Snapshot, DoubtsWithoutAReferenceAreNotTaken) {
  std::string counts;
  for (const std::uint32_t number : {2u, 0u, 5u, 0u}) put(counts, number);
  const ChainView view{.count = 3, .tallies = "\x39\x38\x3F", .counts = counts};
  std::size_t exception = 0;
  EXPECT_EQ(view.tally(0, exception).doubtful, 1);
  EXPECT_EQ(view.tally(1, exception).doubtful, 0);
  EXPECT_EQ(view.tally(2, exception).doubtful, 2) << "the exact counts decide";
}

TEST(Snapshot, AnEngineThatHoldsBlocksIsNotOverwritten) {
  const auto indexes = some();
  const auto parts = indexes[0]->copy(kEngine)->parts;
  EXPECT_EQ(indexes[0]->adopt(kEngine, parts).error().kind, ErrorKind::kConflict);
}

TEST(Snapshot, BelowTheCapItTakesWhatFits) {
  Index large({.space = space()});
  std::vector<blocks::KvEvent> events;
  for (std::uint64_t i = 0; i < 100; ++i) events.push_back(stored(1 + i * 100, 50, 16));
  large.apply(kEngine, events);
  const auto copy = large.copy(kEngine);
  ASSERT_EQ(copy->blocks, 5'000u);
  const std::size_t bytes_max = large.stat().bytes / 3;
  Index small({.space = space(), .bytes_max = bytes_max});
  const auto adopted = small.adopt(kEngine, copy->parts);
  ASSERT_TRUE(adopted.ok());
  EXPECT_FALSE(adopted->whole);
  EXPECT_GT(adopted->blocks, 250u);  // the map is made for all of them first
  EXPECT_LT(adopted->blocks, 2'500u);
  EXPECT_LE(small.stat().bytes, bytes_max);
}

TEST(Snapshot, OtherPoolsAreTold) {
  EXPECT_NE(key_probe({7, "m", 16}), key_probe({8, "m", 16}));
  EXPECT_NE(key_probe({7, "m", 16}), key_probe({7, "n", 16}));
  EXPECT_NE(key_probe({7, "m", 16}), key_probe({7, "m", 32}));
  EXPECT_EQ(key_probe({7, "m", 16}), key_probe({7, "m", 16}));
}

TEST(Snapshot, OfAnotherVersionOrKind) {
  EXPECT_EQ(read("GIF89a, and more bytes than a head has").why, "it is no snapshot of an index");
  EXPECT_TRUE(read("GIF89a, and more bytes than a head has").foreign);
  EXPECT_TRUE(read("GIF").foreign) << "too short for a head";
  std::string bytes = SnapshotWriter().begin(1);
  EXPECT_FALSE(read(bytes).complete);
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) EXPECT_FALSE(read(bytes.substr(0, cut)).foreign) << cut;
  EXPECT_EQ(read("").why, "it ends before its end");
  SnapshotReader reader(10);
  EXPECT_FALSE(reader.feed(small_snapshot(some())));
  EXPECT_EQ(reader.finish().why, "it is larger than 10 bytes");
}

TEST(Snapshot, WhatIsParkedIsNotCopied) {
  // What is parked is not copied, and said.
  Index index({.space = space()});
  const std::vector<blocks::KvEvent> events{stored(1, 3, 16), stored(50, 2, 16, 49)};
  index.apply(kEngine, events);
  const auto copy = index.copy(kEngine);
  ASSERT_TRUE(copy);
  EXPECT_FALSE(copy->whole);
  EXPECT_EQ(copy->blocks, 3u);
}

// One engine's odd events cost that engine, not those behind it.
TEST(Snapshot, WhatNoReaderTakesIsNotWritten) {
  SnapshotWriter writer;
  std::string bytes = writer.begin(1);
  bytes += writer.pool({.name = "a", .block_tokens = kBlock});
  SnapshotEngine large{.name = "large", .parts = {std::string(kSectionBytesMax + 1, 'x')}};
  EXPECT_FALSE(writer.engine(large, bytes));
  EXPECT_FALSE(writer.engine({.name = std::string(5'000, 'n')}, bytes));
  large.parts[0].resize(kSectionBytesMax);
  EXPECT_TRUE(writer.engine(large, bytes));
  EXPECT_TRUE(writer.engine({.name = "behind"}, bytes));
  const SnapshotContent content = read(bytes + writer.end());
  EXPECT_TRUE(content.complete);
  EXPECT_EQ(content.why, "");
  ASSERT_EQ(content.pools.at(0).engines.size(), 2u);
  EXPECT_EQ(content.pools[0].engines[1].name, "behind");
}

TEST(Snapshot, ABlockThatNoReaderTakesIsLeftOut) {
  Index index({.space = space()});
  auto odd = std::get<blocks::BlockStored>(stored(10, 2, 8));
  odd.token_ids.resize(12);
  odd.block_hashes.resize(1);
  odd.block_size = 12;
  odd.extra_keys = {{blocks::ExtraItem{std::string(70'000, 'i'), 3}}};
  const std::vector<blocks::KvEvent> events{stored(1, 3, 12), odd, stored(20, 2, 12, 10)};
  index.apply(kEngine, events);
  ASSERT_EQ(index.held(kEngine).size(), 6u);
  const auto copy = index.copy(kEngine);
  ASSERT_TRUE(copy);
  EXPECT_FALSE(copy->whole);
  Index again({.space = space()});
  const auto adopted = again.adopt(kEngine, copy->parts);
  ASSERT_TRUE(adopted.ok());
  EXPECT_EQ(adopted->blocks, 3u);
}

// A mark is of one moment: blocks of another are not copied with it.
TEST(Snapshot, OfAnotherMomentThanItsMark) {
  Index index({.space = space()});
  EXPECT_FALSE(index.copy_point(kEngine));
  EXPECT_FALSE(index.copy(kEngine)) << "not known";
  index.set_state(kEngine, blocks::PublisherState::kExact);
  const auto nothing = index.copy_point(kEngine);
  ASSERT_TRUE(nothing);
  EXPECT_TRUE(index.copy(kEngine, *nothing)->whole);
  const blocks::KvEvent event = stored(1, 3, 16);
  index.apply(kEngine, {&event, 1});
  EXPECT_FALSE(index.copy(kEngine, *nothing));
  const auto three = index.copy_point(kEngine);
  ASSERT_TRUE(three);
  EXPECT_EQ(index.copy(kEngine, *three)->blocks, 3u);
  const blocks::KvEvent more = stored(10, 2, 16, 3);
  index.apply(kEngine, {&more, 1});
  EXPECT_FALSE(index.copy(kEngine, *three));
  const auto five = index.copy_point(kEngine);
  index.forget(kEngine);
  index.set_state(kEngine, blocks::PublisherState::kLost);
  EXPECT_FALSE(index.copy(kEngine, *five)) << "gone: an empty copy would say that it holds nothing";
}

// The cap may take blocks of an engine without any event of its own.
TEST(Snapshot, WhatWasEvictedSinceItsMarkIsSaid) {
  Index index({.space = space(), .bytes_max = 200'000});
  const blocks::KvEvent event = stored(1, 20, 16);
  index.apply(kEngine, {&event, 1});
  const auto point = index.copy_point(kEngine);
  ASSERT_TRUE(index.copy(kEngine, *point)->whole);
  for (std::uint64_t i = 1; index.blocks_evicted(kEngine) == 0; ++i) {
    ASSERT_LT(i, 10'000u);
    const blocks::KvEvent other = stored(i * 1'000, 20, 16);
    index.apply(EngineId(1), {&other, 1});
  }
  const auto copy = index.copy(kEngine, *point);
  ASSERT_TRUE(copy);
  EXPECT_FALSE(copy->whole);
}

}  // namespace
}  // namespace warmpath::index
