#include "engine_server/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_server/test_words.h"

namespace warmpath::engine_server {
namespace {

using api::Endpoint;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct JobTest : ::testing::Test {
  JobTest() {
    options.model = "tiny";
    options.aliases = {"other-name"};
    options.adapters = {{"adapter-x", "/models/x"}};
  }
  std::variant<Job, Refusal> prepare(Endpoint endpoint, std::string_view body) {
    return prepare_job({options, tokenizer, 100, 0}, endpoint, body);
  }
  Job job(Endpoint endpoint, std::string_view body) {
    auto prepared = prepare(endpoint, body);
    const auto* refusal = std::get_if<Refusal>(&prepared);
    EXPECT_EQ(refusal, nullptr) << refusal->message;
    return refusal == nullptr ? std::get<Job>(prepared) : Job();
  }
  Refusal refusal(Endpoint endpoint, std::string_view body) {
    auto prepared = prepare(endpoint, body);
    EXPECT_EQ(prepared.index(), 1u) << body;
    return prepared.index() == 1 ? std::get<Refusal>(prepared) : Refusal();
  }
  Options options;
  testing::WordTokenizer tokenizer;
};

TEST_F(JobTest, AChatIsRenderedAndEncoded) {
  const Job made =
      job(Endpoint::kChatCompletions,
          R"({"model":"tiny","messages":[{"role":"user","content":"babo"}],"cache_salt":"s","stream":true})");
  ASSERT_EQ(made.prompts.size(), 1u);
  EXPECT_EQ(*tokenizer.decode(made.prompts[0], tokens::SpecialText::kKeep),
            "<|start|>user\nbabo<|end|>\n<|start|>assistant\n");
  EXPECT_EQ(made.salt, "s");
  EXPECT_TRUE(made.stream);
  EXPECT_FALSE(made.exact_length);
  EXPECT_THAT(made.output_max, ElementsAre(100 - made.prompts[0].size()));
}

TEST_F(JobTest, EmbeddingsTakeOneStepAPrompt) {
  const Job made = job(Endpoint::kEmbeddings, R"({"input":["!","?"],"dimensions":8,"encoding_format":"base64"})");
  EXPECT_THAT(made.prompts, ElementsAre(ElementsAre('!'), ElementsAre('?')));
  EXPECT_THAT(made.output_max, ElementsAre(1, 1));
  EXPECT_EQ(made.dimensions, 8u);
  EXPECT_EQ(made.format, api::EmbeddingFormat::kBase64);
  EXPECT_EQ(refusal(Endpoint::kEmbeddings, R"({"input":"!","dimensions":0})").param, "dimensions");
  EXPECT_EQ(refusal(Endpoint::kEmbeddings, R"({"input":"!","encoding_format":"hex"})").param, "encoding_format");
  EXPECT_EQ(refusal(Endpoint::kEmbeddings, R"({"messages":[{"role":"user","content":"!"}]})").status, 400);
}

TEST_F(JobTest, GenerateTakesIds) {
  const Job made = job(Endpoint::kGenerate, R"({"token_ids":[5,6],"sampling_params":{"max_tokens":3},"stream":true})");
  EXPECT_THAT(made.prompts, ElementsAre(ElementsAre(5, 6)));
  EXPECT_THAT(made.output_max, ElementsAre(3));
  EXPECT_TRUE(made.exact_length && made.stream);
  EXPECT_EQ(refusal(Endpoint::kGenerate, R"({"token_ids":[99999999],"sampling_params":{}})").status, 400);
}

TEST_F(JobTest, CompletionsTakeTextIdsAndLists) {
  EXPECT_THAT(job(Endpoint::kCompletions, R"({"model":"tiny","prompt":[5,6,7],"max_tokens":3})").prompts,
              ElementsAre(ElementsAre(5, 6, 7)));
  EXPECT_THAT(job(Endpoint::kCompletions, R"({"prompt":[[5],[6,7]]})").prompts,
              ElementsAre(ElementsAre(5), ElementsAre(6, 7)));
  const Job texts = job(Endpoint::kCompletions, R"({"model":"","prompt":["!","?"],"n":2,"ignore_eos":true})");
  EXPECT_THAT(texts.prompts, ElementsAre(ElementsAre('!'), ElementsAre('?')));
  EXPECT_EQ(texts.choices, 2u);
  EXPECT_TRUE(texts.exact_length);
  EXPECT_EQ(texts.model, "tiny");
  EXPECT_THAT(job(Endpoint::kCompletions, R"({"prompt":[1,2,3,4],"truncate_prompt_tokens":2})").prompts,
              ElementsAre(ElementsAre(3, 4)));
  EXPECT_THAT(
      job(Endpoint::kCompletions, R"({"prompt":[1,2,3,4],"truncate_prompt_tokens":2,"truncation_side":"right"})")
          .prompts,
      ElementsAre(ElementsAre(1, 2)));
}

TEST_F(JobTest, AdaptersAndAliasesAreModels) {
  EXPECT_EQ(job(Endpoint::kCompletions, R"({"model":"adapter-x","prompt":[1]})").adapter.path, "/models/x");
  const Job alias = job(Endpoint::kCompletions, R"({"model":"other-name","prompt":[1]})");
  EXPECT_EQ(alias.adapter.name, "");
  EXPECT_EQ(alias.model, "other-name");
}

// Statuses, types, params and messages of the recorded bad requests.
TEST_F(JobTest, RefusesAsVllmDoes) {
  const auto unknown = refusal(Endpoint::kCompletions, R"({"model":"nope","prompt":[1]})");
  EXPECT_EQ(refusal_body(unknown),
            R"({"error":{"message":"The model `nope` does not exist. Valid aliases: tiny, other-name, adapter-x.",)"
            R"("type":"NotFoundError","param":"model","code":404}})");

  const auto broken = refusal(Endpoint::kChatCompletions, R"({"model": "tiny", "messages": [)");
  EXPECT_EQ(broken.status, 400);
  EXPECT_EQ(broken.type, "Bad Request");
  EXPECT_EQ(broken.param, "body.messages");
  EXPECT_THAT(broken.message, HasSubstr("byte 31"));

  const auto missing = refusal(Endpoint::kChatCompletions, R"({"model":"tiny"})");
  EXPECT_EQ(missing.type, "Bad Request");
  EXPECT_EQ(missing.param, "body.messages");

  const auto salt = refusal(Endpoint::kCompletions, R"({"prompt":[1],"cache_salt":""})");
  EXPECT_EQ(
      refusal_body(salt),
      R"-({"error":{"message":"Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)",)-"
      R"-("type":"BadRequestError","param":"cache_salt","code":400}})-");

