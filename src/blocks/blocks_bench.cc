#include <benchmark/benchmark.h>

#include "blocks/blocks.h"

namespace warmpath::blocks {
namespace {

std::vector<TokenId> ids(std::size_t count) {
  RandomStream random(1, "bench");
  std::vector<TokenId> out(count);
  for (TokenId& id : out) id = static_cast<TokenId>(random.below(152'000));
  return out;
}

void key_chain(benchmark::State& state) {
  const KeySpace space(7, "model", static_cast<std::uint32_t>(state.range(0)));
  const auto tokens = ids(100'000);
  for (auto _ : state) benchmark::DoNotOptimize(space.chain(tokens, {}));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(tokens.size()));
}
BENCHMARK(key_chain)->ArgName("block")->Arg(16)->Arg(64)->Arg(256);

void text_chain(benchmark::State& state) {
  const KeySpace space(7, "model", 16);
  const std::string text(400'000, 'x');
  for (auto _ : state) benchmark::DoNotOptimize(space.text_chain(text, 256, 0, {}));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK(text_chain);

void engine_block(benchmark::State& state) {
  const auto scheme = static_cast<Scheme>(state.range(0));
  const auto block = static_cast<std::uint32_t>(state.range(1));
  const auto hasher = EngineHasher::create({.scheme = scheme, .block_tokens = block, .seed = "0"});
  const auto tokens = ids(block);
  Digest parent = hasher->root();
  for (auto _ : state) parent = hasher->block(parent, 1, tokens, {});
  benchmark::DoNotOptimize(parent);
  state.SetLabel(std::string(scheme_name(scheme)));
}
BENCHMARK(engine_block)->ArgNames({"scheme", "block"})->ArgsProduct({{0, 1, 2, 3, 4}, {16, 64}});

}  // namespace
}  // namespace warmpath::blocks
