#include "api/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/json_scan.h"

namespace warmpath::api {
namespace {

using ::testing::HasSubstr;

Result<Request> chat(std::string_view body, std::string* param = nullptr) {
  return parse_request(Endpoint::kChatCompletions, body, {}, param);
}
Result<Request> completion(std::string_view body) { return parse_request(Endpoint::kCompletions, body); }

constexpr std::string_view kMessages = R"("messages":[{"role":"user","content":"hi"}])";
std::string with(std::string_view extra) { return "{" + std::string(kMessages) + "," + std::string(extra) + "}"; }

TEST(Request, ReadsEveryFieldOfAChat) {
  const std::string body = R"({"model": "qwen\u0033", "stream":true, "stream_options": {"include_usage": true},
    "max_tokens":7,"max_completion_tokens":9,"n":2,"ignore_eos":true,"cache_salt":"s","user":"u",
    "messages": [ {"role":"user","content":"a\n\ud83d\ude00"} ],"tools":[{"type":"function"}],"documents":[],
    "chat_template_kwargs":{"enable_thinking":false},"reasoning_effort":"low","tool_choice":"auto",
    "add_generation_prompt":false,"continue_final_message":true,"add_special_tokens":true,"truncate_prompt_tokens":-1,
    "temperature":1e999,"logit_bias":{"1":99999999999999999999999}})";
  const auto request = chat(body);
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request->model, "qwen3");
  EXPECT_EQ(body.substr(request->model_slice.offset, request->model_slice.length), R"("qwen\u0033")");
  EXPECT_TRUE(request->stream);
  EXPECT_TRUE(request->include_usage);
  EXPECT_EQ(request->max_tokens, 9u);
  EXPECT_EQ(request->n, 2u);
  EXPECT_TRUE(request->ignore_eos);
  EXPECT_EQ(request->cache_salt, "s");
  EXPECT_EQ(request->user, "u");
  EXPECT_EQ(request->messages, R"([ {"role":"user","content":"a\n\ud83d\ude00"} ])");
  EXPECT_EQ(request->tools, R"([{"type":"function"}])");
  EXPECT_EQ(request->documents, "[]");
  EXPECT_EQ(request->chat_template_kwargs, R"({"enable_thinking":false})");
  EXPECT_EQ(request->reasoning_effort, R"("low")");
  EXPECT_EQ(request->tool_choice, R"("auto")");
  EXPECT_FALSE(request->add_generation_prompt);
  EXPECT_TRUE(request->continue_final_message);
  EXPECT_EQ(request->add_special_tokens, true);
  EXPECT_EQ(request->truncate_prompt_tokens, -1);
  EXPECT_FALSE(request->has_media);
  EXPECT_FALSE(request->has_own_template);
  EXPECT_GE(request->messages.data(), body.data());
}

TEST(Request, NullMeansAbsent) {
  const auto request = chat(with(
      R"("model":null,"stream":null,"stream_options":null,"max_tokens":null,"cache_salt":null,"tools":null,"n":null)"));
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request->model, "");
  EXPECT_EQ(request->cache_salt, "");
  EXPECT_EQ(request->tools, "");
  EXPECT_FALSE(request->max_tokens || request->n);
}

