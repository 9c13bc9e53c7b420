#include <cstdio>

#include "app/commands.h"
#include "app/option_files.h"
#include "config/config.h"
#include "io/io.h"

namespace warmpath::app {

int run_config_check(std::span<const std::string> args) {
  std::vector<std::string> files;
  config::Format format = config::Format::kTable;
  config::Flags flags("config check", "name every fault of a configuration file");
  flags.positionals("FILE", "the YAML file that `warmpath serve --config` would read", &files, 1, 1).format(&format);
  flags.example("warmpath config check warmpath.yaml", "exit code 0: no fault; 2: faults, one a line on stdout");
  if (const auto code = flags.read(args)) return *code;

  const auto text = io::read_file(files[0], config::kConfigBytesMax);
  if (!text) return fail({ErrorKind::kInvalid, text.error().message});
  config::GatewayConfig config;
  const auto faults = config::read_gateway_yaml(*text, files[0], config_checks(), config);

  std::string out;
  if (format == config::Format::kJson) {
    JsonWriter w;
    w.object().key("faults").array();
    for (const config::Fault& fault : faults) {
      w.object().member("file", fault.file).member("line", static_cast<std::uint64_t>(fault.line));
      w.member("key", fault.key).member("message", fault.message).end();
    }
    w.end().end();
    out = w.take() + "\n";
  } else if (faults.empty()) {
    std::size_t engines = 0;
    for (const config::PoolConfig& pool : config.pools) engines += pool.engines.size();
    out = files[0] + ": no fault (pools: " + std::to_string(config.pools.size()) +
          ", engines: " + std::to_string(engines) + ")\n";
  } else {
    out = config::to_text(faults);
  }
  if (!print(out)) return 1;
  return faults.empty() ? 0 : 2;
}

}  // namespace warmpath::app
