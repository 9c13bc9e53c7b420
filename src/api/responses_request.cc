// A Responses request as a chat, by vLLM 0.32's conversion (tests/golden/api/vllm_0_32_conversions.jsonl).
#include "api/chat_form.h"

namespace warmpath::api {
namespace {

using Kind = JsonScan::Kind;

bool is_media_part(std::string_view type) {
  return says(type, "input_image") || says(type, "input_file") || says(type, "input_audio");
}
bool is_text_part(std::string_view type) {
  return says(type, "input_text") || says(type, "output_text") || says(type, "text");
}

class Conversion {
 public:
  Conversion(JsonScan& scan, const RequestLimits& limits, Request& request)
      : scan_(scan), form_(request, limits), request_(request) {}

  ErrorKind run(const ResponsesBody& body) {
    if (!inside(body.instructions).empty()) form_.message(R"("system")", body.instructions);
    if (is_string(body.input)) {
      form_.message(R"("user")", body.input);
    } else {
      each(body.input, [this](JsonScan& at) { item(at); });
      if (ends_open_) form_.unsure(kWhyNotContinued);
      flush();
    }
    if (!body.tools.empty()) each(body.tools, [this](JsonScan& at) { tool(at); });
    if (!scan_.failed()) form_.finish();
    return form_.too_many() ? ErrorKind::kTooLarge : ErrorKind::kInvalid;
  }

 private:
  enum Member : std::size_t {
    kType,
    kRole,
    kContent,
    kStatus,
    kCallId,
    kName,
    kArguments,
    kOutput,
    kSummary,
    kEncrypted,
    kNamespace,
    kMembers
  };
  using Item = std::array<std::string_view, kMembers>;

  template <class F>
  void each(std::string_view array, F&& one) {
    form_.each(scan_, array, one);
  }

  void item(JsonScan& at) {
    if (at.peek() != Kind::kObject) return at.fail("an item must be an object");
    const std::size_t start = at.offset_of_next();
    const Item item = members_of<kMembers>(at, {"type", "role", "content", "status", "call_id", "name", "arguments",
                                                "output", "summary", "encrypted_content", "namespace"});
    if (at.failed()) return;
    const bool message = item[kType].empty() || says(item[kType], "message");
    const bool reasoning = says(item[kType], "reasoning");
    ends_open_ = (message || reasoning) && (says(item[kStatus], "in_progress") || says(item[kStatus], "incomplete"));
    bool known = false;
    if (message) {
      known = message_item(item);
    } else if (reasoning) {
      known = reasoning_item(item);
    } else if (says(item[kType], "function_call")) {
      known = call_item(item);
    } else if (says(item[kType], "function_call_output")) {
      known = output_item(item);
    }
    if (known) return;
    form_.unsure(kWhyNotUnknownItem);
    flush();
    form_.message(R"("item")", "[" + std::string(at.text_of({start, at.offset() - start})) + "]");
  }

  // Of a list of parts only texts are sure.
  bool all_texts(std::string_view parts) {
    bool all = true;
    each(parts, [&](JsonScan& at) {
      if (at.peek() != Kind::kObject) {
        all = false;
        at.skip();
        return;
      }
      const auto [type, text] = members_of<2>(at, {"type", "text"});
      if (is_media_part(type)) request_.has_media = true;
      all = all && is_text_part(type) && is_string(text);
    });
    return all;
  }

  // The text of the first part; empty when there is none.
  std::string first_text(std::string_view parts) {
    std::string found;
    bool first = true;
    each(parts, [&](JsonScan& at) {
      if (!std::exchange(first, false) || at.peek() != Kind::kObject) {
        at.skip();
        return;
      }
      const auto [text] = members_of<1>(at, {"text"});
      if (is_string(text)) found = text;
    });
    return found;
  }

  bool message_item(const Item& item) {
    const std::string_view content = item[kContent];
    if (says(item[kRole], "assistant")) {
      std::string text = is_array(content) ? first_text(content) : std::string(content);
      if (!is_string(text)) return false;
      if (!open_ || !assistant_.content.empty()) start();
      assistant_.content = std::move(text);
      return true;
    }
    const bool known = says(item[kRole], "user") || says(item[kRole], "system") || says(item[kRole], "developer");
    if (!known || !item[kName].empty()) return false;
    if (!is_string(content) && !(is_array(content) && all_texts(content))) return false;
    flush();
    form_.message(item[kRole], content);
    return true;
  }

  bool reasoning_item(const Item& item) {
    if (!inside(item[kEncrypted]).empty() || !is_array(item[kSummary])) return false;
    std::string text = is_array(item[kContent]) ? first_text(item[kContent]) : std::string();
    if (text.empty()) text = first_text(item[kSummary]);
    if (!open_ || assistant_.has_reasoning) start();
    assistant_.reasoning = text.empty() ? R"("")" : text;
    assistant_.has_reasoning = true;
    return true;
  }

  bool call_item(const Item& item) {
    if (!is_string(item[kCallId]) || !is_string(item[kName]) || !is_string(item[kArguments])) return false;
    if (!item[kNamespace].empty()) return false;
    if (!open_) start();
    assistant_.add_call(item[kCallId], item[kName], item[kArguments]);
    return true;
  }

  bool output_item(const Item& item) {
    const std::string_view output = item[kOutput];
    if (!is_string(item[kCallId])) return false;
    if (!is_string(output) && !(is_array(output) && all_texts(output))) return false;
    flush();
    form_.tool_result(item[kCallId], output);
    return true;
  }

  // An assistant's texts, reasoning and calls that follow each other are one message, as long as none comes twice.
  void start() {
    flush();
    open_ = true;
  }
  void flush() {
    if (std::exchange(open_, false)) form_.assistant(assistant_);
    assistant_ = {};
  }

  void tool(JsonScan& at) {
    if (at.peek() != Kind::kObject) return at.fail("a tool must be an object");
    const std::size_t start = at.offset_of_next();
    const auto [type, name, description, parameters, strict, defer_loading] =
        members_of<6>(at, {"type", "name", "description", "parameters", "strict", "defer_loading"});
    if (at.failed()) return;
    if (says(type, "function") && is_string(name)) {
      return form_.function(name, description, parameters, strict, defer_loading);
    }
    form_.unsure(kWhyNotUnknownTool);
    form_.function(R"("")", {}, at.text_of({start, at.offset() - start}), {}, {});
  }

  JsonScan& scan_;
  ChatForm form_;
  Request& request_;
  ChatForm::Assistant assistant_;
  bool open_ = false;
  bool ends_open_ = false;  // the last item is not finished: the engine goes on with it
};

}  // namespace

void read_responses(JsonScan& scan, const ResponsesBody& body, const RequestLimits& limits, Request& request,
                    ErrorKind& kind) {
  kind = Conversion(scan, limits, request).run(body);
  if (scan.failed() || body.reasoning.empty()) return;
  JsonScan inner = scan.within(body.reasoning);
  request.reasoning_effort = members_of<1>(inner, {"effort"})[0];
  scan.adopt(inner);
}

}  // namespace warmpath::api