TEST(Request, ReadsPromptsInAllForms) {
  auto request = completion(R"({"prompt":"a\tb"})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(std::get<std::string>(request->prompts.at(0)), "a\tb");
  EXPECT_FALSE(request->prompt_is_list);
  request = completion(R"({"prompt":[1, 2,4294967295]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(std::get<std::vector<TokenId>>(request->prompts.at(0)), (std::vector<TokenId>{1, 2, 4294967295}));
  EXPECT_FALSE(request->prompt_is_list);
  request = completion(R"({"prompt":["x","y"]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->prompts.size(), 2u);
  EXPECT_TRUE(request->prompt_is_list);
  request = completion(R"({"prompt":[[1],[2,3]]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(std::get<std::vector<TokenId>>(request->prompts.at(1)), (std::vector<TokenId>{2, 3}));
  request = completion(R"({"prompt":null,"prompt_embeds":"AAAA"})");
  ASSERT_TRUE(request.ok());
  EXPECT_TRUE(request->has_media);
  EXPECT_TRUE(request->prompts.empty());
}

TEST(Request, RefusesPromptsThatAreNone) {
  for (const char* body : {R"({})", R"({"prompt":""})", R"({"prompt":[]})", R"({"prompt":[""]})", R"({"prompt":[[]]})",
                           R"({"prompt":[1,"a"]})", R"({"prompt":[-1]})", R"({"prompt":[4294967296]})",
                           R"({"prompt":[1.5]})", R"({"prompt":{}})", R"({"prompt":[true]})", R"({"prompt":7})"}) {
    const auto request = completion(body);
    ASSERT_FALSE(request.ok()) << body;
    EXPECT_EQ(request.error().kind, ErrorKind::kInvalid) << body;
    EXPECT_THAT(request.error().message, HasSubstr("prompt")) << body;
  }
  RequestLimits limits;
  limits.prompts_max = 2;
  const auto request = parse_request(Endpoint::kCompletions, R"({"prompt":["a","b","c"]})", limits);
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(request.error().kind, ErrorKind::kTooLarge);
}

TEST(Request, ReadsEmbeddings) {
  const auto embed = [](std::string_view body) { return parse_request(Endpoint::kEmbeddings, body); };
  auto request = embed(R"({"model":"m","input":["x","y"],"user":"u","truncate_prompt_tokens":5,"stream":7})");
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request->prompts.size(), 2u);
  EXPECT_EQ(request->user, "u");
  EXPECT_EQ(request->truncate_prompt_tokens, 5);
  EXPECT_EQ(request->why_not_exact, "");
  EXPECT_EQ(std::get<std::string>(embed(R"({"input":""})")->prompts.at(0)), "") << "the engine judges it";
  EXPECT_EQ(std::get<std::vector<TokenId>>(embed(R"({"input":[3,4]})")->prompts.at(0)), (std::vector<TokenId>{3, 4}));
  EXPECT_EQ(embed(R"({"input":[[3],[4]]})")->prompts.size(), 2u);
  EXPECT_EQ(embed(R"({"input":"x","padding":"max_length"})")->why_not_exact, kWhyNotPadding);
  for (const char* body :
       {R"({"messages":[{"role":"user","content":"a"}]})", R"({"messages":[[{"role":"user","content":"a"}]]})",
        R"({"input":[{"role":"user","content":"a"}]})", R"({"input":[[{"role":"user","content":"a"}]]})"}) {
    request = embed(body);
    ASSERT_TRUE(request.ok()) << body << request.error().message;
    EXPECT_EQ(request->why_not_exact, kWhyNotEmbeddedChat) << body;
    EXPECT_TRUE(request->prompts.empty()) << body;
  }
  // In whatever order the members come.
  for (const char* input : {R"("input":[[1,2,3]])", R"("input":[1,2,3])", R"("input":"x")"}) {
    request = embed(R"({"padding":"max_length",)" + std::string(input) + "}");
    ASSERT_TRUE(request.ok()) << input << request.error().message;
    EXPECT_EQ(request->prompts.size(), 1u) << input;
    EXPECT_EQ(request->why_not_exact, kWhyNotPadding) << input;
  }
  for (const char* body : {R"({"messages":[{"role":"user","content":"a"}],"padding":"max_length"})",
                           R"({"padding":"max_length","input":[{"role":"user","content":"a"}]})"}) {
    request = embed(body);
    ASSERT_TRUE(request.ok()) << body << request.error().message;
    EXPECT_EQ(request->why_not_exact, kWhyNotEmbeddedChat) << body;
  }
  for (const char* body : {R"({})", R"({"input":[]})", R"({"input":7})", R"({"input":["a",1]})", R"({"input":[-1]})",
                           R"({"input":"a","input":"b"})", R"({"input":null})"}) {
    request = embed(body);
    ASSERT_FALSE(request.ok()) << body;
    EXPECT_THAT(request.error().message, HasSubstr("input")) << body;
  }
}

TEST(Request, ReadsTokensIn) {
  const auto generate = [](std::string_view body) { return parse_request(Endpoint::kGenerate, body); };
  auto request = generate(R"({"model":"m","token_ids":[5,6],"stream":true,"stream_options":{"include_usage":true},
      "cache_salt":"s","sampling_params":{"max_tokens":4,"n":2,"ignore_eos":true,"temperature":0}})");
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(std::get<std::vector<TokenId>>(request->prompts.at(0)), (std::vector<TokenId>{5, 6}));
  EXPECT_EQ(request->max_tokens, 4u);
  EXPECT_EQ(request->n, 2u);
  EXPECT_TRUE(request->ignore_eos && request->stream && request->include_usage);
  EXPECT_EQ(request->cache_salt, "s");
  EXPECT_FALSE(request->has_media);
  EXPECT_TRUE(generate(R"({"token_ids":[1],"sampling_params":{},"features":{"mm_hashes":{}}})")->has_media);
  EXPECT_FALSE(generate(R"({"token_ids":[1],"sampling_params":{},"features":null})")->has_media);
  for (const char* body :
       {R"({"sampling_params":{}})", R"({"token_ids":[],"sampling_params":{}})", R"({"token_ids":[1]})",
        R"({"token_ids":[[1]],"sampling_params":{}})", R"({"token_ids":"1","sampling_params":{}})",
        R"({"token_ids":[1],"sampling_params":[]})", R"({"token_ids":[1],"sampling_params":{"n":0}})",
        R"({"token_ids":[1],"sampling_params":{"max_tokens":1,"max_tokens":2}})",
        R"({"token_ids":[1],"token_ids":[2],"sampling_params":{}})"}) {
    EXPECT_FALSE(generate(body).ok()) << body;
  }
}

TEST(Endpoints, EachHasAPathOfItsOwn) {
  for (const Endpoint endpoint : endpoints()) EXPECT_EQ(endpoint_of_path(path_of_endpoint(endpoint)), endpoint);
  EXPECT_FALSE(endpoint_of_path("/v1/embeddings/"));
}

TEST(Request, SeesMediaInAnyMessage) {
  const auto media = [](std::string_view content) {
    const auto request = chat(R"({"messages":[{"role":"user","content":)" + std::string(content) + "}]}");
    EXPECT_TRUE(request.ok()) << content;
    return request.ok() && request->has_media;
  };
  EXPECT_FALSE(media(R"("text")"));
  EXPECT_FALSE(media("null"));
  EXPECT_FALSE(media(R"([{"type":"text","text":"a"},{"text":"b","type":"input_text"},"bare"])"));
  EXPECT_TRUE(media(R"([{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}])"));
  EXPECT_TRUE(media(R"([{"type":"input_audio"}])"));
  EXPECT_TRUE(media(R"([{"image_url":{"url":"x"}}])"));
}

struct BadCase {
  const char* body;
  const char* param;
  const char* message;
};

TEST(Request, SaysWhatIsWrongWhere) {
  const BadCase cases[] = {
      {"", "", "at byte 0"},
      {"[]", "", "expected a JSON object at byte 0"},
      {"{", "", "at byte 1"},
      {"{\n\"a\":tru}", "", "at byte 6 (line 2, column 5)"},
      {R"({"a":1}x)", "", "something follows the JSON value at byte 7"},
      {R"({"a":01})", "", "malformed number"},
      {R"({"a":1.})", "", "malformed number"},
      {R"({"a":-})", "", "malformed number"},
      {R"({"a":1e})", "", "malformed number"},
      {R"({"a":NaN})", "", "expected a value"},
      {R"({"a":"\x"})", "", "unknown escape"},
      {R"({"a":"\u12g4"})", "", "hexadecimal"},
      {"{\"a\":\"\n\"}", "", "control character"},
      {R"({"a":1,})", "", "member name"},
      {R"({"a":[1,]})", "", "expected a value"},
      {R"({"a" 1})", "", "expected ':'"},
      {R"({"a":[1}})", "", "expected ',' or ']'"},
      {R"({"model":7})", "model", "expected a string at byte 9"},
      {R"({"stream":"yes"})", "stream", "expected true or false"},
      {R"({"n":0})", "n", "at least 1"},
      {R"({"max_tokens":-1})", "max_tokens", "must not be negative"},
      {R"({"max_tokens":1.5})", "max_tokens", "expected an integer"},
      {R"({"cache_salt":""})", "cache_salt", "non-empty"},
      {R"({"messages":"x"})", "messages", "expected an array"},
      {R"({"messages":[]})", "messages", "at least one message"},
      {R"({"messages":["x"]})", "messages", "expected an object"},
      {R"({"messages":[{"content":"x"}]})", "messages", "no role"},
      {R"({"messages":[{"role":1}]})", "messages", "role must be a string"},
      {R"({"messages":[{"role":"a","role":"b"}]})", "messages", "two roles"},
      {R"({"messages":[{"role":"a","content":5}]})", "messages", "content must be"},
      {R"({"model":"a","mo\u0064el":"b"})", "model", "given twice"},
      {R"({"stream":true,"stream":false})", "stream", "given twice"},
      {R"({"cache_salt":"a","cache_salt":"b"})", "cache_salt", "given twice"},
      {R"({"stream_options":{"include_usage":true,"include_usage":false}})", "stream_options", "given twice"},
      {R"({"tools":{}})", "tools", "expected an array"},
      {R"({"chat_template_kwargs":[]})", "chat_template_kwargs", "expected an object"},
      {R"({"tool_choice":1})", "tool_choice", "string or an object"},
      {R"({"truncate_prompt_tokens":-2})", "truncate_prompt_tokens", "-1 or more"},
      {R"({"model":"x"})", "messages", "required"},
      {R"({"messages":[{"role":"user","content":"a\ud800b"}]})", "messages", "lone surrogate"},
      {R"({"messages":[{"role":"user","content":"a\udc00"}]})", "messages", "lone surrogate"},
      {R"({"messages":[{"role":"user","content":"a\ud800\ud800"}]})", "messages", "lone surrogate"},
      {"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", "", "not UTF-8 text: bad byte at byte 39"},
      {"{\"a\":\"\xed\xa0\x80\"}", "", "not UTF-8"},
  };
  for (const BadCase& one : cases) {
    std::string param;
    const auto request = chat(one.body, &param);
    ASSERT_FALSE(request.ok()) << one.body;
    EXPECT_EQ(request.error().kind, ErrorKind::kInvalid) << one.body;
    EXPECT_EQ(param, one.param) << one.body << ": " << request.error().message;
    EXPECT_THAT(request.error().message, HasSubstr(one.message)) << one.body;
  }
}

TEST(Request, DepthIsBounded) {
  const auto nested = [](int depth) {
    return with("\"x\":" + std::string(static_cast<std::size_t>(depth), '[') +
                std::string(static_cast<std::size_t>(depth), ']'));
  };
  EXPECT_TRUE(chat(nested(63)).ok());
  const auto request = chat(nested(64));
  ASSERT_FALSE(request.ok());
  EXPECT_THAT(request.error().message, HasSubstr("nested too deeply"));
  EXPECT_FALSE(chat(nested(1'000'000)).ok());
}

TEST(Request, ManyKeysCostNoMemory) {
  std::string body = "{";
  for (int i = 0; i < 200'000; ++i) body += "\"k" + std::to_string(i) + "\":0,";
  body += std::string(kMessages) + "}";
  EXPECT_TRUE(chat(body).ok());
}

TEST(Request, LargeCountsSaturate) {
  const auto request = chat(with(R"("max_tokens":99999999999,"n":2.0)"));
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->max_tokens, 4294967295u);
  EXPECT_EQ(request->n, 2u);
}

TEST(Request, NamesAreBounded) {
  EXPECT_TRUE(chat(with("\"cache_salt\":\"" + std::string(1024, 's') + "\"")).ok());
  EXPECT_FALSE(chat(with("\"cache_salt\":\"" + std::string(1025, 's') + "\"")).ok());
}

TEST(Request, GenerationPromptAndContinuationExclude) {
  EXPECT_TRUE(chat(with(R"("continue_final_message":true)")).ok());
  EXPECT_FALSE(chat(with(R"("continue_final_message":true,"add_generation_prompt":true)")).ok());
}

TEST(Splice, ModelIsReplacedAndNothingElse) {
  const std::string body = R"( {"a":1, "model" : "fast" ,"messages":[{"role":"user","content":"model"}]} )";
  const auto request = chat(body);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(with_model(body, *request, "org/Big\"3"),
            R"( {"a":1, "model" : "org/Big\"3" ,"messages":[{"role":"user","content":"model"}]} )");
  const std::string absent = with(R"("a":1)");
  EXPECT_EQ(with_model(absent, *chat(absent), "m"), "{\"model\":\"m\"," + absent.substr(1));
  const std::string null = with(R"("model":null)");
  EXPECT_EQ(with_model(null, *chat(null), "m"), with(R"("model":"m")"));
}

TEST(Splice, IncludeUsageInEveryShape) {
  const auto added = [](std::string_view extra) {
    const std::string body = with(extra);
    const auto request = chat(body);
    EXPECT_TRUE(request.ok()) << body;
    std::string out = with_include_usage(body, *request);
    const auto again = chat(out);
    EXPECT_TRUE(again.ok()) << out;
    EXPECT_TRUE(again->include_usage) << out;
    return out;
  };
  EXPECT_EQ(added(R"("stream":true)"),
            R"({"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}],"stream":true})");
  EXPECT_EQ(added(R"("stream_options":{})"), with(R"("stream_options":{"include_usage":true})"));
  EXPECT_EQ(added(R"("stream_options":null)"), with(R"("stream_options":{"include_usage":true})"));
  EXPECT_EQ(added(R"("stream_options":{ "x":1})"), with(R"("stream_options":{"include_usage":true, "x":1})"));
  EXPECT_EQ(added(R"("stream_options":{"include_usage":false})"), with(R"("stream_options":{"include_usage":true})"));
  EXPECT_EQ(added(R"("stream_options":{"include_usage":null})"), with(R"("stream_options":{"include_usage":true})"));
  const std::string already = with(R"("stream_options":{"include_usage":true})");
  EXPECT_EQ(with_include_usage(already, *chat(already)), already);
}

