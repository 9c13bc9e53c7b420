// Model folders as they are found, and `warmpath tokenize` over them.
#include "app/model_folder.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "app/commands.h"
#include "app/test_run.h"

namespace warmpath::app {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;
using testing::outcome_of;

std::string demo_folder() { return std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model"; }

std::string real_folder(const std::string& name) {
  const char* given = std::getenv("WARMPATH_TOKENIZERS");
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  std::string root = given != nullptr   ? std::string(given)
                     : cache != nullptr ? std::string(cache) + "/warmpath/tokenizers"
                                        : std::string(home == nullptr ? "" : home) + "/.cache/warmpath/tokenizers";
  EXPECT_TRUE(std::filesystem::exists(root + "/" + name + "/tokenizer.json"))
      << "run tools/fetch_tokenizers.sh (or set WARMPATH_TOKENIZERS)";
  return root + "/" + name;
}

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/model_folder.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    path = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(path); }
  void write(const std::string& name, const std::string& content) { std::ofstream(path + "/" + name) << content; }
  void copy_demo() {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "config.json"}) {
      std::filesystem::copy_file(demo_folder() + "/" + name, path + "/" + name);
    }
  }
  std::string load_error() const {
    auto loaded = load_model_folder(path);
    EXPECT_FALSE(loaded.ok());
    return loaded.ok() ? std::string() : loaded.error().message;
  }
  std::string rendered() const {
    tokens::ChatInput chat;
    chat.messages = R"([{"role":"user","content":"hi"}])";
    return load_model_folder(path).value()->render_chat(chat).value();
  }
  std::string path;
};

TEST_F(Folder, SaysWhatOfAModelCannotBeComputedHere) {
  copy_demo();
  const auto said = [this] {
    const auto files = read_model_folder(path).value();
    return inexact_prompts(files, *tokens::Tokenizer::create(files).value(), path);
  };
  EXPECT_THAT(said(), ::testing::IsEmpty());
  write("config.json", R"({"model_type":"deepseek_v32"})");
  EXPECT_THAT(said(), ::testing::ElementsAre(HasSubstr("deepseek_v32 in code")));
  write("config.json", R"({"model_type":"qwen3","vision_config":{},"image_token_id":7})");
  EXPECT_THAT(said(), ::testing::ElementsAre(HasSubstr("images")));
  write("config.json", R"({"model_type":"qwen3"})");
  write("tokenizer_config.json", R"({"tokenizer_class":"PreTrainedTokenizerFast"})");
  EXPECT_THAT(said(), ::testing::ElementsAre("chats: the folder has no chat template"));
  write("tekken.json", "{}");
  EXPECT_THAT(said(), ::testing::ElementsAre(HasSubstr("Mistral's own tokenizer")));
}

TEST_F(Folder, NamesWhatIsMissingAndTheRemedy) {
  EXPECT_THAT(load_error(), ::testing::AllOf(HasSubstr(path + "/tokenizer.json"), HasSubstr("copy it")));
  write("tekken.json", "{}");
  EXPECT_THAT(load_error(), ::testing::AllOf(HasSubstr("tekken.json"), HasSubstr("save_pretrained")));
  write("tokenizer.json", "{}");
  EXPECT_THAT(load_error(), ::testing::AllOf(HasSubstr(path), HasSubstr("tokenizer.json")));
  auto loaded = load_model_folder(path + "/nowhere");
  EXPECT_THAT(loaded.error().message, HasSubstr("no such folder"));
  EXPECT_EQ(loaded.error().kind, ErrorKind::kNotFound);
}

TEST_F(Folder, IsLoadedOnceForAllWhoNameIt) {
  copy_demo();
  const std::string link = path + "/itself";
  std::filesystem::create_directory_symlink(path, link);
  ModelFolders folders;
  const auto first = folders.load(path).value();
  EXPECT_EQ(folders.load(link + "/.").value().tokenizer, first.tokenizer);
  EXPECT_EQ(folders.load(path + "/nowhere").error().kind, ErrorKind::kNotFound);
  EXPECT_NE(ModelFolders().load(path).value().tokenizer, first.tokenizer);
  write("tekken.json", "{}");
  write("tokenizer_config.json", R"({"tokenizer_class":"PreTrainedTokenizerFast"})");
  EXPECT_THAT(ModelFolders().load(path).value().inexact, ::testing::ElementsAre(HasSubstr("Mistral's own tokenizer")));
}

TEST_F(Folder, OptionalFilesMayBeMissingButNotBroken) {
  copy_demo();
  EXPECT_TRUE(load_model_folder(path).value()->exactness().proven);
  std::filesystem::remove(path + "/config.json");
  std::filesystem::remove(path + "/tokenizer_config.json");
  auto bare = load_model_folder(path).value();
  EXPECT_FALSE(bare->has_chat_template());
  EXPECT_FALSE(bare->exactness().proven);
  write("tokenizer_config.json", "{");
  EXPECT_THAT(load_error(), HasSubstr("tokenizer_config.json"));
  std::filesystem::remove(path + "/tokenizer_config.json");
  std::filesystem::create_directory(path + "/config.json");
  EXPECT_THAT(load_error(), HasSubstr("config.json"));
}

