// What one engine holds: engine hash -> router keys, references, parent links, positions. Private to index.
//
//   engine blocks (nodes)   |--- a ---|--- b ---|--- c ---|        B tokens each, linked to the parent
//   router blocks (keys)    |-- 0 --|-- 1 --|-- 2 --|-- 3 --|      R tokens each
//
// A key belongs to the node in which its last token lies. Most keys lie wholly in one node; one that begins in an
// earlier node is *joined* and has a Cover that counts how many of its nodes are missing. The tokens of a router block
// that is not complete yet are kept as the tail of the node that ends in it: fewer than R a node.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "index/holders.h"
#include "index/index.h"
#include "index/parking.h"
#include "index/roster.h"

namespace warmpath::index {

// A multimodal item (or other extra content) that begins `offset` tokens after some start.
struct BegunItem {
  std::string identifier;
  std::uint32_t offset = 0;
};

// A joined key. Owned by the node that completes it.
struct Cover {
  BlockKey key;
  std::uint32_t nodes = 0;
  std::array<std::uint32_t, blocks::kTierCount> missing{};  // [t]: nodes not held in tier t or a faster one
  Rank rank() const;
};

// The part of a node that only unaligned blocks need.
struct Joint {
  std::vector<TokenId> tail;          // tokens after the last complete router block
  std::vector<BegunItem> tail_items;  // relative to the tail's first token
  std::unique_ptr<Cover> own;
  std::vector<Cover*> covers;  // joined keys that this node is part of
};

struct Node {
  NodeId id;
  Node* parent = nullptr;
  std::array<std::uint32_t, blocks::kTierCount> refs{};
  std::uint32_t children = 0;
  std::uint32_t start = 0;  // tokens before it
  std::uint32_t tokens = 0;
  Rank rank = kNowhere;           // fastest tier with a reference
  std::uint8_t doubtful = 0;      // bit per tier: stored again from token 0, see EngineMap::add_reference
  bool end_key_is_whole = false;  // end_key was completed here and lies wholly here
  BlockKey end_key;               // of the last router block complete at its end; the chain's root when none
  std::vector<BlockKey> earlier;  // further keys that lie wholly here
  std::unique_ptr<Joint> joint;
  std::uint32_t end() const { return start + tokens; }
};

// Thread rule: apply and forget by one thread at a time, stat from any.
class EngineMap {
 public:
  struct Shared {
    const IndexOptions& options;
    Holders& holders;
    Roster& roster;
    std::atomic<std::size_t>& bytes;
  };
  EngineMap(EngineId engine, const Shared& shared);
  ~EngineMap();

  Applied apply(std::span<const blocks::KvEvent> events);
  void forget();
  EngineStat stat() const;
  std::vector<HeldBlock> held() const;
  bool empty() const;

 private:
  struct Group {
    blocks::SpecKind kind = blocks::SpecKind::kUnset;
    bool matches = true;
    HolderId holder;
    std::uint32_t unit_tokens = 0;
  };
  struct BlockExtras;
  struct Run;

  void store(const blocks::BlockStored& event, Applied& applied);
  void store_placeholder(std::uint32_t group, blocks::Tier tier, const blocks::BlockStored& event, Applied& applied);
  void store_run(const Run& run, Applied& applied);
  void remove(const blocks::BlockRemoved& event, Applied& applied);
  void clear_gpu();

  Group* group_for_store(std::uint32_t group, const std::optional<std::string>& kind);
  void note_unit(Group& group, std::uint32_t block_tokens);
  void drop_group(std::uint32_t id, Group& group);
  void unpark(std::vector<NodeId> arrived, Applied& applied);

  Node* find(const NodeId& id);
  Node& add_node(const NodeId& id, Node* parent, BlockKey root, std::span<const TokenId> tokens,
                 const std::vector<BegunItem>& items);
  void complete_keys(Node& node, BlockKey key, std::span<const TokenId> content, const std::vector<BegunItem>& items,
                     std::size_t tail_before);
  void join(Node& node, BlockKey key, std::uint32_t block_start);
  void add_reference(Node& node, blocks::Tier tier, bool from_root);
  bool drop_reference(Node& node, blocks::Tier tier);
  void set_rank(Node& node, HolderId holder);
  void prune(const NodeId& id);
  std::size_t footprint(const Node& node) const;
  void account_parking();

  const EngineId engine_;
  const Shared shared_;
  mutable std::mutex mutex_;
  std::map<std::uint32_t, Group> groups_;
  std::unordered_map<NodeId, Node, NodeIdHash> nodes_;
  Parking parking_;
  std::size_t parking_bytes_ = 0;  // as added to shared_.bytes
  std::vector<NodeId> maybe_dead_;
  std::uint64_t blocks_held_ = 0;
  std::int64_t router_blocks_held_ = 0;
  std::uint32_t block_tokens_ = 0;
};

}  // namespace warmpath::index