TEST(Splice, BothAtOnceInEitherOrder) {
  for (const std::string& body : {with(R"("model":"a","stream_options":{"include_usage":false})"),
                                  with(R"("stream_options":{"include_usage":false},"model":"a")"), with(R"("x":0)")}) {
    const auto request = chat(body);
    ASSERT_TRUE(request.ok());
    const std::string out = spliced(body, *request, "bb", UsageSplice::kAdd);
    const auto again = chat(out);
    ASSERT_TRUE(again.ok()) << out;
    EXPECT_EQ(again->model, "bb");
    EXPECT_TRUE(again->include_usage);
  }
}

TEST(Errors, EveryKindHasAStatus) {
  EXPECT_EQ(status_of(ErrorKind::kInvalid).status, 400);
  EXPECT_EQ(status_of(ErrorKind::kNotFound).status, 404);
  EXPECT_EQ(status_of(ErrorKind::kMethod).status, 405);
  EXPECT_EQ(status_of(ErrorKind::kTooLarge).status, 413);
  EXPECT_EQ(status_of(ErrorKind::kUpstream).status, 502);
  EXPECT_EQ(status_of(ErrorKind::kUnavailable).status, 503);
  EXPECT_TRUE(status_of(ErrorKind::kUnavailable).retryable);
  EXPECT_EQ(status_of(ErrorKind::kTimeoutEngine).status, 504);
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kTimeoutEngine); ++kind) {
    const StatusRow row = status_of(static_cast<ErrorKind>(kind));
    EXPECT_EQ(row.code, error_kind_name(static_cast<ErrorKind>(kind)));
  }
}

