// The readers' half of the tree: no lock, no allocation once the table has grown, nothing written but the table.
#include <algorithm>

#include "index/tree.h"

namespace warmpath::index {
namespace {

std::uint32_t whole_units(std::uint32_t depth_blocks, std::uint32_t block_tokens, std::uint32_t unit_tokens) {
  if (unit_tokens == 0) return 0;
  const std::uint64_t tokens = std::uint64_t{depth_blocks} * block_tokens;
  return static_cast<std::uint32_t>(tokens / unit_tokens * unit_tokens / block_tokens);
}

// Leading equal keys, of at least one: keys are chained, so they are equal up to some place and differ behind it.
std::uint32_t equal_prefix(const Cell* cells, const BlockKey* chain, std::uint32_t most) {
  const auto equal = [&](std::uint32_t i) { return peek(cells[i].key) == chain[i].value(); };
  if (equal(most - 1)) return most;
  std::uint32_t good = 0;  // equal at
  std::uint32_t step = 1;
  while (good + step < most && equal(good + step)) {
    good += step;
    step *= 2;
  }
  std::uint32_t bad = std::min(good + step, most - 1);
  while (bad - good > 1) {
    const std::uint32_t middle = good + (bad - good) / 2;
    (equal(middle) ? good : bad) = middle;
  }
  return good + 1;
}

}  // namespace

// One run of the walk.
struct Tree::Step {
  const Run* run = nullptr;
  std::uint32_t version = 0;
  Slot base = kNoSlot;
  std::uint32_t equal = 0;
  const std::uint64_t* words = nullptr;
  std::size_t count = 0;

  bool unchanged() const {
    std::atomic_thread_fence(std::memory_order_acquire);
    return peek(run->version) == version;
  }
};

// Finds the run in which chain[at] is the first key, behind `parent`.
bool Tree::enter(std::span<const BlockKey> chain, std::size_t at_key, Slot parent, Step& step) const {
  const RunId id = heads_.find(chain[at_key], [&](RunId candidate) {
    const Run& run = at(candidate);
    step.version = peek(run.version, std::memory_order_acquire);
    if ((step.version & 1) != 0 || peek(run.parent) != parent) return false;
    step.base = peek(run.base);
    return slots_.key(step.base) == chain[at_key].value();
  });
  if (id == kNoRun) return false;
  const Run& run = at(id);
  step.run = &run;
  const std::uint64_t words = peek(run.words, std::memory_order_acquire);
  step.count = count_of(words);
  step.words = step.count <= 1 ? &run.one : reinterpret_cast<const std::uint64_t*>(words >> 16);
  __builtin_prefetch(step.words);
  const std::uint32_t length = peek(run.length, std::memory_order_acquire);
  const auto most = static_cast<std::uint32_t>(std::min<std::size_t>(length, chain.size() - at_key));
  step.equal = most == 0 ? 0 : equal_prefix(slots_.reader_cells(step.base), &chain[at_key], most);
  return true;
}

// The words of a run are sorted by engine, and so are the rows.
void Tree::first_rows(const Step& step, std::size_t count, MatchTable& out) const {
  const std::size_t lanes = std::max<std::size_t>(roster_.lanes_end(), 1);
  if (out.row_of_lane.size() < lanes) out.row_of_lane.resize(lanes);
  if (out.rows.size() < count) out.rows.resize(count);
  if (out.lane_of_row.size() < count) out.lane_of_row.resize(count);
  MatchRow* const rows = out.rows.data();
  std::size_t n = 0;
  std::uint32_t flags = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t word = peek(step.words[i]);
    const LaneId lane = lane_of(word);
    if (lane >= lanes) continue;  // of a lane that came after we began: or a stale word
    const std::uint64_t who = peek(roster_.view(lane).who);
    flags |= static_cast<std::uint32_t>(who);
    MatchRow& row = rows[n];
    row.engine = LaneView::engine(who);
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      row.depth_blocks[tier] = std::min(cut_of(word, tier), step.equal);
    }
    out.row_of_lane[lane] = static_cast<std::uint16_t>(n);
    out.lane_of_row[n] = lane;
    n += row.depth_blocks.back() > 0 ? 1 : 0;
  }
  out.count = n;
  out.flags = flags;
}

