#include "index/engine_map.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "index/extras.h"

namespace warmpath::index {
namespace {

using blocks::SpecKind;
using blocks::Tier;

constexpr std::size_t kGroupsMax = 64;                          // KV groups of one engine
constexpr std::uint64_t kPositionMax = std::uint64_t{1} << 31;  // tokens in one chain
constexpr std::size_t kNodeBytes = sizeof(Node) + 4 * sizeof(void*);

Rank fastest(const Node& node) {
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if (node.refs[tier] > 0) return static_cast<Rank>(tier);
  }
  return kNowhere;
}

std::uint8_t bit_of(Tier tier) { return static_cast<std::uint8_t>(1u << static_cast<unsigned>(tier)); }

bool is_remote(const std::optional<std::string>& locality) {
  return locality && equals_ignoring_case(*locality, "REMOTE");
}

}  // namespace

Rank Cover::rank() const {
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if (missing[tier] == 0) return static_cast<Rank>(tier);
  }
  return kNowhere;
}

// A run of engine blocks to store behind `parent` (null: from token 0).
struct EngineMap::Run {
  std::uint32_t group = 0;
  Tier tier = Tier::kGpu;
  const blocks::BlockStored& event;
  Node* parent = nullptr;
  const std::vector<bool>* removed = nullptr;  // by position: chain only, no reference
};

EngineMap::EngineMap(EngineId engine, const Shared& shared)
    : engine_(engine), shared_(shared), parking_(shared.options.parked_events_max, shared.options.parked_bytes_max) {}

EngineMap::~EngineMap() = default;

Applied EngineMap::apply(std::span<const blocks::KvEvent> events) {
  const std::lock_guard lock(mutex_);
  Applied applied;
  for (const blocks::KvEvent& event : events) {
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      store(*stored, applied);
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      remove(*removed, applied);
    } else {
      clear_gpu();
    }
  }
  account_parking();
  return applied;
}

void EngineMap::store(const blocks::BlockStored& event, Applied& applied) {
  const std::optional<Tier> tier = blocks::tier_of_medium(event.medium);
  if (!tier || is_remote(event.locality)) {
    ++applied.stores_skipped;
    return;
  }
  const std::uint32_t group_id = event.group_idx.value_or(0);
  Group* const group = group_for_store(group_id, event.kv_cache_spec_kind);
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
    store_placeholder(group_id, *tier, event, applied);
    return;
  }
  const bool extras_fit = !event.extra_keys || event.extra_keys->size() == count;
  if (count == 0 || event.token_ids.size() != count * std::uint64_t{event.block_size} || !extras_fit) {
    ++applied.stores_dropped;
    return;
  }
  const std::size_t keys = event.token_ids.size() / shared_.options.space.block_tokens() + 1;
  const std::size_t wanted = count * kNodeBytes + keys * (Holders::kKeyBytes + sizeof(BlockKey));
  if (shared_.bytes.load(std::memory_order_relaxed) + wanted > shared_.options.bytes_max) {
    ++applied.stores_dropped;
    return;
  }
  note_unit(*group, event.block_size);
  Node* parent = nullptr;
  if (event.parent_block_hash) {
    parent = find({group_id, event.parent_block_hash->value});
    if (parent == nullptr) {
      ++applied.stores_parked;
      applied.stores_dropped += parking_.park(group_id, *tier, event);
      return;
    }
  }
  if ((parent ? parent->end() : 0) + event.token_ids.size() > kPositionMax) {
    ++applied.stores_dropped;
    return;
  }
  store_run({.group = group_id, .tier = *tier, .event = event, .parent = parent}, applied);
  if (parking_.size() > 0) {
    std::vector<NodeId> arrived;
    for (const blocks::WireHash& hash : event.block_hashes) arrived.push_back({group_id, hash.value});
    unpark(std::move(arrived), applied);
  }
}

