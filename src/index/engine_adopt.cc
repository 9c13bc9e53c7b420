// EngineMap's copies: out in slices, and back.
#include <algorithm>

#include "index/engine_map.h"

namespace warmpath::index {

EngineMap::Copier::Copier(const EngineMap& map) : map_(map) {
  for (const auto& [id, group] : map.groups_) {
    GroupCopy& copy = groups_.emplace_back();
    copy.group = {.id = id,
                  .kind = group.kind,
                  .lane = group.compact != nullptr  ? LaneKind::kCompact
                          : group.joined != nullptr ? LaneKind::kJoined
                                                    : LaneKind::kNone,
                  .unit_tokens = group.unit_tokens,
                  .keys_per_block = group.compact != nullptr ? group.compact->keys_per_block() : 0,
                  .block_tokens = map.block_tokens_};
    slots_.push_back(group.compact != nullptr ? group.compact->slots() : std::vector<Slot>());
    sizes_.push_back(group.joined != nullptr ? group.joined->size() : slots_.back().size());
  }
}

// Blocks of one chain lie side by side: read in this order they are found in the cache, and come out as chains. And no
// slice has to move what was copied before it.
void EngineMap::Copier::prepare() {
  constexpr std::size_t kNodeBytesUsual = 48;
  for (std::vector<Slot>& slots : slots_) std::ranges::sort(slots);
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    const bool compact = groups_[i].group.lane == LaneKind::kCompact;
    groups_[i].blocks.reserve(sizes_[i]);
    groups_[i].bodies.reserve(sizes_[i] *
                              (compact ? groups_[i].group.keys_per_block * sizeof(std::uint64_t) : kNodeBytesUsual));
  }
}

bool EngineMap::Copier::step(std::size_t blocks_max) {
  while (group_ < groups_.size()) {
    GroupCopy& copy = groups_[group_];
    const Group& group = map_.groups_.at(copy.group.id);
    const Tree& tree = map_.commons_.tree;
    const auto add = [&](CopiedBlock block) {
      block.body_bytes = static_cast<std::uint32_t>(copy.bodies.size() - block.body);
      copy.blocks.push_back(block);
      if (blocks_max > 0) --blocks_max;
    };
    if (group.compact != nullptr) {
      const std::vector<Slot>& slots = slots_[group_];
      const std::uint32_t keys = group.compact->keys_per_block();
      for (; at_ < slots.size() && blocks_max > 0; ++at_) {
        if (!tree.knows(group.lane, slots[at_])) continue;  // evicted meanwhile
        const CompactLane::Block from = group.compact->block_at(slots[at_]);
        CopiedBlock block{
            .hash = from.hash.value(), .depth = from.depth + 1 - keys, .body = copy.bodies.size(), .tally = from.tally};
        copy.bodies.resize(block.body + keys * sizeof(std::uint64_t));
        Slot slot = from.slot;
        for (std::uint32_t i = keys; i > 0; --i) {
          const std::uint64_t key = tree.key(slot).value();
          std::memcpy(copy.bodies.data() + block.body + (i - 1) * sizeof key, &key, sizeof key);
          slot = tree.before(slot);
        }
        block.root = slot == kNoSlot;
        if (!block.root) block.parent = tree.hash(group.lane, slot).value();
        add(block);
      }
      if (at_ < slots.size()) return true;
    } else if (group.joined != nullptr) {
      for (; at_ < group.joined->buckets() && blocks_max > 0; ++at_) {
        group.joined->each_in(at_, [&](const Node& node) {
          CopiedBlock block{.hash = node.hash.value(),
                            .parent = node.parent == nullptr ? 0 : node.parent->hash.value(),
                            .root = node.parent == nullptr,
                            .depth = node.start,
                            .body = copy.bodies.size(),
                            .tally = node.tally};
          if (put_node(node, copy.bodies)) return add(block);
          whole_ = false;  // what stands behind it finds no parent and goes too
        });
      }
      if (at_ < group.joined->buckets()) return true;
    }
    at_ = 0;
    ++group_;
  }
  return false;
}

Result<Adopted> EngineMap::adopt(std::span<const PartView> parts) {
  const Error foreign{ErrorKind::kInvalid, ""};
  changes_ += 2;
  const std::uint32_t router_block = commons_.options.space.block_tokens();
  Adopted adopted;
  std::map<std::uint32_t, std::pair<CopiedGroup, std::vector<ChainView>>> by_group;
  for (const PartView& part : parts) {
    const auto [at, added] = by_group.try_emplace(part.group.id, part.group, std::vector<ChainView>());
    const CopiedGroup& known = at->second.first;
    if (known.kind != part.group.kind || known.lane != part.group.lane ||
        known.keys_per_block != part.group.keys_per_block || known.unit_tokens != part.group.unit_tokens) {
      return foreign;
    }
    at->second.second.insert(at->second.second.end(), part.chains.begin(), part.chains.end());
  }
  for (auto& [id, given] : by_group) {
    const CopiedGroup& from = given.first;
    std::vector<ChainView>& chains = given.second;
    Group* const group = group_for_store(id, from.kind);
    if (group == nullptr) return foreign;
    if (!group->matches) continue;
    if (from.unit_tokens != 0) note_unit(*group, from.unit_tokens);
    block_tokens_ = from.block_tokens;
    // Where a chain begins, all before it ended or lies in chains that begin earlier.
    std::ranges::stable_sort(chains, {}, &ChainView::depth);
    bool fits = true;
    if (from.lane == LaneKind::kCompact) {
      const std::uint64_t tokens = std::uint64_t{from.keys_per_block} * router_block;
      fits = tokens < kPositionMax && compact_fits(*group, static_cast<std::uint32_t>(tokens)) &&
             adopt_compact(*group, from.keys_per_block, chains, adopted);
    } else if (from.lane == LaneKind::kJoined) {
      fits = group->compact == nullptr && group->joined == nullptr;
      if (fits) {
        if (commons_.compact_lanes.size() <= group->lane) commons_.compact_lanes.resize(group->lane + std::size_t{1});
        const LaneContext context{.tree = commons_.tree, .bytes = commons_.bytes, .lane = group->lane};
        group->joined = std::make_unique<JoinedLane>(context, commons_.options.space);
        fits = adopt_joined(*group, chains, adopted);
      }
    }
    if (!fits) return foreign;
  }
  return adopted;
}

