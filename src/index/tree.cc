#include "index/tree.h"

#include <algorithm>

namespace warmpath::index {
namespace {

constexpr std::size_t kRunsMin = 64;
constexpr std::size_t kHeadBytes = 16;  // two entries of `heads` a run
constexpr std::size_t kLinearHoldsMax = 8;

std::uint32_t ceil_quanta(std::size_t blocks) {
  return static_cast<std::uint32_t>((blocks + Slots::kQuantum - 1) / Slots::kQuantum);
}

}  // namespace

Tree::Tree(std::size_t bytes_max, const Roster& roster, std::size_t& bytes)
    : roster_(roster), bytes_(bytes), slots_(bytes_max), words_(bytes_max) {
  const std::size_t runs_max = bytes_max * 2 / (sizeof(Run) + Slots::kQuantumBytes) + kRunsMin;
  run_chunks_.resize(runs_max / kRunsPerChunk + 1);
}

Tree::~Tree() {
  for (RunId id = 0; id < runs_end_; ++id) {
    Run& run = at(id);
    const std::size_t count = (run.version & 1) != 0 ? 0 : count_of(run.words);
    for (std::size_t i = 0; i < count; ++i) delete holds_of(run)[i].extra;
    if (run.hold_capacity != 0) delete[] run.many;
  }
}

std::size_t Tree::bytes_reserved() const {
  return slots_.bytes_reserved() + words_.bytes_reserved() + heads_.bytes_reserved() +
         run_memory_.size() * kRunsPerChunk * sizeof(Run);
}

std::size_t Tree::bytes_wanted(std::size_t keys) {
  return (keys / Slots::kQuantum + 2) * Slots::kQuantumBytes + 2 * (sizeof(Run) + kHeadBytes) + 4 * sizeof(Hold) +
         WordPool::bytes_of(2);
}

std::uint32_t Tree::depth(Slot slot) const {
  const Run& run = run_at(slot);
  return run.depth + (slot - run.base);
}

Slot Tree::before(Slot slot) const {
  const Run& run = run_at(slot);
  return slot == run.base ? run.parent : slot - 1;
}

// Before anything that readers may have seen of the run is used for something else.
void Tree::changed(Run& run) {
  poke(run.version, run.version + 2, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
}

// --- holds -----------------------------------------------------------------------------------------------------------

std::size_t Tree::find_hold(const Run& run, LaneId lane) const {
  const std::size_t count = count_of(run.words);
  const std::uint64_t* const words = count <= 1 ? &run.one : reinterpret_cast<const std::uint64_t*>(run.words >> 16);
  if (count <= kLinearHoldsMax) {
    for (std::size_t i = 0; i < count; ++i) {
      if (lane_of(words[i]) == lane) return i;
    }
    return kNone;
  }
  const EngineId engine = roster_.engine_of(lane);
  const auto* const found = std::lower_bound(words, words + count, lane, [&](std::uint64_t word, LaneId wanted) {
    const EngineId other = roster_.engine_of(lane_of(word));
    return other != engine ? other < engine : lane_of(word) < wanted;
  });
  return found != words + count && lane_of(*found) == lane ? static_cast<std::size_t>(found - words) : kNone;
}

// The words before stay as they are for who reads them now.
void Tree::set_words(Run& run, std::uint64_t* array, std::size_t count) {
  const std::size_t old_count = count_of(run.words);
  std::uint64_t* const old = words_of(run);
  const auto address = count <= 1 ? std::uintptr_t{0} : reinterpret_cast<std::uintptr_t>(array);
  WP_CHECK(address >> 48 == 0);
  if (count == 1 && old_count != 1) poke(run.one, array[0]);
  poke(run.words, std::uint64_t{address} << 16 | count, std::memory_order_release);
  if (count > 1) bytes_ += WordPool::bytes_of(count);
  if (old_count > 1) {
    changed(run);
    words_.give(old, old_count);
    bytes_ -= WordPool::bytes_of(old_count);
  }
}

std::size_t Tree::add_hold(Run& run, LaneId lane) {
  const std::size_t count = count_of(run.words);
  const std::uint64_t* const words = words_of(run);
  const EngineId engine = roster_.engine_of(lane);
  std::size_t index = 0;
  while (index < count) {
    const LaneId other_lane = lane_of(words[index]);
    const EngineId other = roster_.engine_of(other_lane);
    if (other != engine ? engine < other : lane < other_lane) break;
    ++index;
  }
  if (count == std::max<std::size_t>(1, run.hold_capacity)) {
    const std::size_t capacity = count + std::max<std::size_t>(1, count / 4);
    auto* const grown = new Hold[capacity];
    std::copy_n(holds_of(run), count, grown);
    if (run.hold_capacity != 0) delete[] run.many;
    bytes_ += (capacity - run.hold_capacity) * sizeof(Hold);
    run.many = grown;
    run.hold_capacity = static_cast<std::uint32_t>(capacity);
  }
  Hold* const holds = holds_of(run);
  std::copy_backward(holds + index, holds + count, holds + count + 1);
  holds[index] = {};

  std::uint64_t single = word_of(lane, 0, 0, 0);
  if (count == 0) {
    set_words(run, &single, 1);
    return 0;
  }
  std::uint64_t* const grown = words_.take(count + 1);
  for (std::size_t i = 0; i < index; ++i) poke(grown[i], words[i]);
  poke(grown[index], single);
  for (std::size_t i = index; i < count; ++i) poke(grown[i + 1], words[i]);
  set_words(run, grown, count + 1);
  return index;
}

void Tree::remove_hold(Run& run, std::size_t index) {
  const std::size_t count = count_of(run.words);
  const std::uint64_t* const words = words_of(run);
  Hold* const holds = holds_of(run);
  if (holds[index].extra != nullptr) {
    holds[index].extra->own.clear();
    holds[index].extra->ranks.clear();
    tidy_extra(holds[index]);
  }
  std::copy(holds + index + 1, holds + count, holds + index);
  if (count <= 2) {
    std::uint64_t left = count == 2 ? words[1 - index] : 0;
    set_words(run, &left, count - 1);
    if (run.hold_capacity != 0) {
      const Hold last = holds[0];
      bytes_ -= run.hold_capacity * sizeof(Hold);
      delete[] run.many;
      run.hold_capacity = 0;
      run.single = last;
    }
    return;
  }
  std::uint64_t* const shrunk = words_.take(count - 1);
  for (std::size_t i = 0; i < index; ++i) poke(shrunk[i], words[i]);
  for (std::size_t i = index + 1; i < count; ++i) poke(shrunk[i - 1], words[i]);
  set_words(run, shrunk, count - 1);
}

// Booked with its vectors' content, not their capacity: those are exact where they matter.
Tree::Extra& Tree::extra_of(Hold& hold) {
  if (hold.extra == nullptr) {
    hold.extra = new Extra;
    bytes_ += sizeof(Extra);
  }
  return *hold.extra;
}

void Tree::tidy_extra(Hold& hold) {
  if (hold.extra == nullptr || !hold.extra->own.empty() || !hold.extra->ranks.empty()) return;
  bytes_ -= sizeof(Extra) + hold.extra->own.capacity() * sizeof(std::uint64_t) + hold.extra->ranks.capacity();
  delete hold.extra;
  hold.extra = nullptr;
}

// --- runs ------------------------------------------------------------------------------------------------------------

RunId Tree::new_run(Slot parent, std::size_t blocks, std::uint32_t quanta_min) {
  RunId id = runs_end_;
  if (!free_runs_.empty()) {
    id = free_runs_.back();
    free_runs_.pop_back();
  } else {
    if (id % kRunsPerChunk == 0) {
      WP_CHECK(id / kRunsPerChunk < run_chunks_.size());
      run_memory_.emplace_back(kRunsPerChunk * sizeof(Run));
      auto* const runs = reinterpret_cast<Run*>(run_memory_.back().get());
      for (std::uint32_t i = 0; i < kRunsPerChunk; ++i) new (runs + i) Run;
      poke(run_chunks_[id / kRunsPerChunk], runs, std::memory_order_release);
    }
    ++runs_end_;
  }
  Run& run = at(id);
  const std::uint32_t wanted = std::max(quanta_min, ceil_quanta(std::min<std::size_t>(blocks, kRunBlocksMax)));
  const Slots::Extent extent = slots_.take(wanted, id);
  poke(run.base, extent.first);
  poke(run.length, std::uint32_t{0});
  poke(run.depth, parent == kNoSlot ? 0 : depth(parent) + 1);
  poke(run.parent, parent);
  poke(run.words, std::uint64_t{0});
  run.quanta = extent.quanta;
  run.first_child = kNoRun;
  run.previous_sibling = kNoRun;
  run.next_sibling = kNoRun;
  run.touched = 1;
  if (parent != kNoSlot) {
    Run& above = at(slots_.owner(parent));
    run.next_sibling = above.first_child;
    if (above.first_child != kNoRun) at(above.first_child).previous_sibling = id;
    above.first_child = id;
  }
  bytes_ += sizeof(Run) + kHeadBytes + extent.quanta * Slots::kQuantumBytes;
  return id;
}

void Tree::free_run(RunId id) {
  Run& run = at(id);
  WP_CHECK(run.first_child == kNoRun && count_of(run.words) == 0);
  heads_.erase(key(run.base), id);
  poke(run.version, run.version + 1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
  if (run.previous_sibling != kNoRun) {
    at(run.previous_sibling).next_sibling = run.next_sibling;
  } else if (run.parent != kNoSlot) {
    at(slots_.owner(run.parent)).first_child = run.next_sibling;
  }
  if (run.next_sibling != kNoRun) at(run.next_sibling).previous_sibling = run.previous_sibling;
  slots_.give(run.base, run.quanta);
  bytes_ -= sizeof(Run) + kHeadBytes + run.quanta * Slots::kQuantumBytes;
  free_runs_.push_back(id);
}

// A run ends where nobody knows more of it.
void Tree::shrink(Run& run) {
  const std::size_t count = count_of(run.words);
  const Hold* const holds = holds_of(run);
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < count && length < run.length; ++i) length = std::max<std::uint32_t>(length, holds[i].hi);
  if (length == run.length) return;
  keys_ -= run.length - length;
  if (length == 0) {
    const RunId id = slots_.owner(run.base);
    free_run(id);
    return;
  }
  poke(run.length, length);
  changed(run);
  const std::uint32_t keep = ceil_quanta(length);
  constexpr std::uint32_t kWorthQuanta = 8;  // to give back at once; less waits for the run's end
  if (run.quanta - keep >= std::max(kWorthQuanta, run.quanta / 2)) {
    slots_.give(run.base + keep * Slots::kQuantum, run.quanta - keep);
    bytes_ -= (run.quanta - keep) * Slots::kQuantumBytes;
    run.quanta = keep;
  }
}

bool Tree::can_append(Run& run, std::uint32_t offset, RunId id) {
  if (offset != run.length || offset >= kRunBlocksMax) return false;
  if (offset < run.quanta * Slots::kQuantum) return true;
  const std::uint32_t got = slots_.grow(run.base + run.quanta * Slots::kQuantum, kContinuedQuanta, id);
  run.quanta += got;
  bytes_ += got * Slots::kQuantumBytes;
  return got > 0;
}

// --- blocks ----------------------------------------------------------------------------------------------------------

Tree::Stretch Tree::place(LaneId lane, Slot at_slot, std::span<const BlockKey> keys, HashView hashes, Rank rank) {
  RunId id = kNoRun;
  std::uint32_t offset = 0;
  if (at_slot != kNoSlot) {
    id = slots_.owner(at_slot);
    const Run& run = at(id);
    offset = at_slot - run.base + 1;
    if (offset >= run.length || slots_.cell(run.base + offset).key != keys[0].value()) id = kNoRun;
  }
  if (id == kNoRun && (at_slot == kNoSlot || run_at(at_slot).first_child != kNoRun)) {
    id = heads_.find(keys[0], [&](RunId other) {
      const Run& run = at(other);
      return run.parent == at_slot && slots_.cell(run.base).key == keys[0].value();
    });
    if (id != kNoRun) offset = 0;
  }
  std::size_t count = 0;
  bool fresh = false;
  if (id != kNoRun) {
    const Run& run = at(id);
    const Cell* const cells = &slots_.cell(run.base + offset);
    const std::size_t most = std::min<std::size_t>(run.length - offset, keys.size());
    while (count < most && cells[count].key == keys[count].value()) ++count;
  } else {
    const RunId above = at_slot == kNoSlot ? kNoRun : slots_.owner(at_slot);
    if (above != kNoRun && can_append(at(above), offset, above)) {
      id = above;
    } else {
      const bool continues = above != kNoRun && offset == at(above).length;
      id = new_run(at_slot, keys.size(), continues ? kContinuedQuanta : 1);
      offset = 0;
      fresh = true;
    }
    const Run& run = at(id);
    const std::uint32_t room = std::min(run.quanta * Slots::kQuantum, kRunBlocksMax);
    count = std::min<std::size_t>(room - offset, keys.size());
  }

  Run& run = at(id);
  std::size_t index = fresh ? kNone : find_hold(run, lane);
  if (index == kNone) {
    index = add_hold(run, lane);
    if (run.parent != kNoSlot) {
      Run& above = at(slots_.owner(run.parent));
      const std::size_t above_index = find_hold(above, lane);
      WP_CHECK(above_index != kNone);
      Hold& hold = holds_of(above)[above_index];
      ++hold.children;
      hold.child_bound = std::max(hold.child_bound, static_cast<std::uint16_t>(run.parent - above.base + 1));
    }
  }
  Hold& hold = holds_of(run)[index];
  if (hold.hi > offset) return {};
  WP_CHECK(hold.hi == offset);
  if (run.length < offset + count) {
    Cell* const cells = &slots_.cell(run.base + offset);
    for (std::size_t i = 0; i < count; ++i) {
      poke(cells[i].key, keys[i].value());
      cells[i].hash = 0;
    }
    keys_ += count;
    poke(run.length, static_cast<std::uint32_t>(offset + count), std::memory_order_release);
  }
  run.touched = 1;
  const bool own = take_over_hashes(run, hold, offset, static_cast<std::uint32_t>(count), hashes);
  extend_hold(run, index, static_cast<std::uint32_t>(count), rank);
  if (fresh) {
    poke(run.version, run.version + 1, std::memory_order_release);
    heads_.insert(keys[0], id);
  }
  return {run.base + offset, static_cast<std::uint32_t>(count), own};
}

// A cell keeps the hash that its first engine gave it. A lane that calls one block of a run something else (another
// seed or algorithm) keeps its own hashes for the whole run.
bool Tree::take_over_hashes(Run& run, Hold& hold, std::uint32_t offset, std::uint32_t count, HashView hashes) {
  if (hashes.stride == 0) return false;
  Cell* const cells = &slots_.cell(run.base);
  const auto hash_at = [&](std::uint32_t i) -> std::uint64_t {
    return (i + hashes.phase + 1) % hashes.stride == 0 ? hashes.at[(i + hashes.phase) / hashes.stride].value() : 0;
  };
  bool own = hold.extra != nullptr && !hold.extra->own.empty();
  for (std::uint32_t i = 0; i < count && !own; ++i) {
    if (hashes.stride > 1 && (i + hashes.phase + 1) % hashes.stride != 0) continue;
    const std::uint64_t hash = hash_at(i);
    std::uint64_t& named = cells[offset + i].hash;
    if (named == 0) named = hash;
    own = named != hash || hash == 0;  // 0 means that nobody named it: it is no name to keep there
  }
  if (!own) return false;
  Extra& extra = extra_of(hold);
  bytes_ -= extra.own.capacity() * sizeof(std::uint64_t);
  if (extra.own.empty()) {
    for (std::uint32_t i = 0; i < offset; ++i) extra.own.push_back(cells[i].hash);
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    extra.own.push_back(hash_at(i));
    if (cells[offset + i].hash == 0) cells[offset + i].hash = hash_at(i);
  }
  bytes_ += extra.own.capacity() * sizeof(std::uint64_t);
  return true;
}

void Tree::extend_hold(Run& run, std::size_t index, std::uint32_t count, Rank rank) {
  Hold& hold = holds_of(run)[index];
  const std::uint32_t old_hi = hold.hi;
  hold.hi = static_cast<std::uint16_t>(old_hi + count);
  if (rank != 0 || (hold.extra != nullptr && !hold.extra->ranks.empty())) {
    Extra& extra = extra_of(hold);
    bytes_ -= extra.ranks.capacity();
    extra.ranks.resize(old_hi, 0);
    extra.ranks.resize(hold.hi, rank);
    bytes_ += extra.ranks.capacity();
  }
  std::uint64_t& word = words_of(run)[index];
  std::array<std::uint32_t, blocks::kTierCount> cuts{};
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    cuts[tier] = cut_of(word, tier);
    if (cuts[tier] == old_hi && rank <= tier) cuts[tier] = hold.hi;
  }
  poke(word, word_of(lane_of(word), cuts[0], cuts[1], cuts[2]), std::memory_order_release);
}

// The rank at `offset` has changed.
void Tree::recut(Run& run, std::size_t index, std::uint32_t offset) {
  Hold& hold = holds_of(run)[index];
  std::vector<Rank>& ranks = hold.extra->ranks;
  std::uint64_t& word = words_of(run)[index];
  std::array<std::uint32_t, blocks::kTierCount> cuts{};
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    std::uint32_t cut = cut_of(word, tier);
    if (offset < cut && ranks[offset] > tier) cut = offset;
    if (offset == cut) {
      while (cut < hold.hi && ranks[cut] <= tier) ++cut;
    }
    cuts[tier] = cut;
  }
  poke(word, word_of(lane_of(word), cuts[0], cuts[1], cuts[2]), std::memory_order_release);
  if (cuts[0] == hold.hi) {
    ranks.clear();
    if (hold.extra->own.empty()) {
      tidy_extra(hold);
    } else {
      bytes_ -= ranks.capacity();
      ranks.shrink_to_fit();
    }
  }
}

