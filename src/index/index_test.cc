#include "index/index.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::index {
namespace {

using blocks::BlockRemoved;
using blocks::BlockStored;
using blocks::KvEvent;
using blocks::PublisherState;
using blocks::Tier;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr EngineId kOne{1};
constexpr EngineId kTwo{2};

std::vector<TokenId> tokens(TokenId first, std::size_t count) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = first + static_cast<TokenId>(i);
  return ids;
}

blocks::WireHash wire(std::uint64_t hash) { return {.value = EngineHash(hash), .bytes = {}}; }

// `hashes.size()` blocks of `block` tokens counting up from `first`.
BlockStored stored(std::vector<std::uint64_t> hashes, std::optional<std::uint64_t> parent, TokenId first,
                   std::uint32_t block = 16) {
  BlockStored event;
  for (const std::uint64_t hash : hashes) event.block_hashes.push_back(wire(hash));
  if (parent) event.parent_block_hash = wire(*parent);
  event.token_ids = tokens(first, hashes.size() * block);
  event.block_size = block;
  event.medium = "GPU";
  return event;
}

BlockRemoved removed(std::vector<std::uint64_t> hashes, std::optional<std::string> medium = "GPU") {
  BlockRemoved event;
  for (const std::uint64_t hash : hashes) event.block_hashes.push_back(wire(hash));
  event.medium = std::move(medium);
  return event;
}

struct Fixture {
  explicit Fixture(std::uint32_t router_block = 16, IndexOptions more = {.space = blocks::KeySpace(0, "", 1)})
      : index([&] {
          more.space = blocks::KeySpace(7, "m", router_block);
          return more;
        }()) {
    index.set_state(kOne, PublisherState::kExact);
    index.set_state(kTwo, PublisherState::kExact);
  }
  Applied apply(EngineId engine, KvEvent event) { return index.apply(engine, std::span(&event, 1)); }
  std::array<std::uint32_t, 3> depth(EngineId engine, std::span<const TokenId> ids,
                                     const blocks::ChainContext& context = {}) {
    MatchTable table;
    index.match(index.space().chain(ids, context), table);
    const MatchRow* const row = table.find(engine);
    return row == nullptr ? std::array<std::uint32_t, 3>{} : row->depth_blocks;
  }
  Index index;
};

TEST(Index, MatchesTheLongestPrefixOfEachEngine) {
  Fixture f;
  EXPECT_EQ(f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0)).blocks_stored, 3u);
  f.apply(kTwo, stored({91}, std::nullopt, 0));  // other hashes, same tokens
  MatchTable table;
  f.index.match(f.index.space().chain(tokens(0, 64), {}), table);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0].engine, kOne);
  EXPECT_EQ(table.rows[0].depth(Tier::kGpu), 3u);
  EXPECT_EQ(table.rows[1].engine, kTwo);
  EXPECT_EQ(table.rows[1].depth(Tier::kGpu), 1u);
  EXPECT_EQ(table.find(EngineId(3)), nullptr);
  const auto chain = f.index.space().chain(tokens(0, 64), {});
  EXPECT_THAT(f.index.holders(chain[0]), ElementsAre(kOne, kTwo));
  EXPECT_THAT(f.index.holders(chain[2]), ElementsAre(kOne));
  EXPECT_THAT(f.index.holders(chain[3]), IsEmpty());
  f.index.match({}, table);
  EXPECT_THAT(table.rows, IsEmpty());
}

