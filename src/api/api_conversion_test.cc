// Responses and Anthropic requests become the chat that vLLM 0.32 makes of them, message by message.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <fstream>

#include "api/api.h"

namespace warmpath::api {
namespace {

using simdjson::dom::element;
using ::testing::HasSubstr;

bool absent(simdjson::simdjson_result<element> found) { return found.error() != simdjson::SUCCESS || found.is_null(); }

// JSON in one spelling; "null" where there is nothing.
std::string spelled(simdjson::simdjson_result<element> found) {
  return absent(found) ? "null" : simdjson::to_string(found.value());
}

// Arguments are a JSON text inside a string or an object: templates see the object.
std::string arguments_of(simdjson::simdjson_result<element> given) {
  std::string_view text;
  if (given.get_string().get(text) != simdjson::SUCCESS) return spelled(given);
  simdjson::dom::parser parser;
  return simdjson::to_string(parser.parse(std::string(text)).value());
}

// Parts with their members in one order: templates see them in the engine's.
std::string content_of(simdjson::simdjson_result<element> given) {
  simdjson::dom::array parts;
  if (given.get(parts) != simdjson::SUCCESS) return spelled(given);
  std::string out = "[";
  for (const element part : parts) out += spelled(part["type"]) + spelled(part["text"]) + ",";
  return out + "]";
}

// What a template gets of messages, a line each.
std::string told_messages(element messages) {
  std::string out;
  for (const element message : messages.get_array()) {
    out += content_of(message["content"]) + " ";
    for (const char* member : {"role", "reasoning", "tool_call_id"}) {
      out += std::string(member) + "=" + spelled(message[member]) + " ";
    }
    if (!absent(message["tool_calls"])) {
      for (const element call : message["tool_calls"].get_array()) {
        out += "call " + spelled(call["id"]) + spelled(call["type"]) + spelled(call["function"]["name"]) +
               arguments_of(call["function"]["arguments"]) + " ";
      }
    }
    out += "\n";
  }
  return out;
}

std::string told_tools(simdjson::simdjson_result<element> tools) {
  std::string out;
  if (absent(tools)) return out;
  for (const element tool : tools.get_array()) {
    for (const char* member : {"name", "description", "parameters", "strict", "defer_loading"}) {
      out += std::string(member) + "=" + spelled(tool["function"][member]) + " ";
    }
    out += "\n";
  }
  return out;
}

TEST(Conversion, IsTheEngines) {
  std::ifstream file(WARMPATH_SOURCE_DIR "/tests/golden/api/vllm_0_32_conversions.jsonl");
  simdjson::dom::parser rows;
  simdjson::dom::parser made;
  std::size_t compared = 0;
  for (std::string line; std::getline(file, line); ++compared) {
    const element row = rows.parse(line);
    const std::string name =
        std::string(row["endpoint"].get_string().value()) + " " + std::string(row["name"].get_string().value());
    SCOPED_TRACE(name);
    const std::string body(row["body"].get_string().value());
    const auto request = parse_request(*endpoint_of_path(row["endpoint"].get_string().value()), body);
    ASSERT_TRUE(request.ok()) << request.error().message;
    EXPECT_EQ(request->why_not_exact, "");
    EXPECT_FALSE(request->has_media);
    EXPECT_EQ(told_messages(made.parse(request->messages)), told_messages(row["messages"]));
    std::string tools = "[]";
    if (!request->tools.empty()) tools = request->tools;
    EXPECT_EQ(told_tools(made.parse(tools)), told_tools(row["tools"]));
    EXPECT_EQ(request->reasoning_effort.empty() ? "null" : std::string(request->reasoning_effort),
              spelled(row["effort"]));
    EXPECT_EQ(request->add_generation_prompt, row["add_generation_prompt"].get_bool().value());
  }
  EXPECT_GE(compared, 60u);
}

Result<Request> responses(std::string_view input, std::string_view more = {}) {
  return parse_request(Endpoint::kResponses, R"({"input":)" + std::string(input) + std::string(more) + "}");
}
Result<Request> messages(std::string_view list, std::string_view more = {}) {
  return parse_request(Endpoint::kMessages,
                       R"({"max_tokens":5,"messages":)" + std::string(list) + std::string(more) + "}");
}
constexpr std::string_view kUser = R"([{"role":"user","content":"u"}])";

TEST(Conversion, FieldsOfResponses) {
  const std::string body = R"({"model":"m","input":"hi","max_output_tokens":9,"stream":true,"user":"u","cache_salt":"s",
      "chat_template_kwargs":{"a":1},"ignore_eos":true,"temperature":0.5,"store":true,"metadata":{"k":"v"},
      "truncation":"disabled","background":false,"previous_response_id":null})";
  const auto request = parse_request(Endpoint::kResponses, body);
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request->model, "m");
  EXPECT_EQ(request->max_tokens, 9u);
  EXPECT_TRUE(request->stream && request->ignore_eos);
  EXPECT_EQ(request->user, "u");
  EXPECT_EQ(request->cache_salt, "s");
  EXPECT_EQ(request->chat_template_kwargs, R"({"a":1})");
  EXPECT_EQ(request->messages, R"([{"role":"user","content":"hi"}])");
  EXPECT_EQ(with_model(body, *request, "x").find(R"("model":"x")"), body.find(R"("model":"m")"));
  const Request moved = *request;  // what it holds of the conversion moves along
  EXPECT_EQ(moved.messages, R"([{"role":"user","content":"hi"}])");
}

