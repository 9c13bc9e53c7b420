// What the brain is told of a request, by endpoint.
#include "proxy/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::proxy {
namespace {

using ::testing::ElementsAre;

struct PlanTest : ::testing::Test {
  Plan plan(api::Endpoint endpoint, std::string_view body) const {
    const auto request = api::parse_request(endpoint, body);
    WP_CHECK(request.ok());
    return make_plan(encoder, *request, {});
  }
  std::vector<BlockKey> chain(const std::vector<TokenId>& ids, const blocks::ChainContext& context = {}) const {
    return encoder.space().chain(ids, context);
  }
  // No tokenizer: only ids are exact.
  prompt::Encoder encoder{nullptr, blocks::KeySpace(1, "m", 2), prompt::Guess{8, 0}};
};

TEST_F(PlanTest, IdsAreExactWhereverTheyStand) {
  const Plan completion = plan(api::Endpoint::kCompletions, R"({"prompt":[1,2,3,4,5]})");
  EXPECT_TRUE(completion.exact());
  EXPECT_EQ(completion.chain, chain({1, 2, 3, 4, 5}));
  EXPECT_EQ(completion.prompt_tokens, 5u);
  EXPECT_TRUE(completion.parts.empty());
  EXPECT_EQ(plan(api::Endpoint::kGenerate, R"({"token_ids":[1,2,3,4,5],"sampling_params":{}})").chain,
            completion.chain);
  EXPECT_EQ(plan(api::Endpoint::kEmbeddings, R"({"input":[1,2,3,4,5]})").chain, completion.chain);
  EXPECT_EQ(plan(api::Endpoint::kGenerate, R"({"token_ids":[1,2],"sampling_params":{},"cache_salt":"s"})").chain,
            chain({1, 2}, {.salt = "s"}));
  EXPECT_EQ(plan(api::Endpoint::kGenerate, R"({"token_ids":[1,2],"sampling_params":{},"features":{}})").chain_kind,
            "media");
}

TEST_F(PlanTest, SeveralPromptsStandOneBehindTheOther) {
  const Plan several = plan(api::Endpoint::kEmbeddings, R"({"input":[[1,2,3],[4],[5,6,7,8]]})");
  EXPECT_TRUE(several.exact());
  EXPECT_EQ(several.prompt_tokens, 8u);
  auto all = chain({1, 2, 3});
  for (const BlockKey key : chain({5, 6, 7, 8})) all.push_back(key);
  EXPECT_EQ(several.chain, all);
  std::vector<std::uint32_t> blocks, tokens;
  std::size_t guessed = 0;
  for (const route::PromptPart& part : several.parts) {
    blocks.push_back(part.chain_blocks);
    tokens.push_back(part.prompt_tokens);
    guessed += part.guessed_blocks;
  }
  EXPECT_THAT(blocks, ElementsAre(1, 0, 2));
  EXPECT_THAT(tokens, ElementsAre(3, 1, 4));
  EXPECT_EQ(guessed, several.guessed_chain.size());
}

TEST_F(PlanTest, TextsOfSeveralPromptsAreGuessedOneByOne) {
  const Plan several = plan(api::Endpoint::kCompletions, R"({"prompt":["twelve bytes","twelve bytes"]})");
  EXPECT_EQ(several.chain_kind, "no_tokenizer");
  EXPECT_TRUE(several.chain.empty());
  ASSERT_EQ(several.parts.size(), 2u);
  EXPECT_EQ(several.parts[1].guessed_blocks, several.parts[0].guessed_blocks);
  EXPECT_EQ(several.guessed_chain[0], several.guessed_chain[several.parts[0].guessed_blocks]);
}

TEST_F(PlanTest, WhatIsNotCertainIsGuessedAndNamed) {
  const Plan off = plan(api::Endpoint::kMessages,
                        R"({"messages":[{"role":"user","content":"some text"}],"thinking":{"type":"disabled"}})");
  EXPECT_EQ(off.chain_kind, api::kWhyNotThinkingOff);
  EXPECT_TRUE(off.chain.empty());
  EXPECT_FALSE(off.guessed_chain.empty());
  const Plan chat = plan(api::Endpoint::kEmbeddings, R"({"messages":[{"role":"user","content":"x"}]})");
  EXPECT_EQ(chat.chain_kind, api::kWhyNotEmbeddedChat);
  const Plan item = plan(api::Endpoint::kResponses, R"({"input":[{"type":"item_reference","id":"some long id"}]})");
  EXPECT_EQ(item.chain_kind, api::kWhyNotUnknownItem);
  EXPECT_FALSE(item.guessed_chain.empty());
}

TEST_F(PlanTest, CountingIsNoPrompt) {
  const Plan counted =
      plan(api::Endpoint::kCountTokens, R"({"messages":[{"role":"user","content":"some long text"}]})");
  EXPECT_EQ(counted.chain_kind, "counted_only");
  EXPECT_TRUE(counted.chain.empty());
  EXPECT_TRUE(counted.guessed_chain.empty());
  EXPECT_EQ(counted.prompt_tokens, 1u);
}

}  // namespace
}  // namespace warmpath::proxy
