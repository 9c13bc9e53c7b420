#include "index/joined_lane.h"

#include <algorithm>
#include <utility>

#include "index/engine_copy.h"

namespace warmpath::index {
namespace {

using blocks::Tier;

constexpr std::size_t kNodeBytes = sizeof(Node) + 4 * sizeof(void*);

}  // namespace

Rank Cover::rank() const {
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if (missing[tier] == 0) return static_cast<Rank>(tier);
  }
  return kNowhere;
}

Rank JoinedLane::Key::rank() const {
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if (covers[tier] > 0) return static_cast<Rank>(tier);
  }
  return kNowhere;
}

JoinedLane::JoinedLane(const LaneContext& context, const blocks::KeySpace& space)
    : context_(context), tree_(context.tree), space_(space) {}

JoinedLane::~JoinedLane() {
  for (const auto& [hash, node] : nodes_) context_.bytes -= footprint(node);
  context_.bytes -= keys_.size() * (sizeof(Key) + sizeof(BlockKey) + 3 * sizeof(void*));
}

std::size_t JoinedLane::bytes_wanted(std::size_t nodes, std::size_t keys) {
  return nodes * kNodeBytes + keys * (2 * sizeof(BlockKey) + sizeof(Key) + 3 * sizeof(void*)) +
         Tree::bytes_wanted(keys) + keys;
}

void JoinedLane::take(const CompactLane& from) {
  const std::uint32_t keys = from.keys_per_block();
  counts_ = from.counts();
  for (const CompactLane::Block& block : from.blocks()) {
    Node& node = nodes_[block.hash];
    node.hash = block.hash;
    node.tally = block.tally;
    node.rank = block.tally.rank();
    node.start = (block.depth + 1 - keys) * space_.block_tokens();
    node.tokens = keys * space_.block_tokens();
    Slot slot = block.slot;
    node.end_key = tree_.key(slot);
    node.end_key_is_whole = true;
    node.earlier.resize(keys - 1);
    for (std::uint32_t i = keys; i > 0; --i) {
      const BlockKey key = tree_.key(slot);
      if (i < keys) node.earlier[i - 1] = key;
      Key& state = keys_[key];
      state.slot = slot;
      state.owners = 1;
      for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) state.covers[tier] = node.rank <= tier ? 1 : 0;
      context_.bytes += sizeof(Key) + sizeof(BlockKey) + 3 * sizeof(void*);
      slot = tree_.before(slot);
    }
    if (slot != kNoSlot) {
      node.parent = find(tree_.hash(context_.lane, slot));
      WP_CHECK(node.parent != nullptr);
      ++node.parent->children;
    }
    context_.bytes += footprint(node);
  }
}

Node* JoinedLane::find(EngineHash hash) {
  const auto found = nodes_.find(hash);
  return found == nodes_.end() ? nullptr : &found->second;
}

void JoinedLane::store(const StoreRun& run, std::size_t first, Node* parent, const Content& content, Applied& applied) {
  static const std::vector<BegunItem> kNoItems;
  Node* at = parent;
  for (std::size_t i = first; i < run.hashes.size(); ++i) {
    Node* node = find(run.hashes[i]);
    if (node == nullptr) {
      const std::vector<BegunItem>& items = content.items == nullptr ? kNoItems : (*content.items)[i];
      const auto tokens = content.tokens.subspan(i * content.block_tokens, content.block_tokens);
      node = &add_node(run.hashes[i], at, tokens, items, content.root);
    }
    if (run.is_removed(i)) {
      maybe_dead_.push_back(run.hashes[i]);
    } else {
      if (node->tally.add(run.tier, run.may_repeat)) ++counts_.blocks_held;
      set_rank(*node);
      ++applied.blocks_stored;
    }
    at = node;
  }
}

bool JoinedLane::add_tier(EngineHash hash, Tier tier) {
  Node* const node = find(hash);
  if (node == nullptr) return false;
  if (node->tally.add(tier, true)) ++counts_.blocks_held;
  set_rank(*node);
  return true;
}

bool JoinedLane::remove(EngineHash hash, Tier tier) {
  Node* const node = find(hash);
  if (node == nullptr) return false;
  const Tally::Dropped dropped = node->tally.drop(tier, [&] { return node->children > 0; });
  if (dropped == Tally::Dropped::kNothing) return false;
  if (dropped == Tally::Dropped::kLast) --counts_.blocks_held;
  set_rank(*node);
  prune(hash);
  return true;
}

void JoinedLane::prune_dead() {
  // Deepest last in the list: children go before parents.
  for (auto hash = maybe_dead_.rbegin(); hash != maybe_dead_.rend(); ++hash) prune(*hash);
  maybe_dead_.clear();
}

