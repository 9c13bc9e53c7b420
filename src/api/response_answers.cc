// Writers of OpenAI's Responses and Anthropic's messages, for the simulated engine.
#include "api/answer_json.h"
#include "api/answers.h"

namespace warmpath::api {
namespace {

std::string event(std::string_view name, std::string_view data) {
  std::string out = "event: ";
  out.append(name).append("\ndata: ").append(data).append("\n\n");
  return out;
}

void write_part(JsonWriter& json, std::string_view text) {
  json.object().member("type", "output_text").member("text", text).key("annotations").array().end();
  json.key("logprobs").array().end().end();
}

enum class Stage : std::uint8_t { kBegun, kDone };

void write_item(JsonWriter& json, const ResponseAnswer& answer, Stage stage) {
  json.object().member("id", answer.item_id).member("type", "message").member("role", "assistant");
  json.member("status", stage == Stage::kBegun ? "in_progress" : "completed").key("content").array();
  if (stage == Stage::kDone) write_part(json, answer.text);
  json.end().end();
}

std::string response_json(const ResponseAnswer& answer, Stage stage) {
  const bool done = stage == Stage::kDone;
  JsonWriter json;
  json.object().member("id", answer.id).member("object", "response").member("created_at", answer.created);
  json.member("model", answer.model).key("error").null().key("incomplete_details");
  if (done && answer.cut) {
    json.object().member("reason", "max_output_tokens").end();
  } else {
    json.null();
  }
  json.key("instructions").null().key("metadata").null().key("output").array();
  if (done) write_item(json, answer, stage);
  json.end().member("parallel_tool_calls", true).member("temperature", 1.0).member("top_p", 1.0);
  json.member("tool_choice", "auto").key("tools").array().end().member("background", false);
  json.member("max_output_tokens", answer.output_tokens_max).key("previous_response_id").null();
  json.member("truncation", "disabled");
  json.member("status", !done ? "in_progress" : answer.cut ? "incomplete" : "completed").key("usage");
  if (!done) {
    json.null().end();
    return json.take();
  }
  const Usage& usage = answer.usage;
  json.object().member("input_tokens", usage.prompt_tokens).key("input_tokens_details").object();
  json.member("cached_tokens", usage.cached_tokens.value_or(0)).end();
  json.member("output_tokens", usage.completion_tokens).key("output_tokens_details").object();
  json.member("reasoning_tokens", 0).end();
  json.member("total_tokens", usage.prompt_tokens + usage.completion_tokens).end();
  return close_with(json, answer.extra_members_json);
}

std::string response_event(std::string_view name, const ResponseAnswer& answer, Stage stage, std::uint64_t number) {
  JsonWriter json;
  json.object().member("type", name).member("sequence_number", number);
  json.key("response").raw(response_json(answer, stage)).end();
  return event(name, json.text());
}

std::string item_event(std::string_view name, const ResponseAnswer& answer, Stage stage, std::uint64_t number) {
  JsonWriter json;
  json.object().member("type", name).member("sequence_number", number).member("output_index", 0).key("item");
  write_item(json, answer, stage);
  json.end();
  return event(name, json.text());
}

void open_content_event(JsonWriter& json, std::string_view name, const ResponseAnswer& answer, std::uint64_t number) {
  json.object().member("type", name).member("sequence_number", number).member("item_id", answer.item_id);
  json.member("output_index", 0).member("content_index", 0);
}

std::string part_event(std::string_view name, const ResponseAnswer& answer, std::string_view text,
                       std::uint64_t number) {
  JsonWriter json;
  open_content_event(json, name, answer, number);
  json.key("part");
  write_part(json, text);
  json.end();
  return event(name, json.text());
}

std::string text_event(std::string_view name, std::string_view member, const ResponseAnswer& answer,
                       std::string_view text, std::uint64_t number) {
  JsonWriter json;
  open_content_event(json, name, answer, number);
  json.member(member, text).key("logprobs").array().end().end();
  return event(name, json.text());
}

void write_message_usage(JsonWriter& json, const Usage& usage) {
  const std::uint64_t cached = usage.cached_tokens.value_or(0);
  json.key("usage").object().member("input_tokens", usage.prompt_tokens - cached);
  json.member("output_tokens", usage.completion_tokens);
  if (usage.cached_tokens) json.member("cache_creation_input_tokens", 0).member("cache_read_input_tokens", cached);
  json.end();
}

}  // namespace

std::string response_body(const ResponseAnswer& answer) { return response_json(answer, Stage::kDone); }

std::string response_opening(const ResponseAnswer& answer) {
  return response_event("response.created", answer, Stage::kBegun, 0) +
         response_event("response.in_progress", answer, Stage::kBegun, 1) +
         item_event("response.output_item.added", answer, Stage::kBegun, 2) +
         part_event("response.content_part.added", answer, {}, 3);
}

std::string response_delta(const ResponseAnswer& answer, std::string_view text, std::uint64_t number) {
  return text_event("response.output_text.delta", "delta", answer, text, number);
}

std::string response_ending(const ResponseAnswer& answer, std::uint64_t number) {
  return text_event("response.output_text.done", "text", answer, answer.text, number) +
         part_event("response.content_part.done", answer, answer.text, number + 1) +
         item_event("response.output_item.done", answer, Stage::kDone, number + 2) +
         response_event(answer.cut ? "response.incomplete" : "response.completed", answer, Stage::kDone, number + 3);
}

std::string message_body(const MessageAnswer& answer) {
  JsonWriter json;
  json.object().member("id", answer.id).member("type", "message").member("role", "assistant").key("content").array();
  json.object().member("type", "text").member("text", answer.text).end().end().member("model", answer.model);
  json.member("stop_reason", answer.stop_reason).key("stop_sequence").null();
  write_message_usage(json, answer.usage);
  return close_with(json, answer.extra_members_json);
}

std::string message_opening(const MessageAnswer& answer) {
  JsonWriter json;
  json.object().member("type", "message_start").key("message").object().member("id", answer.id);
  json.member("type", "message").member("role", "assistant").key("content").array().end();
  json.member("model", answer.model).key("stop_reason").null().key("stop_sequence").null();
  write_message_usage(json, {.prompt_tokens = answer.usage.prompt_tokens, .completion_tokens = 0, .cached_tokens = {}});
  json.end().end();
  return event("message_start", json.text()) +
         event("content_block_start",
               R"({"type":"content_block_start","content_block":{"type":"text","text":""},"index":0})");
}

std::string message_delta(std::string_view text) {
  JsonWriter json;
  json.object().member("type", "content_block_delta").key("delta").object().member("type", "text_delta");
  json.member("text", text).end().member("index", 0).end();
  return event("content_block_delta", json.text());
}

std::string message_ending(const MessageAnswer& answer) {
  JsonWriter json;
  json.object().member("type", "message_delta").key("delta").object().member("stop_reason", answer.stop_reason);
  json.key("stop_sequence").null().end();
  write_message_usage(json, answer.usage);
  return event("content_block_stop", R"({"type":"content_block_stop","index":0})") +
         event("message_delta", close_with(json, answer.extra_members_json)) +
         event("message_stop", R"({"type":"message_stop"})");
}

std::string count_tokens_body(std::uint64_t tokens) {
  JsonWriter json;
  json.object().member("input_tokens", tokens).key("context_management").object();
  json.member("original_input_tokens", tokens).end().end();
  return json.take();
}

}  // namespace warmpath::api
