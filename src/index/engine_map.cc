#include "index/engine_map.h"

#include <algorithm>
#include <utility>

namespace warmpath::index {
namespace {

using blocks::SpecKind;
using blocks::Tier;

constexpr std::size_t kGroupsMax = 64;                      // KV groups of one engine
constexpr std::size_t kScratchKeep = std::size_t{1} << 16;  // blocks of an event that is larger are not kept room for
constexpr std::size_t kEventsAhead = 8;                     // of a batch: those whose cache lines are asked for early
constexpr int kVictimTries = 256;

bool is_remote(const std::optional<std::string>& locality) {
  return locality && equals_ignoring_case(*locality, "REMOTE");
}

}  // namespace

Commons::Commons(IndexOptions given)
    : options(std::move(given)), roster(options.space.block_tokens()), tree(options.bytes_max, roster, bytes) {}

bool Commons::make_room(std::size_t wanted, RunId spare, Applied& applied) {
  int tries = 0;
  while (bytes + wanted > options.bytes_max) {
    const RunId victim = tree.next_victim(spare);
    if (victim == kNoRun) return false;
    const std::vector<Tree::Holder> holders = tree.holders_of(victim);
    // Joined lanes keep nodes of their own, which are no use without their keys.
    if (std::ranges::any_of(holders, [this](const Tree::Holder& h) { return compact_lanes[h.lane] == nullptr; })) {
      if (++tries >= kVictimTries) return false;
      continue;
    }
    for (const Tree::Holder& holder : holders) {
      const std::uint32_t evicted = compact_lanes[holder.lane]->evict(victim, holder.blocks);
      applied.blocks_evicted += evicted;
      blocks_evicted += evicted;
      roster.engines.at(roster.engine_of(holder.lane)).blocks_evicted += evicted;
    }
  }
  return true;
}

EngineMap::EngineMap(EngineId engine, Commons& commons)
    : engine_(engine),
      commons_(commons),
      entry_(commons.roster.engines.at(engine)),
      parking_(commons.options.parked_events_max, commons.options.parked_bytes_max) {}

EngineMap::~EngineMap() = default;

Applied EngineMap::apply(std::span<const blocks::KvEvent> events) {
  Applied applied;
  Lock lock(commons_.mutex);
  ++changes_;
  for (const blocks::KvEvent& event : events) {
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      store(*stored, lock, applied);
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      remove(*removed, applied);
    } else {
      clear_gpu();
    }
  }
  settle(applied);
  ++changes_;
  if (hashes_.capacity() > kScratchKeep) std::vector<EngineHash>().swap(hashes_);
  if (keys_.capacity() > kScratchKeep) std::vector<BlockKey>().swap(keys_);
  return applied;
}

Applied EngineMap::apply_hashed(std::span<const HashedEvent> events) {
  Applied applied;
  const Lock lock(commons_.mutex);
  ++changes_;
  const std::uint32_t block_tokens = commons_.options.space.block_tokens();
  for (std::size_t i = 0; i < events.size(); ++i) {
    const HashedEvent& event = events[i];
    look_ahead(events, i);
    if (event.kind == HashedEvent::Kind::kCleared) {
      clear_gpu();
      continue;
    }
    if (event.kind == HashedEvent::Kind::kRemoved) {
      const auto found = groups_.find(0);
      remove_all(found == groups_.end() ? nullptr : &found->second, 0, Tier::kGpu, event.hashes, applied);
      continue;
    }
    const std::size_t count = event.hashes.size();
    Group* const group = group_for_store(0, SpecKind::kUnset);
    const std::size_t stride = count == 0 ? 0 : event.keys.size() / count;
    if (group == nullptr || !group->matches || stride == 0 || event.keys.size() != count * stride ||
        !compact_fits(*group, static_cast<std::uint32_t>(stride) * block_tokens)) {
      ++applied.stores_dropped;
      continue;
    }
    Slot at = kNoSlot;
    if (event.parent) at = group->compact->find(*event.parent);
    const std::size_t wanted = Tree::bytes_wanted(event.keys.size()) + group->compact->growth_bytes(count);
    if ((event.parent && at == kNoSlot) ||
        !commons_.make_room(wanted, at == kNoSlot ? kNoRun : commons_.tree.run_of(at), applied)) {
      ++applied.stores_dropped;
      continue;
    }
    note_unit(*group, static_cast<std::uint32_t>(stride) * block_tokens);
    const StoreRun run{.tier = Tier::kGpu, .may_repeat = !event.parent, .hashes = event.hashes};
    if (group->compact->store(run, event.keys, at, applied) < count) ++applied.stores_dropped;
    if (parking_.size() > 0) unpark(0, event.hashes, applied);
  }
  settle(applied);
  ++changes_;
  return applied;
}

