#include "index/engine_copy.h"

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

namespace warmpath::index {
namespace {

constexpr std::size_t kPartBytes = std::size_t{1} << 20;  // a part is closed when it is larger
constexpr std::uint32_t kKeysPerBlockMax = 1u << 20;
constexpr std::size_t kItemsMax = 1u << 16;  // that begin in one block
constexpr std::size_t kItemBytesMax = 1u << 16;
constexpr std::size_t kCountBytes = 4 + 4 * blocks::kTierCount;

// Tallies as one byte each: bits 0-2 whether there are references by tier, bits 3-5 whether there is a doubt.
constexpr std::uint8_t kRegular = 1;

std::uint8_t byte_of(const Tally& tally) {
  unsigned bits = static_cast<unsigned>(tally.doubtful) << blocks::kTierCount;
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) bits |= (tally.refs[tier] > 0 ? 1u : 0u) << tier;
  return static_cast<std::uint8_t>(bits);
}

bool counted(const Tally& tally) {
  return std::ranges::any_of(tally.refs, [](std::uint32_t refs) { return refs > 1; });
}

void put_group(const CopiedGroup& group, std::string& out) {
  put(out, group.id);
  put(out, static_cast<std::uint8_t>(group.kind));
  put(out, static_cast<std::uint8_t>(group.lane));
  put(out, group.unit_tokens);
  put(out, group.keys_per_block);
  put(out, group.block_tokens);
}

// A chain is as long as a part is wide: what is longer goes on behind itself.
void put_chain(const GroupCopy& copy, std::span<const CopiedBlock* const> chain, std::string& out) {
  const CopiedBlock& first = *chain.front();
  std::vector<std::uint8_t> tallies;
  std::string counts;
  bool regular = true;
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const Tally& tally = chain[i]->tally;
    tallies.push_back(byte_of(tally));
    regular = regular && tallies.back() == kRegular;
    if (!counted(tally)) continue;
    regular = false;
    put(counts, static_cast<std::uint32_t>(i));
    for (const std::uint32_t refs : tally.refs) put(counts, refs);
  }
  put(out, first.parent);
  put(out, static_cast<std::uint8_t>(first.root));
  put(out, static_cast<std::uint8_t>(regular));
  put(out, first.depth);
  put(out, static_cast<std::uint32_t>(chain.size()));
  std::uint64_t bodies = 0;
  for (const CopiedBlock* block : chain) {
    put(out, block->hash);
    bodies += block->body_bytes;
  }
  if (copy.group.lane == LaneKind::kJoined) put(out, bodies);
  for (const CopiedBlock* block : chain) out.append(copy.bodies, block->body, block->body_bytes);
  if (regular) return;
  out.append(reinterpret_cast<const char*>(tallies.data()), tallies.size());
  put(out, static_cast<std::uint32_t>(counts.size() / kCountBytes));
  out += counts;
}

// Parents before children, and each block right behind its parent where it is its first child.
std::vector<const CopiedBlock*> by_family(const std::vector<CopiedBlock>& blocks) {
  constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  std::unordered_map<std::uint64_t, std::uint32_t> first_child;
  std::vector<std::uint32_t> next_sibling(blocks.size(), kNone);
  std::vector<std::uint32_t> open;
  for (std::uint32_t i = static_cast<std::uint32_t>(blocks.size()); i-- > 0;) {
    if (blocks[i].root) {
      open.push_back(i);
      continue;
    }
    const auto [at, added] = first_child.try_emplace(blocks[i].parent, i);
    if (!added) next_sibling[i] = std::exchange(at->second, i);
  }
  std::vector<const CopiedBlock*> order;
  order.reserve(blocks.size());
  while (!open.empty()) {
    const std::uint32_t at = open.back();
    open.pop_back();
    order.push_back(&blocks[at]);
    const auto child = first_child.find(blocks[at].hash);
    if (!blocks[at].root && next_sibling[at] != kNone) open.push_back(next_sibling[at]);
    if (child != first_child.end()) open.push_back(child->second);
  }
  return order;
}

}  // namespace

void encode_group(GroupCopy&& copy, std::vector<std::string>& parts) {
  std::vector<const CopiedBlock*> order;
  if (copy.group.lane == LaneKind::kJoined) {
    order = by_family(copy.blocks);
  } else {
    // In the order of their places in memory: chains lie in one piece there.
    order.reserve(copy.blocks.size());
    for (const CopiedBlock& block : copy.blocks) order.push_back(&block);
  }
  std::string part;
  put_group(copy.group, part);
  for (std::size_t first = 0; first < order.size();) {
    std::size_t bytes = 0;
    std::size_t last = first;
    do {
      bytes += sizeof(std::uint64_t) + order[last]->body_bytes;
      ++last;
    } while (last < order.size() && !order[last]->root && order[last]->parent == order[last - 1]->hash &&
             part.size() + bytes < kPartBytes);
    put_chain(copy, std::span(order).subspan(first, last - first), part);
    first = last;
    if (part.size() < kPartBytes || first == order.size()) continue;
    parts.push_back(std::exchange(part, {}));
    put_group(copy.group, part);
  }
  parts.push_back(std::move(part));
}

