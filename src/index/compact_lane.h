// A lane whose engine blocks are all of one size, a multiple of the router's: nearly every engine. Private to index.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "index/index.h"
#include "index/lane.h"
#include "index/lines.h"

namespace warmpath::index {

// An engine block is known by the slot of its last key. Its references are not kept where they are what the tree tells:
// one on gpu when the block is held there, none when it is only known.
// Thread rule: as the tree's writers.
class CompactLane {
 public:
  CompactLane(const LaneContext& context, std::uint32_t keys_per_block);
  ~CompactLane();
  CompactLane(const CompactLane&) = delete;
  CompactLane& operator=(const CompactLane&) = delete;

  std::uint32_t keys_per_block() const { return keys_per_block_; }
  Slot find(EngineHash hash) const;
  // Says early which blocks will be asked for next; looks at the first few.
  void prefetch(std::span<const EngineHash> hashes) const;
  // The same, later: of what prefetch() asked for it tells what else will be needed.
  void foresee(std::span<const EngineHash> hashes) const;
  // Stores blocks one after the other, beginning behind `at`, and moves `at` behind the last one. `keys` are those of
  // all blocks. Returns how many blocks it took: fewer than all when the next one's keys are known under another hash,
  // which only a joined lane can tell apart.
  std::size_t store(const StoreRun& run, std::span<const BlockKey> keys, Slot& at, Applied& applied);
  // A block known by its hash is in one more tier; false when it is unknown.
  bool add_tier(EngineHash hash, blocks::Tier tier);
  // Removes the first one when it is held on gpu alone, and with it as many of the next ones as are, one before the
  // other, the tail of a chain: often all. Returns how many.
  std::size_t remove_held(std::span<const EngineHash> hashes);
  // False when it has no reference in that tier.
  bool remove(EngineHash hash, blocks::Tier tier);
  // Forgets blocks that were stored without a reference and have nothing behind them.
  void prune_dead();
  void clear_gpu();
  void drop_all();
  // The blocks [0, blocks) of the run are forgotten, whoever needs them. Returns how many engine blocks that were held.
  std::uint32_t evict(RunId run, std::uint32_t blocks);

  struct Block {
    EngineHash hash;
    Slot slot = kNoSlot;
    std::uint32_t depth = 0;
    Tally tally;
  };
  std::vector<Block> blocks() const;  // parents before children
  // For a copy in slices: where its blocks lie, and one of them.
  std::vector<Slot> slots() const;
  Block block_at(Slot slot) const { return {tree_.hash(context_.lane, slot), slot, tree_.depth(slot), tally(slot)}; }
  // So many blocks more are to come, in several stores.
  void expect(std::size_t blocks) { reserve(blocks); }
  // Gives a block that was stored as removed the references that it had elsewhere. Then prune_dead().
  void adopt(EngineHash hash, const Tally& tally);

  const LaneCounts& counts() const { return counts_; }
  bool empty() const { return lines_.size() == 0; }
  std::size_t size() const { return lines_.size(); }  // blocks that exist, held or not
  std::size_t growth_bytes(std::size_t blocks) const { return lines_.growth_bytes(blocks); }

 private:
  auto hash_of() const {
    return [this](Slot slot) { return own_hashes_ ? tree_.hash(context_.lane, slot).value() : tree_.cell(slot).hash; };
  }
  Tally tally(Slot slot) const;
  void set_tally(Slot slot, const Tally& tally, Rank before);
  std::size_t store_stretch(const StoreRun& run, std::size_t first, std::span<const BlockKey> keys, Slot& at,
                            Applied& applied);
  bool store_block(const StoreRun& run, std::size_t index, std::span<const BlockKey> keys, Slot& at);
  void stored(Slot slot, EngineHash hash, const StoreRun& run, bool removed);
  void count_first(Slot slot, blocks::Tier tier);
  std::size_t punch(Slot slot);
  void prune(Slot slot);
  void erase(EngineHash hash, Slot slot);
  void reserve(std::size_t blocks);

  const LaneContext context_;
  Tree& tree_;
  const std::uint32_t keys_per_block_;
  Lines lines_;
  bool own_hashes_ = false;
  std::unordered_map<Slot, Tally> tallies_;
  std::vector<Slot> maybe_dead_;
  LaneCounts counts_;
};

}  // namespace warmpath::index
