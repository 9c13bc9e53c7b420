// Passes over all runs: for people, and to find what to forget at the cap.
#include "index/tree.h"

namespace warmpath::index {
namespace {

constexpr int kEvictionRounds = 2;

}  // namespace

std::vector<LaneId> Tree::lanes_holding(BlockKey key) const {
  std::vector<LaneId> lanes;
  for (RunId id = 0; id < runs_end_; ++id) {
    const Run& run = at(id);
    if ((run.version & 1) != 0) continue;
    const Cell* const cells = &slots_.cell(run.base);
    for (std::uint32_t offset = 0; offset < run.length; ++offset) {
      if (cells[offset].key != key.value()) continue;
      for (const Holder& holder : holders_of(id)) {
        if (offset < holder.blocks && rank(holder.lane, run.base + offset) != kNowhere) lanes.push_back(holder.lane);
      }
    }
  }
  return lanes;
}

RunId Tree::next_victim(RunId spare) {
  for (std::uint64_t steps = std::uint64_t{runs_end_} * kEvictionRounds; steps > 0; --steps) {
    const RunId id = hand_ < runs_end_ ? hand_ : 0;
    hand_ = id + 1;
    Run& run = at(id);
    if ((run.version & 1) != 0 || run.first_child != kNoRun || id == spare) continue;
    if (run.touched == 0) return id;
    run.touched = 0;
  }
  return kNoRun;
}

std::vector<Tree::Holder> Tree::holders_of(RunId id) const {
  Run& run = const_cast<Run&>(at(id));
  std::vector<Holder> out;
  for (std::size_t i = 0; i < count_of(run.words); ++i) {
    out.push_back({lane_of(words_of(run)[i]), holds_of(run)[i].hi});
  }
  return out;
}

}  // namespace warmpath::index
