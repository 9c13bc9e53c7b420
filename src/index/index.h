// index: which engine holds which block, exactly, learned from KV events; and the small tables of guesses.
//
//   Index index({.space = space, .bytes_max = 1u << 30});
//   index.apply(engine, batch.events);          // one writer thread per engine
//   MatchTable table;
//   index.match(chain, table);                  // any thread; never waits for I/O
//   for (const MatchRow& row : table.rows) ... row.depth(Tier::kGpu) ...
//
// Engine hashes are opaque: apply() recomputes router keys from the token ids of stored events and remembers, per
// engine, (tier, group, engine hash) -> router keys with reference counts, because engines store the same hash in
// several physical blocks (vLLM 0.32: the last block of a fully cached prompt).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "index/guesses.h"  // IWYU pragma: export

namespace warmpath::index {

// depth_blocks[t]: leading router blocks of the chain that the engine holds in tier t or a faster one.
struct MatchRow {
  EngineId engine;
  std::array<std::uint32_t, blocks::kTierCount> depth_blocks{};
  std::uint32_t depth(blocks::Tier tier) const { return depth_blocks[static_cast<std::size_t>(tier)]; }
};

// Rows sorted by engine, one per engine that holds at least block 0. Reused between calls to save allocations.
struct MatchTable {
  std::vector<MatchRow> rows;
  const MatchRow* find(EngineId engine) const;
};

struct IndexOptions {
  blocks::KeySpace space;
  std::size_t bytes_max = std::size_t{1} << 30;      // estimate of all memory held; beyond it stores are refused
  std::size_t parked_events_max = 4'096;             // per engine: stores whose parent is not known yet
  std::size_t parked_bytes_max = std::size_t{8} << 20;  // per engine
};

// What one apply() did. Blocks are engine blocks.
struct Applied {
  std::uint32_t blocks_stored = 0;
  std::uint32_t blocks_removed = 0;
  std::uint32_t blocks_unknown = 0;    // removals of hashes never stored
  std::uint32_t stores_parked = 0;     // parent unknown: kept aside
  std::uint32_t stores_unparked = 0;   // resolved later
  std::uint32_t stores_dropped = 0;    // parking full, cap reached, token count not block_size * hashes
  std::uint32_t stores_skipped = 0;    // sliding-window and other groups that never match
};

struct EngineStat {
  EngineId engine;
  blocks::PublisherState state = blocks::PublisherState::kLost;
  std::uint64_t blocks_held = 0;        // distinct (tier, group, hash)
  std::uint64_t router_blocks_held = 0;
  std::uint32_t block_tokens = 0;       // engine block size as last seen; 0 unknown
  std::uint64_t stores_parked = 0;
};
struct IndexStat {
  std::vector<EngineStat> engines;  // sorted by engine
  std::uint64_t keys = 0;           // distinct router keys held by anyone
  std::size_t bytes = 0;            // estimate
};

// Thread rule: apply/forget/set_state for one engine from one thread at a time; match and stat from any thread.
class Index {
 public:
  explicit Index(IndexOptions options);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  const blocks::KeySpace& space() const;
  // Applies events in order. Cost: one key hash per router block plus a few map operations per block.
  Applied apply(EngineId engine, std::span<const blocks::KvEvent> events);
  void forget(EngineId engine);  // the engine left, restarted or its truth is unknown
  void set_state(EngineId engine, blocks::PublisherState state);

  // Engine credit is rounded down to whole engine blocks. Engines whose state is lost do not match.
  void match(std::span<const BlockKey> chain, MatchTable& out) const;
  IndexStat stat() const;
  // Engines that hold `key` in any tier.
  std::vector<EngineId> holders(BlockKey key) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The router's block for a pool whose engines have these block sizes: their greatest common divisor, not below
// `floor_tokens` (a multiple of smaller engine blocks is joined). Precondition: sizes non-empty, each >= 1.
std::uint32_t router_block_tokens(std::span<const std::uint32_t> engine_block_tokens, std::uint32_t floor_tokens = 16);

}  // namespace warmpath::index
