// Writers of embeddings and of token ids, for the simulated engine; shapes as vLLM 0.32 answers (tests/golden/api).
#include <algorithm>
#include <bit>

#include "api/answer_json.h"

namespace warmpath::api {
namespace {

// RFC 4648, padded, one line.
std::string to_base64(std::span<const std::uint8_t> bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t here = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) bits = bits << 8 | (k < here ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) out.push_back(k <= here ? kDigits[bits >> (18 - 6 * k) & 63] : '=');
  }
  return out;
}

std::string base64_of(std::span<const float> vector) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(vector.size() * sizeof(float));
  for (const float value : vector) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<std::uint8_t>(bits >> shift));
  }
  return to_base64(bytes);
}

void write_ids(JsonWriter& json, std::span<const TokenId> ids) {
  json.key("token_ids").array();
  for (const TokenId id : ids) json.value(id);
  json.end();
}

void write_choice(JsonWriter& json, const IdsChoice& choice) {
  json.object().member("index", choice.index).key("finish_reason");
  if (choice.finish_reason) {
    json.value(*choice.finish_reason);
  } else {
    json.null();
  }
  json.key("stop_reason").null();
  write_ids(json, choice.ids);
  json.key("logprobs").null().end();
}

}  // namespace

std::string embeddings_body(std::string_view id, std::string_view model, std::int64_t created,
                            std::span<const std::vector<float>> vectors, EmbeddingFormat format,
                            std::uint64_t prompt_tokens) {
  JsonWriter json;
  json.object().member("id", id).member("object", "list").member("created", created).member("model", model);
  json.key("data").array();
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    json.object().member("index", static_cast<std::uint64_t>(i)).member("object", "embedding").key("embedding");
    if (format == EmbeddingFormat::kBase64) {
      json.value(base64_of(vectors[i]));
    } else {
      json.array();
      for (const float value : vectors[i]) json.value(static_cast<double>(value));
      json.end();
    }
    json.end();
  }
  json.end();
  write_usage(json, {.prompt_tokens = prompt_tokens, .completion_tokens = 0, .cached_tokens = std::nullopt});
  json.end();
  return json.take();
}

std::string ids_chunk(std::string_view id, const IdsChoice& choice) {
  JsonWriter json;
  json.object().member("request_id", id).key("usage").null().member("output_mode", "tokens");
  json.key("choices").array();
  write_choice(json, choice);
  json.end().end();
  return json.take();
}

std::string ids_usage_chunk(std::string_view id, const Usage& usage, std::string_view extra_members_json) {
  JsonWriter json;
  json.object().member("request_id", id).member("output_mode", "tokens").key("choices").array().end();
  write_usage(json, usage);
  return close_with(json, extra_members_json);
}

std::string ids_response(std::string_view id, std::string_view model, std::int64_t created,
                         std::span<const IdsChoice> choices, const Usage& usage, std::string_view extra_members_json) {
  JsonWriter json;
  json.object().member("request_id", id).member("model", model).member("created", created);
  write_usage(json, usage);
  json.member("output_mode", "tokens").key("choices").array();
  for (const IdsChoice& choice : choices) write_choice(json, choice);
  json.end();
  return close_with(json, extra_members_json);
}

}  // namespace warmpath::api