// vLLM's OffloadingConnector without self-describing events (0.32): no tokens, no block size, no parent. It says that
// a block known by its hash is now in one more tier.
void EngineMap::store_placeholder(std::uint32_t group, Tier tier, const blocks::BlockStored& event, Applied& applied) {
  bool unknown = false;
  for (const blocks::WireHash& hash : event.block_hashes) {
    Node* const node = find({group, hash.value});
    if (node == nullptr) {
      unknown = true;
      continue;
    }
    add_reference(*node, tier, true);
    ++applied.blocks_stored;
  }
  if (unknown) ++applied.stores_dropped;
}

void EngineMap::store_run(const Run& run, Applied& applied) {
  const blocks::BlockStored& event = run.event;
  const StoredExtras extras = classify_extras(event);
  const bool from_root = run.parent == nullptr;
  const BlockKey root = from_root ? shared_.options.space.root(extras.lora, extras.salt) : BlockKey{};
  const std::span<const TokenId> tokens(event.token_ids);
  static const std::vector<BegunItem> kNoItems;
  Node* at = run.parent;
  for (std::size_t i = 0; i < event.block_hashes.size(); ++i) {
    const NodeId id{run.group, event.block_hashes[i].value};
    Node* node = find(id);
    if (node == nullptr) {
      const std::vector<BegunItem>& items = extras.items.empty() ? kNoItems : extras.items[i];
      node = &add_node(id, at, root, tokens.subspan(i * event.block_size, event.block_size), items);
    }
    if (run.removed != nullptr && (*run.removed)[i]) {
      maybe_dead_.push_back(id);
    } else {
      // What made a parked store's parent known may have been a report of the whole prefix that named these blocks too.
      const bool may_repeat = from_root || run.removed != nullptr;
      add_reference(*node, run.tier, may_repeat);
      ++applied.blocks_stored;
    }
    at = node;
  }
}

void EngineMap::unpark(std::vector<NodeId> arrived, Applied& applied) {
  // Each round takes stores out of the parking, so it ends. Nothing is pruned before the end: parents stay valid.
  for (std::size_t next = 0; next < arrived.size(); ++next) {
    for (const Parked& parked : parking_.take(arrived[next])) {
      Node* const parent = find(arrived[next]);
      WP_CHECK(parent != nullptr);
      if (parent->end() + parked.event.token_ids.size() > kPositionMax) {
        ++applied.stores_dropped;
        continue;
      }
      store_run({.group = parked.group,
                 .tier = parked.tier,
                 .event = parked.event,
                 .parent = parent,
                 .removed = &parked.removed},
                applied);
      ++applied.stores_unparked;
      for (const blocks::WireHash& hash : parked.event.block_hashes) arrived.push_back({parked.group, hash.value});
    }
  }
  // Deepest last in the list: children go before parents.
  for (auto id = maybe_dead_.rbegin(); id != maybe_dead_.rend(); ++id) prune(*id);
  maybe_dead_.clear();
}

void EngineMap::remove(const blocks::BlockRemoved& event, Applied& applied) {
  const std::optional<Tier> tier = blocks::tier_of_medium(event.medium);
  if (!tier || is_remote(event.locality)) return;
  const std::uint32_t group_id = event.group_idx.value_or(0);
  const auto group = groups_.find(group_id);
  if (group != groups_.end() && !group->second.matches) return;
  for (const blocks::WireHash& hash : event.block_hashes) {
    const NodeId id{group_id, hash.value};
    Node* const node = find(id);
    if (node != nullptr && drop_reference(*node, *tier)) {
      ++applied.blocks_removed;
      prune(id);
    } else if (parking_.remove(id, *tier)) {
      ++applied.blocks_removed;
    } else {
      ++applied.blocks_unknown;
    }
  }
}

// AllBlocksCleared is the GPU cache's (vLLM reset_prefix_cache, SGLang flush_cache): offload tiers may survive it.
void EngineMap::clear_gpu() {
  parking_.drop_tier(Tier::kGpu);
  std::vector<NodeId> touched;
  for (auto& [id, node] : nodes_) {
    std::uint32_t& refs = node.refs[static_cast<std::size_t>(Tier::kGpu)];
    if (refs == 0) continue;
    refs = 0;
    node.doubtful = static_cast<std::uint8_t>(node.doubtful & ~bit_of(Tier::kGpu));
    --blocks_held_;
    set_rank(node, groups_.at(id.group).holder);
    touched.push_back(id);
  }
  for (const NodeId& id : touched) prune(id);
}

