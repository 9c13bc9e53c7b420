// prompt: one request's prompt -> ids, exact chain and guessed chain.
//
// Thread rule: an Encoder is immutable; encode() may run on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "tokens/tokens.h"

namespace warmpath::prompt {

struct TextPrompt {
  std::string_view text;
  tokens::SpecialTokens special = tokens::SpecialTokens::kAdd;
};
struct IdsPrompt {
  std::span<const TokenId> ids;
};
using Prompt = std::variant<TextPrompt, IdsPrompt, tokens::ChatInput>;

struct Input {
  std::vector<Prompt> prompts;  // at least one; several: chains are one per prompt
  blocks::ChainContext context;
  // Multimodal parts were seen whose placeholders we cannot expand: the chain stops being exact.
  bool has_media = false;
  std::optional<std::int64_t> truncate_prompt_tokens;
};

// One prompt, encoded.
struct Encoded {
  std::uint32_t prompt_tokens = 0;      // exact when `exact`; else text bytes / 4
  std::vector<BlockKey> chain;          // empty when not exact
  std::vector<BlockKey> guessed_chain;  // over text bytes (or 4 bytes an id), by the pool's guess
  bool exact = false;
  std::string why_not;  // "no tokenizer", "media", ...: stable words for metrics
};

// How the pool's policy wants its guesses: 0 block_bytes means none.
struct Guess {
  std::uint32_t block_bytes = 0;
  std::uint32_t blocks_max = 0;  // 0: no cap
};

class Encoder {
 public:
  // `tokenizer` may be null: then nothing is exact and a token is taken for 4 bytes.
  Encoder(std::shared_ptr<const tokens::Tokenizer> tokenizer, blocks::KeySpace space, Guess guess);
  // One Encoded per prompt. Errors are the client's: a template's refusal, text that is not UTF-8 (kInvalid).
  Result<std::vector<Encoded>> encode(const Input& input) const;
  const tokens::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const blocks::KeySpace& space() const { return space_; }

 private:
  std::shared_ptr<const tokens::Tokenizer> tokenizer_;
  blocks::KeySpace space_;
  Guess guess_;
};

}  // namespace warmpath::prompt
