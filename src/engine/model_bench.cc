#include <benchmark/benchmark.h>

#include "engine/engine.h"
#include "engine/test_driver.h"

namespace warmpath::engine {
namespace {

// Decode steps with a full batch of 8k-token contexts.
void decode_step(benchmark::State& state) {
  const auto batch = static_cast<std::uint64_t>(state.range(0));
  ModelOptions options;
  options.profile.name = "bench";
  options.profile.kv_blocks = 131'072;
  testing::Driver driver(options);
  std::uint64_t id = 0;
  for (auto _ : state) {
    state.PauseTiming();
    while (driver.model->stats().running + driver.model->stats().waiting < batch) {
      ++id;
      driver.add(id, testing::range(static_cast<TokenId>(id % 64) * 100'000, 8'000), testing::range(1, 20'000));
    }
    while (driver.model->stats().waiting > 0) driver.step();
    state.ResumeTiming();
    for (int i = 0; i < 100; ++i) {
      const auto plan = driver.model->begin_step(driver.now);
      if (!plan) break;
      driver.model->finish_step(driver.now, driver.result);
      benchmark::DoNotOptimize(plan);
    }
  }
  state.counters["steps_per_s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * 100, benchmark::Counter::kIsRate);
}
BENCHMARK(decode_step)->Arg(1)->Arg(32)->Arg(256);

// Whole requests through a full pool: 7,200-token prompts with a shared prefix of 6,000, 64 generated tokens.
void churn(benchmark::State& state) {
  ModelOptions options;
  options.profile.name = "bench";
  testing::Driver driver(options);
  std::uint64_t id = 0;
  std::uint64_t steps = 0;
  for (auto _ : state) {
    for (int i = 0; i < 16; ++i) {
      ++id;
      auto prompt = testing::range(static_cast<TokenId>(id % 100) * 100'000, 6'000);
      const auto own = testing::range(static_cast<TokenId>(id * 7'919), 1'200);
      prompt.insert(prompt.end(), own.begin(), own.end());
      driver.add(id, std::move(prompt), testing::range(1, 64));
    }
    const std::uint64_t before = driver.model->stats().steps;
    driver.run();
    driver.outcomes.clear();
    steps += driver.model->stats().steps - before;
  }
  state.counters["requests_per_s"] = benchmark::Counter(static_cast<double>(id), benchmark::Counter::kIsRate);
  state.counters["steps_per_s"] = benchmark::Counter(static_cast<double>(steps), benchmark::Counter::kIsRate);
}
BENCHMARK(churn);

}  // namespace
}  // namespace warmpath::engine