TEST(Index, LostEnginesDoNotMatchAndLeaveNoTraceWhenEmpty) {
  Fixture f;
  f.apply(kOne, stored({1}, std::nullopt, 0));
  f.apply(EngineId(9), stored({1}, std::nullopt, 0));  // never told its state: lost
  EXPECT_EQ(f.depth(EngineId(9), tokens(0, 16))[0], 0u);
  f.index.set_state(kOne, PublisherState::kLost);
  EXPECT_EQ(f.depth(kOne, tokens(0, 16))[0], 0u);
  for (const PublisherState state : {PublisherState::kPartial, PublisherState::kSuspect, PublisherState::kExact}) {
    f.index.set_state(kOne, state);
    EXPECT_EQ(f.depth(kOne, tokens(0, 16))[0], 1u);
  }
  f.index.forget(EngineId(9));
  f.index.set_state(kTwo, PublisherState::kLost);
  const IndexStat stat = f.index.stat();
  ASSERT_EQ(stat.engines.size(), 1u);
  EXPECT_EQ(stat.engines[0].engine, kOne);
  EXPECT_EQ(stat.engines[0].state, PublisherState::kExact);
  EXPECT_EQ(stat.engines[0].blocks_held, 1u);
  EXPECT_EQ(stat.engines[0].router_blocks_held, 1u);
  EXPECT_EQ(stat.engines[0].block_tokens, 16u);
  EXPECT_EQ(stat.keys, 1u);
  EXPECT_GT(stat.bytes, 0u);
}

TEST(Index, ForgetKeepsTheState) {
  Fixture f;
  f.apply(kOne, stored({1}, std::nullopt, 0));
  f.index.forget(kOne);
  EXPECT_EQ(f.index.stat().bytes, 0u);
  f.apply(kOne, stored({5}, std::nullopt, 0));
  EXPECT_EQ(f.depth(kOne, tokens(0, 16))[0], 1u);
}

TEST(Index, CountsReferences) {
  Fixture f;
  f.apply(kOne, stored({1, 2}, std::nullopt, 0));
  f.apply(kOne, stored({2}, 1, 16));  // vLLM 0.32: the last block of a fully cached prompt, computed again
  EXPECT_EQ(f.apply(kOne, removed({2})).blocks_removed, 1u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 2u);
  f.apply(kOne, removed({2}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 1u);
  EXPECT_EQ(f.apply(kOne, removed({2, 77})).blocks_unknown, 2u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 1u);
}

TEST(Index, FullReportsLeaveNoGhosts) {
  Fixture f;
  f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0));
  for (int i = 0; i < 5; ++i) f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0));
  f.apply(kOne, removed({3}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 2u);
  f.apply(kOne, removed({2}));
  f.apply(kOne, removed({1}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 0u);
  EXPECT_EQ(f.index.stat().keys, 0u);
}

// Joined late: a store is parked, and what makes its parent known is a report of the whole prefix, with those blocks.
TEST(Index, AReportThatNamesParkedBlocksLeavesNoGhosts) {
  Fixture f;
  f.apply(kOne, stored({3, 4}, 2, 32));
  f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0));
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 4u);
  f.apply(kOne, removed({4}));
  f.apply(kOne, removed({3}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 2u);
  EXPECT_EQ(f.index.held(kOne).size(), 2u);
}

TEST(Index, ACopiedHeadSurvivesTheEndOfItsCopy) {
  Fixture f;
  f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0));
  f.apply(kOne, stored({1}, std::nullopt, 0));  // a 16-token prompt computed again: a second copy of block 1
  f.apply(kOne, removed({1}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 3u);
  f.apply(kOne, removed({3, 2, 1}));
  EXPECT_EQ(f.index.stat().keys, 0u);
}

TEST(Index, ListsWhatAnEngineHolds) {
  Fixture f;
  EXPECT_THAT(f.index.held(kOne), IsEmpty());
  f.apply(kOne, stored({30, 10, 20}, std::nullopt, 0));
  BlockStored offloaded = stored({10}, 30, 16);
  offloaded.medium = "CPU";
  f.apply(kOne, offloaded);
  f.apply(kTwo, stored({99}, std::nullopt, 0));
  f.apply(kOne, stored({77}, 76, 0));  // parked: not held
  f.apply(kOne, removed({30}));        // its children stand, it does not
  const std::vector<HeldBlock> expected{{.group = 0, .hash = EngineHash(10), .tiers = 3},
                                        {.group = 0, .hash = EngineHash(20), .tiers = 1}};
  EXPECT_EQ(f.index.held(kOne), expected);
  f.index.forget(kOne);
  EXPECT_THAT(f.index.held(kOne), IsEmpty());
}

