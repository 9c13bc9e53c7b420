// What the brain believes without having been told: owned by route, merged into the match.
#pragma once

#include <cstdint>
#include <deque>
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

// Requests routed a moment ago, whose stores the engine has not announced yet. Entries expire after `ttl`, and earlier
// when the request fails. Bounded: beyond entries_max requests or blocks_max blocks the oldest go; of a single chain
// longer than blocks_max the head is kept. `now` must not go back.
// Thread rule: one owner. Cost: proportional to the chain; rolled_back and forget to the entries.
class RecentTable {
 public:
  RecentTable(Duration ttl, std::size_t entries_max, std::size_t blocks_max = std::size_t{1} << 20);
  void routed(RequestId request, EngineId engine, std::span<const BlockKey> chain, Instant now);
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
  };
  void expire(Instant now);
  void drop(const Entry& entry);
  Duration ttl_;
  std::size_t entries_max_;
  std::size_t blocks_max_;
  std::size_t blocks_ = 0;
  std::deque<Entry> entries_;
  std::unordered_map<EngineId, std::unordered_map<BlockKey, std::uint32_t>> counts_;
};

}  // namespace warmpath::index