void JoinedLane::clear_gpu() {
  std::vector<EngineHash> touched;
  for (auto& [hash, node] : nodes_) {
    if (node.tally.refs[0] == 0) continue;
    node.tally.refs[0] = 0;
    node.tally.doubtful = static_cast<std::uint8_t>(node.tally.doubtful & ~Tally::bit(Tier::kGpu));
    --counts_.blocks_held;
    set_rank(node);
    touched.push_back(hash);
  }
  for (const EngineHash hash : touched) prune(hash);
}

void JoinedLane::drop_all() {
  std::vector<RunId> runs;
  for (const auto& [key, state] : keys_) runs.push_back(tree_.run_of(state.slot));
  tree_.drop_lane(context_.lane, runs);
  for (const auto& [hash, node] : nodes_) context_.bytes -= footprint(node);
  context_.bytes -= keys_.size() * (sizeof(Key) + sizeof(BlockKey) + 3 * sizeof(void*));
  nodes_.clear();
  keys_.clear();
  maybe_dead_.clear();
  counts_ = {};
}

Node& JoinedLane::add_node(EngineHash hash, Node* parent, std::span<const TokenId> tokens,
                           const std::vector<BegunItem>& items, BlockKey root) {
  Node& node = nodes_[hash];
  node.hash = hash;
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
  context_.bytes += footprint(node);
  return node;
}