// Events are looked at twice before their turn: once for the lines of the lane's map, and later, when those are there,
// for what they tell.
void EngineMap::look_ahead(std::span<const HashedEvent> events, std::size_t next) const {
  const auto found = groups_.find(0);
  if (found == groups_.end() || found->second.compact == nullptr) return;
  const CompactLane& lane = *found->second.compact;
  const auto each = [&](std::size_t ahead, auto&& look) {
    for (std::size_t i = next == 0 ? 0 : next + ahead; i <= next + ahead && i < events.size(); ++i) {
      if (events[i].parent) look(std::span<const EngineHash>(&*events[i].parent, 1));
      look(events[i].hashes);
    }
  };
  each(kEventsAhead, [&](std::span<const EngineHash> hashes) { lane.prefetch(hashes); });
  each(kEventsAhead / 2, [&](std::span<const EngineHash> hashes) { lane.foresee(hashes); });
}

void EngineMap::store(const blocks::BlockStored& event, Lock& lock, Applied& applied) {
  const std::optional<Tier> tier = blocks::tier_of_medium(event.medium);
  if (!tier || is_remote(event.locality)) {
    ++applied.stores_skipped;
    return;
  }
  Store store{.group_id = event.group_idx.value_or(0), .event = event, .run = {.tier = *tier}, .extras = {}};
  Group* const group = group_for_store(
      store.group_id, event.kv_cache_spec_kind ? blocks::spec_kind_of(*event.kv_cache_spec_kind) : SpecKind::kUnset);
  if (group == nullptr) {
    ++applied.stores_dropped;
    return;
  }
  if (!group->matches) {
    ++applied.stores_skipped;
    return;
  }
  const std::size_t count = event.block_hashes.size();
  if (event.token_ids.empty()) {
    store_placeholder(*group, *tier, event, applied);
    return;
  }
  const bool extras_fit = !event.extra_keys || event.extra_keys->size() == count;
  if (count == 0 || event.token_ids.size() != count * std::uint64_t{event.block_size} || !extras_fit) {
    ++applied.stores_dropped;
    return;
  }
  const bool compact = compact_fits(*group, event.block_size);
  const std::size_t router_blocks = event.token_ids.size() / commons_.options.space.block_tokens() + 1;
  const auto parent_slot = [&] {
    return compact && event.parent_block_hash ? group->compact->find(event.parent_block_hash->value) : kNoSlot;
  };
  Slot at = parent_slot();
  const std::size_t wanted = compact ? Tree::bytes_wanted(router_blocks) + group->compact->growth_bytes(count)
                                     : JoinedLane::bytes_wanted(count, router_blocks);
  if (!commons_.make_room(wanted, at == kNoSlot ? kNoRun : commons_.tree.run_of(at), applied)) {
    ++applied.stores_dropped;
    return;
  }
  note_unit(*group, event.block_size);
  const auto park = [&] {
    ++applied.stores_parked;
    applied.stores_dropped += parking_.park(store.group_id, *tier, event);
  };
  if (event.parent_block_hash && !knows(*group, event.parent_block_hash->value)) return park();
  Node* const parent =
      compact || !event.parent_block_hash ? nullptr : group->joined->find(event.parent_block_hash->value);
  const std::uint64_t start = parent != nullptr ? parent->end()
                              : at != kNoSlot
                                  ? (std::uint64_t{commons_.tree.depth(at)} + 1) * commons_.options.space.block_tokens()
                                  : 0;
  if (start + event.token_ids.size() > kPositionMax) {
    ++applied.stores_dropped;
    return;
  }
  hashes_.clear();
  for (const blocks::WireHash& hash : event.block_hashes) hashes_.push_back(hash.value);
  store.run.may_repeat = !event.parent_block_hash;
  store.run.hashes = hashes_;
  if (compact) {
    // Hashing is most of the work and needs nothing that is shared. Only an eviction may take the parent meanwhile.
    const BlockKey before = at == kNoSlot ? BlockKey{} : commons_.tree.key(at);
    const std::uint64_t evicted = commons_.blocks_evicted;
    lock.unlock();
    store.extras = classify_extras(event);
    hash_keys(store, before);
    lock.lock();
    if (commons_.blocks_evicted != evicted && event.parent_block_hash) {
      at = parent_slot();
      if (at == kNoSlot) return park();
    }
    store_compact(*group, store, at, keys_, applied);
  } else {
    store.extras = classify_extras(event);
    store_joined(*group, store, 0, parent, applied);
  }
  if (parking_.size() > 0) unpark(store.group_id, store.run.hashes, applied);
}