TEST(Index, TiersAreCumulative) {
  Fixture f;
  f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0));
  BlockStored cpu = stored({1, 2}, std::nullopt, 0);
  cpu.medium = "CPU_PINNED";
  f.apply(kOne, cpu);
  f.apply(kOne, removed({3, 2}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 48)), (std::array<std::uint32_t, 3>{1, 2, 2}));
  BlockStored disk = stored({3}, 2, 32);
  disk.medium = "STORAGE";
  f.apply(kOne, disk);
  EXPECT_EQ(f.depth(kOne, tokens(0, 48)), (std::array<std::uint32_t, 3>{1, 2, 3}));
  f.apply(kOne, blocks::AllBlocksCleared{});
  EXPECT_EQ(f.depth(kOne, tokens(0, 48)), (std::array<std::uint32_t, 3>{0, 2, 3}));
}

TEST(Index, PlaceholdersAddATierToAKnownHash) {
  Fixture f;
  f.apply(kOne, stored({1, 2}, std::nullopt, 0));
  BlockStored placeholder;
  placeholder.block_hashes = {wire(1), wire(2)};
  placeholder.medium = "CPU";
  EXPECT_EQ(f.apply(kOne, placeholder).blocks_stored, 2u);
  f.apply(kOne, removed({2, 1}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 32)), (std::array<std::uint32_t, 3>{0, 2, 2}));
  placeholder.block_hashes = {wire(66)};
  EXPECT_EQ(f.apply(kOne, placeholder).stores_dropped, 1u);
  f.apply(kOne, removed({2, 1}, "cpu"));
  EXPECT_EQ(f.index.stat().keys, 0u);
}

TEST(Index, ChildrenOfARemovedParentKeepTheirChain) {
  Fixture f;
  f.apply(kOne, stored({1, 2, 3}, std::nullopt, 0));
  f.apply(kOne, removed({1}));  // odd order
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 0u);
  EXPECT_EQ(f.apply(kOne, stored({4}, 3, 48)).blocks_stored, 1u);
  f.apply(kOne, stored({1}, std::nullopt, 0));
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 4u);
}

TEST(Index, JoinsPagesOfOneToken) {  // SGLang's default page size
  Fixture f;
  std::vector<std::uint64_t> hashes;
  for (std::uint64_t i = 0; i < 40; ++i) hashes.push_back(1000 + i);
  for (std::uint64_t i = 0; i < 40; ++i) {
    f.apply(kOne,
            stored({hashes[i]}, i == 0 ? std::nullopt : std::optional(hashes[i - 1]), static_cast<TokenId>(i), 1));
  }
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 2u);
  f.apply(kOne, removed({hashes[20]}));
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 1u);
  f.apply(kOne, stored({hashes[20]}, hashes[19], 20, 1));
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 2u);
}

TEST(Index, RoundsCreditDownToWholeEngineBlocks) {
  Fixture f;
  f.apply(kOne, stored({1, 2}, std::nullopt, 0, 64));
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 0u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 64))[0], 4u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 127))[0], 4u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 128))[0], 8u);
}

TEST(Index, ParksStoresUntilTheParentComes) {
  Fixture f;
  EXPECT_EQ(f.apply(kOne, stored({3}, 2, 32)).stores_parked, 1u);
  EXPECT_EQ(f.apply(kOne, stored({2}, 1, 16)).stores_parked, 1u);
  EXPECT_EQ(f.index.stat().engines[0].stores_parked, 2u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 0u);
  const Applied applied = f.apply(kOne, stored({1}, std::nullopt, 0));
  EXPECT_EQ(applied.stores_unparked, 2u);
  EXPECT_EQ(applied.blocks_stored, 3u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 3u);
}

TEST(Index, RemovalsReachParkedStores) {
  Fixture f;
  f.apply(kOne, stored({2, 3}, 1, 16));
  EXPECT_EQ(f.apply(kOne, removed({3})).blocks_removed, 1u);
  EXPECT_EQ(f.apply(kOne, removed({3})).blocks_unknown, 1u);
  f.apply(kOne, stored({1}, std::nullopt, 0));
  EXPECT_EQ(f.depth(kOne, tokens(0, 48))[0], 2u);
  f.apply(kOne, blocks::AllBlocksCleared{});
  f.apply(kOne, stored({12}, 11, 16));
  f.apply(kOne, blocks::AllBlocksCleared{});
  EXPECT_EQ(f.apply(kOne, stored({11}, std::nullopt, 0)).stores_unparked, 0u) << "the clear covered the parked one";
}

