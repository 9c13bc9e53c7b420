// decide() at 16, 128 and 1,000 engines, every policy.
#include <benchmark/benchmark.h>

#include "schedule/schedule.h"

namespace warmpath::schedule {
namespace {

void bench_decide(benchmark::State& state, const Policy* policy) {
  RandomStream random(1, "bench");
  std::vector<Candidate> candidates;
  for (std::uint32_t i = 0; i < state.range(0); ++i) {
    Candidate one;
    one.engine.id = EngineId(i);
    one.engine.block_tokens = 16;
    one.engine.sample_age = Duration(1);
    one.engine.waiting = static_cast<double>(random.below(20));
    one.engine.kv_usage = random.unit();
    one.matched_blocks[0] = static_cast<std::uint32_t>(random.below(60));
    one.publisher = blocks::PublisherState::kExact;
    candidates.push_back(one);
  }
  View view;
  view.candidates = candidates;
  view.prompt_tokens = 1'000;
  view.chain_blocks = 62;
  view.block_tokens = 16;
  for (auto step : state) {
    ++view.decisions;
    benchmark::DoNotOptimize(decide(*policy, view, random).engine);
  }
}

const bool kRegistered = [] {
  for (const Policy* policy : policies()) {
    benchmark::RegisterBenchmark(("decide/" + std::string(policy->name())).c_str(),
                                 [policy](benchmark::State& state) { bench_decide(state, policy); })
        ->Arg(16)
        ->Arg(128)
        ->Arg(1'000)
        ->Unit(benchmark::kMicrosecond);
  }
  return true;
}();

}  // namespace
}  // namespace warmpath::schedule
