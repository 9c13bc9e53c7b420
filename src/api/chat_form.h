// Requests of other APIs as the chat that vLLM 0.32 makes of them before it renders: what decides their ids. Private to
// api.
//
// Texts are copied as they stand in the body, escapes and all. What is not converted for certain sets why_not_exact and
// is kept in some form, so that equal beginnings stay equal; what no engine could take fails the scan.
// Thread rule: pure functions. Cost: two passes over the body's text and one copy of it.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "api/api.h"
#include "api/json_scan.h"

namespace warmpath::api {

// The members of one object that are asked for, as they stand in the text; empty: absent or null. Of one that is given
// twice nobody knows which an engine takes: a fault.
template <std::size_t N>
std::array<std::string_view, N> members_of(JsonScan& scan, const std::array<std::string_view, N>& names) {
  std::array<std::string_view, N> found{};
  std::array<bool, N> seen{};
  scan.object([&](std::string_view key) {
    for (std::size_t i = 0; i < N; ++i) {
      if (key != names[i]) continue;
      if (seen[i]) return scan.fail("a member is given twice");
      seen[i] = true;
      const bool null = scan.peek() == JsonScan::Kind::kNull;
      const std::string_view text = scan.text_of(scan.skip());
      if (!null) found[i] = text;
      return;
    }
    scan.skip();
  });
  return found;
}

// JSON texts by their first byte.
bool is_string(std::string_view json);
bool is_array(std::string_view json);
bool is_object(std::string_view json);
// What stands between a string's quotes.
std::string_view inside(std::string_view json);
bool says(std::string_view json, std::string_view text);  // is the string `text`

// Messages and tools as they are made.
class ChatForm {
 public:
  ChatForm(Request& request, const RequestLimits& limits) : request_(request), limits_(limits) {}

  // A message of a role and one content, both JSON.
  void message(std::string_view role, std::string_view content);
  void tool_result(std::string_view id, std::string_view content);

  // An assistant's message comes in pieces.
  struct Assistant {
    std::string content;    // JSON; empty: none
    std::string reasoning;  // JSON
    std::string calls;      // entries, separated
    bool has_reasoning = false;
    void add_call(std::string_view id, std::string_view name, std::string_view arguments);
  };
  void assistant(const Assistant& said);
  // A function with members as chats have them, each JSON or empty.
  void function(std::string_view name, std::string_view description, std::string_view parameters,
                std::string_view strict, std::string_view defer_loading);

  void unsure(std::string_view why);  // the first reason counts

  // Calls item(scan) before each item of an array somewhere in the text of `scan`; all items together are bounded.
  template <class F>
  void each(JsonScan& scan, std::string_view array, F&& item) {
    JsonScan inner = scan.within(array);
    inner.array([&] {
      if (++items_ > limits_.items_max) {
        too_many_ = true;
        return inner.fail("holds too many items");
      }
      item(inner);
    });
    scan.adopt(inner);
  }
  bool too_many() const { return too_many_; }

  void finish();  // hands all of it to the request

 private:
  std::string& next_message();
  Request& request_;
  const RequestLimits& limits_;
  std::size_t items_ = 0;
  bool too_many_ = false;
  std::string messages_;
  std::string tools_;
};

// Members of an Anthropic request's body; empty: absent.
struct AnthropicBody {
  std::string_view system, messages, tools, thinking, output_config, metadata;
};
// `kind` of the fault that the scan then has.
void read_anthropic(JsonScan& scan, const AnthropicBody& body, const RequestLimits& limits, Request& request,
                    ErrorKind& kind);

// Members of a Responses request's body; empty: absent.
struct ResponsesBody {
  std::string_view instructions, input, tools, reasoning;
};
void read_responses(JsonScan& scan, const ResponsesBody& body, const RequestLimits& limits, Request& request,
                    ErrorKind& kind);

}  // namespace warmpath::api