TEST(Index, ParkingIsBoundedOldestFirst) {
  Fixture f(16, {.space = blocks::KeySpace(0, "", 1), .parked_events_max = 2});
  f.apply(kOne, stored({2}, 1, 16));
  f.apply(kOne, stored({4}, 3, 16));
  EXPECT_EQ(f.apply(kOne, stored({6}, 5, 16)).stores_dropped, 1u);
  EXPECT_EQ(f.apply(kOne, stored({1}, std::nullopt, 0)).stores_unparked, 0u);
  EXPECT_EQ(f.apply(kOne, stored({5}, std::nullopt, 0)).stores_unparked, 1u);
  Fixture tiny(16, {.space = blocks::KeySpace(0, "", 1), .parked_bytes_max = 10});
  EXPECT_EQ(tiny.apply(kOne, stored({2}, 1, 16)).stores_dropped, 1u);
  EXPECT_EQ(tiny.index.stat().bytes, 0u);
}

TEST(Index, ForgetsOldChainsAtTheByteCap) {
  constexpr std::size_t kCap = 200'000;
  Fixture f(16, {.space = blocks::KeySpace(0, "", 1), .bytes_max = kCap});
  std::uint32_t evicted = 0;
  constexpr std::uint64_t kChains = 3000;
  const auto first = [](std::uint64_t i) { return static_cast<TokenId>(i * 1000); };
  for (std::uint64_t i = 0; i < kChains; ++i) {
    const Applied applied = f.apply(i % 2 == 0 ? kOne : kTwo, stored({i * 2 + 1, i * 2 + 2}, std::nullopt, first(i)));
    ASSERT_EQ(applied.stores_dropped, 0u);
    ASSERT_EQ(applied.blocks_stored, 2u);
    evicted += applied.blocks_evicted;
    ASSERT_LE(f.index.stat().bytes, kCap);
  }
  EXPECT_GT(evicted, 0u);
  const IndexStat stat = f.index.stat();
  EXPECT_GT(stat.bytes, kCap * 9 / 10);
  EXPECT_EQ(stat.blocks_evicted, evicted);
  EXPECT_EQ(stat.engines[0].blocks_held + stat.engines[1].blocks_held, kChains * 2 - evicted);
  EXPECT_EQ(f.depth(kTwo, tokens(first(kChains - 1), 32))[0], 2u) << "the last one stands";
  EXPECT_EQ(f.depth(kOne, tokens(first(0), 32))[0], 0u) << "the first one went";
  EXPECT_EQ(f.apply(kOne, removed({1})).blocks_unknown, 1u);
  EXPECT_EQ(f.apply(kOne, stored({7}, 2, 32)).stores_parked, 1u) << "what is forgotten is no parent";
  // One chain alone that is too long for the cap is refused whole.
  std::vector<std::uint64_t> hashes(20'000);
  for (std::uint64_t i = 0; i < hashes.size(); ++i) hashes[i] = 1'000'000 + i;
  EXPECT_EQ(f.apply(kOne, stored(hashes, std::nullopt, 5, 16)).stores_dropped, 1u);
  f.index.forget(kOne);
  f.index.forget(kTwo);
  EXPECT_EQ(f.index.stat().bytes, 0u);
  EXPECT_EQ(f.apply(kOne, stored({1}, std::nullopt, 0)).stores_dropped, 0u);
}

TEST(Index, DropsStoresThatDoNotAddUp) {
  Fixture f;
  BlockStored event = stored({1, 2}, std::nullopt, 0);
  event.token_ids.pop_back();
  EXPECT_EQ(f.apply(kOne, event).stores_dropped, 1u);
  event = stored({1}, std::nullopt, 0);
  event.block_size = 0;
  EXPECT_EQ(f.apply(kOne, event).stores_dropped, 1u);
  event = stored({1}, std::nullopt, 0);
  event.extra_keys.emplace();  // one list per hash is wanted
  EXPECT_EQ(f.apply(kOne, event).stores_dropped, 1u);
  event = stored({}, std::nullopt, 0);
  event.token_ids = tokens(0, 16);
  EXPECT_EQ(f.apply(kOne, event).stores_dropped, 1u);
  event = stored({1}, std::nullopt, 0);
  event.medium = "MARS";
  EXPECT_EQ(f.apply(kOne, event).stores_skipped, 1u);
  event.medium = "GPU";
  event.locality = "REMOTE";
  EXPECT_EQ(f.apply(kOne, event).stores_skipped, 1u);
  // A block that names itself as its parent waits for ever and harms nobody.
  EXPECT_EQ(f.apply(kOne, stored({5}, 5, 0)).stores_parked, 1u);
  EXPECT_EQ(f.apply(kOne, stored({5, 5}, std::nullopt, 0)).stores_unparked, 1u);
  f.apply(kOne, removed({5, 5, 5}));
  f.index.forget(kOne);
  EXPECT_EQ(f.index.stat().bytes, 0u);
  EXPECT_EQ(f.index.stat().keys, 0u);
}

TEST(Index, BoundsTheGroupsOfAnEngine) {
  Fixture f;
  std::uint32_t dropped = 0;
  for (std::uint32_t g = 0; g < 100; ++g) {
    BlockStored event = stored({g + 1}, std::nullopt, 0);
    event.group_idx = g;
    dropped += f.apply(kOne, event).stores_dropped;
  }
  EXPECT_EQ(dropped, 36u);
}

TEST(Index, SaltsAndAdaptersDoNotMix) {
  Fixture f;
  BlockStored vllm = stored({1, 2}, std::nullopt, 0);
  vllm.lora_name = "lora";
  vllm.extra_keys = {{blocks::ExtraText{"lora"}, blocks::ExtraText{"tenant"}}, {blocks::ExtraText{"lora"}}};
  f.apply(kOne, vllm);
  BlockStored sglang = stored({3, 4}, std::nullopt, 0);
  sglang.cache_salt = "tenant";
  f.apply(kTwo, sglang);
  const auto ids = tokens(0, 32);
  EXPECT_EQ(f.depth(kOne, ids, {.lora = "lora", .salt = "tenant", .items = {}})[0], 2u);
  EXPECT_EQ(f.depth(kTwo, ids, {.lora = "", .salt = "tenant", .items = {}})[0], 2u);
  for (const EngineId engine : {kOne, kTwo}) {
    EXPECT_EQ(f.depth(engine, ids)[0], 0u);
    EXPECT_EQ(f.depth(engine, ids, {.lora = "lora", .salt = "", .items = {}})[0], 0u);
    EXPECT_EQ(f.depth(engine, ids, {.lora = "", .salt = "lora", .items = {}})[0], 0u);
  }
}

TEST(Index, UnnamedAdaptersAndEmbeddingsMatchNothing) {
  Fixture f;
  BlockStored old = stored({1}, std::nullopt, 0);
  old.lora_id = 3;
  f.apply(kOne, old);
  BlockStored embedded = stored({2}, std::nullopt, 0);
  embedded.extra_keys = {{blocks::ExtraBytes{std::string(32, 'x')}}};
  f.apply(kOne, embedded);
  BlockStored bare = stored({3, 4}, std::nullopt, 0);  // an old multimodal id in block 1
  bare.extra_keys = {{}, {blocks::ExtraText{"img"}}};
  f.apply(kTwo, bare);
  EXPECT_EQ(f.depth(kOne, tokens(0, 16))[0], 0u);
  EXPECT_EQ(f.depth(kTwo, tokens(0, 32))[0], 1u);
  EXPECT_EQ(f.depth(kTwo, tokens(0, 32), {.lora = "", .salt = "", .items = {{"img", 16, 4}}})[0], 1u);
}

TEST(Index, RealignsItemsToRouterBlocks) {
  Fixture f;
  BlockStored event = stored({1, 2}, std::nullopt, 0, 32);
  event.extra_keys = {{blocks::ExtraItem{"a", 3}, blocks::ExtraItem{"b", 20}}, {blocks::ExtraItem{"b", -12}}};
  f.apply(kOne, event);
  EXPECT_EQ(f.depth(kOne, tokens(0, 64), {.lora = "", .salt = "", .items = {{"a", 3, 5}, {"b", 20, 40}}})[0], 4u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 64), {.lora = "", .salt = "", .items = {{"a", 3, 5}}})[0], 0u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 64), {.lora = "", .salt = "", .items = {{"a", 3, 5}, {"b", 21, 40}}})[0], 0u);
}