TEST(Errors, BodyIsOpenAis) {
  EXPECT_EQ(error_body({ErrorKind::kNotFound, "no `x`"}, "model"),
            R"({"error":{"message":"no `x`","type":"not_found_error","param":"model","code":"not_found"}})");
  EXPECT_EQ(error_body({ErrorKind::kInternal, "a\xff"}),
            R"({"error":{"message":"a?","type":"server_error","param":null,"code":"internal"}})");
  EXPECT_EQ(
      error_event({ErrorKind::kUpstream, "cut"}),
      "data: {\"error\":{\"message\":\"cut\",\"type\":\"server_error\",\"param\":null,\"code\":\"upstream\"}}\n\n");
}

TEST(Usage, IsFoundOnlyWhereItStands) {
  const auto usage = find_usage(
      R"({"choices":[],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}})");
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->prompt_tokens, 5u);
  EXPECT_EQ(usage->completion_tokens, 3u);
  EXPECT_EQ(usage->cached_tokens, 4u);
  const auto bare = find_usage(R"({"usage":{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":null}})");
  ASSERT_TRUE(bare);
  EXPECT_FALSE(bare->cached_tokens);
  EXPECT_FALSE(find_usage(R"({"usage":null})"));
  EXPECT_FALSE(find_usage(R"({"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]})"));
  EXPECT_FALSE(find_usage(R"({"choices":[{"usage":{"prompt_tokens":1}}]})"));
  EXPECT_FALSE(find_usage(R"({"usage":{"prompt_tokens":1})"));
  EXPECT_FALSE(find_usage("[DONE]"));
}

