// warmpath demo: what prefix-aware routing is worth, in a few minutes on a laptop.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "app/commands.h"
#include "app/demo.h"
#include "config/flags.h"
#include "schedule/schedule.h"

namespace warmpath::app {
namespace {

// A folder of this run's own; removed with everything in it at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr && *base != '\0' ? base : "/tmp") + "/warmpath-demo.XXXXXX";
    made_ = ::mkdtemp(path_.data()) != nullptr;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (made_) std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  bool made() const { return made_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool made_ = false;
};

std::string as_json(const std::vector<Arm>& arms, const DemoOptions& options, const Prices& prices) {
  JsonWriter json;
  json.object().key("arms").array();
  for (const Arm& arm : arms) {
    json.object();
    write_arm(json, arm, prices);
    json.end();
  }
  json.end().member("working_set_share", working_set_share(options)).member("seed", options.seed);
  return json.end().take() + "\n";
}

std::string as_table(const std::vector<Arm>& arms, const DemoOptions& options, const Prices& prices) {
  char line[256];
  std::snprintf(
      line, sizeof line,
      "\n%u engines, %u tenants x %u conversations x %u turns, working set %.0f %% of the fleet's KV, seed %llu\n\n",
      options.engines, options.conversations.tenants, options.conversations.conversations_per_tenant,
      options.conversations.turns, 100 * working_set_share(options), static_cast<unsigned long long>(options.seed));
  return line + arms_table(arms, prices);
}

}  // namespace

int run_demo(std::span<const std::string> args) {
  DemoOptions options;
  Prices prices;
  std::vector<std::string> policies;
  config::Format format = config::Format::kTable;
  config::Flags flags("demo", "a gateway, simulated engines and conversations: four policies compared");
  flags.list("policy", "NAME",
             "only this policy; may be given several times (default: random, load, approximate, precise)", &policies);
  bool quick = false;
  flags.toggle("quick", "a fifth of the tenants and of the KV: half a minute, for a look or a build check", &quick);
  flags.number("engines", "N", "simulated engines", &options.engines, 1, 64);
  flags.number("blocks", "N", "KV blocks of each engine", &options.kv_blocks, 16, 1'000'000);
  flags.number("tenants", "N", "tenants, each with a system prompt", &options.conversations.tenants, 1, 10'000);
  flags.number("conversations", "N", "conversations of each tenant", &options.conversations.conversations_per_tenant, 1,
               10'000);
  flags.number("turns", "N", "turns of each conversation", &options.conversations.turns, 1, 100);
  flags.real("rate", "R", "conversations begun per second of engine time", &options.conversations_per_second, 0.01,
             1'000);
  flags.real("speed", "X", "how much faster than real time the engines run", &options.speed, 0.1, 1'000);
  flags.number("seed", "N", "the workload's seed, the same in every arm", &options.seed);
  flags.real("price-cached", "P", "price of a million cached prompt tokens", &prices.cached, 0, 1e9);
  flags.real("price-uncached", "P", "price of a million computed prompt tokens", &prices.uncached, 0, 1e9);
  flags.format(&format);
  flags.example("warmpath demo", "about three minutes; ends with a table");
  flags.example("warmpath demo --policy precise --format json", "one arm, for programs");
  flags.note(
      "Engines and gateway talk over HTTP, server-sent events and ZMQ on loopback, as with real engines. The engines' "
      "timing is that of Qwen3-32B on two H100. Exit code 1 when a request failed.");
  if (const auto code = flags.read(args)) return *code;
  if (quick) make_quick(options);
  if (!policies.empty()) options.policies = policies;
  for (const std::string& policy : options.policies) {
    if (auto found = schedule::find_policy(policy); !found.ok()) return fail(found.error());
  }
  const TemporaryFolder folder;
  if (!folder.made())
    return fail({ErrorKind::kInternal, "no temporary folder can be made; set TMPDIR to one that is writable"});
  if (auto written = write_demo_model(folder.path()); !written.ok()) return fail(written.error());

  std::vector<Arm> arms;
  bool failed = false;
  for (const std::string& policy : options.policies) {
    std::fprintf(stderr, "%s: starting %u engines and a gateway\n", policy.c_str(), options.engines);
    auto arm = run_demo_arm(options, policy, folder.path(), [](const DemoProgress& now) {
      std::fprintf(stderr, "%s: %llu of %llu requests\n", now.policy.c_str(),
                   static_cast<unsigned long long>(now.finished), static_cast<unsigned long long>(now.total));
    });
    if (!arm.ok()) return fail(arm.error());
    failed = failed || arm->failed > 0;
    arms.push_back(std::move(arm).value());
  }
  const bool json = format == config::Format::kJson;
  if (!print(json ? as_json(arms, options, prices) : as_table(arms, options, prices))) return 1;
  return failed ? 1 : 0;
}

}  // namespace warmpath::app
