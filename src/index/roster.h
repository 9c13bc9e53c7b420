// Which holder belongs to which engine, and how far each engine is to be trusted. Private to index.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"
#include "index/holders.h"

namespace warmpath::index {

class EngineMap;

// One KV group of one engine that can match.
struct GroupSlot {
  EngineId engine;
  blocks::SpecKind kind = blocks::SpecKind::kUnset;
  std::uint32_t unit_tokens = 0;  // credit is given in whole units: the smallest block size announced; 0 none yet
  bool used = false;
};

struct EngineEntry {
  blocks::PublisherState state = blocks::PublisherState::kLost;
  std::vector<HolderId> holders;
  std::shared_ptr<EngineMap> map;
};

// Thread rule: any thread under `mutex`; members are reached through it. Lock order: engine map, roster, shard.
class Roster {
 public:
  mutable std::shared_mutex mutex;

  // The rest needs `mutex`: exclusively for what is not const.
  HolderId add_group(EngineId engine, blocks::SpecKind kind);
  void drop_group(HolderId holder);
  GroupSlot& slot(HolderId holder) { return slots_[holder.value()]; }
  const GroupSlot& slot(HolderId holder) const { return slots_[holder.value()]; }

  std::map<EngineId, EngineEntry> engines;

 private:
  std::vector<GroupSlot> slots_;
  std::vector<HolderId> free_;
};

}  // namespace warmpath::index
