// What one engine holds as bytes and back. Private to index.
//
// A part is of one KV group: [group header] and chains. A chain is blocks of which each is the parent of the next,
// behind a parent that is named by its hash (or none), with the depth at which it begins, so that a reader can put
// parents before children in whatever order the chains come.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "blocks/kv_event.h"
#include "index/byte_codec.h"
#include "index/joined_lane.h"
#include "index/lane.h"

namespace warmpath::index {

enum class LaneKind : std::uint8_t { kNone, kCompact, kJoined };

struct CopiedGroup {
  std::uint32_t id = 0;
  blocks::SpecKind kind = blocks::SpecKind::kUnset;
  LaneKind lane = LaneKind::kNone;
  std::uint32_t unit_tokens = 0;     // 0: nothing was stored to it yet
  std::uint32_t keys_per_block = 0;  // of a compact lane
  std::uint32_t block_tokens = 0;    // of the engine, as last seen
};

// One block on its way out. Of a compact lane it has keys_per_block keys at `body`; of a joined one `body` is
// its bytes behind hash and tally.
struct CopiedBlock {
  std::uint64_t hash = 0;
  std::uint64_t parent = 0;
  bool root = true;
  std::uint32_t depth = 0;  // keys before it; of a joined lane tokens
  std::size_t body = 0;
  std::uint32_t body_bytes = 0;
  Tally tally;
};

struct GroupCopy {
  CopiedGroup group;
  std::vector<CopiedBlock> blocks;
  std::string bodies;
};

void encode_group(GroupCopy&& copy, std::vector<std::string>& parts);

// A chain as it lies in a part, its lengths checked.
struct ChainView {
  std::uint64_t parent = 0;
  bool root = true;
  std::uint32_t depth = 0;
  std::uint32_t count = 0;
  std::string_view hashes;
  std::string_view keys;     // compact
  std::string_view tallies;  // one byte a block; empty: all are held once on gpu and nowhere else
  std::string_view counts;   // exceptions: [index, refs by tier] in 32 bits each
  std::string_view bodies;   // joined

  // Of block i, asked in order; `exception` begins at 0.
  Tally tally(std::size_t i, std::size_t& exception) const;
};

struct PartView {
  CopiedGroup group;
  std::vector<ChainView> chains;
};
// False: no part of ours.
bool read_part(std::string_view bytes, PartView& out);

// A joined lane's block behind hash and tally. False: it is larger than read_node takes; nothing is put then.
[[nodiscard]] bool put_node(const Node& node, std::string& out);
struct NodeView {
  std::uint32_t tokens = 0;
  BlockKey root;                 // where it has no parent
  std::string_view keys;         // completed in it, in order
  std::string_view tail;         // its own tokens among those behind the last complete key
  std::vector<BegunItem> items;  // that begin in `tail`, relative to it
};
bool read_node(ByteReader& reader, bool root, NodeView& out);

}  // namespace warmpath::index
