// A Hugging Face model folder on disk -> what tokens needs of it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "tokens/tokens.h"

namespace warmpath::app {

// Reads tokenizer.json and, where they are, tokenizer_config.json, chat_template.jinja (or chat_template.json),
// special_tokens_map.json and config.json. Errors name the file and the remedy. Limits: tokenizer.json 256 MB, the
// others 16 MB each.
Result<tokens::ModelFiles> read_model_folder(const std::string& folder);

// Whether there is a tokenizer.json, with the same errors; it is not opened.
Result<void> find_model_folder(const std::string& folder);

// Prompts that an engine makes of this model in another way than by tokenizer.json and the template, one sentence each:
// chats rendered in code, Mistral's own tokenizer, media. For the log at start; empty for most models.
std::vector<std::string> inexact_prompts(const tokens::ModelFiles& files, const tokens::Tokenizer& tokenizer,
                                         const std::string& folder);

// The same, loaded; an error names the folder. Cost: 0.05 to 0.7 s.
Result<std::shared_ptr<const tokens::Tokenizer>> load_model_folder(const std::string& folder);

// Folders, each loaded once: pools that name the same one, by whatever path, share its tokenizer. One owner.
class ModelFolders {
 public:
  struct Loaded {
    std::shared_ptr<const tokens::Tokenizer> tokenizer;
    std::uint64_t print = 0;           // of all that decides what ids a prompt becomes
    std::vector<std::string> inexact;  // as inexact_prompts() says
  };
  Result<Loaded> load(const std::string& folder);

 private:
  std::map<std::string, Loaded> loaded_;  // by the path without links and dots
};

}  // namespace warmpath::app
