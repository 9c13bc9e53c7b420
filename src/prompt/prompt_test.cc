// The Encoder against what it stands on: Tokenizer and KeySpace called by hand.
#include "prompt/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "prompt/guess_text.h"

namespace warmpath::prompt {
namespace {

using blocks::ChainContext;
using blocks::KeySpace;
using ::testing::IsEmpty;

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream content;
  content << file.rdbuf();
  return std::move(content).str();
}

tokens::ModelFiles demo_files() {
  const std::string folder = std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model/";
  tokens::ModelFiles files;
  files.tokenizer_json = read(folder + "tokenizer.json");
  files.tokenizer_config_json = read(folder + "tokenizer_config.json");
  files.config_json = read(folder + "config.json");
  return files;
}

std::shared_ptr<const tokens::Tokenizer> demo() {
  static const auto tokenizer = tokens::Tokenizer::create(demo_files()).value();
  return tokenizer;
}

// The demo's tokenizer with other settings.
std::shared_ptr<const tokens::Tokenizer> demo_with(std::string tokenizer_config) {
  tokens::ModelFiles files = demo_files();
  files.tokenizer_config_json = std::move(tokenizer_config);
  return tokens::Tokenizer::create(files).value();
}

KeySpace space() { return KeySpace(99, "demo", 4); }
constexpr Guess kGuess{16, 0};
constexpr Guess kNoGuess{0, 0};

tokens::ChatInput chat_of(std::string_view messages) {
  tokens::ChatInput chat;
  chat.messages = messages;
  return chat;
}

Input input_of(Prompt prompt) {
  Input input;
  input.prompts.push_back(prompt);
  return input;
}

Encoded encode_one(const Encoder& encoder, const Input& input) {
  auto all = encoder.encode(input);
  EXPECT_TRUE(all.ok()) << all.error().message;
  if (!all.ok() || all->size() != 1) return {};
  return all->front();
}

constexpr std::string_view kText = "The gateway keeps a live map of what every engine holds, and asks who computed this.";
constexpr std::string_view kMessages =
    R"([{"role":"system","content":"Be kind."},{"role":"user","content":"Tell me about the sea and the old harbor."}])";

TEST(Encoder, TextChainIsTheKeySpacesOverTheIds) {
  const Encoder encoder(demo(), space(), kGuess);
  const auto ids = demo()->encode(kText, tokens::SpecialTokens::kAdd).value();
  const Encoded one = encode_one(encoder, input_of(TextPrompt{kText}));
  EXPECT_TRUE(one.exact);
  EXPECT_EQ(one.why_not, "");
  EXPECT_EQ(one.prompt_tokens, ids.size());
  EXPECT_EQ(one.chain, space().chain(ids, {}));
  EXPECT_GT(one.chain.size(), 3u);
  EXPECT_EQ(one.guessed_chain, space().text_chain(kText, 16, 0, {}));
}

TEST(Encoder, ChatChainIsTheKeySpacesOverTheRenderedIds) {
  const Encoder encoder(demo(), space(), kGuess);
  const auto chat = chat_of(kMessages);
  const Encoded one = encode_one(encoder, input_of(chat));
  EXPECT_TRUE(one.exact);
  EXPECT_EQ(one.chain, space().chain(demo()->encode_chat(chat).value(), {}));
  EXPECT_EQ(one.guessed_chain, space().text_chain(guess_text(chat).value(), 16, 0, {}));
  EXPECT_FALSE(one.guessed_chain.empty());
}

TEST(Encoder, IdsAreExactEvenWithoutATokenizer) {
  const std::vector<TokenId> ids = {5, 6, 7, 8, 9, 10, 11, 12, 13};
  for (const auto& tokenizer : {demo(), std::shared_ptr<const tokens::Tokenizer>()}) {
    const Encoded one = encode_one(Encoder(tokenizer, space(), kGuess), input_of(IdsPrompt{ids}));
    EXPECT_TRUE(one.exact);
    EXPECT_EQ(one.prompt_tokens, 9u);
    EXPECT_EQ(one.chain, space().chain(ids, {}));
    EXPECT_EQ(one.guessed_chain, space().id_guess_chain(ids, 16, 0, {}));
  }
}

TEST(Encoder, SaltAdapterAndItemsSeparateBothChains) {
  const Encoder encoder(demo(), space(), kGuess);
  std::vector<ChainContext> contexts(4);
  contexts[1].salt = "tenant";
  contexts[2].lora = "tenant";
  contexts[3].items = {{.identifier = "image", .offset = 1, .length = 2}};
  std::set<BlockKey> first_keys;
  std::set<BlockKey> first_guesses;
  for (const ChainContext& context : contexts) {
    Input input = input_of(TextPrompt{kText});
    input.context = context;
    const Encoded one = encode_one(encoder, input);
    ASSERT_FALSE(one.chain.empty());
    EXPECT_EQ(one.chain, space().chain(demo()->encode(kText, tokens::SpecialTokens::kAdd).value(), context));
    first_keys.insert(one.chain.front());
    first_guesses.insert(one.guessed_chain.front());
  }
  EXPECT_EQ(first_keys.size(), 4u);
  EXPECT_EQ(first_guesses.size(), 4u);
}

TEST(Encoder, GuessIsAsThePolicyWantsIt) {
  EXPECT_THAT(encode_one(Encoder(demo(), space(), kNoGuess), input_of(TextPrompt{kText})).guessed_chain, IsEmpty());
  EXPECT_THAT(encode_one(Encoder(nullptr, space(), kNoGuess), input_of(chat_of(kMessages))).guessed_chain, IsEmpty());
  EXPECT_EQ(encode_one(Encoder(demo(), space(), Guess{16, 2}), input_of(TextPrompt{kText})).guessed_chain.size(), 2u);
}

TEST(Encoder, WithoutATokenizerATokenIsFourBytes) {
  const Encoder encoder(nullptr, space(), kGuess);
  const Encoded text = encode_one(encoder, input_of(TextPrompt{kText}));
  EXPECT_FALSE(text.exact);
  EXPECT_EQ(text.why_not, kWhyNotNoTokenizer);
  EXPECT_THAT(text.chain, IsEmpty());
  EXPECT_EQ(text.prompt_tokens, kText.size() / 4);
  EXPECT_EQ(text.guessed_chain, space().text_chain(kText, 16, 0, {}));
  const Encoded chat = encode_one(encoder, input_of(chat_of(kMessages)));
  EXPECT_FALSE(chat.exact);
  EXPECT_EQ(chat.prompt_tokens, guess_text(chat_of(kMessages)).value().size() / 4);
  EXPECT_FALSE(chat.guessed_chain.empty());
}

TEST(Encoder, MediaAndMissingTemplatesAreNamed) {
  Input media = input_of(chat_of(kMessages));
  media.has_media = true;
  const Encoded one = encode_one(Encoder(demo(), space(), kGuess), media);
  EXPECT_FALSE(one.exact);
  EXPECT_EQ(one.why_not, kWhyNotMedia);
  EXPECT_THAT(one.chain, IsEmpty());
  EXPECT_FALSE(one.guessed_chain.empty());
  const auto plain = demo_with(R"({"tokenizer_class":"PreTrainedTokenizerFast"})");
  EXPECT_EQ(encode_one(Encoder(plain, space(), kGuess), input_of(chat_of(kMessages))).why_not, kWhyNotNoTemplate);
}

TEST(Encoder, ClientsErrorsComeBack) {
  const Encoder exact(demo(), space(), kGuess);
  const Encoder guessing(nullptr, space(), kGuess);
  EXPECT_EQ(exact.encode(input_of(TextPrompt{"\xff"})).error().kind, ErrorKind::kInvalid);
  for (std::string_view messages : {"", "{}", "[1]", "[{}]", R"([{"role":"user","content":5}])", R"([{"role":5}])", "["}) {
    EXPECT_EQ(exact.encode(input_of(chat_of(messages))).error().kind, ErrorKind::kInvalid) << messages;
    EXPECT_EQ(guessing.encode(input_of(chat_of(messages))).error().kind, ErrorKind::kInvalid) << messages;
  }
  const auto refusal = exact.encode(input_of(chat_of(R"([{"role":"critic","content":"x"}])")));
  ASSERT_FALSE(refusal.ok());
  EXPECT_EQ(refusal.error().message, "Unknown role: critic");
  const auto endless = demo_with(R"({"chat_template":"{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"})");
  EXPECT_EQ(Encoder(endless, space(), kGuess).encode(input_of(chat_of(kMessages))).error().kind, ErrorKind::kTooLarge);
}

TEST(Encoder, SeveralPromptsKeepTheirOrder) {
  const std::vector<TokenId> ids = {1, 2, 3, 4};
  Input input;
  input.prompts = {TextPrompt{kText}, IdsPrompt{ids}, TextPrompt{"", tokens::SpecialTokens::kNone}};
  const auto all = Encoder(demo(), space(), kGuess).encode(input).value();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].chain, encode_one(Encoder(demo(), space(), kGuess), input_of(TextPrompt{kText})).chain);
  EXPECT_EQ(all[1].prompt_tokens, 4u);
  EXPECT_EQ(all[2].prompt_tokens, 0u);
  EXPECT_TRUE(all[2].exact);
  EXPECT_THAT(all[2].chain, IsEmpty());
}