TEST(Conversion, FieldsOfMessages) {
  const auto request = messages(kUser, R"(,"model":"m","stream":true,"system":"s","metadata":{"user_id":"me"},
      "cache_salt":"t","stop_sequences":["x"],"thinking":{"type":"enabled","budget_tokens":2000})");
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request->max_tokens, 5u);
  EXPECT_EQ(request->user, "me");
  EXPECT_EQ(request->cache_salt, "t");
  EXPECT_TRUE(request->stream);
  EXPECT_EQ(request->why_not_exact, "");
  EXPECT_EQ(
      parse_request(Endpoint::kCountTokens, R"({"messages":[{"role":"user","content":"u"}],"stream":3})")->messages,
      R"([{"role":"user","content":"u"}])");
}

// What the gateway cannot keep is refused with what to do instead.
TEST(Conversion, AnswersThatSomebodyWouldHaveToKeepAreRefused) {
  for (const auto& [more, param, remedy] : std::initializer_list<std::tuple<const char*, const char*, const char*>>{
           {R"(,"previous_response_id":"resp_1")", "previous_response_id", "whole conversation in `input`"},
           {R"(,"conversation":"conv_1")", "conversation", "whole conversation in `input`"},
           {R"(,"conversation":{"id":"conv_1"})", "conversation", "whole conversation in `input`"},
           {R"(,"background":true)", "background", "`stream`"}}) {
    std::string named;
    const auto request = parse_request(Endpoint::kResponses, R"({"input":"x")" + std::string(more) + "}", {}, &named);
    ASSERT_FALSE(request.ok()) << more;
    EXPECT_EQ(status_of(request.error().kind).status, 400);
    EXPECT_EQ(named, param);
    EXPECT_THAT(request.error().message, HasSubstr(remedy));
  }
}

