// Generated ids survive as text, in plain sequences and as turns of a conversation.
#include "tokens/stable_words.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tokens/test_models.h"

namespace warmpath::tokens {
namespace {

constexpr std::uint64_t kSeed = 20261123;

class StableWordsOf : public ::testing::TestWithParam<std::string> {
 protected:
  const Tokenizer& tokenizer() const { return GetParam() == "demo" ? demo_model() : real_model(GetParam()); }
};

std::string text_of(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  return tokenizer.decode(ids, SpecialText::kSkip).value();
}

TEST_P(StableWordsOf, AnySequenceEncodesBackToItself) {
  const std::vector<TokenId> words = stable_word_ids(tokenizer(), 1000);
  ASSERT_GE(words.size(), 900u);
  EXPECT_EQ(std::set<TokenId>(words.begin(), words.end()).size(), words.size());
  EXPECT_EQ(words, stable_word_ids(tokenizer(), 1000)) << "not deterministic";
  RandomStream random(kSeed, GetParam());
  for (int round = 0; round < 200; ++round) {
    std::vector<TokenId> ids(1 + random.below(200));
    for (TokenId& id : ids) id = words[random.below(words.size())];
    ASSERT_EQ(tokenizer().encode(text_of(tokenizer(), ids), SpecialTokens::kNone).value(), ids) << "seed " << kSeed;
  }
}

// The whole loop of a chat: what an engine held after a turn is the prefix of the next turn's prompt.
TEST_P(StableWordsOf, AConversationsNextPromptBeginsWithPromptAndAnswer) {
  const StableWords words = find_stable_words(tokenizer(), 500);
  ASSERT_GE(words.first.size(), 200u);
  ASSERT_GE(words.rest.size(), 450u);
  RandomStream random(kSeed, GetParam() + " chat");
  for (int round = 0; round < 40; ++round) {
    std::string history = R"([{"role":"user","content":"Tell me about the sea."})";
    for (int turn = 0; turn < 3; ++turn) {
      ChatInput chat;
      const std::string now = history + "]";
      chat.messages = now;
      std::vector<TokenId> held = tokenizer().encode_chat(chat).value();
      std::vector<TokenId> answer{words.first[random.below(words.first.size())]};
      for (std::uint64_t left = random.below(60); left > 0; --left) {
        answer.push_back(words.rest[random.below(words.rest.size())]);
      }
      held.insert(held.end(), answer.begin(), answer.end());
      history += R"(,{"role":"assistant","content":")" + text_of(tokenizer(), answer) + R"("},)";
      history += R"({"role":"user","content":"And then?"})";
      const std::string next = history + "]";
      chat.messages = next;
      const std::vector<TokenId> prompt = tokenizer().encode_chat(chat).value();
      ASSERT_GT(prompt.size(), held.size());
      ASSERT_TRUE(std::equal(held.begin(), held.end(), prompt.begin())) << "seed " << kSeed << "\n" << next;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StableWordsOf, ::testing::Values("demo", "qwen3", "llama3", "deepseek_v3"),
                         [](const auto& param) { return param.param; });

TEST(StableWords, FewerThanAskedForWhenThereAreNoMore) {
  EXPECT_TRUE(stable_word_ids(demo_model(), 0).empty());
  const auto all = stable_word_ids(demo_model(), 1000000);
  EXPECT_GT(all.size(), 1500u);
  EXPECT_LT(all.size(), demo_model().vocabulary_size());
}

}  // namespace
}  // namespace warmpath::tokens
