// How two lists of ids for the same prompt differ. Private to doctor.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/base.h"
#include "tokens/tokens.h"

namespace warmpath::doctor {

enum class Difference : std::uint8_t {
  kNone,
  kSpecialTokens,  // one side has more special tokens in front or behind: double BOS
  kSplit,          // the same text, split into other ids: another tokenizer, or one rebuilt from its class
  kText,           // another text: another template, or another vocabulary
};

struct Comparison {
  Difference difference = Difference::kNone;
  std::size_t at = 0;  // the first position that differs
  std::string detail;  // "the engine has 1 more in front: 151643 (<|endoftext|>)"
};

Comparison compare(std::span<const TokenId> ours, std::span<const TokenId> theirs, const tokens::Tokenizer& tokenizer);

// Up to 24 characters of an id's text for a line of a report, quoted, control characters escaped.
std::string shown(std::span<const TokenId> ids, const tokens::Tokenizer& tokenizer);

}  // namespace warmpath::doctor