TEST(Index, GroupsMatchTogether) {
  Fixture f;
  BlockStored full = stored({1, 2}, std::nullopt, 0);
  full.group_idx = 0;
  full.kv_cache_spec_kind = "full_attention";
  BlockStored other = stored({1}, std::nullopt, 0);  // the same hash is another block in another group
  other.group_idx = 1;
  other.kv_cache_spec_kind = "mla_attention";
  BlockStored window = stored({1, 2}, std::nullopt, 0);
  window.group_idx = 2;
  window.kv_cache_spec_kind = "sliding_window";
  f.apply(kOne, full);
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 2u);
  f.apply(kOne, other);
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 1u);
  EXPECT_EQ(f.apply(kOne, window).stores_skipped, 1u);
  window.kv_cache_spec_kind.reset();
  EXPECT_EQ(f.apply(kOne, window).stores_skipped, 1u) << "the kind is remembered";
  BlockRemoved gone = removed({1});
  gone.group_idx = 2;
  EXPECT_EQ(f.apply(kOne, gone).blocks_unknown, 0u);
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 1u);
}

TEST(Index, AGroupThatTurnsOutToSlideIsDropped) {
  Fixture f;
  BlockStored event = stored({1, 2}, std::nullopt, 0);
  f.apply(kOne, event);
  event.kv_cache_spec_kind = "sliding_window";
  f.apply(kOne, event);
  EXPECT_EQ(f.depth(kOne, tokens(0, 32))[0], 0u);
  EXPECT_EQ(f.index.stat().keys, 0u);
  EXPECT_EQ(f.index.stat().bytes, 0u);
}

