// sim: a cluster in virtual time. The same route::Core, index, events codec, Follower and engine::Model as live, driven by
// one event queue. Same options, same result, to the bit.
//
// Thread rule: run() is a pure function.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/base.h"
#include "engine/engine.h"
#include "route/route.h"
#include "workload/workload.h"

namespace warmpath::sim {

struct LinkOptions {
  Duration request_delay = std::chrono::microseconds(500);  // router -> engine and back
  Duration event_delay = std::chrono::milliseconds(5);      // engine step end -> index
  double event_loss = 0;       // 0..1 of frames
  double event_duplicate = 0;  // 0..1 of frames
};

struct SimOptions {
  std::string policy = "precise";
  std::uint32_t engines = 4;
  engine::ModelOptions engine;
  workload::Options workload;
  LinkOptions link;
  Duration scrape_interval = std::chrono::milliseconds(200);
  std::uint64_t seed = 1;
  std::uint32_t replay_buffer_batches = 10'000;
  std::uint32_t block_tokens = 0;  // router block; 0: from the engine's
};

struct Latencies {  // engine time
  double p50 = 0, p90 = 0, p99 = 0, mean = 0;
};

struct Report {
  std::string policy;
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  double prefix_hit_ratio = 0;  // engines' hits / queries, tokens
  std::uint64_t prefill_tokens_computed = 0;
  std::uint64_t prefill_tokens_saved = 0;
  Latencies ttft_ms;
  double output_tokens_per_s = 0;
  double seconds = 0;                    // virtual time until the last answer
  std::uint64_t predictions = 0;         // finished requests with a prediction
  std::uint64_t predictions_equal = 0;   // predicted == engine's cached_tokens
  std::vector<std::uint64_t> requests_by_engine;
  std::uint64_t digest = 0;              // of the whole run: every decision and time; equal seeds, equal digest
};

// kInvalid with all faults of the options.
Result<Report> run(const SimOptions& options);

}  // namespace warmpath::sim