TEST(Usage, TheExtraChunkIsKnown) {
  const Usage usage{.prompt_tokens = 9, .completion_tokens = 2, .cached_tokens = 8};
  const std::string chunk = usage_chunk(Endpoint::kChatCompletions, "id", "m", 1, usage, R"("x":{"y":1})");
  EXPECT_TRUE(is_usage_only_chunk(chunk)) << chunk;
  EXPECT_EQ(find_usage(chunk)->cached_tokens, 8u);
  EXPECT_FALSE(is_usage_only_chunk(R"({"choices":[{"index":0}],"usage":{"prompt_tokens":1}})"));
  EXPECT_FALSE(is_usage_only_chunk(R"({"choices":[],"usage":null})"));
  EXPECT_FALSE(is_usage_only_chunk(R"({"usage":{"prompt_tokens":1}})"));
}

TEST(Responses, TextComesBack) {
  const Delta delta{.id = "i",
                    .model = "m",
                    .created = 3,
                    .index = 0,
                    .text = "a\"\n\xf0\x9f\x98\x80",
                    .first = true,
                    .finish_reason = "stop"};
  EXPECT_EQ(text_of_chunk(chat_chunk(delta)), delta.text);
  EXPECT_EQ(text_of_chunk(completion_chunk(delta)), delta.text);
  EXPECT_EQ(
      chat_chunk(delta),
      "{\"id\":\"i\",\"object\":\"chat.completion.chunk\",\"created\":3,\"model\":\"m\",\"choices\":[{\"index\":0,"
      "\"delta\":{\"role\":\"assistant\",\"content\":\"a\\\"\\n\xf0\x9f\x98\x80\"},\"logprobs\":null,"
      "\"finish_reason\":\"stop\"}]}");
  const Choice choices[] = {{0, "x\ty", "length"}, {1, "z", "stop"}};
  for (const Endpoint endpoint : {Endpoint::kChatCompletions, Endpoint::kCompletions}) {
    const std::string whole = whole_response(endpoint, "i", "m", 3, choices, {7, 2, 6}, "\"kv\":null");
    EXPECT_EQ(text_of_response(whole), "x\ty");
    EXPECT_EQ(find_usage(whole)->prompt_tokens, 7u);
    EXPECT_THAT(whole, HasSubstr(",\"kv\":null}"));
  }
  EXPECT_FALSE(text_of_chunk(R"({"choices":[]})"));
  EXPECT_FALSE(text_of_response("nonsense"));
}

