#include "app/commands.h"
#include "app/commit.h"
#include "app/version_numbers.h"
#include "config/flags.h"

namespace warmpath::app {

int run_version(std::span<const std::string> args) {
  config::Format format = config::Format::kTable;
  config::Flags flags("--version", "version, commit and compiler");
  flags.format(&format).example("warmpath --version --format json", "for scripts");
  if (const auto code = flags.read(args)) return *code;
  if (format == config::Format::kJson) {
    JsonWriter w;
    w.object().member("version", kVersion).member("commit", kCommit).member("compiler", kCompiler);
    w.member("sanitizer", kSanitizer).end();
    return print(w.take() + "\n") ? 0 : 1;
  }
  std::string line = std::string("warmpath ") + kVersion + " (commit " + kCommit + ", " + kCompiler;
  if (kSanitizer[0] != '\0') line += std::string(", sanitizer ") + kSanitizer;
  return print(line + ")\n") ? 0 : 1;
}

}  // namespace warmpath::app