  std::string ids = "1";
  for (int i = 0; i < 119; ++i) ids += ",1";
  const auto long_prompt = refusal(Endpoint::kCompletions, R"({"prompt":[)" + ids + "]}");
  EXPECT_EQ(long_prompt.param, "input_tokens");
  EXPECT_EQ(long_prompt.message,
            "This model's maximum context length is 100 tokens. However, your prompt contains 120 input tokens, which "
            "exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
            "(parameter=input_tokens, value=120)");

  const auto far = refusal(Endpoint::kCompletions, R"({"prompt":[1],"max_tokens":100000})");
  EXPECT_EQ(far.param, "max_tokens");
  EXPECT_EQ(far.message,
            "max_tokens=100000 cannot be greater than max_model_len=100. Please request fewer output tokens. "
            "(parameter=max_tokens, value=100000)");
  EXPECT_EQ(refusal(Endpoint::kCompletions, R"({"prompt":[1,2],"max_tokens":99})").param, "input_tokens");
  EXPECT_EQ(refusal(Endpoint::kCompletions, R"({"prompt":[1],"max_tokens":0})").param, "max_tokens");

  const auto out = refusal(Endpoint::kCompletions, R"({"prompt":[999999999]})");
  EXPECT_EQ(
      refusal_body(out),
      R"({"error":{"message":"Token id 999999999 is out of vocabulary","type":"BadRequestError","param":null,"code":400}})");

  EXPECT_EQ(refusal(Endpoint::kCompletions, R"({"prompt":""})").status, 400);
  EXPECT_EQ(refusal(Endpoint::kCompletions, R"({"prompt":[1],"n":1000})").param, "n");
  EXPECT_EQ(refusal(Endpoint::kChatCompletions, "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}").status,
            400);
  EXPECT_THAT(refusal(Endpoint::kChatCompletions,
                      R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})")
                  .message,
              HasSubstr("not a multimodal model"));
  EXPECT_EQ(
      refusal(Endpoint::kChatCompletions, R"({"chat_template":"x","messages":[{"role":"user","content":"x"}]})").status,
      400);
}

TEST_F(JobTest, TokenizeTakesBothForms) {
  const auto ids = [&](std::string_view body) {
    auto prepared = prepare_tokenize({options, tokenizer, 100, 0}, body);
    EXPECT_EQ(prepared.index(), 0u) << body;
    return prepared.index() == 0 ? std::get<0>(prepared).ids : std::vector<TokenId>();
  };
  EXPECT_THAT(ids(R"({"model":"tiny","prompt":"!?"})"), ElementsAre('!', '?'));
  EXPECT_EQ(ids(R"({"messages":[{"role":"user","content":"babo"}]})").front(), testing::WordTokenizer::kStart);
  EXPECT_THAT(ids(R"({"prompt":"\"messages\""})"), ::testing::SizeIs(10));
  EXPECT_EQ(prepare_tokenize({options, tokenizer, 100, 0}, R"({"model":"nope","prompt":"x"})").index(), 1u);
  EXPECT_EQ(prepare_tokenize({options, tokenizer, 100, 0}, "nonsense").index(), 1u);
}

}  // namespace
}  // namespace warmpath::engine_server
