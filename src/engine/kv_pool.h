// KvPool: the physical KV blocks of one engine, as vLLM 0.32's BlockPool: reference counts, a hash -> blocks map, and a
// free queue in which cached blocks wait to be found again or evicted, the longest unused first.
//
// Every block is either referenced (ref > 0) or in the free queue; a block with a digest is found by find() in either
// state. Thread rule: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"

namespace warmpath::engine {

using BlockIndex = std::uint32_t;

struct EvictedBlock {
  EngineHash hash;
  blocks::Digest digest;
};

class KvPool {
 public:
  // `blocks` >= 2: block 0 is vLLM's null block and never handed out.
  explicit KvPool(std::uint32_t blocks);

  std::uint32_t usable() const { return static_cast<std::uint32_t>(blocks_.size()) - 1; }
  std::uint32_t free_blocks() const { return free_count_; }
  std::uint32_t used_blocks() const { return usable() - free_count_; }
  std::uint64_t cached_blocks() const { return cached_count_; }
  bool is_free(BlockIndex block) const { return blocks_[block].ref == 0; }

  // The block that was stored first under this hash and still is (vLLM takes the first of several).
  std::optional<BlockIndex> find(EngineHash hash) const;
  // One reference more; a free block leaves the free queue.
  void reference(BlockIndex block);
  // Takes `count` blocks from the head of the free queue, each with one reference; those that were cached lose their
  // hash and are appended to `evicted`. Precondition: count <= free_blocks().
  void allocate(std::uint32_t count, std::vector<BlockIndex>& out, std::vector<EvictedBlock>& evicted);
  // Precondition: referenced and without a hash.
  void store(BlockIndex block, EngineHash hash, const blocks::Digest& digest);
  // One reference less each, last block first: so a chain's tail is evicted before its head. A block without a hash
  // goes to the head of the free queue, before all cached ones (vLLM 0.32: seen in the recorded evictions,
  // recorded_test).
  void release(std::span<const BlockIndex> chain);
  // Forgets all hashes; false (and nothing done) while a block is in use. The free queue keeps its order.
  bool clear();

  std::vector<EngineHash> hashes() const;  // distinct, sorted
  // Counts everything anew and compares: for tests. Empty when sound.
  std::string fault() const;

 private:
  static constexpr BlockIndex kNone = 0;  // the null block stands for "none" in links
  struct Block {
    std::uint32_t ref = 0;
    bool cached = false;
    BlockIndex free_previous = kNone;
    BlockIndex free_next = kNone;
    BlockIndex same_previous = kNone;  // blocks of the same hash, in the order stored
    BlockIndex same_next = kNone;
    EngineHash hash;
    blocks::Digest digest;
  };
  struct Same {
    BlockIndex first = kNone;
    BlockIndex last = kNone;
  };

  void push_free(BlockIndex block);
  void push_free_first(BlockIndex block);
  void unlink_free(BlockIndex block);
  void forget_hash(BlockIndex block);

  std::vector<Block> blocks_;
  BlockIndex free_first_ = kNone;
  BlockIndex free_last_ = kNone;
  std::uint32_t free_count_ = 0;
  std::uint64_t cached_count_ = 0;
  std::unordered_map<EngineHash, Same> by_hash_;  // looked up only, never walked where order shows
};

}  // namespace warmpath::engine
