// Anthropic's messages as a chat, by vLLM 0.32's conversion (tests/golden/api/vllm_0_32_conversions.jsonl).
#include "api/chat_form.h"

namespace warmpath::api {
namespace {

using Kind = JsonScan::Kind;

// A system block that starts so holds a number that changes with each request: engines leave it out.
constexpr std::string_view kBillingHeader = "x-anthropic-billing-header";

class Conversion {
 public:
  Conversion(JsonScan& scan, const RequestLimits& limits, Request& request)
      : scan_(scan), form_(request, limits), request_(request) {}

  ErrorKind run(const AnthropicBody& body) {
    leading_system(body.system);
    each(body.messages, [this](JsonScan& at) { message(at); });
    if (!body.tools.empty()) each(body.tools, [this](JsonScan& at) { tool(at); });
    if (!scan_.failed()) form_.finish();
    return form_.too_many() ? ErrorKind::kTooLarge : ErrorKind::kInvalid;
  }

 private:
  template <class F>
  void each(std::string_view array, F&& one) {
    form_.each(scan_, array, one);
  }

  static bool is_billing(std::string_view text) {
    const std::string_view content = inside(text);
    if (content.find('\\') == std::string_view::npos) return content.starts_with(kBillingHeader);
    return unescape_json(content).starts_with(kBillingHeader);
  }

  // Text blocks, one behind the other, as what stands between a string's quotes.
  std::string joined_texts(std::string_view blocks) {
    std::string joined;
    each(blocks, [&](JsonScan& at) {
      const auto [type, text] = members_of<2>(at, {"type", "text"});
      if (says(type, "text") && !inside(text).empty() && !is_billing(text)) joined += inside(text);
    });
    return joined;
  }

  void leading_system(std::string_view given) {
    if (given.empty()) return;
    const std::string text = is_array(given) ? joined_texts(given) : std::string(inside(given));
    if (!text.empty()) form_.message(R"("system")", '"' + text + '"');
  }

  void message(JsonScan& at) {
    const auto [role, content] = members_of<2>(at, {"role", "content"});
    if (at.failed()) return;
    if (!is_string(role)) return at.fail("a message has no role");
    if (!is_string(content) && !is_array(content)) return at.fail("content must be a string or an array of blocks");
    if (says(role, "system")) return inline_system(content);
    const bool assistant = says(role, "assistant");
    if (!assistant && !says(role, "user")) form_.unsure(kWhyNotUnknownItem);
    if (is_string(content)) return form_.message(role, content);
    blocks(role, assistant, content);
  }

  // Whether a template takes it where it stands or the engine moves it to the front, the engine finds out by trying.
  void inline_system(std::string_view content) {
    form_.unsure(kWhyNotInlineSystem);
    if (is_string(content) && is_billing(content)) return;
    const std::string text = is_array(content) ? joined_texts(content) : std::string(inside(content));
    if (!text.empty()) form_.message(R"("system")", '"' + text + '"');
  }

  struct Said {
    std::vector<std::string> parts;  // JSON
    bool all_text = true;
    std::string reasoning;  // between quotes
    ChatForm::Assistant assistant;
  };

  void blocks(std::string_view role, bool assistant, std::string_view content) {
    Said said;
    each(content, [&](JsonScan& at) { block(at, assistant, said); });
    std::string text;
    if (said.parts.size() == 1 && said.all_text) {
      text = said.parts.front();
    } else if (!said.parts.empty()) {
      for (const std::string& part : said.parts) {
        text += text.empty() ? "[" : ",";
        text += said.all_text ? R"({"type":"text","text":)" + part + "}" : part;
      }
      text += ']';
    }
    if (!assistant) {
      if (!text.empty()) form_.message(role, text);
      return;
    }
    said.assistant.content = std::move(text);
    said.assistant.reasoning = '"' + said.reasoning + '"';
    form_.assistant(said.assistant);
  }

  void block(JsonScan& at, bool assistant, Said& said) {
    const std::size_t start = at.offset_of_next();
    if (at.peek() != Kind::kObject) return at.fail("a content block must be an object");
    const auto [type, text, thinking, id, name, input, tool_use_id, content] =
        members_of<8>(at, {"type", "text", "thinking", "id", "name", "input", "tool_use_id", "content"});
    if (at.failed()) return;
    if (says(type, "text")) {
      if (!inside(text).empty()) add_text(said, text);
    } else if (says(type, "thinking")) {
      if (is_string(thinking)) {
        said.reasoning += inside(thinking);
        said.assistant.has_reasoning = true;
      }
    } else if (says(type, "redacted_thinking") || says(type, "tool_reference")) {
      return;  // engines leave them out
    } else if (says(type, "tool_use") && assistant) {
      tool_use(said, id, name, input);
    } else if (says(type, "tool_result")) {
      tool_result(said, assistant, tool_use_id, content);
    } else {
      if (says(type, "image")) request_.has_media = true;
      form_.unsure(kWhyNotUnknownItem);
      add_other(said, at.text_of({start, at.offset() - start}));
    }
  }

