#include "prompt/guess_text.h"

#include <simdjson.h>

#include <string_view>

namespace warmpath::prompt {
namespace {

namespace json = simdjson::ondemand;

Error malformed(std::string_view what) { return {ErrorKind::kInvalid, std::string(what)}; }

// Behind its length: "ab" + "c" is not "a" + "bc".
void append(std::string& out, std::string_view text) {
  const auto size = static_cast<std::uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(size >> shift));
  out.append(text);
}

bool append_part(std::string& out, json::value part) {
  std::string_view text;
  json::object object;
  if (part.get_string().get(text) == simdjson::SUCCESS) {
    append(out, text);
    return true;
  }
  if (part.get_object().get(object) != simdjson::SUCCESS) return false;
  if (object.find_field_unordered("text").get_string().get(text) == simdjson::SUCCESS) {
    append(out, text);
    return true;
  }
  if (object.reset().error() != simdjson::SUCCESS || object.raw_json().get(text) != simdjson::SUCCESS) return false;
  const std::uint64_t hash = stable_hash(text);
  append(out, {reinterpret_cast<const char*>(&hash), sizeof hash});
  return true;
}

bool append_content(std::string& out, json::value content) {
  json::json_type type;
  if (content.type().get(type) != simdjson::SUCCESS) return false;
  if (type == json::json_type::null) return true;
  if (type != json::json_type::array) return append_part(out, content);
  json::array parts;
  if (content.get_array().get(parts) != simdjson::SUCCESS) return false;
  for (auto part : parts) {
    json::value value;
    if (part.get(value) != simdjson::SUCCESS || !append_part(out, value)) return false;
  }
  return true;
}

bool append_message(std::string& out, json::object message) {
  std::string_view text;
  if (message.find_field_unordered("role").get_string().get(text) != simdjson::SUCCESS) return false;
  append(out, text);
  json::value value;
  if (message.find_field_unordered("content").get(value) == simdjson::SUCCESS && !append_content(out, value)) return false;
  json::array calls;
  if (message.find_field_unordered("tool_calls").get_array().get(calls) == simdjson::SUCCESS) {
    if (calls.raw_json().get(text) != simdjson::SUCCESS) return false;
    append(out, text);
  }
  return true;
}

}  // namespace

Result<std::string> guess_text(const tokens::ChatInput& chat) {
  std::string out;
  out.reserve(chat.tools.size() + chat.messages.size());
  append(out, chat.tools);
  const simdjson::padded_string padded(chat.messages);
  json::parser parser;
  json::document document;
  json::array messages;
  if (parser.iterate(padded).get(document) != simdjson::SUCCESS ||
      document.get_array().get(messages) != simdjson::SUCCESS) {
    return malformed("messages is not an array");
  }
  for (auto item : messages) {
    json::object message;
    if (item.get_object().get(message) != simdjson::SUCCESS) return malformed("messages holds something malformed");
    if (!append_message(out, message)) return malformed("messages holds something malformed");
  }
  return out;
}

}  // namespace warmpath::prompt
