// Planted faults: ways in which a real engine differs from what a router takes it for, on purpose. For tests of
// `warmpath doctor` and for demonstrations.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "tokens/tokens.h"

namespace warmpath::engine_server {

enum class Fault : std::uint8_t {
  kChatTemplate,
  kDoubleBos,
  kRebuiltTokenizer,
  kBlockSize,
  kSaltIgnored,
  kLoraIgnored,
  kLoraRenamed,
  kNoPrefixCaching,
  kDraftModel,
  kNoEvents,
  kEventsPort,
  kEventsTopic,
  kNoCachedTokens,
  kCount,
};

struct FaultText {
  std::string_view name;
  std::string_view meaning;
};
std::span<const FaultText> fault_texts();  // in the order of Fault
std::optional<Fault> parse_fault(std::string_view name);

class FaultSet {
 public:
  void add(Fault fault) { bits_.set(static_cast<std::size_t>(fault)); }
  bool empty() const { return bits_.none(); }
  bool has(Fault fault) const { return bits_.test(static_cast<std::size_t>(fault)); }

 private:
  std::bitset<static_cast<std::size_t>(Fault::kCount)> bits_;
};

// What an engine with these faults makes of a rendered chat, and of a text. Without any they are the tokenizer's own.
std::string rendered_with(const FaultSet& faults, std::string rendered);
Result<std::vector<TokenId>> encoded_with(const FaultSet& faults, const tokens::Tokenizer& tokenizer,
                                          std::string_view text, tokens::SpecialTokens special);

}  // namespace warmpath::engine_server