// True while some lane still matches behind this run.
bool Tree::deeper_rows(const Step& step, std::uint32_t before, MatchTable& out) const {
  bool alive = false;
  for (std::size_t i = 0; i < step.count; ++i) {
    const std::uint64_t word = peek(step.words[i]);
    const LaneId lane = lane_of(word);
    if (lane >= out.row_of_lane.size()) continue;
    const std::size_t at_row = out.row_of_lane[lane];
    if (at_row >= out.count || out.lane_of_row[at_row] != lane) continue;
    MatchRow& row = out.rows[at_row];
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      if (row.depth_blocks[tier] != before) continue;
      row.depth_blocks[tier] = before + std::min(cut_of(word, tier), step.equal);
    }
    alive = alive || row.depth_blocks.back() == before + step.equal;
  }
  return alive;
}

// Rows of engines that need more than their word: lost ones go, credit is rounded, and the lanes of one engine become
// one row: the least of those whose kind is known, the greatest when none is.
void Tree::finish(std::uint32_t block_tokens, MatchTable& out) const {
  std::size_t kept = 0;
  for (std::size_t first = 0; first < out.count;) {
    const EngineId engine = out.rows[first].engine;
    std::size_t last = first;
    while (last < out.count && out.rows[last].engine == engine) ++last;
    const LaneId start = out.lane_of_row[first];
    bool known = false;
    LaneId lane = start;
    for (std::size_t tries = 0; tries < Roster::kLanesMax; ++tries) {
      known = known || peek(roster_.view(lane).known) != 0;
      lane = peek(roster_.view(lane).next);
      if (lane == start) break;
    }
    MatchRow row{.engine = engine};
    bool any = false;
    for (std::size_t tries = 0; tries < Roster::kLanesMax; ++tries) {
      const LaneView& view = roster_.view(lane);
      if (!known || peek(view.known) != 0) {
        std::size_t walked = first;
        while (walked < last && out.lane_of_row[walked] != lane) ++walked;
        for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
          const std::uint32_t depth = walked == last ? 0 : out.rows[walked].depth_blocks[tier];
          const std::uint32_t whole = whole_units(depth, block_tokens, peek(view.unit_tokens));
          std::uint32_t& best = row.depth_blocks[tier];
          best = !any ? whole : known ? std::min(best, whole) : std::max(best, whole);
        }
        any = true;
      }
      lane = peek(view.next);
      if (lane == start) break;
    }
    const bool lost = (peek(roster_.view(start).who) & LaneView::kLost) != 0;
    if (!lost && row.depth_blocks.back() > 0) out.rows[kept++] = row;
    first = last;
  }
  out.count = kept;
}

bool Tree::match(std::span<const BlockKey> chain, std::uint32_t block_tokens, MatchTable& out) const {
  const std::uint64_t roster_version = roster_.version(std::memory_order_acquire);
  const std::uint64_t heads_version = heads_.version(std::memory_order_acquire);
  out.count = 0;
  out.flags = 0;
  Slot parent = kNoSlot;
  Step step;
  for (std::size_t pos = 0; pos < chain.size() && enter(chain, pos, parent, step);) {
    bool alive = true;
    if (pos == 0) {
      first_rows(step, step.count, out);
    } else {
      alive = deeper_rows(step, static_cast<std::uint32_t>(pos), out);
    }
    if (!step.unchanged()) return false;
    pos += step.equal;
    parent = step.base + step.equal - 1;
    if (!alive || step.equal == 0) break;
  }
  if (out.flags != 0) finish(block_tokens, out);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (roster_.version(std::memory_order_relaxed) != roster_version) return false;
  if (heads_.version(std::memory_order_relaxed) != heads_version) return false;
  out.rows.resize(out.count);
  return true;
}

}  // namespace warmpath::index