bool Tree::knows(LaneId lane, Slot slot) const {
  const RunId id = slots_.owner(slot);
  if (id >= runs_end_) return false;
  const Run& run = at(id);
  if ((run.version & 1) != 0 || slot < run.base || slot - run.base >= run.length) return false;
  const std::size_t index = find_hold(run, lane);
  return index != kNone && slot - run.base < holds_of(const_cast<Run&>(run))[index].hi;
}

Rank Tree::rank(LaneId lane, Slot slot) const {
  const Run& run = run_at(slot);
  const Hold& hold = holds_of(const_cast<Run&>(run))[find_hold(run, lane)];
  if (hold.extra == nullptr || hold.extra->ranks.empty()) return 0;
  return hold.extra->ranks[slot - run.base];
}

void Tree::set_rank(LaneId lane, Slot slot, Rank rank) {
  Run& run = at(slots_.owner(slot));
  const std::size_t index = find_hold(run, lane);
  WP_CHECK(index != kNone);
  Hold& hold = holds_of(run)[index];
  const std::uint32_t offset = slot - run.base;
  WP_CHECK(offset < hold.hi);
  if (hold.extra == nullptr || hold.extra->ranks.empty()) {
    if (rank == 0) return;
    Extra& extra = extra_of(hold);
    bytes_ -= extra.ranks.capacity();
    extra.ranks.assign(hold.hi, 0);
    bytes_ += extra.ranks.capacity();
  }
  if (hold.extra->ranks[offset] == rank) return;
  hold.extra->ranks[offset] = rank;
  recut(run, index, offset);
}

