#include "base/base.h"
#include "events/events.h"
#include "figures.h"
#include "index/index.h"

#include <cstdio>

namespace warmpath::bench {
namespace {

constexpr std::uint64_t kTokensMax = 40'000'000;  // of one run
constexpr std::uint32_t kEngines = 128;

// The tokens of one 512-token block of the trace.
void append_tokens(std::uint32_t id, std::vector<TokenId>& out) {
  RandomStream random(id, "tokens");
  for (std::uint32_t i = 0; i < workload::kTraceBlockTokens; ++i)
    out.push_back(static_cast<TokenId>(random.below(150'000)));
}

struct Frame {
  EngineId engine;
  std::vector<std::uint8_t> payload;
};

// One batch a request: what is new on its engine, as vLLM 0.32 says it.
std::vector<Frame> make_frames(const std::vector<workload::TraceRow>& rows, std::uint32_t block,
                               std::uint64_t& tokens) {
  std::vector<Frame> out;
  std::vector<std::vector<bool>> seen(kEngines);
  tokens = 0;
  for (std::size_t i = 0; i < rows.size() && tokens < kTokensMax; ++i) {
    const std::uint32_t engine = static_cast<std::uint32_t>(i) % kEngines;
    const auto hash = [&](std::uint32_t id, std::uint32_t part) {
      return blocks::WireHash{.value = EngineHash(stable_hash(std::to_string(id) + "." + std::to_string(part))),
                              .bytes = {}};
    };
    const std::uint32_t parts = workload::kTraceBlockTokens / block;
    blocks::BlockStored event;
    for (const std::uint32_t id : rows[i].hash_ids) {
      if (seen[engine].size() <= id) seen[engine].resize(id + std::size_t{1});
      if (seen[engine][id]) {
        event.parent_block_hash = hash(id, parts - 1);
        continue;
      }
      seen[engine][id] = true;
      append_tokens(id, event.token_ids);
      for (std::uint32_t part = 0; part < parts; ++part) event.block_hashes.push_back(hash(id, part));
    }
    if (event.block_hashes.empty()) continue;
    event.block_size = block;
    event.medium = "GPU";
    tokens += event.token_ids.size();
    events::Batch batch;
    batch.ts = 1;
    batch.rank = 0;
    batch.events.emplace_back(std::move(event));
    out.push_back({EngineId(engine), events::encode_batch(batch, events::Encoding::kMaps)});
  }
  return out;
}

}  // namespace

std::string frames(const std::vector<workload::TraceRow>& rows, std::uint32_t block_tokens) {
  std::uint64_t tokens = 0;
  const std::vector<Frame> all = make_frames(rows, block_tokens, tokens);
  index::Index index({.space = blocks::KeySpace(1, "bench", block_tokens), .bytes_max = std::size_t{8} << 30});
  for (std::uint32_t e = 0; e < kEngines; ++e) index.set_state(EngineId(e), blocks::PublisherState::kExact);
  std::uint64_t stored = 0;
  double decoding = 0;
  const double start = thread_cpu_seconds();
  for (const Frame& frame : all) {
    const double before = thread_cpu_seconds();
    const Result<events::Batch> batch = events::decode_batch(frame.payload);
    decoding += thread_cpu_seconds() - before;
    WP_CHECK(batch);
    stored += index.apply(frame.engine, batch->events).blocks_stored;
  }
  const double seconds = thread_cpu_seconds() - start;
  WP_CHECK(stored * block_tokens == tokens);
  char text[200];
  std::snprintf(text, sizeof text, "{\"tokens\": %llu, \"tokens_per_s\": %.6g, \"decode_share\": %.3f}",
                static_cast<unsigned long long>(tokens), static_cast<double>(tokens) / seconds, decoding / seconds);
  return text;
}

}  // namespace warmpath::bench
