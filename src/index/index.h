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
//
// What holds:
// - A key is held in a tier while every engine block that covers it is: engine blocks smaller than the router's, or not
//   aligned to it, are joined over parent links.
// - Unknown parents: the store is parked until the parent comes (bounded, oldest dropped first); removals of parked
//   blocks count. Removals of blocks never stored are counted and change nothing.
// - A store from token 0 of a block held already may be a second copy or the repetition of a reused prefix (vLLM
//   kv_cache_report_mode "full"); both look the same. It is not counted but remembered: when the last counted reference
//   goes, the block stays if blocks behind it stand (engines evict tails first), else it goes. So repetitions never
//   leave ghosts, and a copied head survives the end of its copy; a copied tail may be thought gone: it costs its
//   recomputation at most.
// - KV groups: only full, mla and sink kinds match, all of them together (the least of their depths); groups of unknown
//   kind count only when no kind is known, and then the deepest.
// - AllBlocksCleared clears the gpu tier; forget() everything. Blocks with locality "REMOTE" are skipped.
// - Salt: the event's cache_salt, or the text in block 0's extra keys that is not the adapter's name. Multimodal items
//   are folded into the router block in which they begin.
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
#include "index/guesses.h"   // IWYU pragma: export
#include "index/snapshot.h"  // IWYU pragma: export

namespace warmpath::index {

// depth_blocks[t]: leading router blocks of the chain that the engine holds in tier t or a faster one.
struct MatchRow {
  EngineId engine;
  std::array<std::uint32_t, blocks::kTierCount> depth_blocks{};
  std::uint32_t depth(blocks::Tier tier) const { return depth_blocks[static_cast<std::size_t>(tier)]; }
};

// Rows sorted by engine, one per engine with credit for at least one block. Reused between calls to save allocations.
struct MatchTable {
  std::vector<MatchRow> rows;
  const MatchRow* find(EngineId engine) const;

  // match()'s own: where each lane's row is, and whose each row is.
  std::vector<std::uint16_t> row_of_lane;
  std::vector<std::uint16_t> lane_of_row;
  std::size_t count = 0;
  std::uint32_t flags = 0;
};

struct IndexOptions {
  blocks::KeySpace space;
  std::size_t bytes_max = std::size_t{1} << 30;         // estimate of all memory held; beyond it stores are dropped
  std::size_t parked_events_max = 4'096;                // per engine: stores whose parent is not known yet
  std::size_t parked_bytes_max = std::size_t{8} << 20;  // per engine
};

// What one apply() did. Blocks are engine blocks.
struct Applied {
  std::uint32_t blocks_stored = 0;
  std::uint32_t blocks_removed = 0;         // references taken back
  std::uint32_t blocks_unknown = 0;         // removals of hashes never stored
  std::uint32_t stores_parked = 0;          // parent unknown: kept aside
  std::uint32_t stores_unparked = 0;        // resolved later
  std::uint32_t stores_dropped = 0;         // parking full, cap reached, token count not block_size * hashes
  std::uint32_t stores_skipped = 0;         // groups that never match (sliding window), unknown medium, REMOTE
  std::uint32_t blocks_evicted = 0;         // forgotten, of any engine, to stay below bytes_max
  std::uint64_t engine_blocks_evicted = 0;  // of this one, by any engine's stores, as Index::blocks_evicted says
};

// An event whose router keys are known already: of KV group 0, on gpu, without extras.
struct HashedEvent {
  enum class Kind : std::uint8_t { kStored, kRemoved, kCleared };
  Kind kind = Kind::kStored;
  std::optional<EngineHash> parent;    // kStored: none from token 0
  std::span<const EngineHash> hashes;  // of the engine's blocks
  std::span<const BlockKey> keys;      // kStored: the chain's next keys, the same number for each hash
};

struct EngineStat {
  EngineId engine;
  blocks::PublisherState state = blocks::PublisherState::kLost;
  std::uint64_t blocks_held = 0;         // distinct (tier, group, hash)
  std::uint64_t router_blocks_held = 0;  // distinct (group, router key), in any tier
  std::uint32_t block_tokens = 0;        // engine block size as last seen; 0 unknown
  std::uint64_t stores_parked = 0;
  std::uint64_t blocks_evicted = 0;  // forgotten to stay below bytes_max, since the engine was first heard of
};
// One engine block that an engine holds, by the engine's own hash.
struct HeldBlock {
  std::uint32_t group = 0;
  EngineHash hash;
  std::uint8_t tiers = 0;  // bit t: in blocks::Tier t
  friend bool operator==(const HeldBlock&, const HeldBlock&) = default;
};
struct IndexStat {
  std::vector<EngineStat> engines;   // sorted by engine
  std::uint64_t keys = 0;            // distinct router keys held by anyone, or standing before a held one
  std::size_t bytes = 0;             // of all that is held; 0 when nothing is
  std::size_t bytes_reserved = 0;    // taken for blocks and runs, free room included: never given back while it lives
  std::uint64_t blocks_evicted = 0;  // to stay below bytes_max, since the start
};

// All of one engine as bytes, for a SnapshotEngine.
struct EngineBlocks {
  std::vector<std::string> parts;
  std::uint64_t blocks = 0;  // that exist: held, or standing before a held one
  bool whole = true;         // false: stores were parked, or blocks evicted since its point
};
struct CopyPoint {
  std::shared_ptr<const void> map;  // whose changes are meant; null: nothing was stored yet
  std::uint64_t changes = 0;
  std::uint64_t blocks_evicted = 0;
};
struct Adopted {
  std::uint64_t blocks = 0;
  bool whole = true;  // false: some were left out, for want of room below the cap or of their parents
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
  // The same for events without token ids. A store whose parent is unknown is dropped, and so are the blocks from the
  // first one on whose keys the engine holds under another hash.
  Applied apply_hashed(EngineId engine, std::span<const HashedEvent> events);
  void forget(EngineId engine);  // the engine left, restarted or its truth is unknown; its state stays
  // A new engine's state is lost. An engine that is lost and holds nothing is no longer listed.
  void set_state(EngineId engine, blocks::PublisherState state);

