#include "index/roster.h"

#include <algorithm>

namespace warmpath::index {

HolderId Roster::add_group(EngineId engine, blocks::SpecKind kind) {
  HolderId holder(static_cast<std::uint32_t>(slots_.size()));
  if (free_.empty()) {
    slots_.emplace_back();
  } else {
    holder = free_.back();
    free_.pop_back();
  }
  slots_[holder.value()] = {.engine = engine, .kind = kind, .unit_tokens = 0, .used = true};
  engines[engine].holders.push_back(holder);
  return holder;
}

void Roster::drop_group(HolderId holder) {
  GroupSlot& slot = slots_[holder.value()];
  WP_CHECK(slot.used);
  std::erase(engines[slot.engine].holders, holder);
  slot = {};
  free_.push_back(holder);
}

}  // namespace warmpath::index