// vLLM's OffloadingConnector without self-describing events (0.32): no tokens, no block size, no parent. It says that
// a block known by its hash is now in one more tier.
void EngineMap::store_placeholder(Group& group, Tier tier, const blocks::BlockStored& event, Applied& applied) {
  bool unknown = false;
  for (const blocks::WireHash& hash : event.block_hashes) {
    const bool added = group.joined != nullptr    ? group.joined->add_tier(hash.value, tier)
                       : group.compact != nullptr ? group.compact->add_tier(hash.value, tier)
                                                  : false;
    if (added) {
      ++applied.blocks_stored;
    } else {
      unknown = true;
    }
  }
  if (unknown) ++applied.stores_dropped;
}

void EngineMap::store_compact(Group& group, const Store& store, Slot at, std::span<const BlockKey> keys,
                              Applied& applied) {
  const std::size_t taken = group.compact->store(store.run, keys, at, applied);
  if (taken == store.run.hashes.size()) return;
  // The next block's keys are known under another hash.
  const EngineHash last = at == kNoSlot ? EngineHash{} : commons_.tree.hash(group.lane, at);
  turn_joined(group);
  store_joined(group, store, taken, at == kNoSlot ? nullptr : group.joined->find(last), applied);
}

void EngineMap::store_joined(Group& group, const Store& store, std::size_t first, Node* parent, Applied& applied) {
  JoinedLane::Content content{.tokens = store.event.token_ids, .block_tokens = store.event.block_size};
  if (!store.event.parent_block_hash) content.root = commons_.options.space.root(store.extras.lora, store.extras.salt);
  if (!store.extras.items.empty()) content.items = &store.extras.items;
  group.joined->store(store.run, first, parent, content, applied);
}

// The keys of an aligned store behind `parent`.
void EngineMap::hash_keys(const Store& store, BlockKey parent) {
  const blocks::KeySpace& space = commons_.options.space;
  const blocks::BlockStored& event = store.event;
  const std::uint32_t block = space.block_tokens();
  BlockKey key = event.parent_block_hash ? parent : space.root(store.extras.lora, store.extras.salt);
  const std::span<const TokenId> tokens(event.token_ids);
  keys_.clear();
  std::vector<blocks::MmKey> in_block;
  for (std::size_t start = 0; start < tokens.size(); start += block) {
    in_block.clear();
    if (!store.extras.items.empty()) {
      const std::size_t offset = start % event.block_size;
      for (const BegunItem& item : store.extras.items[start / event.block_size]) {
        if (item.offset < offset || item.offset >= offset + block) continue;
        in_block.push_back({item.identifier, static_cast<std::int64_t>(item.offset - offset)});
      }
    }
    key = space.next(key, tokens.subspan(start, block), in_block);
    keys_.push_back(key);
  }
}

void EngineMap::unpark(std::uint32_t group_id, std::span<const EngineHash> arrived, Applied& applied) {
  std::vector<NodeId> queue;
  for (const EngineHash hash : arrived) queue.push_back({group_id, hash});
  // Each round takes stores out of the parking, so it ends. Nothing is pruned before the end: parents stay valid.
  for (std::size_t next = 0; next < queue.size(); ++next) {
    for (const Parked& parked : parking_.take(queue[next])) {
      unpark_one(parked, queue[next].hash, applied);
      for (const blocks::WireHash& hash : parked.event.block_hashes) queue.push_back({parked.group, hash.value});
    }
  }
  Group& group = groups_.at(group_id);
  if (group.compact != nullptr) group.compact->prune_dead();
  if (group.joined != nullptr) group.joined->prune_dead();
}

void EngineMap::unpark_one(const Parked& parked, EngineHash parent, Applied& applied) {
  Group& group = groups_.at(parked.group);
  std::vector<EngineHash> hashes;
  for (const blocks::WireHash& hash : parked.event.block_hashes) hashes.push_back(hash.value);
  // What made the parent known may have been a report of the whole prefix that named these blocks too.
  Store store{.group_id = parked.group,
              .event = parked.event,
              .run = {.tier = parked.tier, .may_repeat = true, .hashes = hashes, .removed = &parked.removed},
              .extras = classify_extras(parked.event)};
  if (!std::ranges::any_of(parked.removed, [](bool removed) { return removed; })) store.run.removed = nullptr;
  const bool compact = compact_fits(group, parked.event.block_size);
  // An event may name hashes that a cap or a full map did not let in.
  if (!knows(group, parent)) {
    ++applied.stores_dropped;
    return;
  }
  const Slot at = compact ? group.compact->find(parent) : kNoSlot;
  Node* const node = compact ? nullptr : group.joined->find(parent);
  const std::uint64_t start =
      compact ? (std::uint64_t{commons_.tree.depth(at)} + 1) * commons_.options.space.block_tokens() : node->end();
  if (start + parked.event.token_ids.size() > kPositionMax) {
    ++applied.stores_dropped;
    return;
  }
  if (compact) {
    hash_keys(store, commons_.tree.key(at));
    store_compact(group, store, at, keys_, applied);
  } else {
    store_joined(group, store, 0, node, applied);
  }
  ++applied.stores_unparked;
}