Tally ChainView::tally(std::size_t i, std::size_t& exception) const {
  Tally tally;
  const auto bits = tallies.empty() ? kRegular : static_cast<std::uint8_t>(tallies[i]);
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) tally.refs[tier] = bits >> tier & 1u;
  tally.doubtful = static_cast<std::uint8_t>(bits >> blocks::kTierCount & 7u);
  if (exception * kCountBytes < counts.size()) {
    ByteReader reader(counts.substr(exception * kCountBytes, kCountBytes));
    if (reader.get<std::uint32_t>() == i) {
      for (std::uint32_t& refs : tally.refs) refs = reader.get<std::uint32_t>();
      ++exception;
    }
  }
  // A doubt is about a reference: without one it would keep what nobody holds.
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if (tally.refs[tier] == 0) tally.doubtful &= static_cast<std::uint8_t>(~(1u << tier));
  }
  return tally;
}

bool read_part(std::string_view bytes, PartView& out) {
  ByteReader reader(bytes);
  CopiedGroup& group = out.group;
  group.id = reader.get<std::uint32_t>();
  const auto kind = reader.get<std::uint8_t>();
  const auto lane = reader.get<std::uint8_t>();
  group.unit_tokens = reader.get<std::uint32_t>();
  group.keys_per_block = reader.get<std::uint32_t>();
  group.block_tokens = reader.get<std::uint32_t>();
  if (!reader.ok() || kind > static_cast<std::uint8_t>(blocks::SpecKind::kOther)) return false;
  if (lane > static_cast<std::uint8_t>(LaneKind::kJoined)) return false;
  group.kind = static_cast<blocks::SpecKind>(kind);
  group.lane = static_cast<LaneKind>(lane);
  const bool compact = group.lane == LaneKind::kCompact;
  if (compact && (group.keys_per_block == 0 || group.keys_per_block > kKeysPerBlockMax)) return false;
  if (group.lane != LaneKind::kNone && (group.unit_tokens == 0 || group.kind == blocks::SpecKind::kOther)) return false;
  while (!reader.at_end()) {
    ChainView chain;
    chain.parent = reader.get<std::uint64_t>();
    chain.root = reader.get<std::uint8_t>() != 0;
    const bool regular = reader.get<std::uint8_t>() != 0;
    chain.depth = reader.get<std::uint32_t>();
    chain.count = reader.get<std::uint32_t>();
    chain.hashes = reader.take(chain.count, sizeof(std::uint64_t));
    if (compact) {
      chain.keys = reader.take(std::uint64_t{chain.count} * group.keys_per_block, sizeof(std::uint64_t));
    } else {
      chain.bodies = reader.take(reader.get<std::uint64_t>());
    }
    if (!regular) {
      chain.tallies = reader.take(chain.count);
      chain.counts = reader.take(reader.get<std::uint32_t>(), kCountBytes);
    }
    if (!reader.ok() || chain.count == 0 || group.lane == LaneKind::kNone) return false;
    out.chains.push_back(chain);
  }
  return true;
}

// Of the tail only what came with the node itself is written: what it took over from its parent, the parent has.
bool put_node(const Node& node, std::string& out) {
  const Joint* const joint = node.joint.get();
  if (joint != nullptr) {
    const auto too_large = [](const BegunItem& item) { return item.identifier.size() > kItemBytesMax; };
    if (joint->tail_items.size() > kItemsMax || std::ranges::any_of(joint->tail_items, too_large)) return false;
  }
  const bool joined = joint != nullptr && joint->own != nullptr;
  const std::size_t keys = (joined ? 1u : 0u) + node.earlier.size() + (node.end_key_is_whole ? 1u : 0u);
  put(out, node.tokens);
  if (node.parent == nullptr) put(out, keys == 0 ? node.end_key.value() : std::uint64_t{0});
  put(out, static_cast<std::uint32_t>(keys));
  if (joined) put(out, joint->own->key.value());
  for (const BlockKey key : node.earlier) put(out, key.value());
  if (node.end_key_is_whole) put(out, node.end_key.value());
  const std::size_t tail = joint == nullptr ? 0 : joint->tail.size();
  const std::size_t own = keys > 0 ? tail : std::min<std::size_t>(tail, node.tokens);
  put(out, static_cast<std::uint32_t>(own));
  for (std::size_t i = tail - own; i < tail; ++i) put(out, joint->tail[i]);
  std::uint32_t items = 0;
  const std::size_t at = out.size();
  put(out, items);
  if (joint == nullptr) return true;
  for (const BegunItem& item : joint->tail_items) {
    if (item.offset < tail - own) continue;
    put(out, static_cast<std::uint32_t>(item.offset - (tail - own)));
    put_text(out, item.identifier);
    ++items;
  }
  std::memcpy(out.data() + at, &items, sizeof items);
  return true;
}

bool read_node(ByteReader& reader, bool root, NodeView& out) {
  out = {};
  out.tokens = reader.get<std::uint32_t>();
  if (root) out.root = BlockKey(reader.get<std::uint64_t>());
  out.keys = reader.take(reader.get<std::uint32_t>(), sizeof(std::uint64_t));
  out.tail = reader.take(reader.get<std::uint32_t>(), sizeof(TokenId));
  const auto items = reader.get<std::uint32_t>();
  if (!reader.ok() || items > kItemsMax) return false;
  std::uint32_t before = 0;
  for (std::uint32_t i = 0; i < items && reader.ok(); ++i) {
    BegunItem item;
    item.offset = reader.get<std::uint32_t>();
    item.identifier = reader.text(kItemBytesMax);
    if (item.offset < before || item.offset >= out.tail.size() / sizeof(TokenId)) return false;
    before = item.offset;
    out.items.push_back(std::move(item));
  }
  return reader.ok();
}

}  // namespace warmpath::index