TEST(Encoder, TruncationKeepsWhatTheEngineKeeps) {
  const std::vector<TokenId> ids = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19};
  const Encoder encoder(demo(), space(), kNoGuess);
  const auto kept = [&](std::optional<std::int64_t> tokens, std::optional<tokens::TruncationSide> side, std::uint32_t max) {
    Input input = input_of(IdsPrompt{ids});
    input.truncate_prompt_tokens = tokens;
    input.truncation_side = side;
    input.truncation_tokens_max = max;
    return encode_one(encoder, input);
  };
  const auto chain = [&](std::size_t from, std::size_t count) {
    return space().chain(std::span(ids).subspan(from, count), {});
  };
  EXPECT_EQ(kept({}, {}, 3).chain, chain(0, 10));
  EXPECT_EQ(kept(9, {}, 0).chain, chain(1, 9)) << "vLLM 0.32 keeps the last ones unless told otherwise";
  EXPECT_EQ(kept(9, tokens::TruncationSide::kRight, 0).chain, chain(0, 9));
  EXPECT_EQ(kept(8, tokens::TruncationSide::kLeft, 0).chain, chain(2, 8));
  EXPECT_EQ(kept(8, tokens::TruncationSide::kLeft, 0).prompt_tokens, 8u);
  EXPECT_EQ(kept(100, tokens::TruncationSide::kLeft, 0).chain, chain(0, 10));
  EXPECT_EQ(kept(0, {}, 0).prompt_tokens, 0u);
  EXPECT_EQ(kept(-1, {}, 0).chain, chain(0, 10));
  EXPECT_EQ(kept(-1, {}, 5).chain, chain(5, 5));
}

