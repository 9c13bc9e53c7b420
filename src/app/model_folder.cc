#include "app/model_folder.h"

#include <simdjson.h>

#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "io/files.h"

namespace warmpath::app {
namespace {

constexpr std::size_t kTokenizerBytesMax = 256u << 20;
constexpr std::size_t kFileBytesMax = 16u << 20;

Result<std::optional<std::string>> read_if_there(const std::string& path) {
  auto content = io::read_file(path, kFileBytesMax);
  if (content.ok()) return std::optional<std::string>(std::move(*content));
  if (content.error().kind == ErrorKind::kNotFound) return std::optional<std::string>();
  return std::move(content).error();
}

// What to do when tokenizer.json is not there.
Error no_tokenizer(const std::string& folder) {
  if (!io::file_exists(folder)) {
    return {ErrorKind::kNotFound, folder + ": no such folder; the tokenizer is a model's folder with tokenizer.json"};
  }
  for (const char* other : {"tekken.json", "tokenizer.model", "vocab.json", "spiece.model"}) {
    if (io::file_exists(folder + "/" + other)) {
      return {ErrorKind::kNotFound, folder + " has " + other + " but no tokenizer.json; save one with transformers: " +
                                        "AutoTokenizer.from_pretrained(…).save_pretrained(…)"};
    }
  }
  return {ErrorKind::kNotFound, folder + "/tokenizer.json: no such file; copy it from the model's repository"};
}

// {"chat_template": "…"}: how older processors keep it.
Result<std::string> template_in_json(const std::string& path, const std::string& content) {
  simdjson::dom::parser parser;
  std::string_view text;
  if (parser.parse(content)["chat_template"].get_string().get(text) == simdjson::SUCCESS) return std::string(text);
  return Error{ErrorKind::kInvalid, path + ": not a JSON object with a text under \"chat_template\""};
}

// All that decides what ids a prompt becomes.
std::uint64_t fingerprint(const tokens::ModelFiles& files) {
  std::string all;
  for (const auto* file :
       {&files.tokenizer_config_json, &files.chat_template_jinja, &files.special_tokens_map_json, &files.config_json}) {
    all += std::to_string(*file ? stable_hash(**file) : 0) + ' ';
  }
  return stable_hash(all + std::to_string(stable_hash(files.tokenizer_json)));
}

Result<std::shared_ptr<const tokens::Tokenizer>> create_tokenizer(const tokens::ModelFiles& files,
                                                                  const std::string& folder) {
  auto tokenizer = tokens::Tokenizer::create(files);
  if (!tokenizer.ok()) return Error{tokenizer.error().kind, folder + ": " + tokenizer.error().message};
  return tokenizer;
}

}  // namespace

Result<void> find_model_folder(const std::string& folder) {
  if (!io::file_exists(folder + "/tokenizer.json")) return no_tokenizer(folder);
  return {};
}

Result<tokens::ModelFiles> read_model_folder(const std::string& folder) {
  tokens::ModelFiles files;
  auto tokenizer = io::read_file(folder + "/tokenizer.json", kTokenizerBytesMax);
  if (!tokenizer.ok()) {
    if (tokenizer.error().kind == ErrorKind::kNotFound) return no_tokenizer(folder);
    return std::move(tokenizer).error();
  }
  files.tokenizer_json = std::move(*tokenizer);
  const auto optional = [&](const char* name, std::optional<std::string>& into) -> Result<void> {
    auto content = read_if_there(folder + "/" + name);
    if (!content.ok()) return std::move(content).error();
    into = std::move(*content);
    return {};
  };
  if (auto read = optional("tokenizer_config.json", files.tokenizer_config_json); !read.ok()) return read.error();
  if (auto read = optional("special_tokens_map.json", files.special_tokens_map_json); !read.ok()) return read.error();
  if (auto read = optional("config.json", files.config_json); !read.ok()) return read.error();
  if (auto read = optional("chat_template.jinja", files.chat_template_jinja); !read.ok()) return read.error();
  if (!files.chat_template_jinja) {
    std::optional<std::string> wrapped;
    if (auto read = optional("chat_template.json", wrapped); !read.ok()) return read.error();
    if (wrapped) {
      auto text = template_in_json(folder + "/chat_template.json", *wrapped);
      if (!text.ok()) return std::move(text).error();
      files.chat_template_jinja = std::move(*text);
    }
  }
  return files;
}

std::vector<std::string> inexact_prompts(const tokens::ModelFiles& files, const tokens::Tokenizer& tokenizer,
                                         const std::string& folder) {
  std::vector<std::string> all;
  if (!tokenizer.exactness().proven) all.push_back(tokenizer.exactness().why_not);
  if (!tokenizer.has_chat_template()) {
    all.push_back(io::file_exists(folder + "/tekken.json")
                      ? "chats: no chat template, and tekken.json: engines render with Mistral's own tokenizer"
                      : "chats: the folder has no chat template");
  }
  simdjson::dom::parser parser;
  simdjson::dom::element config;
  if (files.config_json && parser.parse(*files.config_json).get(config) == simdjson::SUCCESS) {
    for (const char* key : {"vision_config", "audio_config", "image_token_id", "image_token_index"}) {
      simdjson::dom::element value;
      if (config[key].get(value) != simdjson::SUCCESS || value.is_null()) continue;
      all.emplace_back("images and other media: their placeholders are the engine's to make");
      break;
    }
  }
  return all;
}

Result<std::shared_ptr<const tokens::Tokenizer>> load_model_folder(const std::string& folder) {
  auto files = read_model_folder(folder);
  if (!files.ok()) return std::move(files).error();
  return create_tokenizer(*files, folder);
}

Result<ModelFolders::Loaded> ModelFolders::load(const std::string& folder) {
  std::error_code unknown;
  const std::string path = std::filesystem::canonical(folder, unknown).string();
  if (const auto known = loaded_.find(path); !unknown && known != loaded_.end()) return known->second;
  auto files = read_model_folder(folder);
  if (!files.ok()) return std::move(files).error();
  auto tokenizer = create_tokenizer(*files, folder);
  if (!tokenizer.ok()) return std::move(tokenizer).error();
  Loaded loaded{*tokenizer, fingerprint(*files), inexact_prompts(*files, **tokenizer, folder)};
  if (!unknown) loaded_.emplace(path, loaded);
  return loaded;
}

}  // namespace warmpath::app