  static void add_text(Said& said, std::string_view json) {
    said.parts.emplace_back(said.all_text ? std::string(json) : R"({"type":"text","text":)" + std::string(json) + "}");
  }

  static void add_other(Said& said, std::string_view json) {
    if (std::exchange(said.all_text, false)) {
      for (std::string& part : said.parts) part = R"({"type":"text","text":)" + part + "}";
    }
    said.parts.emplace_back(json);
  }

  void tool_use(Said& said, std::string_view id, std::string_view name, std::string_view input) {
    if (inside(id).empty()) form_.unsure(kWhyNotUnknownItem);  // engines then make one up
    said.assistant.add_call(id.empty() ? R"("")" : id, name.empty() ? R"("")" : name, is_object(input) ? input : "{}");
  }

  void tool_result(Said& said, bool assistant, std::string_view id, std::string_view content) {
    std::string text;
    if (is_array(content)) {
      if (assistant) form_.unsure(kWhyNotUnknownItem);  // engines then print their own form of it
      text = result_texts(content);
    } else {
      text = inside(content);
    }
    if (assistant) return add_text(said, R"("Tool result: )" + text + '"');
    form_.tool_result(id.empty() ? R"("")" : id, '"' + text + '"');
  }

  std::string result_texts(std::string_view content) {
    std::string joined;
    bool first = true;
    each(content, [&](JsonScan& at) {
      if (at.peek() != Kind::kObject) {
        at.skip();
        return;
      }
      const auto [type, text] = members_of<2>(at, {"type", "text"});
      if (says(type, "text")) {
        if (!is_string(text)) form_.unsure(kWhyNotUnknownItem);
        if (!std::exchange(first, false)) joined += "\\n";
        joined += inside(text);
      } else if (says(type, "image")) {
        request_.has_media = true;
      } else if (says(type, "tool_reference")) {
        form_.unsure(kWhyNotUnknownItem);
      }
    });
    return joined;
  }

  void tool(JsonScan& at) {
    if (at.peek() != Kind::kObject) return at.fail("a tool must be an object");
    const auto [name, description, schema, strict, defer_loading] =
        members_of<5>(at, {"name", "description", "input_schema", "strict", "defer_loading"});
    if (at.failed()) return;
    if (!is_string(name)) return at.fail("a tool has no name");
    if (!is_object(schema)) form_.unsure(kWhyNotUnknownTool);
    form_.function(name, description, typed(schema), strict, defer_loading);
  }

  // Engines say what kind of schema it is where the client does not.
  std::string typed(std::string_view schema) {
    std::string out(schema);
    if (!is_object(schema)) return out;
    bool has_type = false;
    bool empty = true;
    JsonScan inner = scan_.within(schema);
    inner.object([&](std::string_view key) {
      has_type = has_type || key == "type";
      empty = false;
      inner.skip();
    });
    if (has_type) return out;
    out.pop_back();
    return out + (empty ? "" : ",") + R"("type":"object"})";
  }

  JsonScan& scan_;
  ChatForm form_;
  Request& request_;
};

}  // namespace

void read_anthropic(JsonScan& scan, const AnthropicBody& body, const RequestLimits& limits, Request& request,
                    ErrorKind& kind) {
  kind = Conversion(scan, limits, request).run(body);
  if (scan.failed()) return;
  if (!body.output_config.empty()) {
    JsonScan inner = scan.within(body.output_config);
    request.reasoning_effort = members_of<1>(inner, {"effort"})[0];
    scan.adopt(inner);
  }
  if (!body.thinking.empty()) {
    JsonScan inner = scan.within(body.thinking);
    const auto [type] = members_of<1>(inner, {"type"});
    scan.adopt(inner);
    // What a model takes for no thinking at all, its engine finds out by trying.
    if (says(type, "disabled") && request.why_not_exact.empty()) request.why_not_exact = kWhyNotThinkingOff;
  }
  if (!body.metadata.empty()) {
    JsonScan inner = scan.within(body.metadata);
    const auto [user] = members_of<1>(inner, {"user_id"});
    scan.adopt(inner);
    if (is_string(user) && user.size() <= limits.name_bytes_max) request.user = unescape_json(inside(user));
  }
}

}  // namespace warmpath::api
