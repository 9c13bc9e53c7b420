// warmpath simulate: policies compared in virtual time.
#include <cstdio>

#include "app/arms.h"
#include "app/commands.h"
#include "app/workload_flags.h"
#include "config/flags.h"
#include "sim/sim.h"

namespace warmpath::app {
namespace {

// What the command line says.
struct Wanted {
  std::string policy = "all";
  sim::SimOptions options;
  WorkloadFlags workload;
  Prices prices;
  config::Format format = config::Format::kTable;

  Wanted() {
    options.engine.profile.kv_blocks = 960;
    workload.kind = "shared-prefix";
    workload.shared = {.groups = 32,
                       .prompts_per_group = 5,
                       .system_prompt_tokens = 3'000,
                       .question_tokens = 300,
                       .output_tokens = 100};
    workload.turns = {.tenants = 16, .conversations_per_tenant = 8, .turns = 5};
    workload.rate = 16;
    workload.requests = 600;
  }
};

void declare(config::Flags& flags, Wanted& wanted) {
  engine::Profile& profile = wanted.options.engine.profile;
  flags.custom(
      "policy", "NAME|all", "one policy, or all in turn",
      [&wanted](std::string_view text) -> Result<void> {
        if (text != "all") {
          if (auto found = schedule::find_policy(text); !found.ok()) return std::move(found).error();
        }
        wanted.policy = std::string(text);
        return {};
      },
      "all");
  flags.number("engines", "N", "simulated engines", &wanted.options.engines, 1, sim::kEnginesMax);
  flags.number("blocks", "N", "KV blocks of each engine", &profile.kv_blocks, 2, 10'000'000);
  flags.number("block-size", "N", "tokens a block", &profile.block_tokens, 1, 4'096);
  wanted.workload.declare(flags);
  flags.real("event-loss", "SHARE", "share of KV-event frames that the link loses", &wanted.options.link.event_loss, 0,
             1);
  flags.duration("scrape-interval", "how often engines are asked for their load", &wanted.options.scrape_interval);
  flags.number("seed", "N", "the run's seed: workload, links and ties", &wanted.options.seed);
  flags.real("price-cached", "P", "price of a million cached prompt tokens", &wanted.prices.cached, 0, 1e9);
  flags.real("price-uncached", "P", "price of a million computed prompt tokens", &wanted.prices.uncached, 0, 1e9);
  flags.format(&wanted.format);
  flags.example("warmpath simulate", "all policies on a working set of about two thirds of the fleet's KV");
  flags.example("warmpath simulate --policy precise --engines 8 --rate 40 --seed 7", "one policy, a bigger fleet");
  flags.example("warmpath simulate --workload multi-turn --requests 0 --format json", "conversations, for programs");
  flags.example(
      "warmpath simulate --workload trace --trace data/mooncake/conversation.trace --requests 2000 --blocks 8000",
      "the first requests of a recorded trace");
  flags.note(
      "Router, index, event plane and engine model are the real ones; time is virtual, so a run is the same to the bit "
      "for the same options. Engines compute like Qwen3-32B on two H100. Times are engine time.");
}

// A working set in per cent of what the fleet can hold.
double working_set_share(const sim::SimOptions& options) {
  const engine::Profile& profile = options.engine.profile;
  const double fleet = static_cast<double>(profile.kv_blocks - 1) * profile.block_tokens * options.engines;
  return static_cast<double>(workload::working_set_tokens(options.workload)) / fleet;
}

Arm arm_of(const sim::Report& report) {
  Arm arm;
  arm.policy = report.policy;
  arm.requests = report.requests;
  arm.failed = report.failed;
  arm.prefix_hit_ratio = report.prefix_hit_ratio;
  arm.prompt_tokens = report.prompt_tokens;
  arm.prefill_tokens_computed = report.prefill_tokens_computed;
  arm.prefill_tokens_saved = report.prefill_tokens_saved;
  arm.ttft_ms_p50 = report.ttft_ms.p50;
  arm.ttft_ms_p90 = report.ttft_ms.p90;
  arm.ttft_ms_p99 = report.ttft_ms.p99;
  arm.output_tokens_per_s = report.output_tokens_per_s;
  return arm;
}

std::string as_json(const std::vector<sim::Report>& arms, const Wanted& wanted) {
  JsonWriter json;
  json.object().key("arms").array();
  for (const sim::Report& arm : arms) {
    json.object();
    write_arm(json, arm_of(arm), wanted.prices);
    json.member("seconds", arm.seconds).member("preemptions", arm.preemptions);
    json.member("predictions", arm.predictions).member("predictions_equal", arm.predictions_equal);
    json.member("frames_lost", arm.frames_lost).member("replays_asked", arm.replays_asked);
    json.key("requests_by_engine").array();
    for (const std::uint64_t requests : arm.requests_by_engine) json.value(requests);
    json.end().end();
  }
  json.end();
  json.member("working_set_share", working_set_share(wanted.options)).member("seed", wanted.options.seed);
  return json.end().take() + "\n";
}

std::string as_table(const std::vector<sim::Report>& arms, const Wanted& wanted) {
  char line[256];
  std::snprintf(line, sizeof line, "%u engines, working set %.0f %% of the fleet's KV, seed %llu, virtual time\n\n",
                wanted.options.engines, 100 * working_set_share(wanted.options),
                static_cast<unsigned long long>(wanted.options.seed));
  std::string out = line;
  std::vector<Arm> rows;
  for (const sim::Report& arm : arms) rows.push_back(arm_of(arm));
  return out + arms_table(rows, wanted.prices);
}

}  // namespace

int run_simulate(std::span<const std::string> args) {
  Wanted wanted;
  config::Flags flags("simulate", "policies compared on one workload in virtual time");
  declare(flags, wanted);
  if (const auto code = flags.read(args)) return *code;
  auto asked = wanted.workload.build(wanted.options.seed);
  if (!asked.ok()) return fail(asked.error());
  wanted.options.workload = std::move(asked).value();
  std::vector<sim::Report> arms;
  for (const schedule::Policy* policy : schedule::policies()) {
    if (wanted.policy != "all" && wanted.policy != policy->name()) continue;
    std::fprintf(stderr, "simulating %s\n", std::string(policy->name()).c_str());
    wanted.options.policy = std::string(policy->name());
    auto report = sim::run(wanted.options);
    if (!report.ok()) return fail(report.error());
    arms.push_back(*std::move(report));
  }
  return print(wanted.format == config::Format::kJson ? as_json(arms, wanted) : as_table(arms, wanted)) ? 0 : 1;
}

}  // namespace warmpath::app
