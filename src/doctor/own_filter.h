// OwnFilter: lets only the probes' events through, one look at each: on a busy engine the others are many. Private to
// doctor.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "tokens/tokens.h"

namespace warmpath::doctor {

class OwnFilter {
 public:
  OwnFilter(const tokens::Tokenizer& tokenizer, std::string nonce);
  // The events that are the probes', in order: this one, none, or several when it shows that earlier ones were. Whether
  // a chain is ours shows within its first kNonceWithinTokens; blocks that continue what nobody knows are others'.
  std::vector<blocks::KvEvent> take(blocks::KvEvent event);

  static constexpr std::size_t kNonceWithinTokens = 512;
  static constexpr std::size_t kUndecidedMax = 4'096;  // chains that have not shown yet whose they are

 private:
  std::vector<blocks::KvEvent> take_stored(blocks::BlockStored event);
  bool shows_nonce(const std::vector<TokenId>& ids, const blocks::BlockStored& event) const;
  void own(const blocks::BlockStored& event);

  struct Undecided {
    std::vector<blocks::KvEvent> events;
    std::vector<TokenId> ids;
    std::list<EngineHash>::iterator place;
  };

  const tokens::Tokenizer& tokenizer_;
  const std::string nonce_;
  std::unordered_set<EngineHash> own_;
  std::unordered_map<EngineHash, Undecided> undecided_;  // by their last block
  std::list<EngineHash> order_;                          // oldest first
};

// Whether the text of `ids`, as far as our vocabulary has them, holds `nonce`.
bool text_holds(std::vector<TokenId> ids, const std::string& nonce, const tokens::Tokenizer& tokenizer);

}  // namespace warmpath::doctor