EngineHash Tree::hash(LaneId lane, Slot slot) const {
  const Run& run = run_at(slot);
  const std::size_t index = find_hold(run, lane);
  WP_CHECK(index != kNone);
  const Hold& hold = holds_of(const_cast<Run&>(run))[index];
  if (hold.extra == nullptr || hold.extra->own.empty()) return EngineHash(slots_.cell(slot).hash);
  return EngineHash(hold.extra->own[slot - run.base]);
}

// Lowers the bound to what is true when it stands behind `offset`.
std::uint32_t Tree::child_bound(Run& run, Hold& hold, LaneId lane, std::uint32_t offset) {
  if (hold.children == 0) hold.child_bound = 0;
  if (hold.child_bound <= offset) return hold.child_bound;
  std::uint32_t bound = 0;
  std::uint32_t left = hold.children;
  for (RunId child = run.first_child; child != kNoRun && left > 0; child = at(child).next_sibling) {
    const Run& below = at(child);
    if (find_hold(below, lane) == kNone) continue;
    bound = std::max(bound, below.parent - run.base + 1);
    --left;
    if (bound == hold.child_bound) break;
  }
  hold.child_bound = static_cast<std::uint16_t>(bound);
  return bound;
}

bool Tree::has_more(LaneId lane, Slot slot) {
  Run& run = at(slots_.owner(slot));
  const std::size_t index = find_hold(run, lane);
  WP_CHECK(index != kNone);
  Hold& hold = holds_of(run)[index];
  const std::uint32_t offset = slot - run.base;
  return offset + 1 < hold.hi || child_bound(run, hold, lane, offset) > offset;
}

