#include "doctor/own_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tokens/test_models.h"

namespace warmpath::doctor {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::string kNonce = "0123456789abcdef";

// One event of `ids` in blocks of one token, hashes from `first` on, behind `parent` (0: none).
blocks::BlockStored event_of(std::vector<TokenId> ids, std::uint64_t first, std::uint64_t parent) {
  blocks::BlockStored event;
  event.block_size = 1;
  for (std::size_t i = 0; i < ids.size(); ++i) event.block_hashes.push_back({EngineHash(first + i), {}});
  event.token_ids = std::move(ids);
  if (parent != 0) event.parent_block_hash = blocks::WireHash{EngineHash(parent), {}};
  return event;
}

std::vector<TokenId> ids_of(const std::string& text) {
  return tokens::demo_model().encode(text, tokens::SpecialTokens::kNone).value();
}

TEST(OwnFilter, AChainWithTheNonceAndWhatFollowsIt) {
  OwnFilter filter(tokens::demo_model(), kNonce);
  const auto ids = ids_of("Probe " + kNonce + " of a cache");
  EXPECT_THAT(filter.take(event_of(ids, 100, 0)), SizeIs(1));
  EXPECT_THAT(filter.take(event_of({5, 6}, 500, 100 + ids.size() - 1)), SizeIs(1));
  EXPECT_THAT(filter.take(event_of({7}, 600, 501)), SizeIs(1));
  EXPECT_THAT(filter.take(event_of({7}, 700, 999)), IsEmpty()) << "behind what nobody knows";
  EXPECT_THAT(filter.take(event_of({7}, 800, 0)), IsEmpty());
}

TEST(OwnFilter, ANonceThatComesInPiecesBringsItsBeginning) {
  OwnFilter filter(tokens::demo_model(), kNonce);
  const auto ids = ids_of("Probe " + kNonce);
  std::size_t through = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto events = filter.take(event_of({ids[i]}, 100 + i, i == 0 ? 0 : 99 + i));
    if (!events.empty()) EXPECT_EQ(events.size(), i + 1) << "all since the first";
    through += events.size();
  }
  EXPECT_EQ(through, ids.size());
}

TEST(OwnFilter, ASaltWithTheNonceIsEnough) {
  OwnFilter filter(tokens::demo_model(), kNonce);
  auto event = event_of({1}, 100, 0);
  event.extra_keys = {{{blocks::ExtraText{"doctor-" + kNonce}}}};
  EXPECT_THAT(filter.take(event), SizeIs(1));
  auto sglang = event_of({4'000'000'000u}, 200, 0);
  sglang.cache_salt = kNonce;
  EXPECT_THAT(filter.take(sglang), SizeIs(1));
}

TEST(OwnFilter, RemovalsOfOursAndClearsPass) {
  OwnFilter filter(tokens::demo_model(), kNonce);
  ASSERT_THAT(filter.take(event_of(ids_of(kNonce), 100, 0)), SizeIs(1));
  blocks::BlockRemoved removed;
  removed.block_hashes = {{EngineHash(7), {}}};
  EXPECT_THAT(filter.take(removed), IsEmpty());
  removed.block_hashes.push_back({EngineHash(100), {}});
  EXPECT_THAT(filter.take(removed), SizeIs(1));
  EXPECT_THAT(filter.take(blocks::AllBlocksCleared{}), SizeIs(1));
}

TEST(OwnFilter, ChainsThatDoNotShowWhoseTheyAreAreBounded) {
  OwnFilter filter(tokens::demo_model(), kNonce);
  const auto ids = ids_of(kNonce);
  std::uint64_t hash = 1;
  for (std::size_t i = 0; i <= OwnFilter::kUndecidedMax; ++i) {
    EXPECT_THAT(filter.take(event_of({TokenId(300)}, hash++, 0)), IsEmpty());
  }
  EXPECT_THAT(filter.take(event_of(ids, 1'000'000, 1)), IsEmpty()) << "the oldest is forgotten";
  EXPECT_THAT(filter.take(event_of(ids, 2'000'000, 2)), SizeIs(2));
  const std::vector<TokenId> longer(OwnFilter::kNonceWithinTokens, 300);
  EXPECT_THAT(filter.take(event_of(longer, 3'000'000, 0)), IsEmpty());
  EXPECT_THAT(filter.take(event_of(ids, 4'000'000, 3'000'000 + longer.size() - 1)), IsEmpty()) << "too deep for ours";
}

}  // namespace
}  // namespace warmpath::doctor
