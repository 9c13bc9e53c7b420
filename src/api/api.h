// api: JSON of OpenAI's, Anthropic's and vLLM's APIs <-> native types, and the one place where an ErrorKind becomes an
// HTTP status.
//
//   auto request = parse_request(Endpoint::kChatCompletions, body, limits);
//   ... request->model, request->stream, request->messages (raw JSON slices of body) ...
//
// Nothing is re-serialised on the way through: changes are splices into the original bytes.
// Thread rule: pure functions and values. Slices point into the body handed in.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/base.h"

namespace warmpath::api {

enum class Endpoint : std::uint8_t {
  kChatCompletions,  // POST /v1/chat/completions
  kCompletions,      // POST /v1/completions
  kResponses,        // POST /v1/responses
  kMessages,         // POST /v1/messages, Anthropic's
  kCountTokens,      // POST /v1/messages/count_tokens, Anthropic's: nothing is generated
  kEmbeddings,       // POST /v1/embeddings
  kGenerate,         // POST /inference/v1/generate, vLLM's: token ids in, token ids out
};
std::span<const Endpoint> endpoints();                            // all, as docs list them
std::optional<Endpoint> endpoint_of_path(std::string_view path);  // nullopt for other paths
std::string_view path_of_endpoint(Endpoint endpoint);
bool takes_stream_options(Endpoint endpoint);  // else its streams tell usage unasked, or there are none
bool has_chat(Endpoint endpoint);              // its prompt is a chat: rendered by the model's template

struct RequestLimits {
  std::size_t depth_max = 64;
  std::size_t prompts_max = 1'024;
  std::size_t items_max = 65'536;  // of a Responses input, of Anthropic's messages: blocks, parts and tools included
  std::size_t name_bytes_max = 1'024;  // model, user, salt
};

// A part of the body: [offset, offset + length).
struct Slice {
  std::size_t offset = 0;
  std::size_t length = 0;
};

// Which end `truncate_prompt_tokens` cuts off: kLeft keeps the last tokens.
enum class TruncationSide : std::uint8_t { kRight, kLeft };

// Why an engine's ids do not follow from a request for certain.
inline constexpr std::string_view kWhyNotEmbeddedChat = "embedded_chat";  // pooling models render in their own ways
inline constexpr std::string_view kWhyNotPadding = "padding";             // ids that only the engine adds
inline constexpr std::string_view kWhyNotUnknownItem = "unknown_item";    // of a Responses input, or a message's block
inline constexpr std::string_view kWhyNotUnknownTool = "unknown_tool";    // none of the client's own functions
inline constexpr std::string_view kWhyNotInlineSystem = "inline_system";  // engines try whether a template takes it
inline constexpr std::string_view kWhyNotThinkingOff = "thinking_off";    // engines try what a template understands
inline constexpr std::string_view kWhyNotContinued = "continued";         // the last item is to be gone on with
inline constexpr std::string_view kWhyNotTruncated = "truncated";         // by the engine's own idea of the limit

using TextOrIds = std::variant<std::string, std::vector<TokenId>>;

// What the router needs of a request; everything else passes through untouched.
struct Request {
  Endpoint endpoint = Endpoint::kChatCompletions;
  std::string model;
  Slice model_slice;  // of the JSON value (with its quotes), for rewriting aliases; length 0: absent
  bool stream = false;
  bool include_usage = false;                // stream_options.include_usage
  std::optional<Slice> stream_options;       // the value (possibly null), for splicing
  std::optional<Slice> include_usage_slice;  // its include_usage value, for splicing
  std::optional<std::uint32_t> max_tokens;   // max_tokens or max_completion_tokens
  std::optional<std::uint32_t> n;
  bool ignore_eos = false;
  std::string cache_salt;  // empty: absent (an empty one given is an error, as in vLLM 0.32)
  std::string user;
  // Chat: raw JSON, empty when absent: slices of the body; of Responses and Messages, messages and tools as the chat
  // that vLLM 0.32 makes of them (slices of `converted`).
  std::string_view messages, tools, documents, chat_template_kwargs, reasoning_effort, tool_choice;
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  std::optional<bool> add_special_tokens;
  std::optional<std::int64_t> truncate_prompt_tokens;
  std::optional<TruncationSide> truncation_side;
  bool has_media = false;  // a part in any message that is not text, or prompt embeddings: ids alone do not say it all
  bool has_own_template = false;  // "chat_template" given
  // Further reasons why the engine's ids do not follow from what stands here: one of kWhyNot...; empty: none.
  std::string_view why_not_exact;
  // Completions, embeddings, generate: one or more prompts; none when only prompt_embeds or a chat to be embedded were
  // given.
  std::vector<TextOrIds> prompts;
  bool prompt_is_list = false;
  std::shared_ptr<const std::string> converted;  // null: nothing was
};

// One pass over the body. kInvalid (with param and position in the message) for malformed JSON, wrong types, duplicate
// keys of what the router reads (engines take the last one, so a router that took the first would be fooled), invalid
// UTF-8, lone surrogates, depth; kTooLarge for counts. `param`, when given, is set to the faulty field's name.
// An absent, null or empty model leaves `model` empty: vLLM 0.32 then serves its base model. What only an engine that
// keeps answers could do (previous_response_id, conversation, background) is kInvalid with the remedy.
// Cost: about 0.1 ms for a 400 KB chat; slices are copied nowhere, prompts of completions are.
Result<Request> parse_request(Endpoint endpoint, std::string_view body, const RequestLimits& limits = {},
                              std::string* param = nullptr);

// Splices: body with the model name replaced (or added); with stream_options.include_usage = true; both. What is not
// asked stays byte for byte.
enum class UsageSplice : std::uint8_t { kKeep, kAdd };
std::string spliced(std::string_view body, const Request& request, std::optional<std::string_view> model,
                    UsageSplice usage);
std::string with_model(std::string_view body, const Request& request, std::string_view model);
std::string with_include_usage(std::string_view body, const Request& request);

// ---- errors ----
struct StatusRow {
  int status = 500;
  std::string_view type;   // OpenAI's error.type: "invalid_request_error", …
  std::string_view code;   // error_kind_name
  bool retryable = false;  // the same request may succeed a moment later
};
StatusRow status_of(ErrorKind kind);
// Each API tells errors in its own form.
enum class ErrorForm : std::uint8_t { kOpenAi, kResponses, kAnthropic };
ErrorForm error_form_of(Endpoint endpoint);
// {"error":{"message","type","param","code"}}, an empty param is null; Anthropic: {"type":"error","error":{"type",
// "message"}}. Bytes that are not UTF-8 become '?'.
std::string error_body(const Error& error, std::string_view param = {}, ErrorForm form = ErrorForm::kOpenAi);
// As one SSE event; Responses number theirs: at least `events_before` went
// before it in the stream.
std::string error_event(const Error& error, ErrorForm form = ErrorForm::kOpenAi, std::uint64_t events_before = 0);

// ---- usage, both ways ----
struct Usage {
  std::uint64_t prompt_tokens = 0;  // those found in a cache included
  std::uint64_t completion_tokens = 0;
  std::optional<std::uint64_t> cached_tokens;
};
// The usage object of a response body or of one SSE event's data, in OpenAI's form, Responses' or Anthropic's (which
// tells what was cached apart); nullopt when there is none (or null).
// Cheap when there is none: looks for the key before it parses.
std::optional<Usage> find_usage(std::string_view json);
// True for a chunk that holds usage and empty choices: the extra one that include_usage adds.
bool is_usage_only_chunk(std::string_view json);

// ---- answers, for clients of ours ----
// Text of one chunk's or response's first choice (chat or completions), for clients of ours; nullopt when none.
std::optional<std::string> text_of_chunk(std::string_view json);
std::optional<std::string> text_of_response(std::string_view json);

// ---- token ids ----
// Of an engine's /tokenize ({"tokens":[…]}) or /render ({"token_ids":[…]}, or a list of such: the first).
Result<std::vector<TokenId>> parse_token_ids(std::string_view json);

// ---- models ----
struct ModelEntry {
  std::string id;
  std::string root;
  std::optional<std::string> parent;  // an adapter's base model
  std::optional<std::uint64_t> max_model_len;
};
std::string models_body(std::span<const ModelEntry> models, std::int64_t created);
Result<std::vector<ModelEntry>> parse_models(std::string_view json);

}  // namespace warmpath::api

#include "api/answers.h"  // IWYU pragma: export
