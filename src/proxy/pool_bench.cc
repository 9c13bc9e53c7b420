// What a decision costs: the brain behind a lock, against a thread of its own (two wake-ups), as ADR 0010 compares
// them.
#include <benchmark/benchmark.h>

#include <atomic>
#include <future>
#include <thread>

#include "proxy/effect_sink.h"
#include "proxy/pool.h"

namespace warmpath::proxy {
namespace {

class LoopThread {
 public:
  LoopThread() : thread_([this] { loop.run(); }) {}
  ~LoopThread() {
    loop.stop();
    thread_.join();
  }
  io::Loop loop;

 private:
  std::thread thread_;
};

class Sink final : public EffectSink {
 public:
  void on_effect(route::Effect effect) override { last = std::get<route::Forward>(effect).id; }
  RequestId last;
};

std::unique_ptr<Pool> pool_of(std::size_t engines, observe::Registry& registry, io::Loop& loop) {
  PoolOptions options;
  options.name = "pool";
  options.model = "m";
  auto pool = std::make_unique<Pool>(std::move(options), registry, loop);
  for (std::size_t i = 0; i < engines; ++i) {
    EngineAt at;
    at.info.id = pool->next_engine_id();
    at.info.name = "e" + std::to_string(i);
    pool->engine_added(std::move(at));
  }
  route::CoreOptions core;
  core.policy = *schedule::find_policy("load");
  pool->start(core, nullptr,
              std::make_shared<const prompt::Encoder>(nullptr, blocks::KeySpace(1, "m", 16), prompt::Guess{}));
  return pool;
}

// One request's whole life at the brain, from the thread that owns it.
void BM_BrainBehindALock(benchmark::State& state) {
  observe::Registry registry;
  LoopThread control, io;
  auto pool = pool_of(static_cast<std::size_t>(state.range(0)), registry, control.loop);
  Sink sink;
  constexpr std::uint64_t kBatch = 1'000;
  std::uint64_t number = 0;
  const auto batch = [&] {
    pool->bind(0, &io.loop, &sink);
    for (std::uint64_t i = 0; i < kBatch; ++i) {
      const RequestId id = request_id_of(0, number++);
      (void)pool->submit(
          route::Arrived{.id = id, .model = "m", .chain = {}, .guessed_chain = {}, .prompt_tokens = 100});
      benchmark::DoNotOptimize(sink.last);
      (void)pool->submit(route::FirstByte{id});
      (void)pool->submit(route::Finished{id});
    }
    pool->bind(0, nullptr, nullptr);
  };
  for (auto _ : state) {
    std::promise<void> done;
    io.loop.post([&] {
      batch();
      done.set_value();
    });
    done.get_future().wait();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * kBatch));
}
BENCHMARK(BM_BrainBehindALock)->Arg(4)->Arg(32)->UseRealTime();

// What a brain thread would add to each decision: there and back, both threads asleep in between.
void BM_TwoWakeUps(benchmark::State& state) {
  LoopThread brain, io;
  const double cpu_before = io::process_usage().cpu_seconds;
  for (auto _ : state) {
    std::promise<void> done;
    io.loop.post([&] { brain.loop.post([&] { io.loop.post([&] { done.set_value(); }); }); });
    done.get_future().wait();
  }
  const double cpu = io::process_usage().cpu_seconds - cpu_before;
  state.counters["cpu_us_per_iteration"] = cpu * 1e6 / static_cast<double>(state.iterations());
}
BENCHMARK(BM_TwoWakeUps)->UseRealTime();

// The same without the brain: what the measurement itself costs.
void BM_OneWakeUp(benchmark::State& state) {
  LoopThread io;
  const double cpu_before = io::process_usage().cpu_seconds;
  for (auto _ : state) {
    std::promise<void> done;
    io.loop.post([&] { done.set_value(); });
    done.get_future().wait();
  }
  const double cpu = io::process_usage().cpu_seconds - cpu_before;
  state.counters["cpu_us_per_iteration"] = cpu * 1e6 / static_cast<double>(state.iterations());
}
BENCHMARK(BM_OneWakeUp)->UseRealTime();

}  // namespace
}  // namespace warmpath::proxy
