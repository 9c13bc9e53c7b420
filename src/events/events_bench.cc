#include <benchmark/benchmark.h>

#include "events/events.h"

namespace warmpath::events {
namespace {

Batch stored(std::size_t blocks, std::uint32_t block_size) {
  RandomStream random(1, "bench");
  blocks::BlockStored event;
  for (std::size_t i = 0; i < blocks; ++i) event.block_hashes.push_back({EngineHash(random.next()), ""});
  event.parent_block_hash = blocks::WireHash{EngineHash(random.next()), ""};
  for (std::size_t i = 0; i < blocks * block_size; ++i) {
    event.token_ids.push_back(static_cast<TokenId>(random.below(152'000)));
  }
  event.block_size = block_size;
  event.medium = "GPU";
  event.extra_keys.emplace(blocks);
  event.group_idx = 0;
  event.kv_cache_spec_kind = "full_attention";
  Batch batch;
  batch.ts = 1.7e9 + 0.5;
  batch.rank = 0;
  batch.events.emplace_back(std::move(event));
  return batch;
}

void decode(benchmark::State& state) {
  const auto blocks = static_cast<std::size_t>(state.range(0));
  const auto encoding = state.range(1) == 0 ? Encoding::kMaps : Encoding::kArrays;
  const auto payload = encode_batch(stored(blocks, 16), encoding);
  for (auto _ : state) benchmark::DoNotOptimize(decode_batch(payload));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(payload.size()));
  state.counters["blocks/s"] =
      benchmark::Counter(static_cast<double>(blocks), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(decode)->ArgNames({"blocks", "arrays"})->ArgsProduct({{1, 8, 140, 4096}, {0, 1}});

// Tokens a second of decoding alone: what raw frames can bring to the index at most.
void decode_tokens(benchmark::State& state) {
  const auto blocks = static_cast<std::size_t>(state.range(0));
  const auto block_tokens = static_cast<std::uint32_t>(state.range(1));
  const auto payload = encode_batch(stored(blocks, block_tokens), Encoding::kMaps);
  for (auto _ : state) benchmark::DoNotOptimize(decode_batch(payload));
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(blocks * block_tokens), benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(decode_tokens)->ArgNames({"blocks", "block_tokens"})->ArgsProduct({{1, 8, 140}, {16, 64}});

void encode(benchmark::State& state) {
  const Batch batch = stored(static_cast<std::size_t>(state.range(0)), 16);
  for (auto _ : state) benchmark::DoNotOptimize(encode_batch(batch, Encoding::kMaps));
}
BENCHMARK(encode)->ArgName("blocks")->Arg(1)->Arg(140);

void follow_in_order(benchmark::State& state) {
  Follower follower({.can_replay = false}, 1);
  const Batch batch = stored(8, 16);
  std::vector<FollowerEffect> out;
  std::uint64_t seq = 0;
  for (auto _ : state) {
    out.clear();
    follower.step(LiveBatch{PublisherSeq(seq++), batch}, Instant(std::chrono::seconds(1)), out);
  }
}
BENCHMARK(follow_in_order);

}  // namespace
}  // namespace warmpath::events