TEST_F(Folder, TemplateFilesComeBeforeTheConfig) {
  copy_demo();
  EXPECT_EQ(rendered(), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  write("chat_template.json", R"({"chat_template":"json {{ messages[0].content }}"})");
  EXPECT_EQ(rendered(), "json hi");
  write("chat_template.jinja", "jinja {{ messages[0].content }}");
  EXPECT_EQ(rendered(), "jinja hi");
  std::filesystem::remove(path + "/chat_template.jinja");
  for (const char* broken : {"{", "[]", R"({"chat_template":1})"}) {
    write("chat_template.json", broken);
    EXPECT_THAT(load_error(), HasSubstr("chat_template.json")) << broken;
  }
}

// The command with `input` as its standard input.
Outcome tokenize(const std::string& input, const std::vector<std::string>& args) {
  std::FILE* file = std::tmpfile();
  EXPECT_NE(file, nullptr);
  EXPECT_EQ(std::fwrite(input.data(), 1, input.size(), file), input.size());
  std::rewind(file);
  const int before = ::dup(STDIN_FILENO);
  ::dup2(::fileno(file), STDIN_FILENO);
  Outcome outcome = outcome_of(run_tokenize, args);
  ::dup2(before, STDIN_FILENO);
  ::close(before);
  std::fclose(file);
  return outcome;
}

TEST(Tokenize, PrintsTheIdsThatTheTokenizersLibraryGives) {
  const std::pair<const char*, const char*> cases[] = {{"qwen3", "{\"ids\":[14990,1879]}\n"},
                                                       {"llama3", "{\"ids\":[15339,1917]}\n"},
                                                       {"deepseek_v3", "{\"ids\":[33310,2058]}\n"}};
  for (const auto& [model, expected] : cases) {
    const Outcome outcome = tokenize("hello world", {"--tokenizer", real_folder(model), "--format", "json"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, expected) << model;
  }
  const std::string llama = real_folder("llama3_2");
  EXPECT_EQ(tokenize("hello", {"--tokenizer", llama, "--format", "json"}).out, "{\"ids\":[128000,15339]}\n");
  EXPECT_EQ(tokenize("hello", {"--tokenizer", llama, "--format", "json", "--no-special-tokens"}).out,
            "{\"ids\":[15339]}\n");
}

TEST(Tokenize, ReadsTextByteForByte) {
  const Outcome table = tokenize(std::string("a\0\n", 3), {"--tokenizer", demo_folder()});
  EXPECT_EQ(table.code, 0);
  EXPECT_THAT(table.out, HasSubstr("\"\\u0000\""));
  EXPECT_THAT(table.out, HasSubstr("3 ids"));
  EXPECT_EQ(tokenize("", {"--tokenizer", demo_folder(), "--format", "json"}).out, "{\"ids\":[]}\n");
  EXPECT_EQ(tokenize("\xff", {"--tokenizer", demo_folder()}).code, 1);
}

TEST(Tokenize, ChatsAreRenderedAndRefusalsAreErrors) {
  const std::string llama = real_folder("llama3_2");
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":"q"}]})";
  const Outcome one = tokenize(body, {"--tokenizer", llama, "--chat", "--now", "2026-11-23", "--format", "json"});
  const Outcome same =
      tokenize(body, {"--tokenizer", llama, "--chat", "--now", "2026-11-23T23:59:59", "--format", "json"});
  const Outcome next = tokenize(body, {"--tokenizer", llama, "--chat", "--now", "2026-11-24", "--format", "json"});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_THAT(one.out, ::testing::StartsWith("{\"ids\":[128000,128006,9125,128007,"));
  EXPECT_EQ(one.out, same.out);
  EXPECT_NE(one.out, next.out);
  const Outcome refused = tokenize(R"({"messages":[{"role":"critic","content":"q"}]})",
                                   {"--tokenizer", demo_folder(), "--chat", "--format", "json"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_EQ(refused.err, "warmpath: Unknown role: critic\n");
  EXPECT_EQ(tokenize("{", {"--tokenizer", demo_folder(), "--chat"}).code, 1);
}

TEST(Tokenize, WrongUsageIsExitCodeTwo) {
  EXPECT_EQ(tokenize("", {}).code, 2);
  for (const char* date : {"2026-13-01", "2026-06-31", "today", "2026-11-23T1", "2026-11-23 "}) {
    EXPECT_EQ(tokenize("", {"--tokenizer", demo_folder(), "--now", date}).code, 2) << date;
  }
  EXPECT_EQ(tokenize("", {"--tokenizer", "/nowhere"}).code, 1);
}

}  // namespace
}  // namespace warmpath::app
