// What the two kinds of lane share. Private to index.
#pragma once

#include <array>
#include <cstdint>

#include "blocks/kv_event.h"
#include "index/tree.h"

namespace warmpath::index {

inline constexpr std::uint64_t kPositionMax = std::uint64_t{1} << 31;  // tokens in one chain

struct LaneContext {
  Tree& tree;
  std::size_t& bytes;
  LaneId lane = kNoLane;
};

struct LaneCounts {
  std::uint64_t blocks_held = 0;        // distinct (tier, hash)
  std::int64_t router_blocks_held = 0;  // distinct keys, in any tier
};

// References to one engine block.
struct Tally {
  std::array<std::uint32_t, blocks::kTierCount> refs{};
  std::uint8_t doubtful = 0;  // bit per tier: stored again from token 0

  static std::uint8_t bit(blocks::Tier tier) { return static_cast<std::uint8_t>(1u << static_cast<unsigned>(tier)); }
  Rank rank() const {
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      if (refs[tier] > 0) return static_cast<Rank>(tier);
    }
    return kNowhere;
  }
  // True when the block is now held in `tier` and was not.
  //
  // Engines store one hash in several physical blocks and announce each, so references are counted. But a store from
  // token 0 of a block that is held already is one of two things that look the same on the wire (vLLM 0.32): a second
  // physical copy, or the repetition of a reused prefix that a request asked for (kv_cache_report_mode "full"), which
  // must not count, or the block would stay after its removal for ever. In incremental mode a second copy from token 0
  // is rare (a prompt's blocks are registered before the next prompt is looked up). So it is remembered as a doubt,
  // not counted, and decided when the last counted reference goes: see drop().
  bool add(blocks::Tier tier, bool may_repeat) {
    std::uint32_t& count = refs[static_cast<std::size_t>(tier)];
    if (may_repeat && count > 0) {
      doubtful = static_cast<std::uint8_t>(doubtful | bit(tier));
      return false;
    }
    return ++count == 1;
  }
  enum class Dropped : std::uint8_t { kNothing, kReference, kLast };
  // Engines evict the tails of chains before the heads. A doubtful block that goes while blocks behind it stand was
  // therefore a copy, and the other one stays; with nothing behind it, it goes. The errors left are cheap: a copied
  // tail may be thought gone (its blocks are computed again), no block is thought held for ever.
  template <class HasMore>
  Dropped drop(blocks::Tier tier, HasMore&& has_more) {
    std::uint32_t& count = refs[static_cast<std::size_t>(tier)];
    if (count == 0) return Dropped::kNothing;
    if (count > 1) {
      --count;
      return Dropped::kReference;
    }
    const bool was_doubtful = (doubtful & bit(tier)) != 0;
    doubtful = static_cast<std::uint8_t>(doubtful & ~bit(tier));
    if (was_doubtful && has_more()) return Dropped::kReference;
    count = 0;
    return Dropped::kLast;
  }
};

// A run of engine blocks to store behind a parent.
struct StoreRun {
  blocks::Tier tier = blocks::Tier::kGpu;
  bool may_repeat = false;  // from token 0, or what was parked: see Tally::add
  std::span<const EngineHash> hashes;
  const std::vector<bool>* removed = nullptr;  // by position: chain only, no reference; null: none
  bool is_removed(std::size_t i) const { return removed != nullptr && (*removed)[i]; }
};

}  // namespace warmpath::index
