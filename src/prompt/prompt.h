// prompt: one request's prompt -> ids, exact chain and guessed chain.
//
//   Encoder encoder(tokenizer, blocks::KeySpace(secret, "qwen3-32b", 64), Guess{256, 0}, ReuseLimits{});
//   auto encoded = encoder.encode({.prompts = {TextPrompt{"hello"}}});
//   (*encoded)[0].chain, .guessed_chain, .prompt_tokens
//
// The exact chain is what the pool's KeySpace makes of the ids that the engine will compute. The guessed chain is made
// of bytes that are there before any tokenizer ran: the text of a completion; of a chat its tools, then each message's
// role, text parts and tool calls in order, each behind its length. Equal beginnings give equal chains, nothing more.
//
// What was seen before is not encoded again: pieces of text are kept with their ids and the block keys behind them,
// found by keyed hashes and confirmed byte by byte, so the ids stay those of encoding everything from scratch
// (reuse.h). Kept pieces are the pool's own, those of one salt serve that salt only, and their bytes are bounded.
//
// Cost: docs/benchmarks.md; new text by the tokenizer's encoder, seen text about as fast as it is copied. The guess of
// a 400 KB chat takes about 0.3 ms. Thread rule: encode() may run on any thread.
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
  // Keep that many ids; -1: as many as `truncation_tokens_max`. Which ones: the side given, else vLLM's default: the
  // last ones.
  std::optional<std::int64_t> truncate_prompt_tokens;
  std::optional<tokens::TruncationSide> truncation_side;
  std::uint32_t truncation_tokens_max = 0;  // the engine's limit; 0: not known, -1 then leaves prompts whole
};

// One prompt, encoded.
struct Encoded {
  std::uint32_t prompt_tokens = 0;      // exact when `exact`; else text bytes / 4
  std::vector<BlockKey> chain;          // empty when not exact
  std::vector<BlockKey> guessed_chain;  // over text bytes (or 4 bytes an id), by the pool's guess
  bool exact = false;
  std::string why_not;  // one of kWhyNot..., for metrics; empty when exact
};

inline constexpr std::string_view kWhyNotNoTokenizer = "no_tokenizer";
inline constexpr std::string_view kWhyNotNoTemplate = "no_template";  // a chat, and the model has none
inline constexpr std::string_view kWhyNotMedia = "media";
inline constexpr std::string_view kWhyNotTruncation = "truncation";  // cut on the left around added special tokens
inline constexpr std::string_view kWhyNotTokenizerFailed = "tokenizer_failed";  // our fault, not the client's

// How the pool's policy wants its guesses: 0 block_bytes means none.
struct Guess {
  std::uint32_t block_bytes = 0;
  std::uint32_t blocks_max = 0;  // 0: no cap
};

// What may be kept for reuse, counted as if no two entries shared anything. 0: nothing is kept.
struct ReuseLimits {
  std::size_t bytes_max = 64u << 20;
};

// Totals, and what is held now. Bytes of texts, as they were asked for.
struct ReuseCounters {
  std::uint64_t bytes_held = 0;       // charged, at most ReuseLimits::bytes_max
  std::uint64_t bytes_walked = 0;     // beginnings seen before: ids and block keys were there
  std::uint64_t bytes_known = 0;      // stretches seen before behind something new: ids were there
  std::uint64_t bytes_encoded = 0;    // new
  std::uint64_t entries_dropped = 0;  // to stay below the bound
};

class Reuse;

class Encoder {
 public:
  // `tokenizer` may be null: then only prompts given as ids are exact, and else a token is taken for 4 bytes.
  Encoder(std::shared_ptr<const tokens::Tokenizer> tokenizer, blocks::KeySpace space, Guess guess,
          ReuseLimits reuse = {});
  // One Encoded per prompt. Errors are the client's: a template's refusal, text that is not UTF-8, messages that are
  // not what engines take (kInvalid), messages that a template runs away on (kTooLarge).
  Result<std::vector<Encoded>> encode(const Input& input) const;
  const tokens::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const blocks::KeySpace& space() const { return space_; }
  // All zero where the tokenizer does not allow reuse (tokens::EncoderFacts::parts) or none was asked for.
  ReuseCounters reuse_counters() const;

 private:
  Result<Encoded> encode_one(const Prompt& prompt, const Input& input) const;
  // The exact part of `encoded`, by reuse; false: this prompt has to be encoded whole.
  Result<bool> encode_by_reuse(const Prompt& prompt, const Input& input, Encoded& encoded) const;
  Result<void> encode_whole(const Prompt& prompt, const Input& input, Encoded& encoded) const;
  Result<void> add_guess(const Prompt& prompt, const Input& input, Encoded& encoded) const;
  std::shared_ptr<const tokens::Tokenizer> tokenizer_;
  blocks::KeySpace space_;
  Guess guess_;
  std::shared_ptr<Reuse> reuse_;  // null: none
};

}  // namespace warmpath::prompt
