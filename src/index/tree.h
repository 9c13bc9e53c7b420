// Who holds which block: all chains as a tree of runs. Private to index.
//
//   run: consecutive blocks of one chain, as long as one writer found them         [k0 k1 k2 k3 k4 k5 k6 k7]
//   child run: begins behind any block of its parent, where a chain goes elsewhere           └─[k5' k6']
//   hold: one lane in one run. The blocks that exist for a lane in a run are a prefix [0, hi) of it, because a lane
//         knows the parents of all it knows; those that it holds are usually all of them, else `ranks` tell.
//
// Readers see, per run and lane, one word: the lane and the leading blocks held in each tier or a faster one. Keys are
// chained, so one equal key proves all keys before it equal: a run is compared at its end, not block by block.
//
// How readers do without a lock: all they look at is single words in memory that is never given back. A run's version
// changes before anything of it that readers may have seen is used for something else, and is odd while it is no run;
// who walks a run looks at its version before and after and begins again when it changed. Nothing ever waits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"
#include "index/heads.h"
#include "index/index.h"
#include "index/roster.h"
#include "index/slots.h"
#include "index/word_pool.h"

namespace warmpath::index {

// A tier as a place in a row: 0 gpu, 1 cpu, 2 storage; kNowhere: not held.
using Rank = std::uint8_t;
inline constexpr Rank kNowhere = blocks::kTierCount;

// The engine hashes of keys: key i has hash at[(i + phase) / stride] where (i + phase + 1) % stride is 0, else none.
// stride 0: no hashes at all.
struct HashView {
  const EngineHash* at = nullptr;
  std::uint32_t stride = 0;
  std::uint32_t phase = 0;
};

// Thread rule: match() from any thread, the rest by one writer at a time.
class Tree {
 public:
  Tree(std::size_t bytes_max, const Roster& roster, std::size_t& bytes);
  ~Tree();
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  // False: something changed underneath, the table is worth nothing, try again.
  bool match(std::span<const BlockKey> chain, std::uint32_t block_tokens, MatchTable& out) const;

  // Makes blocks exist for the lane behind `at` (kNoSlot: from the root), held with `rank`: as many as lie in one
  // piece. No block of the answer: the first one exists for the lane already.
  struct Stretch {
    Slot first = kNoSlot;
    std::uint32_t count = 0;
    bool own_hashes = false;  // the cells have other hashes than the lane: ask hash()
  };
  Stretch place(LaneId lane, Slot at, std::span<const BlockKey> keys, HashView hashes, Rank rank);

  // Where a block lies, and the one before it (kNoSlot: none).
  std::uint32_t depth(Slot slot) const;  // blocks before it
  BlockKey key(Slot slot) const { return BlockKey(slots_.cell(slot).key); }
  Slot before(Slot slot) const;

  // The block exists for the lane. Any slot may be asked about.
  bool knows(LaneId lane, Slot slot) const;

  // The rest needs a block that exists for the lane.
  Rank rank(LaneId lane, Slot slot) const;
  void set_rank(LaneId lane, Slot slot, Rank rank);
  EngineHash hash(LaneId lane, Slot slot) const;
  // The lane knows blocks behind this one.
  bool has_more(LaneId lane, Slot slot);
  // The block no longer exists for the lane. Precondition: !has_more().
  void drop(LaneId lane, Slot slot);
  // What goes when the block does, which is held on gpu: blocks of its run, the last ones that the lane knows.
  struct Tail {
    RunId run = kNoRun;
    std::uint32_t hold = 0;
    std::uint32_t held = 0;  // this one and those before it that are held on gpu and have the next hashes; 0: none,
                             // because something stands behind it, or it is not held on gpu
    std::uint32_t dead = 0;  // those before these that are not held and have nothing else behind them
  };
  Tail tail(LaneId lane, Slot slot, std::span<const EngineHash> hashes);
  // They no longer exist for the lane. The block before the run when nothing is left of it, else kNoSlot.
  Slot drop_tail(const Tail& tail);
  // Everything of the lane, which must lie in these runs; one may be named several times.
  void drop_lane(LaneId lane, std::span<const RunId> runs);

  RunId run_of(Slot slot) const { return slots_.owner(slot); }
  void prefetch(Slot slot) const { ask_for(&slots_.cell(slot)); }
  void foresee(Slot slot) const {
    prefetch(slot);
    slots_.prefetch_owner(slot);
  }
  const Cell& cell(Slot slot) const { return slots_.cell(slot); }

  std::uint64_t keys() const { return keys_; }
  std::size_t bytes_reserved() const;
  // At most what placing `keys` blocks adds to bytes.
  static std::size_t bytes_wanted(std::size_t keys);
  // Those that hold the key in any tier. Cost: a pass over all keys.
  std::vector<LaneId> lanes_holding(BlockKey key) const;

  // For eviction: the next run without child runs that was not stored to since the hand passed it last, at most two
  // rounds. Then its lanes and how many of its blocks exist for each.
  RunId next_victim(RunId spare);
  struct Holder {
    LaneId lane;
    std::uint32_t blocks;
  };
  std::vector<Holder> holders_of(RunId run) const;
  Slot slot_in(RunId run, std::uint32_t offset) const { return at(run).base + offset; }

