// Probes: what is asked of an engine, and the ids that we make of it. Private to doctor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "doctor/evidence.h"
#include "tokens/tokens.h"

namespace warmpath::doctor {

// A text or chat for /tokenize or, a chat, /render.
struct Question {
  IdsProbe probe;  // ours filled in
  std::string body;
};

// A prompt to generate from.
struct Prompt {
  bool chat = true;
  std::string messages;  // JSON
  std::string text;      // of a completion
  std::vector<TokenId> ours;
};

class Probes {
 public:
  // `filler_tokens`: about how long the first prompt is to be.
  Probes(const tokens::Tokenizer& tokenizer, std::string model, std::string nonce, std::int64_t now_unix_seconds,
         std::uint32_t filler_tokens);

  std::vector<Question> questions() const;
  // A chat with a system prompt, where the template takes one; else a chat without, else a completion.
  Prompt first() const;
  Prompt next_turn(const Prompt& first) const;
  Prompt completion() const;

  // One token of answer. `model` may be an adapter's name.
  static std::string generation_body(const Prompt& prompt, std::string_view model, std::string_view salt);
  static std::string render_body(const Prompt& prompt, std::string_view model);

 private:
  Question text_question(std::string name, IdsProbe::Kind kind, std::string_view text) const;
  Question chat_question(std::string name, std::string_view messages, std::string_view tools) const;
  tokens::ChatInput chat_input(std::string_view messages, std::string_view tools) const;
  std::string filler(std::uint32_t tokens) const;

  const tokens::Tokenizer& tokenizer_;
  std::string model_;
  std::string nonce_;
  std::int64_t now_;
  std::uint32_t filler_tokens_;
};

}  // namespace warmpath::doctor
