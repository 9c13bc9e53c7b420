// What the brain believes without having been told: owned by route, merged into the match.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"

namespace warmpath::index {

// llm-d's approximate prefix table: per engine an LRU of the block keys routed to it. Never confirmed by the engine.
// Thread rule: one owner. Memory: at most capacity_blocks entries an engine.
class ApproximateTable {
 public:
  void set_capacity(EngineId engine, std::size_t capacity_blocks);  // kept over forget()
  // The request went to `engine`: its blocks are now the most recent there, heads before tails; oldest evicted.
  void routed(EngineId engine, std::span<const BlockKey> chain);
  // Leading blocks of the chain that `engine` is believed to hold.
  std::uint32_t depth(EngineId engine, std::span<const BlockKey> chain) const;
  void forget(EngineId engine);
  std::size_t size(EngineId engine) const;

 private:
  struct Lru {
    std::size_t capacity = 31'250;  // llm-d's lruCapacityPerServer
    std::list<BlockKey> order;      // most recent first
    std::unordered_map<BlockKey, std::list<BlockKey>::iterator> at;
  };
  static void trim(Lru& lru);
  std::unordered_map<EngineId, Lru> engines_;
};

// Requests routed a moment ago, whose stores the engine has not announced yet. An entry ends `ttl` after the routing
// or, where the answer has begun, `answered_ttl` after that: engines announce a prompt's blocks with the step that
// computed them, so from then on their events know better (what was evicted or cleared meanwhile is no longer
// believed). It ends at once when the request fails. Bounded: beyond entries_max requests or blocks_max blocks the
// oldest go, answered ones first; of a single chain longer than blocks_max the head is kept. `now` must not go back.
// Thread rule: one owner. Cost: proportional to the chain; forget to the entries.
class RecentTable {
 public:
  RecentTable(Duration ttl, Duration answered_ttl, std::size_t entries_max,
              std::size_t blocks_max = std::size_t{1} << 20);
  void routed(RequestId request, EngineId engine, std::span<const BlockKey> chain, Instant now);
  void answered(RequestId request, Instant now);  // its first byte came; unknown requests and a second call: ignored
  void rolled_back(RequestId request);
  void forget(EngineId engine);
  // Leading blocks of the chain covered by entries of `engine` at `now`.
  std::uint32_t depth(EngineId engine, std::span<const BlockKey> chain, Instant now);

 private:
  struct Entry {
    RequestId request;
    EngineId engine;
    std::vector<BlockKey> chain;
    Instant until;
    bool answered = false;
  };
  using Entries = std::list<Entry>;  // in the order in which they end
  void expire(Instant now);
  void drop(Entries::iterator entry);
  Duration ttl_;
  Duration answered_ttl_;
  std::size_t entries_max_;
  std::size_t blocks_max_;
  std::size_t blocks_ = 0;
  Entries waiting_;
  Entries answered_;
  std::unordered_map<RequestId, Entries::iterator> at_;
  std::unordered_map<EngineId, std::unordered_map<BlockKey, std::uint32_t>> counts_;
};

}  // namespace warmpath::index