// The lane knows [0, offset) of the run from now on.
void Tree::cut_off(RunId id, std::size_t index, std::uint32_t offset) {
  Run& run = at(id);
  Hold& hold = holds_of(run)[index];
  std::uint64_t& word = words_of(run)[index];
  const LaneId lane = lane_of(word);
  const bool was_longest = hold.hi == run.length;
  hold.hi = static_cast<std::uint16_t>(offset);
  const std::uint32_t gpu = std::min(cut_of(word, 0), offset);
  poke(word, word_of(lane, gpu, std::min(cut_of(word, 1), offset), std::min(cut_of(word, 2), offset)));
  if (offset == 0) {
    remove_hold(run, index);
    if (run.parent != kNoSlot) {
      Run& above = at(slots_.owner(run.parent));
      const std::size_t above_index = find_hold(above, lane);
      WP_CHECK(above_index != kNone);
      --holds_of(above)[above_index].children;
    }
  } else if (hold.extra != nullptr) {
    Extra& extra = *hold.extra;
    if (extra.own.size() > offset) extra.own.resize(offset);
    if (!extra.ranks.empty()) {
      extra.ranks.resize(offset);
      if (gpu == offset) {
        extra.ranks.clear();
        if (!extra.own.empty()) {
          bytes_ -= extra.ranks.capacity();
          extra.ranks.shrink_to_fit();
        }
      }
    }
    tidy_extra(hold);
  }
  if (was_longest) shrink(run);
}

