#include <benchmark/benchmark.h>

#include "index/index.h"

namespace warmpath::index {
namespace {

constexpr std::uint32_t kBlock = 64;
constexpr std::size_t kChainBlocks = 128;  // 8,192 tokens

std::vector<TokenId> prompt(std::uint64_t seed, std::size_t count) {
  RandomStream random(seed, "prompt");
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) id = static_cast<TokenId>(random.below(150'000));
  return ids;
}

blocks::KvEvent stored(const std::vector<TokenId>& ids, std::uint64_t first_hash, std::uint32_t block) {
  blocks::BlockStored event;
  for (std::size_t i = 0; i < ids.size() / block; ++i) {
    event.block_hashes.push_back({.value = EngineHash(stable_hash(std::to_string(first_hash + i))), .bytes = {}});
  }
  event.token_ids = ids;
  event.block_size = block;
  return event;
}

blocks::KvEvent removed(const blocks::KvEvent& event) {
  blocks::BlockRemoved out;
  out.block_hashes = std::get<blocks::BlockStored>(event).block_hashes;
  return out;
}

// Stores and removes chains of 128 blocks on top of a map of range(0) chains. Items are engine blocks stored.
void BM_Apply(benchmark::State& state) {
  const auto engine_block = static_cast<std::uint32_t>(state.range(1));
  Index index({.space = blocks::KeySpace(1, "m", kBlock)});
  const EngineId engine(0);
  std::uint64_t hash = 0;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    const blocks::KvEvent event =
        stored(prompt(1'000 + static_cast<std::uint64_t>(i), kChainBlocks * kBlock), hash, engine_block);
    index.apply(engine, std::span(&event, 1));
    hash += kChainBlocks * kBlock;
  }
  const blocks::KvEvent event = stored(prompt(1, kChainBlocks * kBlock), hash, engine_block);
  const std::vector<blocks::KvEvent> batch{event, removed(event)};
  for (auto _ : state) benchmark::DoNotOptimize(index.apply(engine, batch));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kChainBlocks * kBlock / engine_block));
  const IndexStat stat = index.stat();
  if (stat.keys > 0) state.counters["bytes_per_key"] = static_cast<double>(stat.bytes) / static_cast<double>(stat.keys);
}
BENCHMARK(BM_Apply)->Args({100, 64})->Args({4'000, 64})->Args({100, 16})->Args({20, 1});

// One match of 128 blocks; range(0) engines hold the whole chain among 1,000 other chains.
void BM_Match(benchmark::State& state) {
  Index index({.space = blocks::KeySpace(1, "m", kBlock)});
  const auto ids = prompt(1, kChainBlocks * kBlock);
  for (std::uint32_t e = 0; e < static_cast<std::uint32_t>(state.range(0)); ++e) {
    index.set_state(EngineId(e), blocks::PublisherState::kExact);
    const blocks::KvEvent event = stored(ids, e * 10'000, kBlock);
    index.apply(EngineId(e), std::span(&event, 1));
  }
  for (std::uint64_t i = 0; i < 1'000; ++i) {
    const blocks::KvEvent event = stored(prompt(2 + i, kChainBlocks * kBlock), 10'000'000 + i * kChainBlocks, kBlock);
    index.apply(EngineId(0), std::span(&event, 1));
  }
  const auto chain = index.space().chain(ids, {});
  MatchTable table;
  for (auto _ : state) {
    index.match(chain, table);
    benchmark::DoNotOptimize(table.rows.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kChainBlocks));
}
BENCHMARK(BM_Match)->Arg(1)->Arg(8)->Arg(100);

}  // namespace
}  // namespace warmpath::index
