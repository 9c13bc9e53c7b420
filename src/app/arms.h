// Arms: the same workload under one policy after the other, as `demo` and `simulate` report it. Private to app.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/base.h"

namespace warmpath::app {

struct Arm {
  std::string policy;
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  double prefix_hit_ratio = 0;  // as the engines counted it
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prefill_tokens_computed = 0;
  std::uint64_t prefill_tokens_saved = 0;
  double ttft_ms_p50 = 0, ttft_ms_p90 = 0, ttft_ms_p99 = 0;  // engine time
  double output_tokens_per_s = 0;                            // in engine time; demo: by the clock, times the speed
};

// Of a million prompt tokens, in whatever currency.
struct Prices {
  double cached = 1;
  double uncached = 10;
};
double cost_per_million_tokens(const Arm& arm, const Prices& prices);

// Appends the contract's members of one arm to an open object.
void write_arm(JsonWriter& json, const Arm& arm, const Prices& prices);
std::string arms_table(const std::vector<Arm>& arms, const Prices& prices);

}  // namespace warmpath::app
