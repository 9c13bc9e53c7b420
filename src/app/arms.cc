#include "app/arms.h"

#include <cstdio>

namespace warmpath::app {

double cost_per_million_tokens(const Arm& arm, const Prices& prices) {
  if (arm.prompt_tokens == 0) return 0;
  const double cached = static_cast<double>(arm.prefill_tokens_saved) / static_cast<double>(arm.prompt_tokens);
  return cached * prices.cached + (1 - cached) * prices.uncached;
}

void write_arm(JsonWriter& json, const Arm& arm, const Prices& prices) {
  json.member("policy", arm.policy).member("requests", arm.requests).member("failed", arm.failed);
  json.member("prefix_hit_ratio", arm.prefix_hit_ratio);
  json.key("prefill_tokens").object();
  json.member("computed", arm.prefill_tokens_computed).member("saved", arm.prefill_tokens_saved).end();
  json.key("ttft_ms").object();
  json.member("p50", arm.ttft_ms_p50).member("p90", arm.ttft_ms_p90).member("p99", arm.ttft_ms_p99).end();
  json.member("output_tokens_per_s", arm.output_tokens_per_s);
  json.member("cost_per_million_tokens", cost_per_million_tokens(arm, prices));
}

std::string arms_table(const std::vector<Arm>& arms, const Prices& prices) {
  char line[256];
  std::string out;
  const auto add = [&](const char* format, const auto&... values) {
    std::snprintf(line, sizeof line, format, values...);
    out += line;
  };
  add("%-17s %8s %6s %7s %19s %22s %8s %7s\n", "", "", "", "prefix", "prefill tokens", "TTFT ms", "output", "cost");
  add("%-17s %8s %6s %7s %9s %9s %7s %7s %6s %8s %7s\n", "policy", "requests", "failed", "hits", "computed", "saved",
      "p50", "p90", "p99", "tok/s", "per M");
  for (const Arm& arm : arms) {
    add("%-17s %8llu %6llu %6.1f%% %9llu %9llu %7.0f %7.0f %6.0f %8.0f %7.2f\n", arm.policy.c_str(),
        static_cast<unsigned long long>(arm.requests), static_cast<unsigned long long>(arm.failed),
        100 * arm.prefix_hit_ratio, static_cast<unsigned long long>(arm.prefill_tokens_computed),
        static_cast<unsigned long long>(arm.prefill_tokens_saved), arm.ttft_ms_p50, arm.ttft_ms_p90, arm.ttft_ms_p99,
        arm.output_tokens_per_s, cost_per_million_tokens(arm, prices));
  }
  add("\nprefix hits as the engines count them; times in engine time; cost per million prompt tokens at %g cached : %g "
      "computed\n",
      prices.cached, prices.uncached);
  return out;
}

}  // namespace warmpath::app
