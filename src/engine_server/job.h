// Job: one completion request, checked and encoded, or vLLM's refusal of it.
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/api.h"
#include "base/base.h"
#include "engine_server/engine_server.h"
#include "tokens/tokens.h"

namespace warmpath::engine_server {

// An error answer: {"error":{"message","type","param","code"}}, or as Anthropic's API has it.
struct Refusal {
  int status = 400;
  std::string message;
  std::string type = "BadRequestError";
  std::string param;  // empty: null
};
std::string refusal_body(const Refusal& refusal, api::ErrorForm form = api::ErrorForm::kOpenAi);
// What a broken HTTP message, a full server or the tokenizer says, in that shape.
Refusal refusal_of(const Error& error);

inline constexpr std::uint32_t kDimensionsDefault = 64;
inline constexpr std::uint32_t kDimensionsMax = 4'096;

struct Job {
  api::Endpoint endpoint = api::Endpoint::kChatCompletions;
  std::string model;                          // the name asked for
  Adapter adapter;                            // empty name: the base model
  std::vector<std::vector<TokenId>> prompts;  // none empty
  std::string salt;
  engine::ReportMode report = engine::ReportMode::kIncremental;
  std::uint32_t choices = 1;              // `n`, per prompt
  std::vector<std::uint64_t> output_max;  // per prompt: what max_tokens and the model allow
  bool exact_length = false;              // exactly output_max: max_tokens (of OpenAI's older APIs) or ignore_eos given
  bool stream = false;
  bool include_usage = false;
  // Embeddings.
  std::uint32_t dimensions = kDimensionsDefault;
  api::EmbeddingFormat format = api::EmbeddingFormat::kFloat;
};

// What a job is checked against.
struct JobContext {
  const Options& options;
  const tokens::Tokenizer& tokenizer;
  std::uint64_t model_tokens_max = 0;
  std::int64_t now_unix_seconds = 0;  // for templates that print the date
};
// Where only tokens are counted, output_max is 0.
std::variant<Job, Refusal> prepare_job(const JobContext& context, api::Endpoint endpoint, std::string_view body);

// POST /tokenize, both forms.
struct Tokenized {
  std::vector<TokenId> ids;
  bool tell_texts = false;  // return_token_strs
};
std::variant<Tokenized, Refusal> prepare_tokenize(const JobContext& context, std::string_view body);

// The answer of /render: of chats in any form an object, of /v1/completions/render a list, one a prompt.
std::string render_body(const Job& job, std::string_view request_id);

inline constexpr std::uint32_t kChoicesMax = 128;  // `n`

}  // namespace warmpath::engine_server
