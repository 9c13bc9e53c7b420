#include "engine_server/faults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_server/job.h"
#include "engine_server/test_words.h"

namespace warmpath::engine_server {
namespace {

using ::testing::ElementsAre;
using tokens::SpecialTokens;

FaultSet with(Fault fault) {
  FaultSet faults;
  faults.add(fault);
  return faults;
}

TEST(Faults, EveryFaultHasANameOfItsOwn) {
  for (std::size_t i = 0; i < fault_texts().size(); ++i) {
    const FaultText& text = fault_texts()[i];
    EXPECT_FALSE(text.meaning.empty());
    EXPECT_EQ(parse_fault(text.name), static_cast<Fault>(i)) << text.name;
  }
  EXPECT_EQ(parse_fault("nothing"), std::nullopt);
}

TEST(Faults, WithoutOneTextsAreTheTokenizersOwn) {
  const testing::WordTokenizer tokenizer;
  EXPECT_EQ(rendered_with({}, "babo dido"), "babo dido");
  EXPECT_EQ(*encoded_with({}, tokenizer, "babo dido", SpecialTokens::kNone),
            *tokenizer.encode("babo dido", SpecialTokens::kNone));
}

TEST(Faults, ARebuiltTokenizerMakesOtherIdsOfTheSameText) {
  const testing::WordTokenizer tokenizer;
  const auto ids = encoded_with(with(Fault::kRebuiltTokenizer), tokenizer, " babo  dido ", SpecialTokens::kNone);
  ASSERT_TRUE(ids.ok());
  EXPECT_NE(*ids, *tokenizer.encode(" babo  dido ", SpecialTokens::kNone));
  EXPECT_EQ(*tokenizer.decode(*ids, tokens::SpecialText::kKeep), " babo  dido ");
}

TEST(Faults, DoubleBosPutsOneTokenInFront) {
  const testing::WordTokenizer tokenizer;
  EXPECT_THAT(*encoded_with(with(Fault::kDoubleBos), tokenizer, "!", SpecialTokens::kNone),
              ElementsAre(testing::WordTokenizer::kEnd, '!'));
}

struct FaultyJob : ::testing::Test {
  FaultyJob() {
    options.model = "tiny";
    options.adapters = {{"adapter-x", "/models/x"}};
  }
  Job job(Fault fault, std::string_view body) {
    options.faults = with(fault);
    auto prepared = prepare_job({options, tokenizer, 1'000, 0}, api::Endpoint::kChatCompletions, body);
    EXPECT_EQ(prepared.index(), 0u);
    return prepared.index() == 0 ? std::get<Job>(std::move(prepared)) : Job();
  }
  Options options;
  testing::WordTokenizer tokenizer;
  static constexpr std::string_view kBody =
      R"({"model":"adapter-x","messages":[{"role":"user","content":"babo"}],"cache_salt":"s"})";
};

TEST_F(FaultyJob, KeysAreMistakenAsNamed) {
  EXPECT_EQ(job(Fault::kDraftModel, kBody).salt, "s");
  EXPECT_EQ(job(Fault::kDraftModel, kBody).adapter.name, "adapter-x");
  EXPECT_EQ(job(Fault::kSaltIgnored, kBody).salt, "");
  EXPECT_EQ(job(Fault::kLoraIgnored, kBody).adapter.name, "");
  EXPECT_EQ(job(Fault::kLoraRenamed, kBody).adapter.name, "adapter-x-v0");
  EXPECT_EQ(job(Fault::kLoraRenamed, kBody).model, "adapter-x") << "the answer names what was asked for";
}

TEST_F(FaultyJob, AnotherTemplateChangesChatsOnly) {
  const auto text = *tokenizer.decode(job(Fault::kChatTemplate, kBody).prompts.front(), tokens::SpecialText::kKeep);
  EXPECT_TRUE(text.ends_with("<|start|>user\nbabo<|end|>\n<|start|>assistant\n")) << text;
  EXPECT_FALSE(text.starts_with("<|start|>")) << text;
  const auto prepared = prepare_job({options, tokenizer, 1'000, 0}, api::Endpoint::kCompletions, R"({"prompt":"!"})");
  EXPECT_THAT(std::get<Job>(prepared).prompts.front(), ElementsAre('!'));
}

}  // namespace
}  // namespace warmpath::engine_server
