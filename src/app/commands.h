// app: main, subcommands, composition, threads, shutdown order.
//
// To add a command `warmpath NAME`:
//   1. write src/app/command_NAME.cc with `int run_NAME(std::span<const std::string> args)`; `args` is what follows the
//      name. Read it with config::Flags, which brings --help, examples, nearest names and exit code 2:
//        int run_name(std::span<const std::string> args) {
//          std::uint64_t blocks = 64;
//          config::Format format = config::Format::kTable;
//          config::Flags flags("name", "one sentence");
//          flags.number("blocks", "N", "how many blocks", &blocks, 1, 1'000'000);
//          flags.format(&format);
//          flags.example("warmpath name --blocks 8", "with eight blocks");
//          if (const auto code = flags.read(args)) return *code;
//          …
//        }
//   2. declare it below and add one line to the list in commands.cc (two words are fine: "events decode").
// Nothing else: help and shell completion follow the list. A command that is not built is not in the list.
//
// Exit codes: 0 done, 1 failed (one line on stderr: the thing, the limit, the remedy), 2 wrong usage or configuration.
// stdout: the result alone (JSON with --format json); progress and logs: stderr. SIGPIPE is ignored by main.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/base.h"
#include "config/flags.h"

namespace warmpath::app {

using config::print;

struct Command {
  std::string_view name;     // "tokenize", "events decode"
  std::string_view summary;  // one line for --help, no full stop
  int (*run)(std::span<const std::string> args);
};

// All commands that exist, in the order of --help.
std::span<const Command> commands();

// `args` without the program's name. Finds the command and runs it; answers --help, --version and mistakes itself.
int run_app(std::span<const std::string> args);

// One "warmpath: …" line on stderr; returns 1, or 2 when the fault is in what the user gave (kInvalid, kConflict …).
int fail(const Error& error);

int run_blocks(std::span<const std::string> args);
int run_completion(std::span<const std::string> args);
int run_config_docs(std::span<const std::string> args);
int run_config_check(std::span<const std::string> args);
int run_engine(std::span<const std::string> args);
int run_demo(std::span<const std::string> args);
int run_doctor(std::span<const std::string> args);
int run_events_decode(std::span<const std::string> args);
int run_index_dump(std::span<const std::string> args);
int run_index_stat(std::span<const std::string> args);
int run_index_who(std::span<const std::string> args);
int run_load(std::span<const std::string> args);
int run_policies(std::span<const std::string> args);
int run_serve(std::span<const std::string> args);
int run_simulate(std::span<const std::string> args);
int run_tokenize(std::span<const std::string> args);
int run_version(std::span<const std::string> args);

}  // namespace warmpath::app