void Tree::drop(LaneId lane, Slot slot) {
  const RunId id = slots_.owner(slot);
  const Run& run = at(id);
  const std::size_t index = find_hold(run, lane);
  WP_CHECK(index != kNone && holds_of(const_cast<Run&>(run))[index].hi == slot - run.base + 1);
  cut_off(id, index, slot - run.base);
}

Tree::Tail Tree::tail(LaneId lane, Slot slot, std::span<const EngineHash> hashes) {
  const RunId id = slots_.owner(slot);
  Run& run = at(id);
  const std::size_t index = find_hold(run, lane);
  Hold& hold = holds_of(run)[index];
  const std::uint32_t offset = slot - run.base;
  Tail out{.run = id, .hold = static_cast<std::uint32_t>(index)};
  if (offset + 1 != hold.hi || child_bound(run, hold, lane, offset) > offset) return out;
  const Rank* const ranks = hold.extra == nullptr || hold.extra->ranks.empty() ? nullptr : hold.extra->ranks.data();
  if (ranks != nullptr && ranks[offset] != 0) return out;
  const Cell* const cells = &slots_.cell(run.base);
  const std::uint32_t first = hold.child_bound;  // blocks before it stand for a child run
  std::uint32_t left = offset;                   // blocks before what goes
  std::size_t next = 1;
  while (next < hashes.size() && left > first && cells[left - 1].hash == hashes[next].value() &&
         (ranks == nullptr || ranks[left - 1] == 0)) {
    --left;
    ++next;
  }
  out.held = static_cast<std::uint32_t>(next);
  while (ranks != nullptr && left > 0 && ranks[left - 1] == kNowhere && child_bound(run, hold, lane, left - 1) < left) {
    --left;
    ++out.dead;
  }
  return out;
}

Slot Tree::drop_tail(const Tail& tail) {
  Run& run = at(tail.run);
  const std::uint32_t left = holds_of(run)[tail.hold].hi - tail.held - tail.dead;
  const Slot before = left == 0 ? run.parent : kNoSlot;
  cut_off(tail.run, tail.hold, left);
  return before;
}

void Tree::drop_lane(LaneId lane, std::span<const RunId> runs) {
  std::vector<RunId> left;
  for (const RunId id : runs) {
    const std::size_t index = find_hold(at(id), lane);
    if (index == kNone) continue;
    remove_hold(at(id), index);
    left.push_back(id);
  }
  std::ranges::sort(left, std::greater<>{}, [this](RunId id) { return at(id).depth; });
  for (const RunId id : left) shrink(at(id));
}

}  // namespace warmpath::index
