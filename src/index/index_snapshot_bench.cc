// What a snapshot costs: 128 engines of 16,384 blocks, each its own hashes, one prompt in four shared.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "index/index.h"

namespace warmpath::index {
namespace {

constexpr std::uint32_t kBlock = 64;
constexpr std::uint32_t kEngines = 128;
constexpr std::size_t kEngineBlocks = 16'384;
constexpr std::size_t kChainBlocks = 128;

std::unique_ptr<Index> filled(std::uint32_t engines) {
  auto index = std::make_unique<Index>(IndexOptions{.space = blocks::KeySpace(1, "m", kBlock)});
  std::vector<EngineHash> hashes(kChainBlocks);
  std::vector<BlockKey> keys(kChainBlocks);
  for (std::uint32_t e = 0; e < engines; ++e) {
    RandomStream random(e, "engine");
    for (std::size_t chain = 0; chain < kEngineBlocks / kChainBlocks; ++chain) {
      RandomStream shared(chain, "shared");
      RandomStream& content = chain % 4 == 0 ? shared : random;
      for (BlockKey& key : keys) key = BlockKey(content.next());
      for (EngineHash& hash : hashes) hash = EngineHash(random.next());
      const HashedEvent event{.parent = std::nullopt, .hashes = hashes, .keys = keys};
      index->apply_hashed(EngineId(e), {&event, 1});
    }
    index->set_state(EngineId(e), blocks::PublisherState::kExact);
  }
  return index;
}

std::string written(const Index& index, std::uint32_t engines) {
  SnapshotWriter writer;
  std::string bytes = writer.begin(0) + writer.pool({.name = "p", .block_tokens = kBlock});
  for (std::uint32_t e = 0; e < engines; ++e) {
    auto copy = index.copy(EngineId(e));
    writer.engine({.name = std::to_string(e), .blocks = copy->blocks, .parts = std::move(copy->parts)}, bytes);
  }
  return bytes + writer.end();
}

void BM_SnapshotWrite(benchmark::State& state) {
  const auto index = filled(kEngines);
  std::string bytes;
  for (auto _ : state) bytes = written(*index, kEngines);
  state.counters["bytes_per_block"] = static_cast<double>(bytes.size()) / (kEngines * kEngineBlocks);
  state.SetItemsProcessed(state.iterations() * std::int64_t{kEngines * kEngineBlocks});
}
BENCHMARK(BM_SnapshotWrite)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

void BM_SnapshotRead(benchmark::State& state) {
  const std::string bytes = written(*filled(kEngines), kEngines);
  for (auto _ : state) {
    SnapshotReader reader;
    for (std::size_t at = 0; at < bytes.size(); at += 1u << 20)
      reader.feed(std::string_view(bytes).substr(at, 1u << 20));
    const SnapshotContent content = reader.finish();
    Index index({.space = blocks::KeySpace(1, "m", kBlock)});
    for (std::uint32_t e = 0; e < kEngines; ++e) {
      WP_CHECK(index.adopt(EngineId(e), content.pools[0].engines[e].parts).ok());
    }
    state.PauseTiming();  // not the time to take it down
    WP_CHECK(index.stat().engines.size() == kEngines);
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * std::int64_t{kEngines * kEngineBlocks});
}
BENCHMARK(BM_SnapshotRead)->Unit(benchmark::kMillisecond)->MeasureProcessCPUTime();

// How long a writer that wants the lock waits while one engine of 1,048,576 blocks is copied; in turns with its slices.
void BM_WriterBesideACopy(benchmark::State& state) {
  Index index({.space = blocks::KeySpace(1, "m", kBlock)});
  std::vector<EngineHash> hashes(kChainBlocks);
  std::vector<BlockKey> keys(kChainBlocks);
  RandomStream random(1, "large");
  for (std::size_t chain = 0; chain < (1u << 20) / kChainBlocks; ++chain) {
    for (BlockKey& key : keys) key = BlockKey(random.next());
    for (EngineHash& hash : hashes) hash = EngineHash(random.next());
    const HashedEvent event{.parent = std::nullopt, .hashes = hashes, .keys = keys};
    index.apply_hashed(EngineId(0), {&event, 1});
  }
  std::vector<std::int64_t> waits;
  for (auto _ : state) {
    std::atomic<bool> over{false};
    std::thread writer([&] {
      while (!over) {
        const auto begun = std::chrono::steady_clock::now();
        benchmark::DoNotOptimize(index.blocks_evicted(EngineId(0)));
        waits.push_back((std::chrono::steady_clock::now() - begun).count());
        std::this_thread::yield();
      }
    });
    benchmark::DoNotOptimize(index.copy(EngineId(0)));
    over = true;
    writer.join();
  }
  std::ranges::sort(waits);
  state.counters["wait_us_p99_9"] = static_cast<double>(waits[waits.size() - 1 - waits.size() / 1'000]) / 1e3;
  state.counters["wait_us_max"] = static_cast<double>(waits.back()) / 1e3;
}
BENCHMARK(BM_WriterBesideACopy)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace warmpath::index
