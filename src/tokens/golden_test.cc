// Against recorded outputs of the real libraries and a real engine: tests/golden/tokens/README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "tokens/test_models.h"
#include "tokens/tokens.h"

namespace warmpath::tokens {
namespace {

constexpr std::int64_t kNow = 1795392000;  // 2026-11-23T00:00:00Z: when the outputs were made

std::vector<std::string> golden_lines(const std::string& name) {
  std::vector<std::string> lines;
  const std::string content = read_test_file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/tokens/" + name);
  for (std::string_view line : split(content, '\n')) {
    if (!line.empty()) lines.emplace_back(line);
  }
  EXPECT_FALSE(lines.empty()) << name;
  return lines;
}

std::string text_at(simdjson::dom::element row, const char* key) {
  return std::string(std::string_view(row[key]));
}

std::vector<TokenId> ids_at(simdjson::dom::element row, const char* key) {
  std::vector<TokenId> ids;
  for (simdjson::dom::element id : simdjson::dom::array(row[key])) ids.push_back(static_cast<TokenId>(uint64_t(id)));
  return ids;
}

// The fields of a request body as raw JSON texts.
struct Request {
  std::string messages, tools, documents, kwargs, effort;
  ChatInput input;

  explicit Request(simdjson::dom::element body) {
    const auto raw = [&](const char* key, std::string& into) {
      simdjson::dom::element value;
      if (body[key].get(value) == simdjson::SUCCESS) into = simdjson::minify(value);
    };
    raw("messages", messages);
    raw("tools", tools);
    raw("documents", documents);
    raw("chat_template_kwargs", kwargs);
    raw("reasoning_effort", effort);
    input.messages = messages;
    input.tools = tools;
    input.documents = documents;
    input.chat_template_kwargs = kwargs;
    input.reasoning_effort = effort;
    bool truth = false;
    if (body["add_generation_prompt"].get(truth) == simdjson::SUCCESS) input.add_generation_prompt = truth;
    if (body["continue_final_message"].get(truth) == simdjson::SUCCESS) input.continue_final_message = truth;
    input.now_unix_seconds = kNow;
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
};

TEST(TokenGoldens, TextIdsEqualTheTokenizersLibrary) {
  simdjson::dom::parser parser;
  std::map<std::string, std::string> corpus;
  for (const std::string& line : golden_lines("corpus.jsonl")) {
    simdjson::dom::element row = parser.parse(line);
    corpus[text_at(row, "name")] = text_at(row, "text");
  }
  std::size_t rows = 0;
  for (const std::string& line : golden_lines("text_ids.jsonl")) {
    simdjson::dom::element row = parser.parse(line);
    const auto& tokenizer = real_model(text_at(row, "tokenizer"));
    const std::string name = text_at(row, "text");
    SCOPED_TRACE(text_at(row, "tokenizer") + ": " + name);
    ASSERT_TRUE(corpus.contains(name));
    std::vector<TokenId> ids = ids_at(row, "ids");
    auto plain = tokenizer.encode(corpus[name], SpecialTokens::kNone);
    ASSERT_TRUE(plain.ok());
    EXPECT_EQ(*plain, ids);
    std::vector<TokenId> special = ids_at(row, "before");
    special.insert(special.end(), ids.begin(), ids.end());
    for (TokenId id : ids_at(row, "after")) special.push_back(id);
    auto added = tokenizer.encode(corpus[name], SpecialTokens::kAdd);
    ASSERT_TRUE(added.ok());
    EXPECT_EQ(*added, special);
    ++rows;
  }
  EXPECT_EQ(rows, 3 * corpus.size());
}

TEST(TokenGoldens, ChatTextEqualsTransformers) {
  simdjson::dom::parser parser;
  simdjson::dom::parser case_parser;
  std::map<std::string, std::string> cases;
  for (const std::string& line : golden_lines("chat_cases.jsonl")) {
    cases[text_at(parser.parse(line), "name")] = line;
  }
  std::size_t rows = 0;
  std::size_t refusals = 0;
  for (const std::string& line : golden_lines("chat_text.jsonl")) {
    simdjson::dom::element row = parser.parse(line);
    const std::string name = text_at(row, "case");
    SCOPED_TRACE(text_at(row, "tokenizer") + ": " + name);
    ASSERT_TRUE(cases.contains(name));
    simdjson::dom::element body = case_parser.parse(cases[name]);
    const Request request(body["request"]);
    auto text = real_model(text_at(row, "tokenizer")).render_chat(request.input);
    std::string_view expected;
    if (row["text"].get(expected) == simdjson::SUCCESS) {
      ASSERT_TRUE(text.ok()) << text.error().message;
      EXPECT_EQ(*text, expected);
    } else {
      EXPECT_FALSE(text.ok()) << *text;
      ++refusals;
    }
    ++rows;
  }
  EXPECT_EQ(rows, 7 * cases.size());
  EXPECT_GT(refusals, 0u);
}

TEST(TokenGoldens, ChatIdsEqualTheEnginesRenderer) {
  simdjson::dom::parser parser;
  simdjson::dom::parser request_parser;
  const std::string content = golden_lines("chat_requests.json").front();
  simdjson::dom::element requests = request_parser.parse(content);
  std::size_t rows = 0;
  std::size_t refusals = 0;
  for (const std::string& line : golden_lines("chat_token_ids.jsonl")) {
    simdjson::dom::element row = parser.parse(line);
    SCOPED_TRACE(text_at(row, "tokenizer") + ": " + text_at(row, "request"));
    const Request request(requests[std::string_view(row["request"])]);
    const auto& tokenizer = real_model(text_at(row, "tokenizer"));
    auto ids = tokenizer.encode_chat(request.input);
    std::string_view refusal;
    if (row["error"].get(refusal) == simdjson::SUCCESS) {
      ASSERT_FALSE(ids.ok());
      EXPECT_EQ(ids.error().kind, ErrorKind::kInvalid);
      EXPECT_EQ(ids.error().message, refusal);
      ++refusals;
    } else {
      ASSERT_TRUE(ids.ok()) << ids.error().message;
      EXPECT_EQ(*ids, ids_at(row, "ids")) << *tokenizer.render_chat(request.input);
    }
    ++rows;
  }
  EXPECT_EQ(rows, 175u);
  EXPECT_EQ(refusals, 11u);
}

}  // namespace
}  // namespace warmpath::tokens
