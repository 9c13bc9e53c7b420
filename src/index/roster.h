// Which lane belongs to which engine, and how far each engine is to be trusted. Private to index.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"
#include "index/slots.h"

namespace warmpath::index {

class EngineMap;

// One KV group of one engine that can match: dense, reused (last freed last) after the group was dropped.
using LaneId = std::uint16_t;
inline constexpr LaneId kNoLane = 0xFFFF;

// What readers know of a lane, without a lock.
struct LaneView {
  // How much is to be done for its row: nothing when all are absent, as for most engines.
  enum Flag : std::uint32_t {
    kLost = 1,    // the engine does not match
    kMany = 2,    // the engine has several lanes
    kRounds = 4,  // credit is to be rounded down to whole engine blocks
  };
  std::uint64_t who = 0;          // engine << 32 | flags
  std::uint32_t unit_tokens = 0;  // credit is given in whole units: the smallest block size announced; 0 none yet
  LaneId next = 0;                // ring of the engine's lanes
  std::uint8_t known = 0;         // 1: its kind is known

  static EngineId engine(std::uint64_t who) { return EngineId(static_cast<std::uint32_t>(who >> 32)); }
};

struct EngineEntry {
  blocks::PublisherState state = blocks::PublisherState::kLost;
  std::vector<LaneId> lanes;
  std::shared_ptr<EngineMap> map;
  std::uint64_t blocks_evicted = 0;  // of this engine, by the cap
};

// Thread rule: view(), version() and lanes_end() from any thread, the rest by one writer at a time.
class Roster {
 public:
  static constexpr std::size_t kLanesMax = 32'767;  // a lane fits a signed 16-bit number

  explicit Roster(std::uint32_t router_block_tokens);

  // kNoLane when there are kLanesMax.
  LaneId add_lane(EngineId engine, blocks::SpecKind kind);
  void drop_lane(LaneId lane);
  void set_kind(LaneId lane, blocks::SpecKind kind);
  void set_unit(LaneId lane, std::uint32_t unit_tokens);
  void set_state(EngineId engine, blocks::PublisherState state);

  const LaneView& view(LaneId lane) const { return views_[lane]; }
  EngineId engine_of(LaneId lane) const { return LaneView::engine(peek(views_[lane].who)); }
  std::size_t lanes_end() const { return lanes_end_.load(std::memory_order_relaxed); }
  // Changes before a lane is used for another engine: who walked over both reads again.
  std::uint64_t version(std::memory_order order) const { return version_.load(order); }

  std::map<EngineId, EngineEntry> engines;

 private:
  void refresh(EngineId engine);

  const std::uint32_t block_tokens_;
  ZeroedBytes memory_;
  LaneView* views_;
  std::atomic<std::size_t> lanes_end_{0};
  std::atomic<std::uint64_t> version_{0};
  std::deque<LaneId> free_;
};

}  // namespace warmpath::index
