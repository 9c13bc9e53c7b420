// A lane whose engine blocks are smaller than the router's, not aligned to it, or of several sizes. Private to index.
//
//   engine blocks (nodes)   |--- a ---|--- b ---|--- c ---|        B tokens each, linked to the parent
//   router blocks (keys)    |-- 0 --|-- 1 --|-- 2 --|-- 3 --|      R tokens each
//
// A key belongs to the node in which its last token lies. Most keys lie wholly in one node; one that begins in an
// earlier node is *joined* and has a Cover that counts how many of its nodes are missing. The tokens of a router block
// that is not complete yet are kept as the tail of the node that ends in it: fewer than R a node.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "index/compact_lane.h"
#include "index/extras.h"
#include "index/lane.h"

namespace warmpath::index {

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

struct NodeView;

struct Node {
  EngineHash hash;
  Node* parent = nullptr;
  Tally tally;
  std::uint32_t children = 0;
  std::uint32_t start = 0;  // tokens before it
  std::uint32_t tokens = 0;
  Rank rank = kNowhere;           // fastest tier with a reference
  bool end_key_is_whole = false;  // end_key was completed here and lies wholly here
  BlockKey end_key;               // of the last router block complete at its end; the chain's root when none
  std::vector<BlockKey> earlier;  // further keys that lie wholly here
  std::unique_ptr<Joint> joint;
  std::uint32_t end() const { return start + tokens; }
};

// Thread rule: as the tree's writers.
class JoinedLane {
 public:
  JoinedLane(const LaneContext& context, const blocks::KeySpace& space);
  ~JoinedLane();
  JoinedLane(const JoinedLane&) = delete;
  JoinedLane& operator=(const JoinedLane&) = delete;
  // Takes over all blocks, which stay in the tree as they are.
  void take(const CompactLane& from);

  Node* find(EngineHash hash);
  struct Content {
    std::span<const TokenId> tokens;
    std::uint32_t block_tokens = 0;
    BlockKey root;                                          // when there is no parent
    const std::vector<std::vector<BegunItem>>* items = {};  // by block, or null
  };
  // From position `first` of the run on, behind `parent` (null: from the root).
  void store(const StoreRun& run, std::size_t first, Node* parent, const Content& content, Applied& applied);
  // Bytes beyond bytes_of() that n blocks with k keys need, at most.
  static std::size_t bytes_wanted(std::size_t nodes, std::size_t keys);

  bool add_tier(EngineHash hash, blocks::Tier tier);
  bool remove(EngineHash hash, blocks::Tier tier);
  void prune_dead();
  void clear_gpu();
  void drop_all();

  template <class Use>
  void each(Use&& use) const {  // in no order
    for (const auto& [hash, node] : nodes_) use(node);
  }
  // For a copy in slices, while nothing changes: all nodes lie in buckets [0, n).
  std::size_t buckets() const { return nodes_.bucket_count(); }
  template <class Use>
  void each_in(std::size_t bucket, Use&& use) const {
    for (auto at = nodes_.begin(bucket); at != nodes_.end(bucket); ++at) use(at->second);
  }
  // A node as it was elsewhere, its keys known. False, and nothing has changed, when it cannot have been so. `roots`:
  // the keys before first blocks among all that was adopted; adds to it.
  bool adopt(EngineHash hash, Node* parent, const NodeView& view, const Tally& tally,
             std::unordered_set<BlockKey>& roots);
  const LaneCounts& counts() const { return counts_; }
  bool empty() const { return nodes_.empty(); }
  std::size_t size() const { return nodes_.size(); }

 private:
  // How often the lane covers one key: usually once.
  struct Key {
    Slot slot = kNoSlot;
    std::uint32_t owners = 0;                                // nodes that completed it
    std::array<std::uint32_t, blocks::kTierCount> covers{};  // [t]: by runs of nodes wholly in tiers 0..t
    Rank rank() const;
  };

  Node& add_node(EngineHash hash, Node* parent, std::span<const TokenId> tokens, const std::vector<BegunItem>& items,
                 BlockKey root);
  void complete_keys(Node& node, BlockKey key, std::span<const TokenId> content, const std::vector<BegunItem>& items,
                     std::size_t tail_before);
  void join(Node& node, BlockKey key, std::uint32_t block_start);
  void own(BlockKey key, BlockKey before);
  void disown(BlockKey key);
  void move(BlockKey key, Rank from, Rank to);
  void set_rank(Node& node);
  void prune(EngineHash hash);
  std::size_t footprint(const Node& node) const;

  const LaneContext context_;
  Tree& tree_;
  const blocks::KeySpace& space_;
  std::unordered_map<EngineHash, Node> nodes_;
  std::unordered_map<BlockKey, Key> keys_;
  std::vector<EngineHash> maybe_dead_;
  LaneCounts counts_;
};

}  // namespace warmpath::index