// Recorded at vLLM 0.32 with Qwen3's tokenizer, which adds nothing: the last three of six.
TEST(Encoder, AnUnaskedCutIsExactWhereNoSpecialTokensAreAdded) {
  Input input = input_of(TextPrompt{kText});
  input.truncate_prompt_tokens = 8;
  const auto ids = demo()->encode(kText, tokens::SpecialTokens::kAdd).value();
  const Encoded one = encode_one(Encoder(demo(), space(), kNoGuess), input);
  EXPECT_TRUE(one.exact);
  EXPECT_EQ(one.chain, space().chain(std::span(ids).last(8), {}));
}

TEST(Encoder, AnUnaskedCutAroundSpecialTokensIsNotClaimed) {
  tokens::ModelFiles files = demo_files();
  const std::string none = R"("post_processor":null)";
  const auto at = files.tokenizer_json.find(none);
  ASSERT_NE(at, std::string::npos);
  const std::string adds =
      R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|im_end|>","type_id":0}},)"
      R"({"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<|im_end|>":{"id":"<|im_end|>",)"
      R"("ids":[)" + std::to_string(demo()->end_ids().front()) + R"(],"tokens":["<|im_end|>"]}}})";
  files.tokenizer_json.replace(at, none.size(), adds);
  const auto left = tokens::Tokenizer::create(files).value();
  const auto word_for = [&](tokens::SpecialTokens special, std::optional<tokens::TruncationSide> side) {
    Input input = input_of(TextPrompt{kText, special});
    input.truncate_prompt_tokens = 5;
    input.truncation_side = side;
    return encode_one(Encoder(left, space(), kNoGuess), input).why_not;
  };
  EXPECT_EQ(word_for(tokens::SpecialTokens::kAdd, {}), kWhyNotTruncation);
  EXPECT_EQ(word_for(tokens::SpecialTokens::kNone, {}), "");
  EXPECT_EQ(word_for(tokens::SpecialTokens::kAdd, tokens::TruncationSide::kLeft), "");
}

std::string guess_of(std::string_view messages, std::string_view tools = {}) {
  tokens::ChatInput chat = chat_of(messages);
  chat.tools = tools;
  return guess_text(chat).value();
}

TEST(GuessText, GrowsWithTheConversationAndKeepsItsBeginning) {
  const std::string one = guess_of(R"([{"role":"user","content":"a"}])");
  const std::string two = guess_of(R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"}])");
  EXPECT_TRUE(two.starts_with(one));
  EXPECT_GT(two.size(), one.size());
}

TEST(GuessText, DoesNotDependOnSpellingButOnMeaning) {
  const std::string plain = guess_of(R"([{"role":"user","content":"aé\n"}])");
  EXPECT_EQ(plain, guess_of("  [ { \"content\" : \"a\\u00e9\\n\", \"name\": \"x\", \"role\" : \"user\" } ]"));
  EXPECT_EQ(plain, guess_of(R"([{"role":"user","content":[{"type":"text","text":"aé\n"}]}])"));
  EXPECT_NE(plain, guess_of(R"([{"role":"system","content":"aé\n"}])"));
  EXPECT_NE(plain, guess_of(R"([{"role":"user","content":"aé\n"}])", R"([{"type":"function"}])"));
  EXPECT_NE(guess_of(R"([{"role":"user","content":["ab","c"]}])"), guess_of(R"([{"role":"user","content":["a","bc"]}])"));
  EXPECT_NE(guess_of(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}])"),
            guess_of(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"y"}}]}])"));
  EXPECT_NE(guess_of(R"([{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}])"),
            guess_of(R"([{"role":"assistant","content":null,"tool_calls":[{"id":"2"}]}])"));
}

}  // namespace
}  // namespace warmpath::prompt
