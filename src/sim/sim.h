// sim: a cluster in virtual time. The same route::Core, index, events codec, Follower and engine::Model as live, driven
// by one event queue. Same options, same result, to the bit.
//
//   SimOptions options;
//   options.policy = "precise";
//   auto report = run(options);   // Result<Report>
//
// What is real: everything a request and an event frame pass through. What is modelled: time, links (delay, loss,
// doubling), engines (engine::Model), clients (workload::Source). Prompts are token ids; where a policy guesses over
// text, one id stands for 4 bytes.
//
// Engine time: virtual time multiplied by the engines' speed factor, so figures do not depend on the factor.
//
// Thread rule: run() is a pure function. Cost: about a microsecond per prompt token and engine step (release build).
// Memory: the requests in flight, the engines' replay buffers and two numbers per request for the report.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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
  double event_loss = 0;                                    // 0..1 of frames
  double event_duplicate = 0;                               // 0..1 of frames; the copy comes up to four delays later
};

// What to compare at the end. kAgainstEngines: the links heal, every engine says one thing more (so that a lost last
// frame is noticed), and when all is quiet the index is held against what the engines really cache.
enum class IndexCheck : std::uint8_t { kNone, kAgainstEngines };

struct SimOptions {
  std::string policy = "precise";
  std::uint32_t engines = 4;
  engine::ModelOptions engine;
  workload::Options workload;
  LinkOptions link;
  Duration scrape_interval = std::chrono::milliseconds(200);
  std::uint64_t seed = 1;
  std::uint32_t replay_buffer_batches = 10'000;
  std::uint32_t block_tokens = 0;            // router block; 0: from the engine's
  std::uint32_t engines_without_events = 0;  // the first so many publish nothing
  IndexCheck index_check = IndexCheck::kNone;
  Duration virtual_time_max = std::chrono::hours(24);  // a run that has not ended by then is an error
};

inline constexpr std::uint32_t kEnginesMax = 4'096;

struct Latencies {  // engine time
  double p50 = 0, p90 = 0, p99 = 0, mean = 0;
};

// The index against the engines' own caches, over all engines with events.
struct IndexTruth {
  std::uint64_t blocks_cached = 0;   // distinct blocks that the engines cache
  std::uint64_t blocks_indexed = 0;  // distinct blocks that the index believes they do
  std::uint64_t chains = 0;          // (prompt, engine) pairs compared, of up to kCheckedPromptsMax prompts
  std::uint64_t chains_equal = 0;    // the matched depth is the engine's own
  std::uint64_t chains_nonzero = 0;  // of those, with anything cached: so that the comparison says something
};
inline constexpr std::size_t kCheckedPromptsMax = 256;

struct Report {
  std::string policy;
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  double prefix_hit_ratio = 0;  // engines' hits / queries, tokens
  std::uint64_t prefill_tokens_computed = 0;
  std::uint64_t prefill_tokens_saved = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t output_tokens = 0;
  Latencies ttft_ms;  // from when the request was due to its first token at the client
  double output_tokens_per_s = 0;
  double seconds = 0;                             // engine time until the last answer
  std::uint64_t predictions = 0;                  // finished requests with an exact prediction
  std::uint64_t predictions_equal = 0;            // predicted == engine's cached_tokens
  std::vector<std::uint64_t> requests_by_engine;  // forwarded to
  std::uint64_t inflight_left = 0;                // requests still booked at the end: 0, or the books are wrong
  std::uint64_t preemptions = 0;
  std::uint64_t frames_published = 0;
  std::uint64_t frames_lost = 0;
  std::uint64_t replays_asked = 0;
  std::optional<IndexTruth> index_truth;
  std::uint64_t digest = 0;  // of the whole run: every decision and time; equal seeds, equal digest
};

// kInvalid with all faults of the options; kExhausted when virtual_time_max passed.
Result<Report> run(const SimOptions& options);

}  // namespace warmpath::sim
