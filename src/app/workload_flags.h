// The options that name a workload, the same for `load` and `simulate`. Private to app.
#pragma once

#include <string>

#include "base/base.h"
#include "config/flags.h"
#include "workload/workload.h"

namespace warmpath::app {

// Set what a command's defaults are, then declare(); after Flags::read() build() makes the options.
struct WorkloadFlags {
  std::string kind = "multi-turn";
  workload::SharedPrefix shared;
  workload::MultiTurn turns;  // system_prompt_tokens and output_tokens are the ones of `shared`
  std::string trace_file;
  double time_factor = 1;
  double length_factor = 1;
  double rate = 4;
  std::uint32_t users = 0;
  std::uint64_t requests = 0;

  void declare(config::Flags& flags);
  // Reads the trace file when one is asked for. kInvalid, or as io::read_file and workload::parse_trace fail.
  Result<workload::Options> build(std::uint64_t seed) const;
};

}  // namespace warmpath::app
