// Stores whose parent block is not known yet. Private to index.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"

namespace warmpath::index {

// An engine's block inside one engine: hashes of different KV groups are different blocks.
struct NodeId {
  std::uint32_t group = 0;
  EngineHash hash;
  friend bool operator==(const NodeId&, const NodeId&) = default;
};
struct NodeIdHash {
  std::size_t operator()(const NodeId& id) const noexcept {
    return static_cast<std::size_t>(id.hash.value() ^ (std::uint64_t{id.group} * 0x9E3779B97F4A7C15u));
  }
};

struct Parked {
  std::uint32_t group = 0;
  blocks::Tier tier = blocks::Tier::kGpu;
  blocks::BlockStored event;
  std::vector<bool> removed;  // by position: removed again while it lay here
  std::size_t bytes = 0;
};

// Oldest first out when full. Thread rule: one owner.
class Parking {
 public:
  Parking(std::size_t events_max, std::size_t bytes_max) : events_max_(events_max), bytes_max_(bytes_max) {}

  // Returns how many stores were dropped for it: older ones, or itself when it alone exceeds the bounds.
  std::uint32_t park(std::uint32_t group, blocks::Tier tier, const blocks::BlockStored& event);
  // Takes the stores whose parent is `parent`, oldest first.
  std::vector<Parked> take(const NodeId& parent);
  // A removal of a block that lies here: false when there is none.
  bool remove(const NodeId& id, blocks::Tier tier);
  void drop_tier(blocks::Tier tier);
  void drop_group(std::uint32_t group);
  void clear();

  std::size_t size() const { return items_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  using Item = std::list<Parked>::iterator;
  using Places = std::unordered_map<NodeId, std::vector<Item>, NodeIdHash>;
  static void forget_place(Places& places, const NodeId& id, Item item);
  Parked extract(Item item);

  const std::size_t events_max_;
  const std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::list<Parked> items_;
  Places by_parent_;
  Places by_hash_;
};

}  // namespace warmpath::index