TEST(Conversion, WhatIsNotCertainIsSaid) {
  const auto why = [](const Result<Request>& request) {
    return request.ok() ? std::string(request->why_not_exact) : "refused: " + request.error().message;
  };
  const std::string user = R"({"role":"user","content":"u"},)";
  for (const char* item :
       {R"({"type":"item_reference","id":"x"})", R"({"type":"custom_tool_call","call_id":"c","name":"n","input":"i"})",
        R"({"type":"function_call","call_id":"c","name":"n"})",
        R"({"type":"function_call","call_id":"c","name":"n","arguments":"{}","namespace":"s"})",
        R"({"type":"reasoning","summary":[],"encrypted_content":"AA"})", R"({"type":"reasoning"})",
        R"({"role":"assistant","content":[]})", R"({"role":"tool","content":"x"})", R"({"content":"x"})",
        R"({"role":"user","content":[{"type":"input_image","image_url":"data:"}]})",
        R"({"type":"function_call_output","call_id":"c","output":[{"type":"input_file","file_id":"f"}]})"}) {
    EXPECT_EQ(why(responses("[" + user + item + "]")), kWhyNotUnknownItem) << item;
  }
  EXPECT_EQ(
      why(responses("[" + user + R"({"type":"message","role":"assistant","status":"incomplete","content":"p"}])")),
      kWhyNotContinued);
  EXPECT_EQ(why(responses(R"("x")", R"(,"truncation":"auto")")), kWhyNotTruncated);
  EXPECT_EQ(why(responses(R"("x")", R"(,"prompt":{"id":"p"})")), kWhyNotUnknownItem);
  EXPECT_EQ(why(responses(R"("x")", R"(,"tools":[{"type":"web_search"}])")), kWhyNotUnknownTool);
  EXPECT_EQ(why(messages(kUser, R"(,"tools":[{"type":"web_search_20250305","name":"web_search"}])")),
            kWhyNotUnknownTool);
  EXPECT_EQ(why(messages(kUser, R"(,"thinking":{"type":"disabled"})")), kWhyNotThinkingOff);
  EXPECT_EQ(why(messages("[" + user + R"({"role":"system","content":"s"}])")), kWhyNotInlineSystem);
  for (const char* block : {R"({"type":"document","source":{}})", R"({"type":"tool_use","name":"f","input":{}})",
                            R"({"type":"image","source":{"type":"url","url":"x"}})", R"({"type":"tool_addition"})"}) {
    EXPECT_EQ(why(messages(R"([{"role":"assistant","content":[)" + std::string(block) + "]}]")), kWhyNotUnknownItem)
        << block;
  }
  EXPECT_TRUE(messages(R"([{"role":"user","content":[{"type":"image","source":{}}]}])")->has_media);
  EXPECT_TRUE(responses(R"([{"role":"user","content":[{"type":"input_image"}]}])")->has_media);
}

TEST(Conversion, WhatIsUnknownKeepsBeginningsApart) {
  const auto text = [](const char* url) {
    return std::string(messages(R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","source":")" +
                                std::string(url) + R"("}]}])")
                           ->messages);
  };
  EXPECT_EQ(text("x"), text("x"));
  EXPECT_NE(text("x"), text("y"));
  EXPECT_NE(responses(R"([{"type":"item_reference","id":"x"}])")->messages,
            responses(R"([{"type":"item_reference","id":"y"}])")->messages);
}

TEST(Conversion, FaultsNameTheFieldAndThePlace) {
  const auto fault = [](const Result<Request>& request) { return request.ok() ? "none" : request.error().message; };
  EXPECT_THAT(fault(responses("7")), HasSubstr("`input`: expected a string or an array of items at byte"));
  EXPECT_THAT(fault(responses(R"(["x"])")), HasSubstr("`input`: an item must be an object at byte 10"));
  EXPECT_THAT(fault(responses("[]")), HasSubstr("at least one"));
  EXPECT_THAT(fault(parse_request(Endpoint::kResponses, R"({"instructions":"x"})")), HasSubstr("`input`: required"));
  EXPECT_THAT(fault(messages("[]")), HasSubstr("at least one"));
  EXPECT_THAT(fault(messages("{}")), HasSubstr("expected an array"));
  EXPECT_THAT(fault(messages(R"([{"content":"x"}])")), HasSubstr("`messages`: a message has no role at byte"));
  EXPECT_THAT(fault(messages(R"([{"role":"user"}])")), HasSubstr("content must be"));
  EXPECT_THAT(fault(messages(R"([{"role":"user","content":["x"]}])")), HasSubstr("a content block must be an object"));
  EXPECT_THAT(fault(messages(kUser, R"(,"tools":[{"input_schema":{}}])")), HasSubstr("a tool has no name"));
}

TEST(Conversion, ItemsAreBounded) {
  RequestLimits limits;
  limits.items_max = 4;
  const auto kind = [&](Endpoint endpoint, std::string_view body) {
    const auto request = parse_request(endpoint, body, limits);
    return request.ok() ? std::string("ok") : request.error().message;
  };
  EXPECT_EQ(kind(Endpoint::kResponses, R"({"input":[{},{},{},{}]})"), "ok");
  EXPECT_THAT(kind(Endpoint::kResponses, R"({"input":[{},{},{},{},{}]})"), HasSubstr("`input`: holds too many items"));
  EXPECT_THAT(kind(Endpoint::kResponses, R"({"input":[{"role":"user","content":[{},{},{},{}]}]})"),
              HasSubstr("too many"));
  EXPECT_THAT(
      kind(Endpoint::kMessages, R"({"messages":[{"role":"user","content":[{},{},{}]},{"role":"user","content":"x"}]})"),
      HasSubstr("too many"));
  const auto request =
      parse_request(Endpoint::kMessages, R"({"messages":[{"role":"user","content":[{},{},{},{}]}]})", limits);
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(status_of(request.error().kind).status, 413);
}