void EngineMap::remove(const blocks::BlockRemoved& event, Applied& applied) {
  const std::optional<Tier> tier = blocks::tier_of_medium(event.medium);
  if (!tier || is_remote(event.locality)) return;
  const std::uint32_t group_id = event.group_idx.value_or(0);
  const auto found = groups_.find(group_id);
  Group* const group = found == groups_.end() ? nullptr : &found->second;
  if (group != nullptr && !group->matches) return;
  hashes_.clear();
  for (const blocks::WireHash& hash : event.block_hashes) hashes_.push_back(hash.value);
  remove_all(group, group_id, *tier, hashes_, applied);
}

void EngineMap::remove_all(Group* group, std::uint32_t group_id, Tier tier, std::span<const EngineHash> hashes,
                           Applied& applied) {
  CompactLane* const compact = group == nullptr ? nullptr : group->compact.get();
  JoinedLane* const joined = group == nullptr ? nullptr : group->joined.get();
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (compact != nullptr && tier == Tier::kGpu) {
      const std::size_t gone = compact->remove_held(hashes.subspan(i));
      applied.blocks_removed += static_cast<std::uint32_t>(gone);
      if (gone > 0) {
        i += gone - 1;
        continue;
      }
    }
    const bool removed = compact != nullptr  ? compact->remove(hashes[i], tier)
                         : joined != nullptr ? joined->remove(hashes[i], tier)
                                             : false;
    if (removed || (parking_.size() > 0 && parking_.remove({group_id, hashes[i]}, tier))) {
      ++applied.blocks_removed;
    } else {
      ++applied.blocks_unknown;
    }
  }
}

// AllBlocksCleared is the GPU cache's (vLLM reset_prefix_cache, SGLang flush_cache): offload tiers may survive it.
void EngineMap::clear_gpu() {
  parking_.drop_tier(Tier::kGpu);
  for (auto& [id, group] : groups_) {
    if (group.compact != nullptr) group.compact->clear_gpu();
    if (group.joined != nullptr) group.joined->clear_gpu();
  }
}

void EngineMap::forget() {
  changes_ += 2;
  while (!groups_.empty()) {
    const auto group = groups_.begin();
    if (group->second.matches) drop_group(group->first, group->second);
    groups_.erase(group);
  }
  parking_.clear();
  account_parking();
  block_tokens_ = 0;
}

EngineStat EngineMap::stat() const {
  EngineStat stat{.engine = engine_};
  std::int64_t router_blocks = 0;
  for (const auto& [id, group] : groups_) {
    const LaneCounts counts = group.compact != nullptr  ? group.compact->counts()
                              : group.joined != nullptr ? group.joined->counts()
                                                        : LaneCounts{};
    stat.blocks_held += counts.blocks_held;
    router_blocks += counts.router_blocks_held;
  }
  stat.router_blocks_held = static_cast<std::uint64_t>(router_blocks);
  stat.block_tokens = block_tokens_;
  stat.stores_parked = parking_.size();
  return stat;
}

std::vector<HeldBlock> EngineMap::held() const {
  std::vector<HeldBlock> out;
  const auto add = [&out](std::uint32_t group, EngineHash hash, const Tally& tally) {
    HeldBlock block{.group = group, .hash = hash};
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      if (tally.refs[tier] > 0) block.tiers = static_cast<std::uint8_t>(block.tiers | (1u << tier));
    }
    if (block.tiers != 0) out.push_back(block);
  };
  for (const auto& [id, group] : groups_) {
    if (group.compact != nullptr) {
      for (const CompactLane::Block& block : group.compact->blocks()) add(id, block.hash, block.tally);
    } else if (group.joined != nullptr) {
      group.joined->each([&, group_id = id](const Node& node) { add(group_id, node.hash, node.tally); });
    }
  }
  return out;
}

