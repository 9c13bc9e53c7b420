// What one engine holds, by KV group: events in, blocks of the tree out. Private to index.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "index/compact_lane.h"
#include "index/engine_copy.h"
#include "index/extras.h"
#include "index/index.h"
#include "index/joined_lane.h"
#include "index/parking.h"
#include "index/roster.h"
#include "index/tree.h"
#include "index/turn_mutex.h"

namespace warmpath::index {

// What all engines share. Everything here is under `mutex`, except what readers use of the tree and the roster.
struct Commons {
  explicit Commons(IndexOptions given);

  const IndexOptions options;
  mutable TurnMutex mutex;
  std::size_t bytes = 0;
  Roster roster;
  Tree tree;
  std::vector<CompactLane*> compact_lanes;  // by lane; null: a joined one, or none
  std::uint64_t blocks_evicted = 0;

  // Makes `wanted` bytes fit under the cap, if it can, by forgetting blocks at the ends of chains that were not stored
  // to for long. `spare` stays.
  bool make_room(std::size_t wanted, RunId spare, Applied& applied);
};

// Thread rule: apply by one thread at a time, which may work outside of the commons' mutex; the rest under it.
class EngineMap {
 public:
  EngineMap(EngineId engine, Commons& commons);
  ~EngineMap();

  Applied apply(std::span<const blocks::KvEvent> events);
  Applied apply_hashed(std::span<const HashedEvent> events);
  void forget();
  EngineStat stat() const;
  std::vector<HeldBlock> held() const;  // in no order
  bool empty() const;

  // A copy in slices, under the mutex by slices: sound while changes() stays the same.
  class Copier {
   public:
    explicit Copier(const EngineMap& map);
    // Copies some `blocks_max` blocks more; false when there were none left.
    bool step(std::size_t blocks_max);
    // Before the first step, without the mutex.
    void prepare();
    std::vector<GroupCopy> take() { return std::move(groups_); }
    bool whole() const { return whole_; }  // false: a block that no reader takes was left out

   private:
    const EngineMap& map_;
    std::vector<GroupCopy> groups_;
    std::vector<std::vector<Slot>> slots_;  // by group, of compact lanes
    std::vector<std::size_t> sizes_;        // blocks, by group
    std::size_t group_ = 0;
    std::size_t at_ = 0;  // slot or bucket
    bool whole_ = true;
  };
  std::uint64_t changes() const { return changes_; }  // odd: amid one
  std::size_t stores_parked() const { return parking_.size(); }
  // kInvalid: not what a copy gives; some of it may have been taken. Precondition: empty().
  Result<Adopted> adopt(std::span<const PartView> parts);

 private:
  using Lock = std::unique_lock<TurnMutex>;
  struct Group {
    blocks::SpecKind kind = blocks::SpecKind::kUnset;
    bool matches = true;
    LaneId lane = kNoLane;
    std::uint32_t unit_tokens = 0;
    std::unique_ptr<CompactLane> compact;  // one of the two, when it matches
    std::unique_ptr<JoinedLane> joined;
  };
  // A store on its way into a lane.
  struct Store {
    std::uint32_t group_id = 0;
    const blocks::BlockStored& event;
    StoreRun run;
    StoredExtras extras;
  };

  void store(const blocks::BlockStored& event, Lock& lock, Applied& applied);
  void store_placeholder(Group& group, blocks::Tier tier, const blocks::BlockStored& event, Applied& applied);
  void store_compact(Group& group, const Store& store, Slot at, std::span<const BlockKey> keys, Applied& applied);
  void store_joined(Group& group, const Store& store, std::size_t first, Node* parent, Applied& applied);
  void hash_keys(const Store& store, BlockKey parent);
  void look_ahead(std::span<const HashedEvent> events, std::size_t next) const;
  void remove(const blocks::BlockRemoved& event, Applied& applied);
  void remove_all(Group* group, std::uint32_t group_id, blocks::Tier tier, std::span<const EngineHash> hashes,
                  Applied& applied);
  void clear_gpu();

  Group* group_for_store(std::uint32_t group, blocks::SpecKind told);
  bool adopt_compact(Group& group, std::uint32_t keys_per_block, std::span<const ChainView> chains, Adopted& adopted);
  bool adopt_joined(Group& group, std::span<const ChainView> chains, Adopted& adopted);
  void add_lane(Group& group);
  void note_unit(Group& group, std::uint32_t block_tokens);
  bool compact_fits(Group& group, std::uint32_t block_tokens);
  void turn_joined(Group& group);
  void drop_group(std::uint32_t id, Group& group);
  bool knows(Group& group, EngineHash hash) const;
  bool too_deep(std::uint32_t start_tokens, std::size_t more) const;
  void unpark(std::uint32_t group_id, std::span<const EngineHash> arrived, Applied& applied);
  void unpark_one(const Parked& parked, EngineHash parent, Applied& applied);
  void account_parking();
  void settle(Applied& applied);

  const EngineId engine_;
  Commons& commons_;
  const EngineEntry& entry_;  // in the roster
  std::map<std::uint32_t, Group> groups_;
  Parking parking_;
  std::size_t parking_bytes_ = 0;  // as added to the commons' bytes
  std::uint32_t block_tokens_ = 0;
  std::uint64_t changes_ = 0;  // of what is held; odd: amid an apply, which lets go of the mutex
  // The store at hand.
  std::vector<EngineHash> hashes_;
  std::vector<BlockKey> keys_;
};

}  // namespace warmpath::index
