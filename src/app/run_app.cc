#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "app/commands.h"

namespace warmpath::app {
namespace {

std::string help_text() {
  std::size_t width = 0;
  for (const Command& command : commands()) width = std::max(width, command.name.size());
  std::string out =
      "Warmpath sends every LLM request to the engine that already holds its prefix in KV cache.\n\n"
      "Usage: warmpath COMMAND [OPTIONS]\n\nCommands:\n";
  for (const Command& command : commands()) {
    out += "  " + std::string(command.name) + std::string(width - command.name.size() + 2, ' ');
    out += std::string(command.summary) + "\n";
  }
  out +=
      "\nOptions:\n  --help     this text; `warmpath COMMAND --help` tells more\n"
      "  --version  version, commit and compiler\n";
  return out;
}

// The command with the longest name that `args` start with.
const Command* find_command(std::span<const std::string> args, std::size_t& words) {
  const Command* found = nullptr;
  words = 0;
  for (const Command& command : commands()) {
    const auto parts = split(command.name, ' ');
    if (parts.size() <= words || parts.size() > args.size()) continue;
    if (!std::equal(parts.begin(), parts.end(), args.begin())) continue;
    found = &command;
    words = parts.size();
  }
  return found;
}

int unknown_command(std::span<const std::string> args) {
  std::vector<std::string_view> names;
  std::string members;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    if (split(command.name, ' ').front() == args[0] && split(command.name, ' ').size() > 1) {
      members += (members.empty() ? "" : ", ") + std::string(command.name);
    }
  }
  std::string typed = args[0];
  std::string line = "warmpath: ";
  if (!members.empty()) {
    line += "'" + typed + "' needs one more word: " + members;
  } else {
    line += "there is no command '" + typed + "'";
    if (args.size() > 1 && !args[1].starts_with('-')) {
      if (const auto near = nearest_name(typed + " " + args[1], names))
        line += "; did you mean '" + std::string(*near) + "'?";
    } else if (const auto near = nearest_name(typed, names)) {
      line += "; did you mean '" + std::string(*near) + "'?";
    }
  }
  std::fprintf(stderr, "%s\nwarmpath: `warmpath --help` lists the commands\n", line.c_str());
  return 2;
}

}  // namespace

int fail(const Error& error) {
  std::fprintf(stderr, "warmpath: %s\n", error.message.c_str());
  return error.kind == ErrorKind::kInvalid ? 2 : 1;
}

int run_app(std::span<const std::string> args) {
  if (args.empty()) {
    std::fputs(help_text().c_str(), stderr);
    return 2;
  }
  if (args[0] == "--help" || args[0] == "-h" || args[0] == "help") return print(help_text()) ? 0 : 1;
  if (args[0] == "--version") return run_version(args.subspan(1));
  if (args[0] == "--list-commands") {  // for the completion scripts
    std::string names;
    for (const Command& command : commands()) names += std::string(command.name) + "\n";
    return print(names) ? 0 : 1;
  }
  std::size_t words = 0;
  const Command* command = find_command(args, words);
  if (command == nullptr) return unknown_command(args);
  return command->run(args.subspan(words));
}

}  // namespace warmpath::app