TEST(RouterBlock, IsTheGreatestCommonDivisorNotBelowTheFloor) {
  const auto block = [](std::vector<std::uint32_t> sizes, std::uint32_t floor = 16) {
    return router_block_tokens(sizes, floor);
  };
  EXPECT_EQ(block({64}), 64u);
  EXPECT_EQ(block({64, 48}), 16u);
  EXPECT_EQ(block({1}), 16u);
  EXPECT_EQ(block({8, 64}), 16u);
  EXPECT_EQ(block({12}), 24u);
  EXPECT_EQ(block({1, 64}, 32), 32u);
  EXPECT_EQ(block({7}, 1), 7u);
}

// Writers of several engines and readers at once; at the end the map is what the writers left. For tsan.
TEST(Index, ReadersAndWritersRunTogether) {
  constexpr std::uint32_t kEngines = 3;
  constexpr int kRounds = 150;
  Fixture f(16, {.space = blocks::KeySpace(0, "", 1), .parked_events_max = 8});
  std::atomic<bool> done{false};
  const auto chain = f.index.space().chain(tokens(0, 64 * 16), {});
  std::vector<std::thread> threads;
  for (std::uint32_t e = 0; e < kEngines; ++e) {
    threads.emplace_back([&f, e] {
      const EngineId engine(e);
      f.index.set_state(engine, PublisherState::kExact);
      std::vector<std::uint64_t> hashes;
      for (std::uint64_t i = 0; i < 64; ++i) hashes.push_back(e * 1000 + i);
      for (int round = 0; round < kRounds; ++round) {
        f.apply(engine, stored(hashes, std::nullopt, 0, e == 2 ? 8 : 16));
        f.apply(engine, removed({hashes[63], hashes[62]}));
        f.apply(engine, stored({e * 1000 + 999}, e * 1000 + 998, 0));  // parked
        if (round % 3 == 0) f.apply(engine, blocks::AllBlocksCleared{});
        if (round % 5 == 0) f.index.forget(engine);
      }
      f.apply(engine, blocks::AllBlocksCleared{});
      f.apply(engine, stored(hashes, std::nullopt, 0, e == 2 ? 8 : 16));
    });
  }
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; ++r) {
    readers.emplace_back([&] {
      MatchTable table;
      while (!done.load()) {
        f.index.match(chain, table);
        for (const MatchRow& row : table.rows) ASSERT_LE(row.depth(Tier::kStorage), 64u);
        EXPECT_LE(f.index.holders(chain[3]).size(), kEngines);
        EXPECT_LE(f.index.stat().engines.size(), kEngines);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  for (std::thread& thread : readers) thread.join();
  EXPECT_EQ(f.depth(EngineId(0), tokens(0, 64 * 16))[0], 64u);
  EXPECT_EQ(f.depth(EngineId(2), tokens(0, 64 * 16))[0], 32u);
  for (std::uint32_t e = 0; e < kEngines; ++e) f.index.forget(EngineId(e));
  EXPECT_EQ(f.index.stat().bytes, 0u);
  EXPECT_EQ(f.index.stat().keys, 0u);
}

// Memory of runs is used again and again while readers walk: what one engine holds alone is always seen whole, and
// nobody else is ever seen there.
TEST(Index, ReadersSeeNoTornRunsWhileOthersChurn) {
  constexpr std::uint32_t kChurners = 3;
  constexpr int kRounds = 300;
  Fixture f(16, {.space = blocks::KeySpace(0, "", 1)});
  const auto still = tokens(1, 16 * 40);
  const EngineId keeper(100);
  f.index.set_state(keeper, PublisherState::kExact);
  std::vector<std::uint64_t> hashes;
  for (std::uint64_t i = 0; i < 40; ++i) hashes.push_back(i + 1);
  f.apply(keeper, stored({hashes.begin(), hashes.begin() + 8}, std::nullopt, 1));
  f.apply(keeper, stored({hashes.begin() + 8, hashes.end()}, 8, 1 + 8 * 16));
  const auto chain = f.index.space().chain(still, {});
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; ++r) {
    readers.emplace_back([&] {
      MatchTable table;
      while (!done.load()) {
        f.index.match(chain, table);
        const MatchRow* const row = table.find(keeper);
        ASSERT_NE(row, nullptr);
        EXPECT_EQ(row->depth(Tier::kGpu), 40u);
        for (const MatchRow& other : table.rows) {
          if (other.engine != keeper) EXPECT_LE(other.depth(Tier::kStorage), 8u);
        }
      }
    });
  }
  std::vector<std::thread> writers;
  for (std::uint32_t e = 0; e < kChurners; ++e) {
    writers.emplace_back([&f, e] {
      const EngineId engine(e);
      f.index.set_state(engine, PublisherState::kExact);
      RandomStream random(e, "churn");
      for (int round = 0; round < kRounds; ++round) {
        // The shared head, then chains of its own behind it and elsewhere, of every length.
        std::vector<std::uint64_t> head;
        for (std::uint64_t i = 0; i < 8; ++i) head.push_back(e * 10'000 + 1 + i);
        f.apply(engine, stored(head, std::nullopt, 1));
        std::vector<std::vector<std::uint64_t>> chains;
        for (int c = 0; c < 6; ++c) {
          std::vector<std::uint64_t>& own = chains.emplace_back();
          for (std::uint64_t i = 0; i < 1 + random.below(30); ++i) own.push_back(random.next());
          const auto first = static_cast<TokenId>(10'000 + random.below(1'000'000));
          f.apply(engine, stored(own, c % 2 == 0 ? std::optional(head.back()) : std::nullopt, first));
        }
        if (round % 4 == 3) {
          f.index.forget(engine);
          continue;
        }
        for (std::vector<std::uint64_t>& own : chains) {
          std::ranges::reverse(own);
          f.apply(engine, removed(own));
        }
        std::ranges::reverse(head);
        f.apply(engine, removed(head));
      }
      f.index.forget(engine);
    });
  }
  for (std::thread& thread : writers) thread.join();
  done = true;
  for (std::thread& thread : readers) thread.join();
  EXPECT_EQ(f.index.stat().keys, 40u);
}

}  // namespace
}  // namespace warmpath::index