bool EngineMap::adopt_compact(Group& group, std::uint32_t keys_per_block, std::span<const ChainView> chains,
                              Adopted& adopted) {
  CompactLane& lane = *group.compact;
  const std::uint64_t router_block = commons_.options.space.block_tokens();
  std::uint64_t taken = 0;
  std::size_t total = 0;
  for (const ChainView& chain : chains) total += chain.count;
  if (commons_.bytes + lane.growth_bytes(total) <= commons_.options.bytes_max) lane.expect(total);
  std::vector<EngineHash> hashes;
  std::vector<BlockKey> keys;
  std::vector<BlockKey> all_keys;
  Applied applied;
  for (const ChainView& chain : chains) {
    Slot at = chain.root ? kNoSlot : lane.find(EngineHash(chain.parent));
    if (!chain.root && at == kNoSlot) {
      adopted.whole = false;
      continue;
    }
    const std::uint64_t depth = at == kNoSlot ? 0 : std::uint64_t{commons_.tree.depth(at)} + 1;
    const std::uint64_t chain_keys = std::uint64_t{chain.count} * keys_per_block;
    if (chain.depth != depth || (depth + chain_keys) * router_block > kPositionMax) return false;
    if (commons_.bytes + Tree::bytes_wanted(chain_keys) + lane.growth_bytes(chain.count) > commons_.options.bytes_max) {
      adopted.whole = false;
      continue;
    }
    hashes.clear();
    keys.clear();
    for (std::size_t i = 0; i < chain.count; ++i) hashes.emplace_back(number_at<std::uint64_t>(chain.hashes, i));
    for (std::size_t i = 0; i < chain_keys; ++i) keys.emplace_back(number_at<std::uint64_t>(chain.keys, i));
    // Stretches that are held once on gpu go in as they would from an event, the others as known and not held.
    std::size_t exception = 0;
    std::vector<Tally> tallies(chain.tallies.size());
    for (std::size_t i = 0; i < tallies.size(); ++i) tallies[i] = chain.tally(i, exception);
    const auto regular = [&](std::size_t i) {
      return tallies.empty() || (tallies[i].refs == decltype(Tally::refs){1, 0, 0} && tallies[i].doubtful == 0);
    };
    for (std::size_t first = 0; first < hashes.size();) {
      std::size_t last = first + 1;
      while (last < hashes.size() && regular(last) == regular(first)) ++last;
      const std::vector<bool> removed(regular(first) ? 0 : last - first, true);
      const StoreRun run{.tier = blocks::Tier::kGpu,
                         .hashes = std::span(hashes).subspan(first, last - first),
                         .removed = regular(first) ? nullptr : &removed};
      const auto run_keys = std::span(keys).subspan(first * keys_per_block, (last - first) * keys_per_block);
      if (lane.store(run, run_keys, at, applied) < last - first) return false;
      for (std::size_t i = first; i < last && !regular(first); ++i) lane.adopt(hashes[i], tallies[i]);
      first = last;
    }
    taken += chain.count;
    all_keys.insert(all_keys.end(), keys.begin(), keys.end());
  }
  // A hash that came twice names two chains; a key stands for all before it, so it has one place.
  std::ranges::sort(all_keys);
  if (lane.size() != taken || std::ranges::adjacent_find(all_keys) != all_keys.end()) return false;
  lane.prune_dead();
  adopted.blocks += taken;
  return true;
}

bool EngineMap::adopt_joined(Group& group, std::span<const ChainView> chains, Adopted& adopted) {
  JoinedLane& lane = *group.joined;
  std::unordered_set<BlockKey> roots;
  NodeView view;
  for (const ChainView& chain : chains) {
    Node* parent = chain.root ? nullptr : lane.find(EngineHash(chain.parent));
    if (!chain.root && parent == nullptr) {
      adopted.whole = false;
      continue;
    }
    if (chain.depth != (parent == nullptr ? 0 : parent->end())) return false;
    const std::size_t keys = chain.bodies.size() / sizeof(std::uint64_t);
    if (commons_.bytes + JoinedLane::bytes_wanted(chain.count, keys) > commons_.options.bytes_max) {
      adopted.whole = false;
      continue;
    }
    ByteReader reader(chain.bodies);
    std::size_t exception = 0;
    for (std::size_t i = 0; i < chain.count; ++i) {
      if (!read_node(reader, chain.root && i == 0, view)) return false;
      if ((parent == nullptr ? 0 : std::uint64_t{parent->end()}) + view.tokens > kPositionMax) return false;
      const EngineHash hash(number_at<std::uint64_t>(chain.hashes, i));
      if (!lane.adopt(hash, parent, view, chain.tally(i, exception), roots)) return false;
      parent = lane.find(hash);
    }
    if (!reader.at_end()) return false;
    adopted.blocks += chain.count;
  }
  lane.prune_dead();
  return true;
}

}  // namespace warmpath::index