void EngineMap::forget() {
  const std::lock_guard lock(mutex_);
  while (!groups_.empty()) {
    const auto group = groups_.begin();
    if (group->second.matches) drop_group(group->first, group->second);
    groups_.erase(group);
  }
  WP_CHECK(nodes_.empty() && blocks_held_ == 0 && router_blocks_held_ == 0);
  parking_.clear();
  account_parking();
  block_tokens_ = 0;
}

EngineStat EngineMap::stat() const {
  const std::lock_guard lock(mutex_);
  EngineStat stat;
  stat.engine = engine_;
  stat.blocks_held = blocks_held_;
  stat.router_blocks_held = static_cast<std::uint64_t>(router_blocks_held_);
  stat.block_tokens = block_tokens_;
  stat.stores_parked = parking_.size();
  return stat;
}

std::vector<HeldBlock> EngineMap::held() const {
  std::vector<HeldBlock> out;
  {
    const std::lock_guard lock(mutex_);
    out.reserve(blocks_held_);
    for (const auto& [id, node] : nodes_) {
      HeldBlock block{.group = id.group, .hash = id.hash};
      for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
        if (node.refs[tier] > 0) block.tiers = static_cast<std::uint8_t>(block.tiers | (1u << tier));
      }
      if (block.tiers != 0) out.push_back(block);
    }
  }
  std::ranges::sort(out, {}, [](const HeldBlock& block) { return std::pair(block.group, block.hash); });
  return out;
}

bool EngineMap::empty() const {
  const std::lock_guard lock(mutex_);
  return groups_.empty() && parking_.size() == 0;
}

// The kind may be missing in later events (vLLM): the last one told counts. Null: too many groups.
EngineMap::Group* EngineMap::group_for_store(std::uint32_t id, const std::optional<std::string>& kind_name) {
  const SpecKind told = kind_name ? blocks::spec_kind_of(*kind_name) : SpecKind::kUnset;
  const auto found = groups_.find(id);
  if (found != groups_.end() && (told == SpecKind::kUnset || told == found->second.kind)) return &found->second;
  if (found == groups_.end() && groups_.size() >= kGroupsMax) return nullptr;
  Group& group = found != groups_.end() ? found->second : groups_[id];
  const bool matched = found != groups_.end() && group.matches;
  group.kind = told;
  group.matches = told != SpecKind::kOther;
  if (matched && !group.matches) drop_group(id, group);
  if (group.matches) {
    const std::lock_guard lock(shared_.roster.mutex);
    if (matched) {
      shared_.roster.slot(group.holder).kind = told;
    } else {
      group.holder = shared_.roster.add_group(engine_, told);
    }
  }
  return &group;
}

void EngineMap::note_unit(Group& group, std::uint32_t block_tokens) {
  block_tokens_ = block_tokens;
  if (group.unit_tokens != 0 && group.unit_tokens <= block_tokens) return;
  group.unit_tokens = block_tokens;
  const std::lock_guard lock(shared_.roster.mutex);
  shared_.roster.slot(group.holder).unit_tokens = block_tokens;
}

void EngineMap::drop_group(std::uint32_t id, Group& group) {
  for (auto& [node_id, node] : nodes_) {
    if (node_id.group != id) continue;
    for (std::uint32_t& refs : node.refs) {
      if (refs > 0) --blocks_held_;
      refs = 0;
    }
    set_rank(node, group.holder);
  }
  std::erase_if(nodes_, [&](const auto& entry) {
    if (entry.first.group != id) return false;
    shared_.bytes -= footprint(entry.second);
    return true;
  });
  parking_.drop_group(id);
  const std::lock_guard lock(shared_.roster.mutex);
  shared_.roster.drop_group(group.holder);
  group.unit_tokens = 0;
}

