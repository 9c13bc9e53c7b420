// warmpath serve: the gateway.
#include <sys/resource.h>

#include <array>
#include <csignal>

#include "app/commands.h"
#include "app/gateway.h"
#include "app/log.h"
#include "app/option_files.h"
#include "config/gateway_table.h"
#include "io/io.h"

namespace warmpath::app {
namespace {

constexpr std::array<int, 2> kEndSignals = {SIGINT, SIGTERM};

Result<std::string> read_config(const std::string& path) { return io::read_file(path, config::kConfigBytesMax); }

// An engine's events take four descriptors: many systems allow 1,024 unless asked.
void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // refused: it stays as it was
}

// Runs until the first signal and a drain, or the second signal.
int run_until_ended(Gateway& gateway, const config::GatewayConfig& config, io::Loop& loop, Log& log) {
  int code = 0;
  bool draining = false;
  const auto drained = [&](Gateway::Drained how) {
    loop.post([&, how] {
      if (how == Gateway::Drained::kTimeout) {
        log.warn("drain_ended", {{"requests_broken", gateway.requests_in_flight()}});
      } else {
        log.info("drained", {});
      }
      loop.stop();
    });
  };
  loop.on_signals(kEndSignals, [&](int) {
    if (draining) {
      log.warn("ended", {{"requests_broken", gateway.requests_in_flight()}});
      code = 1;
      loop.stop();
      return;
    }
    draining = true;
    log.info("draining", {{"requests_in_flight", gateway.requests_in_flight()},
                          {"longest_s", to_seconds(config.drain)},
                          {"again", std::string_view("a second signal ends at once")}});
    gateway.drain(config.drain, drained);
  });
  loop.run();
  return code;
}

}  // namespace

int run_serve(std::span<const std::string> args) {
  config::GatewayFlags gateway_flags(config_checks());
  config::Flags flags("serve", "the gateway: sends every request to the engine that holds its prefix");
  gateway_flags.add_to(flags);
  flags.example("warmpath serve --engine http://10.0.0.7:8000 --engine http://10.0.0.8:8000 --tokenizer ./Qwen3-32B",
                "two engines, exact prefix routing");
  flags.example("warmpath serve --config gateway.yaml", "everything from a file");
  if (const auto code = flags.read(args)) return *code;
  config::GatewayConfig config;
  const auto faults = gateway_flags.finish(read_config, config);
  if (!faults.empty()) {
    std::fputs(config::to_text(faults).c_str(), stderr);
    return 2;
  }
  raise_open_files_limit();
  Log log(config.log_level, config.log_format);
  io::Loop loop;
  auto gateway = Gateway::open(config, &log);
  if (!gateway.ok()) return fail(gateway.error());
  return run_until_ended(**gateway, config, loop, log);
}

}  // namespace warmpath::app
