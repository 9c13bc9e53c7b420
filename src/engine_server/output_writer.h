// OutputWriter: what a simulated engine says. Ids that survive being text; the same prompt and seed, the same answer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/base.h"
#include "tokens/tokens.h"

namespace warmpath::engine_server {

enum class Opening : std::uint8_t {
  kTurn,          // a chat turn: begins with a word without a leading space, where the tokenizer has one
  kContinuation,  // goes on after the prompt's last word
};

class OutputWriter {
 public:
  // kUnsupported: no words that survive being text.
  static Result<OutputWriter> create(const tokens::Tokenizer& tokenizer, std::uint64_t seed, std::uint32_t words,
                                     std::uint32_t length_mean);

  // `choice`: which of several answers to the same prompt.
  struct Prompt {
    std::span<const TokenId> ids;
    std::string_view salt;
    std::string_view lora;
    std::uint32_t choice = 0;
  };
  enum class End : std::uint8_t { kLength, kStop };  // as finish_reason tells
  struct Answer {
    std::vector<TokenId> ids;
    End end = End::kLength;
  };
  // Exactly `count` words.
  Answer words(const Prompt& prompt, Opening opening, std::uint64_t count) const;
  // A length of its own, at least one word, closed by the end token when the model has one; cut at `count_max` ids.
  Answer natural(const Prompt& prompt, Opening opening, std::uint64_t count_max) const;

  // What an embedding of a prompt is here: a direction drawn from it, of length 1.
  std::vector<float> vector(const Prompt& prompt, std::uint32_t dimensions) const;

  // The text of one generated id; empty for the end token.
  std::string_view text(TokenId id) const;

 private:
  OutputWriter(std::uint64_t seed, std::uint32_t length_mean) : seed_(seed), length_mean_(length_mean) {}
  RandomStream stream(const Prompt& prompt) const;
  void append_words(RandomStream& random, Opening opening, std::uint64_t count, std::vector<TokenId>& out) const;

  std::uint64_t seed_;
  std::uint32_t length_mean_;
  std::vector<TokenId> first_;
  std::vector<TokenId> rest_;
  std::vector<TokenId> end_;
  std::unordered_map<TokenId, std::string> texts_;
};

}  // namespace warmpath::engine_server