Node* EngineMap::find(const NodeId& id) {
  const auto found = nodes_.find(id);
  return found == nodes_.end() ? nullptr : &found->second;
}

Node& EngineMap::add_node(const NodeId& id, Node* parent, BlockKey root, std::span<const TokenId> tokens,
                          const std::vector<BegunItem>& items) {
  Node& node = nodes_[id];
  node.id = id;
  node.parent = parent;
  node.start = parent != nullptr ? parent->end() : 0;
  node.tokens = static_cast<std::uint32_t>(tokens.size());
  if (parent != nullptr) ++parent->children;
  const BlockKey key = parent != nullptr ? parent->end_key : root;
  const Joint* const before = parent != nullptr ? parent->joint.get() : nullptr;
  if (before == nullptr || before->tail.empty()) {
    complete_keys(node, key, tokens, items, 0);
  } else {
    std::vector<TokenId> content = before->tail;
    content.insert(content.end(), tokens.begin(), tokens.end());
    std::vector<BegunItem> begun = before->tail_items;
    const auto shift = static_cast<std::uint32_t>(before->tail.size());
    for (const BegunItem& item : items) begun.push_back({item.identifier, item.offset + shift});
    complete_keys(node, key, content, begun, shift);
  }
  shared_.bytes += footprint(node);
  return node;
}

// `content` starts at a router block's first token, `tail_before` tokens before the node.
void EngineMap::complete_keys(Node& node, BlockKey key, std::span<const TokenId> content,
                              const std::vector<BegunItem>& items, std::size_t tail_before) {
  const std::uint32_t block = shared_.options.space.block_tokens();
  const std::size_t full = content.size() / block;
  std::vector<blocks::MmKey> in_block;
  std::size_t next_item = 0;
  std::vector<BlockKey> whole;
  for (std::size_t i = 0; i < full; ++i) {
    in_block.clear();
    for (; next_item < items.size() && items[next_item].offset < (i + 1) * block; ++next_item) {
      in_block.push_back({items[next_item].identifier, static_cast<std::int64_t>(items[next_item].offset - i * block)});
    }
    key = shared_.options.space.next(key, content.subspan(i * block, block), in_block);
    if (i == 0 && tail_before > 0) {
      join(node, key, node.start - static_cast<std::uint32_t>(tail_before));
    } else {
      whole.push_back(key);
    }
  }
  node.end_key = key;
  if (!whole.empty()) {
    node.end_key_is_whole = true;
    whole.pop_back();
    whole.shrink_to_fit();
    node.earlier = std::move(whole);
  }
  const std::span<const TokenId> tail = content.subspan(full * block);
  if (tail.empty()) return;
  if (node.joint == nullptr) node.joint = std::make_unique<Joint>();
  node.joint->tail.assign(tail.begin(), tail.end());
  for (; next_item < items.size(); ++next_item) {
    const auto offset = static_cast<std::uint32_t>(items[next_item].offset - full * block);
    node.joint->tail_items.push_back({items[next_item].identifier, offset});
  }
}

// The key whose router block begins at `block_start`, before the node, is held while all nodes from there on are.
void EngineMap::join(Node& node, BlockKey key, std::uint32_t block_start) {
  node.joint = std::make_unique<Joint>();
  node.joint->own = std::make_unique<Cover>();
  Cover& cover = *node.joint->own;
  cover.key = key;
  for (Node* part = &node; part != nullptr && part->end() > block_start; part = part->parent) {
    ++cover.nodes;
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      if (part->rank > tier) ++cover.missing[tier];
    }
    WP_CHECK(part->joint != nullptr);
    part->joint->covers.push_back(&cover);
  }
}

