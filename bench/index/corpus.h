// What a fleet of engines would say while it serves a trace: corpora for the index.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "corpus_file.h"
#include "workload/workload.h"

namespace warmpath::bench {

enum class Feed {
  kLarge,       // one store and one removal a request
  kSmall,       // events of at most 8 blocks
  kEngineLike,  // one removal an event, answers grow one block an event, every 16th eviction out of order
};

struct CorpusOptions {
  Feed feed = Feed::kLarge;
  std::uint32_t copies = 20;  // of the trace, with disjoint blocks, taken in turns
  std::uint32_t engines = 128;
  std::uint32_t engine_blocks = 16'384;  // LRU of each
  std::uint32_t block_tokens = 64;
  std::uint32_t replicas = 1;         // engines that serve each request; above 1: the same ones for one conversation
  bool seed_per_engine = false;       // engines hash with seeds of their own
  bool every_request_unique = false;  // no two requests share a block
  bool stop_when_full = false;        // when the first engine has to evict
  std::uint32_t prompts = 20'000;     // to look up, spread over the trace
  std::uint64_t seed = 1;
};

Corpus make_trace_corpus(const std::vector<workload::TraceRow>& rows, const CorpusOptions& options);

// `engines` engines of one prompt of `blocks` each, held by `holders` of them, over a common first block.
Corpus make_deep_corpus(std::uint32_t engines, std::uint32_t blocks, std::uint32_t holders);

}  // namespace warmpath::bench
