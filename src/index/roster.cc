#include "index/roster.h"

#include <algorithm>

namespace warmpath::index {

Roster::Roster(std::uint32_t router_block_tokens)
    : block_tokens_(router_block_tokens),
      memory_(kLanesMax * sizeof(LaneView)),
      views_(reinterpret_cast<LaneView*>(memory_.get())) {}

LaneId Roster::add_lane(EngineId engine, blocks::SpecKind kind) {
  LaneId lane = kNoLane;
  if (lanes_end() < kLanesMax && free_.size() < 64) {
    lane = static_cast<LaneId>(lanes_end());
    lanes_end_.store(lanes_end() + 1, std::memory_order_relaxed);
  } else if (!free_.empty()) {
    lane = free_.front();
    free_.pop_front();
    version_.fetch_add(1, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_release);
  } else {
    return kNoLane;
  }
  poke(views_[lane].unit_tokens, std::uint32_t{0});
  engines[engine].lanes.push_back(lane);
  set_kind(lane, kind);
  refresh(engine);
  return lane;
}

void Roster::drop_lane(LaneId lane) {
  const EngineId engine = engine_of(lane);
  std::erase(engines[engine].lanes, lane);
  free_.push_back(lane);
  refresh(engine);
}

void Roster::set_kind(LaneId lane, blocks::SpecKind kind) {
  poke(views_[lane].known, static_cast<std::uint8_t>(kind != blocks::SpecKind::kUnset));
}

void Roster::set_unit(LaneId lane, std::uint32_t unit_tokens) {
  poke(views_[lane].unit_tokens, unit_tokens);
  refresh(engine_of(lane));
}

void Roster::set_state(EngineId engine, blocks::PublisherState state) {
  engines[engine].state = state;
  refresh(engine);
}

void Roster::refresh(EngineId engine) {
  const EngineEntry& entry = engines[engine];
  for (std::size_t i = 0; i < entry.lanes.size(); ++i) {
    LaneView& view = views_[entry.lanes[i]];
    const std::uint32_t unit = view.unit_tokens;
    std::uint32_t flags = 0;
    if (entry.state == blocks::PublisherState::kLost) flags |= LaneView::kLost;
    if (entry.lanes.size() > 1) flags |= LaneView::kMany;
    if (unit == 0 || block_tokens_ % unit != 0) flags |= LaneView::kRounds;
    poke(view.next, entry.lanes[(i + 1) % entry.lanes.size()]);
    poke(view.who, std::uint64_t{engine.value()} << 32 | flags, std::memory_order_release);
  }
}

}  // namespace warmpath::index