 private:
  static constexpr std::uint32_t kRunBlocksMax = 16'384;  // offsets fit a signed 16-bit number
  static constexpr std::uint32_t kRunsPerChunk = 1'024;
  static constexpr std::uint32_t kContinuedQuanta = 4;  // room of a run that continues a full one block by block

  struct Extra {
    std::vector<std::uint64_t> own;  // the lane's hashes, when they are not those of the cells; else empty
    std::vector<Rank> ranks;         // when not all of [0, hi) is held on gpu; else empty
  };
  struct Hold {
    std::uint16_t hi = 0;
    std::uint16_t child_bound = 0;  // none of the lane's child runs begins at or behind this offset
    std::uint32_t children = 0;     // of the lane
    Extra* extra = nullptr;
  };
  struct Run {
    // Readers'.
    std::uint32_t version = 1;
    Slot base = kNoSlot;
    std::uint32_t length = 0;
    std::uint32_t depth = 0;
    Slot parent = kNoSlot;
    std::uint32_t unused = 0;
    std::uint64_t words = 0;  // address of the words << 16 | their number; one is kept inline
    std::uint64_t one = 0;
    // Writers'.
    std::uint32_t quanta = 0;
    RunId first_child = kNoRun;
    RunId next_sibling = kNoRun;
    RunId previous_sibling = kNoRun;
    std::uint32_t hold_capacity = 0;  // of `many`; 0: `single`
    std::uint32_t touched = 0;
    union {
      Hold single;
      Hold* many;
    };
    Run() : single() {}
  };

  static std::uint64_t word_of(LaneId lane, std::uint32_t gpu, std::uint32_t cpu, std::uint32_t storage) {
    return lane | std::uint64_t{gpu} << 16 | std::uint64_t{cpu} << 32 | std::uint64_t{storage} << 48;
  }
  static LaneId lane_of(std::uint64_t word) { return static_cast<LaneId>(word); }
  static std::uint32_t cut_of(std::uint64_t word, std::size_t tier) {
    return static_cast<std::uint32_t>(word >> (16 + 16 * tier)) & 0xFFFF;
  }
  static std::size_t count_of(std::uint64_t words) { return words & 0xFFFF; }

  Run& at(RunId run) { return run_chunks_[run / kRunsPerChunk][run % kRunsPerChunk]; }
  const Run& at(RunId run) const { return peek(run_chunks_[run / kRunsPerChunk])[run % kRunsPerChunk]; }
  static std::uint64_t* words_of(Run& run) {
    return count_of(run.words) <= 1 ? &run.one : reinterpret_cast<std::uint64_t*>(run.words >> 16);
  }
  static Hold* holds_of(Run& run) { return run.hold_capacity == 0 ? &run.single : run.many; }
  const Run& run_at(Slot slot) const { return at(slots_.owner(slot)); }

  // Index of the lane's hold; kNone: none.
  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t find_hold(const Run& run, LaneId lane) const;
  std::size_t add_hold(Run& run, LaneId lane);
  void remove_hold(Run& run, std::size_t index);
  void set_words(Run& run, std::uint64_t* array, std::size_t count);
  static void changed(Run& run);
  Extra& extra_of(Hold& hold);
  void tidy_extra(Hold& hold);

  RunId new_run(Slot parent, std::size_t blocks, std::uint32_t quanta_min);
  void free_run(RunId id);
  void shrink(Run& run);
  void cut_off(RunId id, std::size_t index, std::uint32_t offset);
  bool can_append(Run& run, std::uint32_t offset, RunId id);
  bool take_over_hashes(Run& run, Hold& hold, std::uint32_t offset, std::uint32_t count, HashView hashes);
  void extend_hold(Run& run, std::size_t index, std::uint32_t count, Rank rank);
  void recut(Run& run, std::size_t index, std::uint32_t offset);
  std::uint32_t child_bound(Run& run, Hold& hold, LaneId lane, std::uint32_t offset);

  // Readers' part: see tree_match.cc.
  struct Step;
  void foresee(std::span<const BlockKey> chain, const MatchTable& out) const;
  bool enter(std::span<const BlockKey> chain, std::size_t at, Slot parent, Step& step) const;
  void first_rows(const Step& step, std::size_t count, MatchTable& out) const;
  bool deeper_rows(const Step& step, std::uint32_t before, MatchTable& out) const;
  void finish(std::uint32_t block_tokens, MatchTable& out) const;

  const Roster& roster_;
  std::size_t& bytes_;
  Slots slots_;
  WordPool words_;
  Heads heads_;
  std::vector<Run*> run_chunks_;  // never grows
  std::vector<ZeroedBytes> run_memory_;
  RunId runs_end_ = 0;
  std::vector<RunId> free_runs_;
  std::uint64_t keys_ = 0;
  RunId hand_ = 0;
};

}  // namespace warmpath::index
