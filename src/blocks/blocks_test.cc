#include "blocks/blocks.h"

#include <gtest/gtest.h>

#include <set>

namespace warmpath::blocks {
namespace {

constexpr std::uint64_t kSecret = 0x5eed5eed;

std::vector<TokenId> random_ids(RandomStream& random, std::size_t count, std::uint64_t vocabulary = 152'000) {
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(random.below(vocabulary));
  return ids;
}

bool disjoint(const std::vector<BlockKey>& a, const std::vector<BlockKey>& b) {
  const std::set<BlockKey> keys(a.begin(), a.end());
  for (const BlockKey key : b) {
    if (keys.contains(key)) return false;
  }
  return true;
}

TEST(KeySpace, ChainHasOneKeyPerFullBlockAndNextBuildsTheSame) {
  const KeySpace space(kSecret, "m", 16);
  RandomStream random(1, "chain");
  for (std::size_t length = 0; length < 70; ++length) {
    const auto ids = random_ids(random, length);
    const ChainContext context{.lora = "a", .salt = "s", .items = {}};
    const auto chain = space.chain(ids, context);
    ASSERT_EQ(chain.size(), length / 16);
    BlockKey parent = space.root("a", "s");
    for (std::size_t i = 0; i < chain.size(); ++i) {
      parent = space.next(parent, std::span(ids).subspan(i * 16, 16));
      EXPECT_EQ(chain[i], parent);
    }
  }
}

TEST(KeySpace, KeysAgreeExactlyOnTheCommonPrefix) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    RandomStream random(seed, "prefix");
    const auto block = static_cast<std::uint32_t>(1 + random.below(40));
    const KeySpace space(kSecret, "m", block);
    auto a = random_ids(random, block * (1 + random.below(12)) + random.below(block));
    auto b = a;
    b.resize(a.size() + random.below(2 * block));
    const std::size_t changed = random.below(a.size());
    b[changed] += 1;
    const auto chain_a = space.chain(a, {});
    const auto chain_b = space.chain(b, {});
    for (std::size_t i = 0; i < chain_a.size(); ++i) EXPECT_EQ(chain_a[i] == chain_b[i], (i + 1) * block <= changed);
  }
}

TEST(KeySpace, DifferentContextsNeverShareAKey) {
  RandomStream random(3, "contexts");
  const auto ids = random_ids(random, 256);
  const std::vector<ChainContext> contexts = {
      {},
      {.lora = "a", .salt = "", .items = {}},
      {.lora = "", .salt = "a", .items = {}},
      {.lora = "ab", .salt = "c", .items = {}},
      {.lora = "a", .salt = "bc", .items = {}},
      {.lora = "abc", .salt = "", .items = {}},
      {.lora = std::string("a\0", 2), .salt = "", .items = {}},
      {.lora = "", .salt = "", .items = {{"a", 0, 8}}},
      {.lora = "", .salt = "", .items = {{"b", 0, 8}}},
      {.lora = "", .salt = "", .items = {{"a", 1, 8}}},
      {.lora = "", .salt = "", .items = {{"a", 0, 4}, {"b", 4, 4}}},
      {.lora = "", .salt = "", .items = {{"ab", 0, 4}, {"", 4, 4}}},
      {.lora = "a", .salt = "a", .items = {{"a", 0, 8}}},
  };
  const std::string text(300, 't');
  std::vector<std::vector<BlockKey>> chains;
  for (const std::uint64_t secret : {kSecret, kSecret + 1}) {
    for (const std::string_view model : {"m", "m2", ""}) {
      const KeySpace space(secret, model, 16);
      for (const ChainContext& context : contexts) {
        chains.push_back(space.chain(ids, context));
        chains.push_back(space.text_chain(text, 64, 0, context));
      }
    }
  }
  for (std::size_t i = 0; i < chains.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_TRUE(disjoint(chains[i], chains[j])) << i << " and " << j;
  }
}

TEST(KeySpace, ItemsChangeKeysFromTheirBlockOn) {
  const KeySpace space(kSecret, "m", 16);
  RandomStream random(4, "items");
  const auto ids = random_ids(random, 160);
  const auto plain = space.chain(ids, {});
  const auto with = space.chain(ids, {.lora = "", .salt = "", .items = {{"img", 40, 30}}});
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(plain[i] == with[i], i < 2) << i;

  // The same by hand: only the block in which the item begins names it.
  const std::vector<std::vector<MmKey>> keys = {{}, {}, {{"img", 8}}, {}, {}};
  BlockKey parent = space.root("", "");
  for (std::size_t i = 0; i < keys.size(); ++i) {
    parent = space.next(parent, std::span(ids).subspan(i * 16, 16), keys[i]);
    EXPECT_EQ(parent, with[i]) << i;
  }

  // Order of the list does not matter; order in the prompt does.
  const auto ab = space.chain(ids, {.lora = "", .salt = "", .items = {{"a", 0, 4}, {"b", 8, 4}}});
  EXPECT_EQ(space.chain(ids, {.lora = "", .salt = "", .items = {{"b", 8, 4}, {"a", 0, 4}}}), ab);
  EXPECT_NE(space.chain(ids, {.lora = "", .salt = "", .items = {{"b", 0, 4}, {"a", 8, 4}}}), ab);
  // A short item inside a long one, and lengths at the edge of the range.
  const auto nested = space.chain(ids, {.lora = "", .salt = "", .items = {{"long", 0, 100}, {"in", 20, 2}}});
  EXPECT_NE(nested[1], space.chain(ids, {.lora = "", .salt = "", .items = {{"long", 0, 100}}})[1]);
  EXPECT_EQ(space.chain(ids, {.lora = "", .salt = "", .items = {{"x", 159, UINT64_MAX}}})[8], plain[8]);
}