bool EngineMap::empty() const {
  return parking_.size() == 0 && std::ranges::all_of(groups_, [](const auto& entry) {
           const Group& group = entry.second;
           return (group.compact == nullptr || group.compact->empty()) &&
                  (group.joined == nullptr || group.joined->empty());
         });
}

// The group's entry, made when missing; null when there are too many. A kind that is told later than blocks wins.
EngineMap::Group* EngineMap::group_for_store(std::uint32_t id, SpecKind told) {
  const auto found = groups_.find(id);
  if (found == groups_.end()) {
    if (groups_.size() >= kGroupsMax) return nullptr;
    Group group{.kind = told, .matches = told != SpecKind::kOther};
    if (group.matches) {
      group.lane = commons_.roster.add_lane(engine_, told);
      if (group.lane == kNoLane) return nullptr;
    }
    return &groups_.emplace(id, std::move(group)).first->second;
  }
  Group& group = found->second;
  if (told == SpecKind::kUnset || told == group.kind) return &group;
  const bool matched = group.matches;
  const bool matches = told != SpecKind::kOther;
  if (matched && !matches) drop_group(id, group);
  if (matches) {
    if (matched) {
      commons_.roster.set_kind(group.lane, told);
    } else {
      const LaneId lane = commons_.roster.add_lane(engine_, told);
      if (lane == kNoLane) return nullptr;
      group.lane = lane;
    }
  }
  group.kind = told;
  group.matches = matches;
  return &group;
}

void EngineMap::note_unit(Group& group, std::uint32_t block_tokens) {
  block_tokens_ = block_tokens;
  if (group.unit_tokens != 0 && group.unit_tokens <= block_tokens) return;
  group.unit_tokens = block_tokens;
  commons_.roster.set_unit(group.lane, block_tokens);
}

// Makes the group's lane, or turns it, when it must be: true when blocks of this size go into the compact one.
bool EngineMap::compact_fits(Group& group, std::uint32_t block_tokens) {
  const std::uint32_t router_block = commons_.options.space.block_tokens();
  if (group.compact != nullptr && group.compact->keys_per_block() * std::uint64_t{router_block} == block_tokens)
    return true;
  const LaneContext context{.tree = commons_.tree, .bytes = commons_.bytes, .lane = group.lane};
  const bool aligned = block_tokens > 0 && block_tokens % router_block == 0;
  const std::uint32_t keys = block_tokens / router_block;
  if (group.joined != nullptr) return false;
  if (group.compact == nullptr || group.compact->empty()) {
    group.compact.reset();
    if (commons_.compact_lanes.size() <= group.lane) commons_.compact_lanes.resize(group.lane + std::size_t{1});
    if (aligned) {
      group.compact = std::make_unique<CompactLane>(context, keys);
    } else {
      group.joined = std::make_unique<JoinedLane>(context, commons_.options.space);
    }
    commons_.compact_lanes[group.lane] = group.compact.get();
    return aligned;
  }
  turn_joined(group);
  return false;
}

void EngineMap::turn_joined(Group& group) {
  const LaneContext context{.tree = commons_.tree, .bytes = commons_.bytes, .lane = group.lane};
  group.joined = std::make_unique<JoinedLane>(context, commons_.options.space);
  group.joined->take(*group.compact);
  commons_.compact_lanes[group.lane] = nullptr;
  group.compact.reset();
}

void EngineMap::drop_group(std::uint32_t id, Group& group) {
  if (group.compact != nullptr) group.compact->drop_all();
  if (group.joined != nullptr) group.joined->drop_all();
  group.compact.reset();
  group.joined.reset();
  if (group.lane < commons_.compact_lanes.size()) commons_.compact_lanes[group.lane] = nullptr;
  parking_.drop_group(id);
  commons_.roster.drop_lane(group.lane);
  group.lane = kNoLane;
  group.unit_tokens = 0;
}

bool EngineMap::knows(Group& group, EngineHash hash) const {
  if (group.compact != nullptr) return group.compact->find(hash) != kNoSlot;
  return group.joined != nullptr && group.joined->find(hash) != nullptr;
}

// Room was made by an estimate, and removals may need a little too (for holes).
void EngineMap::settle(Applied& applied) {
  account_parking();
  if (commons_.bytes > commons_.options.bytes_max) commons_.make_room(0, kNoRun, applied);
  applied.engine_blocks_evicted = entry_.blocks_evicted;
}

void EngineMap::account_parking() {
  commons_.bytes += parking_.bytes() - parking_bytes_;  // wraps to a subtraction
  parking_bytes_ = parking_.bytes();
}

}  // namespace warmpath::index
