// The readers' half of the tree: no lock, no allocation once the table has grown, nothing written but the table.
#include <algorithm>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

// What a run's words say of its first `equal` blocks, a word at a time. A row lies in memory as its engine and the
// three depths, 32 bits each; a word as its lane and the three cuts, 16 bits each, none of them with the highest bit
// set.
class RowWriter {
 public:
#if defined(__SSE2__)
  RowWriter(std::uint32_t before, std::uint32_t equal)
      : most_(_mm_set_epi16(0, 0, 0, 0, static_cast<short>(equal), static_cast<short>(equal), static_cast<short>(equal),
                            0)),
        before_(_mm_set1_epi32(static_cast<int>(before))),
        end_(_mm_set1_epi32(static_cast<int>(before + equal))) {}
  // The row of an engine at the first run.
  void first(std::uint64_t word, EngineId engine, MatchRow& row) const {
    const __m128i id = _mm_cvtsi32_si128(static_cast<int>(engine.value()));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(&row), _mm_or_si128(cuts(word), id));
  }
  // Goes on where the depth reached the run's beginning.
  void deeper(std::uint64_t word, MatchRow& row) {
    auto* const at = reinterpret_cast<__m128i*>(&row);
    const __m128i old = _mm_loadu_si128(at);
    const __m128i grown = _mm_add_epi32(old, _mm_and_si128(cuts(word), _mm_cmpeq_epi32(old, before_)));
    _mm_storeu_si128(at, grown);
    alive_ = _mm_or_si128(alive_, _mm_cmpeq_epi32(grown, end_));
  }
  // Some row reached the end of what is equal.
  bool alive() const { return _mm_movemask_epi8(alive_) >> 12 != 0; }

 private:
  __m128i cuts(std::uint64_t word) const {
    const __m128i cut = _mm_min_epi16(_mm_cvtsi64_si128(static_cast<long long>(word)), most_);
    return _mm_unpacklo_epi16(cut, _mm_setzero_si128());
  }
  __m128i most_;
  __m128i before_;
  __m128i end_;
  __m128i alive_ = _mm_setzero_si128();
#else
  RowWriter(std::uint32_t before, std::uint32_t equal) : before_(before), equal_(equal) {}
  void first(std::uint64_t word, EngineId engine, MatchRow& row) const {
    row.engine = engine;
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) row.depth_blocks[tier] = cut(word, tier);
  }
  void deeper(std::uint64_t word, MatchRow& row) {
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      if (row.depth_blocks[tier] == before_) row.depth_blocks[tier] += cut(word, tier);
    }
    alive_ = alive_ || row.depth_blocks.back() == before_ + equal_;
  }
  bool alive() const { return alive_; }

 private:
  std::uint32_t cut(std::uint64_t word, std::size_t tier) const {
    return std::min(static_cast<std::uint32_t>(word >> (16 + 16 * tier)) & 0xFFFF, equal_);
  }
  std::uint32_t before_;
  std::uint32_t equal_;
  bool alive_ = false;
#endif
};
static_assert(sizeof(MatchRow) == 16 && sizeof(EngineId) == 4 && blocks::kTierCount == 3);

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
  ask_for(step.words);
  const std::uint32_t length = peek(run.length, std::memory_order_acquire);
  const auto most = static_cast<std::uint32_t>(std::min<std::size_t>(length, chain.size() - at_key));
  // Most runs are equal to their end: the next one is looked up while this one's keys are on their way.
  if (at_key + most < chain.size()) heads_.prefetch(chain[at_key + most]);
  step.equal = most == 0 ? 0 : equal_prefix(slots_.reader_cells(step.base), &chain[at_key], most);
  if (step.equal < most) heads_.prefetch(chain[at_key + step.equal]);
  return true;
}

// The words of a run are sorted by engine, and so are the rows.
void Tree::first_rows(const Step& step, std::size_t count, MatchTable& out) const {
  const std::size_t lanes = std::max<std::size_t>(roster_.lanes_end(), 1);
  if (out.row_of_lane.size() < lanes) out.row_of_lane.resize(lanes);
  if (out.rows.size() < count) out.rows.resize(count);
  if (out.lane_of_row.size() < count) out.lane_of_row.resize(count);
  MatchRow* const rows = out.rows.data();
  std::uint16_t* const row_of_lane = out.row_of_lane.data();
  std::uint16_t* const lane_of_row = out.lane_of_row.data();
  const LaneView* const views = &roster_.view(0);
  const RowWriter writer(0, step.equal);
  std::size_t n = 0;
  std::uint32_t flags = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t word = peek(step.words[i]);
    const LaneId lane = lane_of(word);
    if (lane >= lanes) continue;  // of a lane that came after we began: or a stale word
    const std::uint64_t who = peek(views[lane].who);
    flags |= static_cast<std::uint32_t>(who);
    writer.first(word, LaneView::engine(who), rows[n]);
    row_of_lane[lane] = static_cast<std::uint16_t>(n);
    lane_of_row[n] = lane;
    n += word >> 48 != 0 ? 1 : 0;  // the last tier's cut is the greatest
  }
  out.count = step.equal == 0 ? 0 : n;
  out.flags = flags;
}

// True while some lane still matches behind this run.
bool Tree::deeper_rows(const Step& step, std::uint32_t before, MatchTable& out) const {
  const std::uint16_t* const row_of_lane = out.row_of_lane.data();
  const std::uint16_t* const lane_of_row = out.lane_of_row.data();
  const std::size_t lanes = out.row_of_lane.size();
  const std::size_t count = out.count;
  MatchRow* const rows = out.rows.data();
  RowWriter writer(before, step.equal);
  for (std::size_t i = 0; i < step.count; ++i) {
    const std::uint64_t word = peek(step.words[i]);
    const LaneId lane = lane_of(word);
    if (lane >= lanes) continue;
    const std::size_t at_row = row_of_lane[lane];
    if (at_row >= count || lane_of_row[at_row] != lane) continue;
    writer.deeper(word, rows[at_row]);
  }
  return writer.alive();
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

// What a look-up will touch whatever it finds: asked for at once, because each may cost a page walk when caches are
// cold.
void Tree::foresee(std::span<const BlockKey> chain, const MatchTable& out) const {
  if (chain.empty()) return;
  heads_.prefetch(chain.front());
  const auto ask = [](const auto* first, std::size_t lines) {
    for (std::size_t i = 0; first != nullptr && i < lines; ++i)
      ask_for(reinterpret_cast<const std::byte*>(first) + i * 64);
  };
  constexpr std::size_t kStreamLines = 3;  // of what is read in order: the processor sees to the rest
  ask(&roster_.view(0), kStreamLines);
  ask(out.rows.data(), kStreamLines);
  ask(out.row_of_lane.data(), 1);
  ask(out.lane_of_row.data(), 1);
  ask(run_chunks_.data(), 1);
  slots_.foresee();
  ask(&chain.back(), 1);
}

bool Tree::match(std::span<const BlockKey> chain, std::uint32_t block_tokens, MatchTable& out) const {
  const std::uint64_t roster_version = roster_.version(std::memory_order_acquire);
  const std::uint64_t heads_version = heads_.version(std::memory_order_acquire);
  out.count = 0;
  out.flags = 0;
  foresee(chain, out);
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
