// The option table of the gateway: one row an option, from which YAML reading, flags, help and docs/config.md follow.
//
//   GatewayConfig config;
//   GatewayFlags gateway(checks);
//   config::Flags flags("serve", "the gateway");
//   gateway.add_to(flags);
//   if (const auto code = flags.read(args)) return *code;
//   auto faults = gateway.finish(read_file, config);   // reads --config FILE, then the flags on top
//   if (!faults.empty()) { … to_text(faults) …; return 2; }
//
// Thread rule: one owner. Nothing here opens a file: reading and looking are handed in.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "config/faults.h"
#include "config/flags.h"
#include "config/gateway_config.h"

namespace warmpath::config {

constexpr std::size_t kConfigBytesMax = 1u << 20;
constexpr std::size_t kConfigDepthMax = 16;       // nesting in YAML
constexpr std::size_t kConfigValuesMax = 20'000;  // scalars, lists and maps in a file; aliases are refused
constexpr std::size_t kFaultsMax = 100;           // after these, one line says how many more

// What other rooms know and config only checks.
struct Checks {
  std::vector<std::string_view> policies;  // schedule's list; empty: any
  // Why the file or folder that an option names cannot be used ("tokenizer", "secret_file", "ca"); empty: it can.
  // Unset: files are not looked at.
  std::function<std::string(std::string_view option, const std::string& path)> path_fault{};
};

// Reads one YAML text into `out` (defaults for what it does not name). Returns all faults; then `out` is not to be
// used. `file` is only a name for messages. Never throws; hostile text costs at most the limits above.
std::vector<Fault> read_gateway_yaml(std::string_view text, std::string_view file, const Checks& checks,
                                     GatewayConfig& out);

// "URL[,kv=tcp://…|kv=bind:tcp://…][,replay=tcp://…][,dp=N][,ca=FILE][,adapters=A+B]". kInvalid names
// every part that is wrong.
Result<EngineConfig> parse_engine(std::string_view text);

// The flags of `serve`: --config and one flag for each row that has one; a pool's flags describe the single pool of a
// gateway without a file, or change the file's only pool.
class GatewayFlags {
 public:
  explicit GatewayFlags(Checks checks);
  void add_to(Flags& flags);

  using ReadFile = std::function<Result<std::string>(const std::string& path)>;
  // Puts file and flags together into `out` and checks the whole. Empty: `out` is good.
  std::vector<Fault> finish(const ReadFile& read_file, GatewayConfig& out);

 private:
  Checks checks_;
  std::string config_file_;
  struct Given {
    std::size_t row = 0;  // in the table
    std::string value;
  };
  std::vector<Given> given_;  // in the order of the command line
};

// docs/config.md as it has to be: every row with key, flag, type, range, default and sentence.
std::string gateway_docs_markdown();

}  // namespace warmpath::config