// Engines store one hash in several physical blocks and announce each, so references are counted. But a store from
// token 0 of a block that is held already is one of two things that look the same on the wire (vLLM 0.32): a second
// physical copy, or the repetition of a reused prefix that a request asked for (kv_cache_report_mode "full"), which
// must not count, or the block would stay after its removal for ever. In incremental mode a second copy from token 0
// is rare (a prompt's blocks are registered before the next prompt is looked up). So it is remembered as a doubt,
// not counted, and decided when the last counted reference goes: see drop_reference.
void EngineMap::add_reference(Node& node, Tier tier, bool from_root) {
  std::uint32_t& refs = node.refs[static_cast<std::size_t>(tier)];
  if (from_root && refs > 0) {
    node.doubtful = static_cast<std::uint8_t>(node.doubtful | bit_of(tier));
    return;
  }
  if (++refs > 1) return;
  ++blocks_held_;
  set_rank(node, groups_.at(node.id.group).holder);
}

// Engines evict the tails of chains before the heads. A doubtful block that goes while blocks behind it stand was
// therefore a copy, and the other one stays; with nothing behind it, it goes. The errors left are cheap: a copied tail
// may be thought gone (its blocks are computed again), no block is thought held for ever.
bool EngineMap::drop_reference(Node& node, Tier tier) {
  std::uint32_t& refs = node.refs[static_cast<std::size_t>(tier)];
  if (refs == 0) return false;
  if (refs > 1) {
    --refs;
    return true;
  }
  const bool was_doubtful = (node.doubtful & bit_of(tier)) != 0;
  node.doubtful = static_cast<std::uint8_t>(node.doubtful & ~bit_of(tier));
  if (was_doubtful && node.children > 0) return true;
  refs = 0;
  --blocks_held_;
  set_rank(node, groups_.at(node.id.group).holder);
  return true;
}

void EngineMap::set_rank(Node& node, HolderId holder) {
  const Rank from = node.rank;
  const Rank to = fastest(node);
  if (from == to) return;
  node.rank = to;
  for (const BlockKey key : node.earlier) router_blocks_held_ += shared_.holders.move(key, holder, from, to);
  if (node.end_key_is_whole) router_blocks_held_ += shared_.holders.move(node.end_key, holder, from, to);
  if (node.joint == nullptr) return;
  for (Cover* const cover : node.joint->covers) {
    const Rank cover_from = cover->rank();
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      cover->missing[tier] += static_cast<std::uint32_t>(from <= tier) - static_cast<std::uint32_t>(to <= tier);
    }
    router_blocks_held_ += shared_.holders.move(cover->key, holder, cover_from, cover->rank());
  }
}

// Ends the node, and then its ancestors, where neither a reference nor a child needs it: a node without references
// stays while blocks behind it stand, so that they still know their chain.
void EngineMap::prune(const NodeId& id) {
  Node* node = find(id);
  while (node != nullptr && node->rank == kNowhere && node->children == 0) {
    Node* const parent = node->parent;
    shared_.bytes -= footprint(*node);
    if (node->joint != nullptr && node->joint->own != nullptr) {
      Cover* const cover = node->joint->own.get();
      Node* part = parent;
      for (std::uint32_t left = cover->nodes - 1; left > 0; --left, part = part->parent) {
        std::erase(part->joint->covers, cover);
      }
    }
    nodes_.erase(NodeId(node->id));
    if (parent != nullptr) --parent->children;
    node = parent;
  }
}

// The same at a node's birth and end. Links to covers are counted at their owner.
std::size_t EngineMap::footprint(const Node& node) const {
  std::size_t bytes = kNodeBytes + node.earlier.size() * sizeof(BlockKey);
  if (node.joint == nullptr) return bytes;
  const Joint& joint = *node.joint;
  bytes += sizeof(Joint) + joint.tail.size() * sizeof(TokenId);
  for (const BegunItem& item : joint.tail_items) bytes += sizeof(item) + item.identifier.size();
  if (joint.own != nullptr) bytes += sizeof(Cover) + joint.own->nodes * sizeof(Cover*);
  return bytes;
}

void EngineMap::account_parking() {
  shared_.bytes += parking_.bytes() - parking_bytes_;  // wraps to a subtraction
  parking_bytes_ = parking_.bytes();
}

}  // namespace warmpath::index
