#include "index/compact_lane.h"

#include <algorithm>

namespace warmpath::index {
namespace {

using blocks::Tier;

constexpr std::size_t kTallyBytes = sizeof(Slot) + sizeof(Tally) + 4 * sizeof(void*);
constexpr std::size_t kLookAhead = 16;  // blocks whose cache lines are asked for early

}  // namespace

CompactLane::CompactLane(const LaneContext& context, std::uint32_t keys_per_block)
    : context_(context), tree_(context.tree), keys_per_block_(keys_per_block) {}

CompactLane::~CompactLane() { context_.bytes -= lines_.bytes() + tallies_.size() * kTallyBytes; }

Slot CompactLane::find(EngineHash hash) const { return lines_.find(hash.value(), hash_of()); }

void CompactLane::prefetch(std::span<const EngineHash> hashes) const {
  if (empty()) return;
  for (const EngineHash hash : hashes.first(std::min(hashes.size(), kLookAhead))) lines_.prefetch(hash.value());
}

void CompactLane::foresee(std::span<const EngineHash> hashes) const {
  if (empty()) return;
  for (const EngineHash hash : hashes.first(std::min(hashes.size(), kLookAhead / 2))) {
    lines_.foresee(hash.value(), [this](Slot slot) { tree_.foresee(slot); });
  }
}

void CompactLane::reserve(std::size_t blocks) {
  const std::size_t before = lines_.bytes();
  lines_.reserve(blocks, hash_of(), [this](Slot slot) { tree_.prefetch(slot); });
  context_.bytes += lines_.bytes() - before;
}

void CompactLane::erase(EngineHash hash, Slot slot) { lines_.erase(hash.value(), slot, hash_of()); }

Tally CompactLane::tally(Slot slot) const {
  if (!tallies_.empty()) {
    if (const auto found = tallies_.find(slot); found != tallies_.end()) return found->second;
  }
  return {.refs = {tree_.rank(context_.lane, slot) == kNowhere ? 0u : 1u, 0, 0}, .doubtful = 0};
}

// Keeps the tally unless the tree tells as much, and the tree's rank in step with it.
void CompactLane::set_tally(Slot slot, const Tally& tally, Rank before) {
  const bool told = tally.doubtful == 0 && tally.refs[0] <= 1 && tally.refs[1] == 0 && tally.refs[2] == 0;
  if (!told) {
    const auto [at, added] = tallies_.insert_or_assign(slot, tally);
    if (added) context_.bytes += kTallyBytes;
  } else if (!tallies_.empty()) {
    context_.bytes -= tallies_.erase(slot) * kTallyBytes;
  }
  const Rank rank = tally.rank();
  if (rank == before) return;
  if (rank == kNowhere) counts_.router_blocks_held -= keys_per_block_;
  if (before == kNowhere) counts_.router_blocks_held += keys_per_block_;
  for (std::uint32_t i = 0; i < keys_per_block_; ++i) {
    tree_.set_rank(context_.lane, slot, rank);
    slot = tree_.before(slot);
  }
}

std::size_t CompactLane::store(const StoreRun& run, std::span<const BlockKey> keys, Slot& at, Applied& applied) {
  reserve(run.hashes.size());
  prefetch(run.hashes);
  std::size_t i = 0;
  while (i < run.hashes.size()) {
    const Slot slot = find(run.hashes[i]);
    if (slot == kNoSlot) {
      const std::size_t taken = keys_per_block_ == 1 && run.removed == nullptr
                                    ? store_stretch(run, i, keys, at, applied)
                                    : static_cast<std::size_t>(store_block(run, i, keys, at));
      if (taken == 0) break;
      if (keys_per_block_ != 1 || run.removed != nullptr) applied.blocks_stored += run.is_removed(i) ? 0 : 1;
      i += taken;
      continue;
    }
    if (run.is_removed(i)) {
      maybe_dead_.push_back(slot);
    } else {
      Tally counted = tally(slot);
      const Rank before = counted.rank();
      if (counted.add(run.tier, run.may_repeat)) ++counts_.blocks_held;
      set_tally(slot, counted, before);
      ++applied.blocks_stored;
    }
    at = slot;
    ++i;
  }
  return i;
}

// The common case: blocks that are new to the lane, as many as lie in one piece. The first one is.
std::size_t CompactLane::store_stretch(const StoreRun& run, std::size_t first, std::span<const BlockKey> keys, Slot& at,
                                       Applied& applied) {
  const HashView hashes{.at = run.hashes.data() + first, .stride = 1, .phase = 0};
  const Tree::Stretch stretch =
      tree_.place(context_.lane, at, keys.subspan(first), hashes, static_cast<Rank>(run.tier));
  own_hashes_ = own_hashes_ || stretch.own_hashes;
  std::uint32_t taken = 0;
  const std::span<const EngineHash> named = run.hashes.subspan(first, stretch.count);
  for (; taken < stretch.count; ++taken) {
    const std::size_t ahead = first + taken + kLookAhead;
    if (ahead < run.hashes.size()) lines_.prefetch(run.hashes[ahead].value());
    if (taken + kLookAhead / 2 < named.size()) {
      lines_.foresee(named[taken + kLookAhead / 2].value(), [this](Slot slot) { tree_.prefetch(slot); });
    }
    // A hash names one chain: one that is known already, or stands twice in this event, is not this block's.
    if (!lines_.insert_new(named[taken].value(), stretch.first + taken, hash_of())) break;
    if (run.tier != Tier::kGpu) count_first(stretch.first + taken, run.tier);
  }
  counts_.blocks_held += taken;
  counts_.router_blocks_held += taken;
  for (std::uint32_t undo = stretch.count; undo > taken; --undo) {
    tree_.drop(context_.lane, stretch.first + undo - 1);
  }
  applied.blocks_stored += taken;
  if (taken > 0) at = stretch.first + taken - 1;
  return taken;
}

bool CompactLane::store_block(const StoreRun& run, std::size_t index, std::span<const BlockKey> keys, Slot& at) {
  const bool removed = run.is_removed(index);
  std::span<const BlockKey> left = keys.subspan(index * keys_per_block_, keys_per_block_);
  HashView hash{.at = run.hashes.data() + index, .stride = keys_per_block_, .phase = 0};
  Slot slot = at;
  while (!left.empty()) {
    const Tree::Stretch stretch =
        tree_.place(context_.lane, slot, left, hash, removed ? kNowhere : static_cast<Rank>(run.tier));
    if (stretch.count == 0) {
      // Known blocks are a prefix of a chain: only the first key can be known.
      WP_CHECK(left.size() == keys_per_block_);
      return false;
    }
    own_hashes_ = own_hashes_ || stretch.own_hashes;
    left = left.subspan(stretch.count);
    hash.phase += stretch.count;
    slot = stretch.first + stretch.count - 1;
  }
  stored(slot, run.hashes[index], run, removed);
  at = slot;
  return true;
}

void CompactLane::stored(Slot slot, EngineHash hash, const StoreRun& run, bool removed) {
  lines_.insert(hash.value(), slot);
  if (removed) {
    maybe_dead_.push_back(slot);
    return;
  }
  ++counts_.blocks_held;
  counts_.router_blocks_held += keys_per_block_;
  if (run.tier != Tier::kGpu) count_first(slot, run.tier);
}

// Of a block that is new: its first reference, in a tier that the tree does not stand for.
void CompactLane::count_first(Slot slot, Tier tier) {
  Tally counted;
  counted.refs[static_cast<std::size_t>(tier)] = 1;
  tallies_.insert_or_assign(slot, counted);
  context_.bytes += kTallyBytes;
}

bool CompactLane::add_tier(EngineHash hash, Tier tier) {
  const Slot slot = find(hash);
  if (slot == kNoSlot) return false;
  Tally counted = tally(slot);
  const Rank before = counted.rank();
  if (counted.add(tier, true)) ++counts_.blocks_held;
  set_tally(slot, counted, before);
  return true;
}

// Engines evict the tail of a chain block by block: where the next hashes are those of the blocks before, they go with
// it. Only where the cells have the lane's own hashes: then the lane's entry of such a hash is that block's.
std::size_t CompactLane::remove_held(std::span<const EngineHash> hashes) {
  if (keys_per_block_ != 1) return 0;
  const Slot slot = find(hashes[0]);
  if (slot == kNoSlot) return 0;
  if (own_hashes_ || !tallies_.empty()) {
    if (tallies_.contains(slot)) return 0;
    hashes = hashes.first(1);
  }
  const Tree::Tail tail = tree_.tail(context_.lane, slot, hashes);
  if (tail.held == 0) return punch(slot);
  for (std::uint32_t i = 0; i < tail.held; ++i) {
    if (i + kLookAhead < hashes.size()) lines_.prefetch(hashes[i + kLookAhead].value());
    if (i + kLookAhead / 2 < hashes.size())
      lines_.foresee(hashes[i + kLookAhead / 2].value(), [this](Slot next) { tree_.foresee(next); });
    erase(hashes[i], slot - i);
  }
  for (std::uint32_t i = 0; i < tail.dead; ++i) {
    const Slot dead = slot - tail.held - i;
    erase(EngineHash(hash_of()(dead)), dead);
  }
  prune(tree_.drop_tail(tail));
  counts_.blocks_held -= tail.held;
  counts_.router_blocks_held -= tail.held;
  return tail.held;
}

// A block on gpu alone that has others behind it: it stays known for their sake.
std::size_t CompactLane::punch(Slot slot) {
  if (tree_.rank(context_.lane, slot) == kNowhere) return 0;
  tree_.set_rank(context_.lane, slot, kNowhere);
  --counts_.blocks_held;
  --counts_.router_blocks_held;
  return 1;
}

bool CompactLane::remove(EngineHash hash, Tier tier) {
  const Slot slot = find(hash);
  if (slot == kNoSlot) return false;
  Tally counted = tally(slot);
  const Rank before = counted.rank();
  const Tally::Dropped dropped = counted.drop(tier, [&] { return tree_.has_more(context_.lane, slot); });
  if (dropped == Tally::Dropped::kNothing) return false;
  if (dropped == Tally::Dropped::kLast) --counts_.blocks_held;
  set_tally(slot, counted, before);
  prune(slot);
  return true;
}

// Ends the block, and then those before it, where neither a reference nor a block behind needs it: a block without
// references stays while blocks behind it stand, so that they still know their chain.
void CompactLane::prune(Slot slot) {
  while (slot != kNoSlot && tree_.rank(context_.lane, slot) == kNowhere && !tree_.has_more(context_.lane, slot)) {
    erase(tree_.hash(context_.lane, slot), slot);
    for (std::uint32_t i = 0; i < keys_per_block_; ++i) {
      const Slot before = tree_.before(slot);
      tree_.drop(context_.lane, slot);
      slot = before;
    }
  }
}

void CompactLane::prune_dead() {
  // Deepest last in the list: children go before parents. A slot may stand twice, or be gone with a child.
  while (!maybe_dead_.empty()) {
    const Slot slot = maybe_dead_.back();
    maybe_dead_.pop_back();
    if (tree_.knows(context_.lane, slot)) prune(slot);
  }
}

void CompactLane::clear_gpu() {
  if (tallies_.empty()) {
    drop_all();
    return;
  }
  const std::vector<Block> all = blocks();
  for (const Block& block : all) {
    Tally counted = block.tally;
    const Rank before = counted.rank();
    if (counted.refs[0] > 0) --counts_.blocks_held;
    counted.refs[0] = 0;
    counted.doubtful = static_cast<std::uint8_t>(counted.doubtful & ~Tally::bit(Tier::kGpu));
    set_tally(block.slot, counted, before);
  }
  for (auto block = all.rbegin(); block != all.rend(); ++block) {
    if (tree_.knows(context_.lane, block->slot)) prune(block->slot);
  }
}

void CompactLane::drop_all() {
  std::vector<RunId> runs;
  lines_.each([&](Slot slot) {
    for (std::uint32_t i = 0; i < keys_per_block_; ++i) {
      const RunId run = tree_.run_of(slot);
      if (runs.empty() || runs.back() != run) runs.push_back(run);
      slot = tree_.before(slot);
    }
  });
  tree_.drop_lane(context_.lane, runs);
  context_.bytes -= lines_.bytes() + tallies_.size() * kTallyBytes;
  lines_.clear();
  tallies_.clear();
  maybe_dead_.clear();
  own_hashes_ = false;
  counts_ = {};
}

std::uint32_t CompactLane::evict(RunId run, std::uint32_t blocks) {
  std::uint32_t evicted = 0;
  // An engine block ends at the last one of them, and may begin before the run.
  for (std::uint32_t offset = blocks; offset > 0; offset -= std::min(offset, keys_per_block_)) {
    const Slot slot = tree_.slot_in(run, offset - 1);
    if (!tree_.knows(context_.lane, slot)) continue;  // went with the one behind it
    Tally counted = tally(slot);
    const Rank before = counted.rank();
    for (std::uint32_t& refs : counted.refs) {
      if (refs > 0) --counts_.blocks_held;
      refs = 0;
    }
    counted.doubtful = 0;
    evicted += before != kNowhere ? 1 : 0;
    set_tally(slot, counted, before);
    prune(slot);
  }
  return evicted;
}

std::vector<Slot> CompactLane::slots() const {
  std::vector<Slot> out;
  out.reserve(lines_.size());
  lines_.each([&](Slot slot) { out.push_back(slot); });
  return out;
}

void CompactLane::adopt(EngineHash hash, const Tally& tally) {
  const Slot slot = find(hash);
  if (slot == kNoSlot) return;
  for (const std::uint32_t refs : tally.refs) counts_.blocks_held += refs > 0 ? 1 : 0;
  set_tally(slot, tally, kNowhere);
}

std::vector<CompactLane::Block> CompactLane::blocks() const {
  std::vector<Block> out;
  out.reserve(lines_.size());
  lines_.each(
      [&](Slot slot) { out.push_back({tree_.hash(context_.lane, slot), slot, tree_.depth(slot), tally(slot)}); });
  std::ranges::sort(out, {}, &Block::depth);
  return out;
}

}  // namespace warmpath::index
