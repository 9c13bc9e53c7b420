// Writers of answers, for the simulated engine: the forms of vLLM 0.32 (tests/golden/api). Part of api's door.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/api.h"

namespace warmpath::api {

struct Delta {
  std::string_view id;  // "chatcmpl-…"
  std::string_view model;
  std::int64_t created = 0;  // unix seconds
  std::uint32_t index = 0;
  std::string_view text;
  bool first = false;  // chat: adds the role
  std::optional<std::string_view> finish_reason;
};
std::string chat_chunk(const Delta& delta);
std::string completion_chunk(const Delta& delta);
std::string usage_chunk(Endpoint endpoint, std::string_view id, std::string_view model, std::int64_t created,
                        const Usage& usage, std::string_view extra_members_json);
struct Choice {
  std::uint32_t index = 0;
  std::string text;
  std::string finish_reason;
};
std::string whole_response(Endpoint endpoint, std::string_view id, std::string_view model, std::int64_t created,
                           std::span<const Choice> choices, const Usage& usage, std::string_view extra_members_json);
// Embeddings: one vector a prompt, as numbers or as base64 of little-endian floats.
enum class EmbeddingFormat : std::uint8_t { kFloat, kBase64 };
std::string embeddings_body(std::string_view id, std::string_view model, std::int64_t created,
                            std::span<const std::vector<float>> vectors, EmbeddingFormat format,
                            std::uint64_t prompt_tokens);
// Generate: token ids out.
struct IdsChoice {
  std::uint32_t index = 0;
  std::vector<TokenId> ids;
  std::optional<std::string_view> finish_reason;
};
std::string ids_chunk(std::string_view id, const IdsChoice& choice);
std::string ids_usage_chunk(std::string_view id, const Usage& usage, std::string_view extra_members_json);
std::string ids_response(std::string_view id, std::string_view model, std::int64_t created,
                         std::span<const IdsChoice> choices, const Usage& usage, std::string_view extra_members_json);

// ---- Responses: one text ----
struct ResponseAnswer {
  std::string_view id;       // "resp_…"
  std::string_view item_id;  // "msg_…"
  std::string_view model;
  std::int64_t created = 0;
  std::uint64_t output_tokens_max = 0;
  std::string_view text;  // all of it, at the end
  bool cut = false;       // by output_tokens_max
  Usage usage;
  std::string_view extra_members_json;  // beside `usage`
};
std::string response_body(const ResponseAnswer& answer);
// Its SSE events: before the first text (4 of them), for one piece of text (1), after the last (4). `number`: of the
// first of them in the stream.
inline constexpr std::uint64_t kResponseOpeningEvents = 4;
std::string response_opening(const ResponseAnswer& answer);
std::string response_delta(const ResponseAnswer& answer, std::string_view text, std::uint64_t number);
std::string response_ending(const ResponseAnswer& answer, std::uint64_t number);

// ---- Anthropic's messages: one text ----
struct MessageAnswer {
  std::string_view id;
  std::string_view model;
  std::string_view text;  // all of it; streams: not read
  std::string_view stop_reason;
  Usage usage;
  std::string_view extra_members_json;
};
std::string message_body(const MessageAnswer& answer);
std::string message_opening(const MessageAnswer& answer);
std::string message_delta(std::string_view text);
std::string message_ending(const MessageAnswer& answer);
std::string count_tokens_body(std::uint64_t tokens);

}  // namespace warmpath::api