TEST(Models, RoundTrip) {
  const ModelEntry entries[] = {{"qwen", "Qwen/Qwen3", std::nullopt, 4096}, {"lora", "/x", "qwen", std::nullopt}};
  const auto back = parse_models(models_body(entries, 12));
  ASSERT_TRUE(back.ok());
  ASSERT_EQ(back->size(), 2u);
  EXPECT_EQ((*back)[0].id, "qwen");
  EXPECT_EQ((*back)[0].max_model_len, 4096u);
  EXPECT_EQ((*back)[1].parent, "qwen");
  EXPECT_FALSE(parse_models("{}").ok());
  EXPECT_FALSE(parse_models(R"({"data":[7]})").ok());
  EXPECT_FALSE(parse_models("<html>").ok());
}

TEST(Utf8, ScalarAndVectorAgreeOnTheFirstBadByte) {
  EXPECT_FALSE(first_bad_utf8("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"));
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xff"}) {
    EXPECT_EQ(first_bad_utf8(std::string(40, 'a') + bad), 40u) << bad;
  }
}

TEST(Paths, OnlyTheTwo) {
  EXPECT_EQ(endpoint_of_path("/v1/chat/completions"), Endpoint::kChatCompletions);
  EXPECT_EQ(endpoint_of_path("/v1/completions"), Endpoint::kCompletions);
  EXPECT_FALSE(endpoint_of_path("/v1/chat/completions/"));
  EXPECT_EQ(path_of_endpoint(Endpoint::kCompletions), "/v1/completions");
}

