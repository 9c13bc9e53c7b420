#include "api/chat_form.h"

namespace warmpath::api {

bool is_string(std::string_view json) { return json.starts_with('"'); }
bool is_array(std::string_view json) { return json.starts_with('['); }
bool is_object(std::string_view json) { return json.starts_with('{'); }

std::string_view inside(std::string_view json) {
  return is_string(json) ? json.substr(1, json.size() - 2) : std::string_view();
}

bool says(std::string_view json, std::string_view text) {
  if (!is_string(json)) return false;
  const std::string_view content = inside(json);
  if (content.find('\\') == std::string_view::npos) return content == text;
  constexpr std::size_t kEscapedBytesMax = 6;  // of one character
  return content.size() <= text.size() * kEscapedBytesMax && unescape_json(content) == text;
}

std::string& ChatForm::next_message() {
  if (!messages_.empty()) messages_ += ',';
  return messages_;
}

void ChatForm::message(std::string_view role, std::string_view content) {
  next_message().append(R"({"role":)").append(role).append(R"(,"content":)").append(content).append("}");
}

void ChatForm::tool_result(std::string_view id, std::string_view content) {
  next_message().append(R"({"role":"tool","content":)").append(content).append(R"(,"tool_call_id":)").append(id);
  messages_ += '}';
}

void ChatForm::Assistant::add_call(std::string_view id, std::string_view name, std::string_view arguments) {
  if (!calls.empty()) calls += ',';
  calls.append(R"({"id":)").append(id).append(R"(,"type":"function","function":{"name":)").append(name);
  calls.append(R"(,"arguments":)").append(arguments).append("}}");
}

void ChatForm::assistant(const Assistant& said) {
  next_message() += R"({"role":"assistant")";
  if (!said.content.empty()) messages_.append(R"(,"content":)").append(said.content);
  if (said.has_reasoning) messages_.append(R"(,"reasoning":)").append(said.reasoning);
  if (!said.calls.empty()) messages_.append(R"(,"tool_calls":[)").append(said.calls).append("]");
  messages_ += '}';
}

void ChatForm::function(std::string_view name, std::string_view description, std::string_view parameters,
                        std::string_view strict, std::string_view defer_loading) {
  if (!tools_.empty()) tools_ += ',';
  tools_.append(R"({"type":"function","function":{"name":)").append(name);
  const auto add = [this](std::string_view key, std::string_view value) {
    if (!value.empty()) tools_.append(",\"").append(key).append("\":").append(value);
  };
  add("description", description);
  add("parameters", parameters);
  add("strict", strict);
  add("defer_loading", defer_loading);
  tools_ += "}}";
}

void ChatForm::unsure(std::string_view why) {
  if (request_.why_not_exact.empty()) request_.why_not_exact = why;
}

void ChatForm::finish() {
  auto all = std::make_shared<std::string>();
  all->reserve(messages_.size() + tools_.size() + 4);
  all->append("[").append(messages_).append("]");
  const std::size_t messages_end = all->size();
  if (!tools_.empty()) all->append("[").append(tools_).append("]");
  const std::string_view text = *all;
  request_.messages = text.substr(0, messages_end);
  request_.tools = text.substr(messages_end);
  request_.converted = std::move(all);
}

}  // namespace warmpath::api