// Engines take the last of two members, others the first.
TEST(Conversion, MembersGivenTwiceAreRefused) {
  for (const char* input :
       {R"([{"role":"user","role":"system","content":"x"}])", R"([{"role":"user","content":"x","content":"y"}])",
        R"([{"role":"user","content":[{"type":"input_text","text":"x","text":"y"}]}])",
        R"([{"type":"function_call","call_id":"c","call_id":"d","name":"n","arguments":"{}"}])"}) {
    EXPECT_FALSE(responses(input).ok()) << input;
  }
  for (const char* list :
       {R"([{"role":"user","role":"system","content":"x"}])", R"([{"role":"user","content":"x","content":"y"}])",
        R"([{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}])",
        R"([{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","tool_use_id":"b"}]}])"}) {
    EXPECT_FALSE(messages(list).ok()) << list;
  }
  EXPECT_FALSE(messages(kUser, R"(,"system":"a","system":"b")").ok());
  EXPECT_FALSE(messages(kUser, R"(,"tools":[{"name":"f","name":"g","input_schema":{}}])").ok());
  EXPECT_FALSE(responses(R"("x")", R"(,"input":"y")").ok());
  EXPECT_FALSE(responses(R"("x")", R"(,"instructions":"a","instructions":"b")").ok());
}

TEST(Usage, OfResponsesAndMessages) {
  const auto whole = find_usage(
      R"({"id":"resp_1","usage":{"input_tokens":17,"input_tokens_details":{"cached_tokens":16},"output_tokens":6}})");
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->prompt_tokens, 17u);
  EXPECT_EQ(whole->completion_tokens, 6u);
  EXPECT_EQ(whole->cached_tokens, 16u);
  const auto event = find_usage(
      R"({"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":1}},"sequence_number":9})");
  ASSERT_TRUE(event);
  EXPECT_EQ(event->prompt_tokens, 3u);
  EXPECT_FALSE(event->cached_tokens);
  EXPECT_FALSE(find_usage(R"({"type":"response.created","response":{"usage":null}})"));
  const auto message = find_usage(
      R"({"type":"message","usage":{"input_tokens":5,"output_tokens":6,"cache_creation_input_tokens":2,"cache_read_input_tokens":32}})");
  ASSERT_TRUE(message);
  EXPECT_EQ(message->prompt_tokens, 39u);
  EXPECT_EQ(message->cached_tokens, 32u);
  const auto start =
      find_usage(R"({"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":0}}})");
  ASSERT_TRUE(start);
  EXPECT_EQ(start->prompt_tokens, 10u);
}

TEST(Errors, EachApiHasItsForm) {
  const Error error{ErrorKind::kNotFound, "no such model"};
  EXPECT_EQ(error_body(error, "model", ErrorForm::kAnthropic),
            R"({"type":"error","error":{"type":"not_found_error","message":"no such model"}})");
  EXPECT_EQ(error_body(error, "model", ErrorForm::kResponses), error_body(error, "model"));
  EXPECT_EQ(error_event(error, ErrorForm::kAnthropic),
            "event: error\ndata: " + error_body(error, {}, ErrorForm::kAnthropic) + "\n\n");
  EXPECT_EQ(
      error_event(error, ErrorForm::kResponses, 7),
      "event: error\ndata: {\"type\":\"error\",\"code\":\"not_found\",\"message\":\"no such model\",\"param\":null,"
      "\"sequence_number\":7}\n\n");
  const auto type = [](ErrorKind kind) {
    simdjson::dom::parser parser;
    return std::string(
        parser.parse(error_body({kind, "x"}, {}, ErrorForm::kAnthropic))["error"]["type"].get_string().value());
  };
  EXPECT_EQ(type(ErrorKind::kTooLarge), "request_too_large");
  EXPECT_EQ(type(ErrorKind::kUnavailable), "overloaded_error");
  EXPECT_EQ(type(ErrorKind::kUpstream), "api_error");
  EXPECT_EQ(type(ErrorKind::kInvalid), "invalid_request_error");
}

}  // namespace
}  // namespace warmpath::api
