#include "engine_server/output_writer.h"

#include <gtest/gtest.h>

#include <set>

#include "engine_server/test_words.h"

namespace warmpath::engine_server {
namespace {

using End = OutputWriter::End;

OutputWriter writer_of(const tokens::Tokenizer& tokenizer, std::uint64_t seed = 1, std::uint32_t mean = 20) {
  auto writer = OutputWriter::create(tokenizer, seed, 100, mean);
  WP_CHECK(writer.ok());
  return std::move(*writer);
}

std::string text_of(const OutputWriter& writer, const std::vector<TokenId>& ids) {
  std::string text;
  for (const TokenId id : ids) text += writer.text(id);
  return text;
}

TEST(OutputWriter, TextEncodesBackToTheIds) {
  const testing::WordTokenizer tokenizer;
  const OutputWriter writer = writer_of(tokenizer);
  const std::vector<TokenId> prompt = {1, 2, 3};
  for (const Opening opening : {Opening::kTurn, Opening::kContinuation}) {
    const auto answer = writer.words({.ids = prompt}, opening, 200);
    ASSERT_EQ(answer.ids.size(), 200u);
    EXPECT_EQ(answer.end, End::kLength);
    EXPECT_EQ(*tokenizer.encode(text_of(writer, answer.ids), tokens::SpecialTokens::kNone), answer.ids);
    EXPECT_EQ(text_of(writer, answer.ids).front() == ' ', opening == Opening::kContinuation);
  }
}

TEST(OutputWriter, DependsOnSeedPromptSaltAdapterAndChoiceOnly) {
  const testing::WordTokenizer tokenizer;
  const OutputWriter writer = writer_of(tokenizer);
  const std::vector<TokenId> one = {1, 2, 3};
  const std::vector<TokenId> other = {1, 2, 4};
  std::set<std::vector<TokenId>> seen;
  seen.insert(writer.words({.ids = one}, Opening::kTurn, 30).ids);
  seen.insert(writer.words({.ids = other}, Opening::kTurn, 30).ids);
  seen.insert(writer.words({.ids = one, .salt = "s"}, Opening::kTurn, 30).ids);
  seen.insert(writer.words({.ids = one, .lora = "s"}, Opening::kTurn, 30).ids);
  seen.insert(writer.words({.ids = one, .choice = 1}, Opening::kTurn, 30).ids);
  seen.insert(writer_of(tokenizer, 2).words({.ids = one}, Opening::kTurn, 30).ids);
  EXPECT_EQ(seen.size(), 6u);
  EXPECT_EQ(writer_of(tokenizer).words({.ids = one}, Opening::kTurn, 30).ids,
            writer.words({.ids = one}, Opening::kTurn, 30).ids);
}

TEST(OutputWriter, ANaturalAnswerStopsWithTheEndTokenOrIsCut) {
  const testing::WordTokenizer tokenizer;
  const OutputWriter writer = writer_of(tokenizer);
  double sum = 0;
  int stopped = 0;
  for (TokenId i = 0; i < 500; ++i) {
    const std::vector<TokenId> prompt = {i};
    const auto answer = writer.natural({.ids = prompt}, Opening::kTurn, 60);
    ASSERT_GE(answer.ids.size(), 1u);
    ASSERT_LE(answer.ids.size(), 60u);
    EXPECT_EQ(answer.ids.back() == testing::WordTokenizer::kEnd, answer.end == End::kStop);
    if (answer.end == End::kLength) {
      EXPECT_EQ(answer.ids.size(), 60u);
    }
    EXPECT_EQ(writer.text(testing::WordTokenizer::kEnd), "");
    sum += static_cast<double>(answer.ids.size());
    stopped += answer.end == End::kStop ? 1 : 0;
  }
  EXPECT_NEAR(sum / 500, 20, 3);
  EXPECT_GT(stopped, 450);
  EXPECT_LT(stopped, 500);
  const std::vector<TokenId> prompt = {1};
  EXPECT_EQ(writer.natural({.ids = prompt}, Opening::kTurn, 1).ids.size(), 1u);
}

// A vocabulary without words.
class NoWords final : public tokens::Tokenizer {
 public:
  Result<std::vector<TokenId>> encode(std::string_view text, tokens::SpecialTokens) const override {
    return std::vector<TokenId>(text.begin(), text.end());
  }
  Result<std::string> decode(std::span<const TokenId> ids, tokens::SpecialText) const override {
    return std::string(ids.begin(), ids.end());
  }
  Result<std::string> render_chat(const tokens::ChatInput&) const override { return std::string(); }
  Result<std::vector<TokenId>> encode_chat(const tokens::ChatInput&) const override { return std::vector<TokenId>(); }
  bool has_chat_template() const override { return false; }
  std::uint32_t vocabulary_size() const override { return 128; }
  std::vector<TokenId> end_ids() const override { return {}; }
  const tokens::Exactness& exactness() const override { return exactness_; }

 private:
  tokens::Exactness exactness_;
};

TEST(OutputWriter, ATokenizerWithoutWordsIsRefused) {
  const auto writer = OutputWriter::create(NoWords(), 1, 100, 20);
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().kind, ErrorKind::kUnsupported);
}

}  // namespace
}  // namespace warmpath::engine_server
