// Models for tests: the committed demo model and, from a cache folder, real ones (tools/fetch_tokenizers.sh).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "tokens/tokens.h"

namespace warmpath::tokens {

inline bool read_if_there(const std::string& path, std::string& into) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  std::ostringstream content;
  content << file.rdbuf();
  into = std::move(content).str();
  return true;
}

inline std::string read_test_file(const std::string& path) {
  std::string content;
  EXPECT_TRUE(read_if_there(path, content)) << path << " is missing";
  return content;
}

inline ModelFiles read_model_files(const std::string& folder) {
  ModelFiles files;
  files.tokenizer_json = read_test_file(folder + "/tokenizer.json");
  const auto optional = [&](const char* name, std::optional<std::string>& into) {
    std::string content;
    if (read_if_there(folder + "/" + name, content)) into = std::move(content);
  };
  optional("tokenizer_config.json", files.tokenizer_config_json);
  optional("config.json", files.config_json);
  return files;
}

inline std::string real_models_folder() {
  if (const char* folder = std::getenv("WARMPATH_TOKENIZERS")) return folder;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return std::string(cache) + "/warmpath/tokenizers";
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "" : home) + "/.cache/warmpath/tokenizers";
}

inline const Tokenizer& load_once(const std::string& folder, const std::string& remedy) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>> loaded;
  auto& tokenizer = loaded[folder];
  if (tokenizer == nullptr) {
    auto made = Tokenizer::create(read_model_files(folder));
    if (!made.ok()) {
      // Without it none of the caller's assertions has a meaning.
      std::fprintf(stderr, "%s: %s; %s\n", folder.c_str(), made.error().message.c_str(), remedy.c_str());
      std::exit(1);
    }
    tokenizer = *made;
  }
  return *tokenizer;
}

// Fails the program with the remedy when the model is not there.
inline const Tokenizer& real_model(const std::string& name) {
  return load_once(real_models_folder() + "/" + name, "run tools/fetch_tokenizers.sh (or set WARMPATH_TOKENIZERS)");
}

inline const Tokenizer& demo_model() {
  return load_once(std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model", "is the working tree whole?");
}

}  // namespace warmpath::tokens
