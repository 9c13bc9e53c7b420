// What a real vLLM 0.32 was asked and answered: the router must read the same requests and refuse no less clearly.
#include <gtest/gtest.h>
#include <simdjson.h>

#include <fstream>
#include <map>

#include "api/api.h"

namespace warmpath::api {
namespace {

struct Exchange {
  std::string path, body, response;
  int status = 0;
};

std::map<std::string, Exchange> load() {
  std::map<std::string, Exchange> all;
  std::ifstream file(WARMPATH_SOURCE_DIR "/tests/golden/api/vllm_0_32_requests.jsonl");
  simdjson::dom::parser parser;
  for (std::string line; std::getline(file, line);) {
    const simdjson::dom::element row = parser.parse(line);
    const auto text = [&row](const char* key) { return std::string(row[key].get_string().value()); };
    Exchange one{text("path"), text("body"), text("response"), static_cast<int>(row["status"].get_int64().value())};
    std::string_view hex;
    if (row["body_hex"].get_string().get(hex) == simdjson::SUCCESS) {
      const auto bytes = from_hex(hex).value();
      one.body.assign(bytes.begin(), bytes.end());
    }
    all[text("name")] = one;
  }
  return all;
}

class Golden : public ::testing::Test {
 protected:
  Result<Request> parse(const std::string& name, std::string* param = nullptr) {
    const Exchange& one = exchanges_.at(name);
    return parse_request(endpoint_of_path(one.path).value(), one.body, {}, param);
  }
  const std::map<std::string, Exchange> exchanges_ = load();
};

TEST_F(Golden, WhatTheEngineServedIsRead) {
  std::size_t served = 0;
  for (const auto& [name, one] : exchanges_) {
    if (one.status != 200 || !endpoint_of_path(one.path) || name == "duplicate keys") continue;
    ++served;
    const auto request = parse(name);
    ASSERT_TRUE(request.ok()) << name << ": " << request.error().message;
    EXPECT_EQ(request->model, "tiny-qwen3") << name;
  }
  EXPECT_GE(served, 10u);
}

// Where the router refuses, vLLM refused as well; where it cannot know (lengths, vocabulary), it passes on.
TEST_F(Golden, RefusalsNameTheField) {
  const std::map<std::string, std::string> refused = {{"bad json", "messages"},       {"not utf8", ""},
                                                      {"lone surrogate", "messages"}, {"no messages", "messages"},
                                                      {"empty messages", "messages"}, {"empty salt", "cache_salt"},
                                                      {"empty prompt", "prompt"}};
  for (const auto& [name, param] : refused) {
    std::string got;
    EXPECT_EQ(exchanges_.at(name).status, 400) << name;
    const auto request = parse(name, &got);
    ASSERT_FALSE(request.ok()) << name;
    EXPECT_EQ(status_of(request.error().kind).status, 400) << name;
    EXPECT_EQ(got, param) << name;
  }
  for (const char* name : {"max_tokens too large", "token out of range", "unknown model"}) {
    EXPECT_TRUE(parse(name).ok()) << name;
  }
}

// vLLM takes the last of two equal keys; the router refuses, lest the two disagree.
TEST_F(Golden, DuplicateKeysAreRefused) { EXPECT_FALSE(parse("duplicate keys").ok()); }

TEST_F(Golden, FieldsOfKnownRequests) {
  EXPECT_EQ(parse("chat salt a")->cache_salt, "tenant-a");
  EXPECT_EQ(parse("chat no thinking")->chat_template_kwargs, R"({"enable_thinking": false})");
  EXPECT_TRUE(parse("chat stream")->include_usage);
  EXPECT_FALSE(parse("chat tools")->tools.empty());
  EXPECT_TRUE(parse("completion list")->prompt_is_list);
  const auto ids = parse("completion ids longer");
  EXPECT_GT(std::get<std::vector<TokenId>>(ids->prompts.at(0)).size(), 1000u);
}

TEST_F(Golden, UsageOfRealAnswers) {
  const auto whole = find_usage(exchanges_.at("chat turn 1").response);
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->prompt_tokens, 167u);
  EXPECT_EQ(whole->completion_tokens, 24u);
  EXPECT_EQ(whole->cached_tokens, 0u);
  EXPECT_TRUE(text_of_response(exchanges_.at("chat turn 1").response));
  std::size_t with_usage = 0;
  std::size_t extra = 0;
  std::optional<Usage> last;
  for (const std::string_view line : split(exchanges_.at("chat stream continuous usage").response, '\n')) {
    if (!line.starts_with("data: {")) continue;
    if (const auto usage = find_usage(line.substr(6))) {
      ++with_usage;
      last = usage;
    }
    if (is_usage_only_chunk(line.substr(6))) ++extra;
  }
  EXPECT_EQ(with_usage, 6u);
  EXPECT_EQ(extra, 1u);
  ASSERT_TRUE(last);
  EXPECT_EQ(last->cached_tokens, 192u);
}

TEST_F(Golden, UsageOfTheOtherApisAnswers) {
  const auto last_of_stream = [this](const char* name) {
    std::optional<Usage> last;
    for (const std::string_view line : split(exchanges_.at(name).response, '\n')) {
      if (!line.starts_with("data: {")) continue;
      if (const auto usage = find_usage(line.substr(6))) last = usage;
    }
    return last.value_or(Usage{});
  };
  for (const auto& [name, prompt, output] :
       std::initializer_list<std::tuple<const char*, std::uint64_t, std::uint64_t>>{
           {"responses", 17, 6}, {"anthropic", 17, 6}, {"generate tokens in", 64, 4}}) {
    const auto usage = find_usage(exchanges_.at(name).response);
    ASSERT_TRUE(usage) << name;
    EXPECT_EQ(usage->prompt_tokens, prompt) << name;
    EXPECT_EQ(usage->completion_tokens, output) << name;
    EXPECT_EQ(usage->cached_tokens, 0u) << name;
  }
  for (const char* name : {"responses stream", "anthropic stream"}) {
    const Usage usage = last_of_stream(name);
    EXPECT_EQ(usage.prompt_tokens, 10u) << name;
    EXPECT_EQ(usage.completion_tokens, 4u) << name;
    EXPECT_EQ(usage.cached_tokens, 0u) << name;
  }
}

TEST_F(Golden, ModelListOfARealEngine) {
  const auto models = parse_models(exchanges_.at("get /v1/models").response);
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 1u);
  EXPECT_EQ(models->front().id, "tiny-qwen3");
  EXPECT_EQ(models->front().max_model_len, 4096u);
}

}  // namespace
}  // namespace warmpath::api
