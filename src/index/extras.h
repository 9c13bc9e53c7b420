// What an engine's extra keys say about a run of blocks, in the router's terms. Private to index.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"

namespace warmpath::index {

// A multimodal item (or other extra content) that begins `offset` tokens after some start.
struct BegunItem {
  std::string identifier;
  std::uint32_t offset = 0;
};

struct StoredExtras {
  std::string lora;
  std::string salt;
  // By engine block; empty when no block has any. Offsets count from the engine block's first token and ascend.
  std::vector<std::vector<BegunItem>> items;
};

// Lora and salt matter only for a run from token 0: later blocks inherit them through the chain.
// An item goes to the router block in which it *begins*, and nowhere else: that is the only place that events tell
// for every pair of block sizes (an engine block lists the items that overlap it, with the offset of their first token,
// but not their length), and later keys cover it through the chain.
// What a prompt can never say (raw embeddings, a bare identifier without a place) becomes an item with a name that no
// prompt has, so such blocks match nothing.
StoredExtras classify_extras(const blocks::BlockStored& event);

}  // namespace warmpath::index