  // Engine credit is rounded down to whole engine blocks (the smallest size its group has announced). Engines whose
  // state is lost do not match. Cost: one map lookup per block up to the deepest match, times the engines matching.
  // A match while an engine's events are being applied sees some of them: stale for microseconds, never torn.
  void match(std::span<const BlockKey> chain, MatchTable& out) const;
  IndexStat stat() const;
  // What stat() says of one engine. Where it rose, what is known of that engine is sound but no longer whole, whichever
  // engine's stores needed the room.
  std::uint64_t blocks_evicted(EngineId engine) const;
  // Everything that an engine holds, by group and hash; parked stores are not held. For people and tests: a copy and
  // a sort of it all, the copy under the writers' lock.
  std::vector<HeldBlock> held(EngineId engine) const;
  // Where an engine stands now, for a copy of just this that is taken later; nullopt: it is not known.
  std::optional<CopyPoint> copy_point(EngineId engine) const;
  // What adopt() takes. Any thread, while no other applies to this engine or forgets it: nullopt where one did since
  // `point`. What was evicted since then is not in it. Holds the writers' lock for at most some kCopySlice blocks at a
  // time. Memory: some 60 bytes a block and the bytes.
  static constexpr std::size_t kCopySlice = 4'096;
  std::optional<EngineBlocks> copy(EngineId engine, const CopyPoint& point) const;
  std::optional<EngineBlocks> copy(EngineId engine) const;  // of now
  // For an engine that holds nothing (else kConflict), of an index with the same key space. kInvalid: not what copy()
  // gives; nothing is taken then. What was held is held again, to the reference; stores that were parked are not. Holds
  // the writers' lock all the while; readers see it grow.
  Result<Adopted> adopt(EngineId engine, std::span<const std::string> parts);
  // Engines that hold `key` in any tier.
  std::vector<EngineId> holders(BlockKey key) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The router's block for a pool whose engines have these block sizes: their greatest common divisor, or, when that is
// below `floor_tokens`, its smallest multiple that is not (smaller engine blocks are joined).
// Precondition: sizes non-empty, each >= 1; floor_tokens >= 1.
std::uint32_t router_block_tokens(std::span<const std::uint32_t> engine_block_tokens, std::uint32_t floor_tokens = 16);

}  // namespace warmpath::index