TEST(TokenIds, AllThreeFormsOfEngines) {
  EXPECT_THAT(*parse_token_ids(R"({"count":2,"tokens":[1,2],"token_strs":null})"), ::testing::ElementsAre(1, 2));
  EXPECT_THAT(*parse_token_ids(R"({"request_id":"x","token_ids":[3]})"), ::testing::ElementsAre(3));
  EXPECT_THAT(*parse_token_ids(R"([{"token_ids":[4,5]},{"token_ids":[6]}])"), ::testing::ElementsAre(4, 5));
  for (const char* bad : {"", "[]", "{}", "7", R"({"tokens":7})", R"({"tokens":[-1]})", R"({"tokens":[1.5]})",
                          R"({"tokens":[99999999999]})", R"({"tokens":["1"]})"}) {
    EXPECT_FALSE(parse_token_ids(bad).ok()) << bad;
  }
}

TEST(ParseRequest, TruncationSide) {
  const auto side = [](std::string_view value) {
    return parse_request(Endpoint::kCompletions, R"({"prompt":"x","truncation_side":)" + std::string(value) + "}");
  };
  EXPECT_EQ(side("\"left\"")->truncation_side, TruncationSide::kLeft);
  EXPECT_EQ(side("\"right\"")->truncation_side, TruncationSide::kRight);
  EXPECT_EQ(side("null")->truncation_side, std::nullopt);
  for (const char* bad : {"\"up\"", "1", "\"\""}) EXPECT_FALSE(side(bad).ok()) << bad;
}

}  // namespace
}  // namespace warmpath::api