// `content` starts at a router block's first token, `tail_before` tokens before the node.
void JoinedLane::complete_keys(Node& node, BlockKey key, std::span<const TokenId> content,
                               const std::vector<BegunItem>& items, std::size_t tail_before) {
  const std::uint32_t block = space_.block_tokens();
  const std::size_t full = content.size() / block;
  std::vector<blocks::MmKey> in_block;
  std::size_t next_item = 0;
  std::vector<BlockKey> whole;
  for (std::size_t i = 0; i < full; ++i) {
    in_block.clear();
    for (; next_item < items.size() && items[next_item].offset < (i + 1) * block; ++next_item) {
      in_block.push_back({items[next_item].identifier, static_cast<std::int64_t>(items[next_item].offset - i * block)});
    }
    const BlockKey before = key;
    key = space_.next(before, content.subspan(i * block, block), in_block);
    own(key, before);
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

// As complete_keys, with the keys known.
bool JoinedLane::adopt(EngineHash hash, Node* parent, const NodeView& view, const Tally& tally,
                       std::unordered_set<BlockKey>& roots) {
  const std::uint64_t block = space_.block_tokens();
  const Joint* const before = parent != nullptr ? parent->joint.get() : nullptr;
  const std::uint64_t tail_before = before == nullptr ? 0 : before->tail.size();
  const std::uint64_t keys = (tail_before + view.tokens) / block;
  const std::uint64_t own_tail = keys > 0 ? (tail_before + view.tokens) % block : view.tokens;
  if (view.tokens == 0 || view.keys.size() / sizeof(std::uint64_t) != keys ||
      view.tail.size() / sizeof(TokenId) != own_tail || find(hash) != nullptr) {
    return false;
  }
  const BlockKey root = parent != nullptr ? parent->end_key : view.root;
  if (parent == nullptr && keys_.contains(root)) return false;
  // A key names one chain: where it is known already, it stands behind the same one.
  BlockKey key = root;
  for (std::size_t i = 0; i < keys; ++i) {
    const BlockKey previous = std::exchange(key, BlockKey(number_at<std::uint64_t>(view.keys, i)));
    if (key == root || roots.contains(key)) return false;
    const auto known = keys_.find(key);
    if (known == keys_.end()) continue;
    const auto behind = keys_.find(previous);
    if (behind == keys_.end() && i > 0) return false;
    if (tree_.before(known->second.slot) != (behind == keys_.end() ? kNoSlot : behind->second.slot)) return false;
  }
  if (parent == nullptr && keys == 0) roots.insert(root);
  Node& node = nodes_[hash];
  node.hash = hash;
  node.parent = parent;
  node.start = parent != nullptr ? parent->end() : 0;
  node.tokens = view.tokens;
  if (parent != nullptr) ++parent->children;
  key = root;
  for (std::size_t i = 0; i < keys; ++i) {
    const BlockKey previous = std::exchange(key, BlockKey(number_at<std::uint64_t>(view.keys, i)));
    own(key, previous);
    if (i == 0 && tail_before > 0) {
      join(node, key, node.start - static_cast<std::uint32_t>(tail_before));
      continue;
    }
    if (node.end_key_is_whole) node.earlier.push_back(node.end_key);
    node.end_key = key;
    node.end_key_is_whole = true;
  }
  node.end_key = key;
  if (own_tail + (keys == 0 ? tail_before : 0) > 0) {
    if (node.joint == nullptr) node.joint = std::make_unique<Joint>();
    Joint& joint = *node.joint;
    std::uint32_t shift = 0;
    if (keys == 0 && before != nullptr) {
      joint.tail = before->tail;
      joint.tail_items = before->tail_items;
      shift = static_cast<std::uint32_t>(tail_before);
    }
    for (std::size_t i = 0; i < own_tail; ++i) joint.tail.push_back(number_at<TokenId>(view.tail, i));
    for (const BegunItem& item : view.items) joint.tail_items.push_back({item.identifier, item.offset + shift});
  }
  node.tally = tally;
  for (const std::uint32_t refs : tally.refs) counts_.blocks_held += refs > 0 ? 1 : 0;
  set_rank(node);
  context_.bytes += footprint(node);
  if (node.rank == kNowhere) maybe_dead_.push_back(hash);
  return true;
}

// The key whose router block begins at `block_start`, before the node, is held while all nodes from there on are.
void JoinedLane::join(Node& node, BlockKey key, std::uint32_t block_start) {
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

// A node has completed the key that follows `before` (or a root).
void JoinedLane::own(BlockKey key, BlockKey before) {
  const auto [at, added] = keys_.try_emplace(key);
  ++at->second.owners;
  if (!added) return;
  context_.bytes += sizeof(Key) + sizeof(BlockKey) + 3 * sizeof(void*);
  const auto parent = keys_.find(before);
  const Slot behind = parent == keys_.end() ? kNoSlot : parent->second.slot;
  const Tree::Stretch stretch = tree_.place(context_.lane, behind, {&key, 1}, {}, kNowhere);
  WP_CHECK(stretch.count == 1);
  at->second.slot = stretch.first;
}

void JoinedLane::disown(BlockKey key) {
  const auto at = keys_.find(key);
  WP_CHECK(at != keys_.end());
  if (--at->second.owners > 0) return;
  tree_.drop(context_.lane, at->second.slot);
  keys_.erase(at);
  context_.bytes -= sizeof(Key) + sizeof(BlockKey) + 3 * sizeof(void*);
}

// One run of nodes that covers `key` went from tier `from` to tier `to`.
void JoinedLane::move(BlockKey key, Rank from, Rank to) {
  if (from == to) return;
  Key& state = keys_.at(key);
  const Rank before = state.rank();
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    state.covers[tier] += static_cast<std::uint32_t>(to <= tier) - static_cast<std::uint32_t>(from <= tier);
  }
  const Rank after = state.rank();
  if (before == after) return;
  tree_.set_rank(context_.lane, state.slot, after);
  counts_.router_blocks_held += static_cast<int>(after != kNowhere) - static_cast<int>(before != kNowhere);
}

void JoinedLane::set_rank(Node& node) {
  const Rank from = node.rank;
  const Rank to = node.tally.rank();
  if (from == to) return;
  node.rank = to;
  for (const BlockKey key : node.earlier) move(key, from, to);
  if (node.end_key_is_whole) move(node.end_key, from, to);
  if (node.joint == nullptr) return;
  for (Cover* const cover : node.joint->covers) {
    const Rank cover_from = cover->rank();
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      cover->missing[tier] += static_cast<std::uint32_t>(from <= tier) - static_cast<std::uint32_t>(to <= tier);
    }
    move(cover->key, cover_from, cover->rank());
  }
}

// Ends the node, and then its ancestors, where neither a reference nor a child needs it: a node without references
// stays while blocks behind it stand, so that they still know their chain.
void JoinedLane::prune(EngineHash hash) {
  Node* node = find(hash);
  while (node != nullptr && node->rank == kNowhere && node->children == 0) {
    Node* const parent = node->parent;
    context_.bytes -= footprint(*node);
    if (node->end_key_is_whole) disown(node->end_key);
    for (auto key = node->earlier.rbegin(); key != node->earlier.rend(); ++key) disown(*key);
    if (node->joint != nullptr && node->joint->own != nullptr) {
      Cover* const cover = node->joint->own.get();
      Node* part = parent;
      for (std::uint32_t left = cover->nodes - 1; left > 0; --left, part = part->parent) {
        std::erase(part->joint->covers, cover);
      }
      disown(cover->key);
    }
    nodes_.erase(EngineHash(node->hash));
    if (parent != nullptr) --parent->children;
    node = parent;
  }
}

// The same at a node's birth and end. Links to covers are counted at their owner.
std::size_t JoinedLane::footprint(const Node& node) const {
  std::size_t bytes = kNodeBytes + node.earlier.size() * sizeof(BlockKey);
  if (node.joint == nullptr) return bytes;
  const Joint& joint = *node.joint;
  bytes += sizeof(Joint) + joint.tail.size() * sizeof(TokenId);
  for (const BegunItem& item : joint.tail_items) bytes += sizeof(item) + item.identifier.size();
  if (joint.own != nullptr) bytes += sizeof(Cover) + joint.own->nodes * sizeof(Cover*);
  return bytes;
}

}  // namespace warmpath::index
