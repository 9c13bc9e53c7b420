// OwnBlocks: which of the blocks heard of belong to our probes, and how much of a prompt they hold: what a router would
// predict from the same events. Private to doctor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "doctor/evidence.h"
#include "tokens/tokens.h"

namespace warmpath::doctor {

struct OwnBlock {
  EngineHash hash;
  std::optional<EngineHash> parent;
  std::vector<TokenId> tokens;
  std::string adapter;  // as the event names it; empty: none
  std::vector<std::string> extra_texts;
  std::uint32_t rank = 0;
  bool lookahead = false;
};

// Whether adapter and salt must be those of the prompt.
enum class Keys : std::uint8_t { kAny, kSame };

class OwnBlocks {
 public:
  // From the first `until` events. Removed blocks are not among them. A block is ours when its chain's text holds the
  // nonce, or its chain begins under a salt that does.
  OwnBlocks(const Evidence& evidence, const tokens::Tokenizer& tokenizer, std::size_t until);

  bool empty() const { return by_hash_.empty(); }
  bool removed_some() const { return removed_some_; }
  // The longest run of blocks that holds the ids from the first on.
  std::vector<const OwnBlock*> match(std::span<const TokenId> ids, std::string_view adapter, std::string_view salt,
                                     Keys keys) const;
  // Tokens of it that an engine reports as cached: never the whole prompt.
  std::uint64_t predicted(std::span<const TokenId> ids, std::string_view adapter, std::string_view salt) const;
  // The longest chain, whatever its tokens.
  std::vector<const OwnBlock*> longest() const;
  const std::map<EngineHash, OwnBlock>& all() const { return by_hash_; }

 private:
  std::map<EngineHash, OwnBlock> by_hash_;
  std::multimap<std::optional<EngineHash>, EngineHash> children_;
  bool removed_some_ = false;
};

}  // namespace warmpath::doctor
