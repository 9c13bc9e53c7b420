#include "app/commands.h"
#include "config/config.h"

namespace warmpath::app {

int run_config_docs(std::span<const std::string> args) {
  config::Flags flags("config docs", "print the page of all options (docs/config.md)");
  flags.example("warmpath config docs > docs/config.md", "after a change of the option table");
  if (const auto code = flags.read(args)) return *code;
  return print(config::gateway_docs_markdown()) ? 0 : 1;
}

}  // namespace warmpath::app