TEST(KeySpace, LargeBlocksHashLikeSmallOnes) {
  // Beyond the stack buffer the heap path must not change a key: same tokens, with and without a far-away item.
  for (const std::uint32_t block : {251u, 252u, 253u, 1000u}) {
    const KeySpace space(kSecret, "m", block);
    RandomStream random(block, "large");
    const auto ids = random_ids(random, 3 * block);
    EXPECT_EQ(space.chain(ids, {}), space.chain(ids, {.lora = "", .salt = "", .items = {{"x", 3 * block, 5}}}));
  }
}

TEST(KeySpace, TextChainCountsWholeBlocksUpToTheCap) {
  const KeySpace space(kSecret, "m", 16);
  const std::string text(1000, 'x');
  EXPECT_EQ(space.text_chain(text, 64, 0, {}).size(), 15u);
  EXPECT_EQ(space.text_chain(text, 64, 4, {}).size(), 4u);
  EXPECT_EQ(space.text_chain(text, 64, 99, {}).size(), 15u);
  EXPECT_EQ(space.text_chain(text, 1001, 0, {}).size(), 0u);
  EXPECT_EQ(space.text_chain("", 1, 0, {}).size(), 0u);
  const auto full = space.text_chain(text, 64, 0, {});
  const auto capped = space.text_chain(text, 64, 4, {});
  EXPECT_TRUE(std::equal(capped.begin(), capped.end(), full.begin()));
  // Repeated content still gives different keys: each covers all before it.
  EXPECT_EQ(std::set<BlockKey>(full.begin(), full.end()).size(), full.size());
  std::string other = text;
  other[130] = 'y';
  const auto changed = space.text_chain(other, 64, 0, {});
  for (std::size_t i = 0; i < full.size(); ++i) EXPECT_EQ(full[i] == changed[i], i < 2);
}

TEST(KeySpace, IdGuessIsTheTextGuessOverTheIdsBytes) {
  const KeySpace space(kSecret, "m", 16);
  RandomStream random(5, "guess");
  const auto ids = random_ids(random, 200);
  const std::string bytes(reinterpret_cast<const char*>(ids.data()), ids.size() * 4);
  const ChainContext context{.lora = "l", .salt = "s", .items = {{"img", 40, 10}}};
  EXPECT_EQ(space.id_guess_chain(ids, 64, 0, context), space.text_chain(bytes, 64, 0, context));
  EXPECT_EQ(space.id_guess_chain(ids, 64, 3, context), space.text_chain(bytes, 64, 3, context));
  EXPECT_EQ(space.id_guess_chain(ids, 67, 0, context), space.text_chain(bytes, 64, 0, context));
  EXPECT_EQ(space.id_guess_chain(ids, 64, 0, {}).size(), 12u);
  EXPECT_TRUE(disjoint(space.id_guess_chain(ids, 64, 0, context), space.chain(ids, context)));
}

TEST(KeySpace, KeysLookUniform) {
  // 64 buckets over 64k consecutive-looking blocks: a broken mix shows at once.
  const KeySpace space(kSecret, "m", 1);
  std::vector<TokenId> ids(65'536);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i % 2);
  std::array<int, 64> buckets{};
  for (const BlockKey key : space.chain(ids, {})) ++buckets[key.value() % 64];
  for (const int count : buckets) {
    EXPECT_GT(count, 850);
    EXPECT_LT(count, 1200);
  }
}

TEST(KvEvent, MediaInAnyCase) {
  EXPECT_EQ(tier_of_medium(std::nullopt), Tier::kGpu);
  EXPECT_EQ(tier_of_medium("GPU"), Tier::kGpu);
  EXPECT_EQ(tier_of_medium("gpu"), Tier::kGpu);
  for (const std::string_view name : {"CPU", "cpu_pinned", "CPU_TIER1", "CPU_TIER2"}) {
    EXPECT_EQ(tier_of_medium(name), Tier::kCpu) << name;
  }
  for (const std::string_view name : {"DISK", "Storage", "FS", "obj", "EXTERNAL"}) {
    EXPECT_EQ(tier_of_medium(name), Tier::kStorage) << name;
  }
  EXPECT_EQ(tier_of_medium(""), std::nullopt);
  EXPECT_EQ(tier_of_medium("tape"), std::nullopt);
}

TEST(KvEvent, SpecKinds) {
  EXPECT_EQ(spec_kind_of(""), SpecKind::kUnset);
  EXPECT_EQ(spec_kind_of("full_attention"), SpecKind::kFull);
  EXPECT_EQ(spec_kind_of("mla_attention"), SpecKind::kMla);
  EXPECT_EQ(spec_kind_of("sink_full_attention"), SpecKind::kSinkFull);
  for (const std::string_view name : {"sliding_window", "sliding_window_mla", "mamba", "unknown", "Full_Attention"}) {
    EXPECT_EQ(spec_kind_of(name), SpecKind::kOther) << name;
  }
}

TEST(KvEvent, Names) {
  EXPECT_EQ(tier_name(Tier::kGpu), "gpu");
  EXPECT_EQ(tier_name(Tier::kCpu), "cpu");
  EXPECT_EQ(tier_name(Tier::kStorage), "storage");
  EXPECT_EQ(publisher_state_name(PublisherState::kExact), "exact");
  EXPECT_EQ(publisher_state_name(PublisherState::kPartial), "partial");
  EXPECT_EQ(publisher_state_name(PublisherState::kSuspect), "suspect");
  EXPECT_EQ(publisher_state_name(PublisherState::kLost), "lost");
}

}  // namespace
}  // namespace warmpath::blocks
