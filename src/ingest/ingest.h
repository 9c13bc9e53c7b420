// ingest: news from engines. For each configured engine URL it resolves the name (every address an engine), asks what
// the engine is, follows its KV events into the index, scrapes its load and watches its health.
//
//   Ingest ingest(loop, options, index, sink, registry);
//   ingest.add({.url = "http://10.0.0.7:8000"});
//   ingest.start();
//
// It writes the index itself and hands everything else to the Sink. Engines that are down are waited for, for ever; one
// that was away, or whose process is another one, is asked everything again. A data-parallel rank is an engine of its
// own; when their number changes, all ranks of the address are new engines.
// Of a name with addresses of both families the IPv4 ones are taken: a dual-stack host is one engine, not two.
// Engines with an API key: paths under /v1 answer 401, so their models stay unknown (taken as the pool's) and the rest
// works. A metrics page that is missing or too large costs load figures, never the engine.
// Thread rule: one Loop (not an I/O thread of the proxy); the Sink is called on it.
// Bounds: a metrics page is read up to page_bytes_max; one scrape, one health check and one replay in flight per engine
// or rank; back-off between failures.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "events/events.h"
#include "fleet/fleet.h"
#include "http/http.h"
#include "index/index.h"
#include "ingest/engine_answers.h"  // IWYU pragma: export
#include "io/io.h"
#include "observe/observe.h"

namespace warmpath::ingest {

// Where an engine's KV events are, when the user says so.
struct EventSource {
  enum class Side : std::uint8_t { kConnect, kBind } side = Side::kConnect;  // kBind: the engine dials out to us
  std::string events;  // "tcp://host:port" of rank 0; rank r: port + r
  std::string replay;  // empty: none
};

struct EngineAddress {
  http::Url url;
  std::optional<EventSource> events;          // nullopt: ask the engine (/kv_event_sources, then /server_info)
  std::uint32_t ranks = 0;                    // data-parallel ranks; 0: ask the engine, else 1
  std::shared_ptr<io::TlsClientContext> tls;  // https
  std::vector<std::string> adapters;          // served beside the base model, when it cannot be asked
};

// One engine (one rank) as found.
struct Found {
  fleet::EngineInfo info;
  http::Origin origin;
  std::string path;  // prefix of its base URL
  std::vector<ServedModel> models;
};

// Who is told. Called on ingest's loop.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual EngineId next_engine_id() = 0;                  // dense from 0, never reused
  virtual void engine_found(Found engine) = 0;            // new, or its facts changed (same id)
  virtual void changed(const fleet::Change& change) = 0;  // Removed, LivenessChanged
  virtual void sampled(const fleet::Sample& sample) = 0;
  virtual void publisher_changed(EngineId engine, blocks::PublisherState state) = 0;
  // Blocks taken over from a snapshot, or why none were. Once an engine that was in it.
  virtual void restored(std::string_view /*engine*/, const Result<std::uint64_t>& /*blocks*/) {}
  // For the log: "engine_silent", "no_kv_events", "models_hidden". Once an episode, never more than one a second.
  virtual void warned(std::string_view /*event*/, std::string_view /*engine*/, std::string_view /*text*/) {}
};

// As io::resolve: every address of a name, answered by callback, cancelled by destroying the handle.
using Resolver =
    std::function<std::unique_ptr<io::Pending>(io::Loop& loop, std::string host, std::uint16_t port, Duration timeout,
                                               std::function<void(Result<std::vector<io::Address>>)> done)>;

struct IngestOptions {
  Duration scrape_interval = std::chrono::milliseconds(500);
  Duration health_interval = std::chrono::seconds(2);
  Duration resolve_interval = std::chrono::seconds(10);
  Duration ask_timeout = std::chrono::seconds(5);   // discovery, health and scrape exchanges
  std::size_t page_bytes_max = 1u << 20;            // of a metrics page
  bool follow_events = true;                        // false: the pool has no tokenizer or its policy needs no events
  std::uint64_t seed = 0;                           // of jitters
  std::string model;                                // expected at the engines; empty: whatever they serve
  std::string pool;                                 // label of the metrics
  Duration silence_max = std::chrono::seconds(30);  // prompts went to an engine for so long and no event came: warned
  events::FollowerOptions follower;
  Resolver resolver = io::resolve;
};

// For the start-up summary and /ready: one line per engine or per URL that has not answered yet.
struct EngineStatus {
  std::string name;
  std::optional<EngineId> engine;  // nullopt: not found yet
  fleet::Liveness liveness = fleet::Liveness::kUnknown;
  std::string why_not;  // of being down or unknown: "connection refused", …
  std::string models;   // comma separated
  std::uint32_t block_tokens = 0;
  std::uint64_t kv_tokens = 0;
  std::string events;       // the source followed, or why there are none: "events disabled at the engine", …
  bool has_events = false;  // followed
  bool heard = false;       // its publisher sent something since it was connected last
  blocks::PublisherState publisher = blocks::PublisherState::kLost;
  std::uint64_t batches = 0;  // applied
  std::uint64_t blocks_held = 0;
  events::FollowerCounters counters;  // of its stream, since it is followed
  std::uint64_t lag_batches = 0;      // known to be out and not applied
};

class Ingest {
 public:
  // `index` may be null when follow_events is false. Everything handed in must outlive the Ingest.
  Ingest(io::Loop& loop, IngestOptions options, index::Index* index, Sink& sink, observe::Registry& registry);
  ~Ingest();
  Ingest(const Ingest&) = delete;
  Ingest& operator=(const Ingest&) = delete;

  void add(EngineAddress engine);  // before start()
  // What another life of the router knew: taken over, each engine as it is found under its name and followed. What is
  // not found within kRestoreMax is dropped. Before start().
  void restore(std::vector<index::SnapshotEngine> engines);
  static constexpr Duration kRestoreMax = std::chrono::minutes(10);
  void start();

  // For a snapshot, on the loop's thread. Of what restore() brought: the engines that are not found yet, and one of
  // them as it was handed in (nullopt: found meanwhile, or dropped).
  std::vector<std::string> awaited() const;
  std::optional<index::SnapshotEngine> as_restored(std::string_view name) const;
  // For a snapshot, on the loop's thread: the engines that are followed; then each one's stream as it stands, without
  // its blocks. From hold() to release() its events wait (not long: 10,000 messages). nullopt: gone, or at no place to
  // go on from (nothing applied yet, around a hole).
  std::vector<std::string> followed() const;
  struct Held {
    EngineId engine;
    index::SnapshotEngine standing;
    index::CopyPoint point;  // of the blocks that `standing` speaks of
  };
  std::optional<Held> hold(std::string_view name);
  void release(std::string_view name);
  // On the loop's thread.
  std::vector<EngineStatus> status() const;
  // Writes into the registry what is not counted as it happens: blocks held. Call before a scrape, on the loop's
  // thread.
  void refresh_metrics();

  // Told by the composition when a request was forwarded to an engine: "no KV events though prompts were routed" is
  // judged from it. Any thread.
  void routed(EngineId engine, std::uint64_t prompt_tokens);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The figures of a metrics page that a router needs: vLLM, SGLang and TensorRT-LLM names (facts of 2026-11), summed or
// maximal over label sets as each metric wants. Cost: one pass, no allocation; rank picks `engine="r"` label sets.
struct PageFigures {
  std::optional<double> running, waiting, kv_usage;
  std::optional<double> prefix_queries_tokens, prefix_hits_tokens;
  std::optional<std::uint32_t> block_tokens;
  std::optional<std::uint64_t> kv_tokens;
  std::optional<bool> prefix_caching;
  std::optional<double> started_at_s;  // of the server process, unix time: another value is another process
};
PageFigures read_page(std::string_view page, std::optional<std::uint32_t> rank);

// Block sizes of engines, asked once before the index exists (its router block depends on them): for each URL that
// answers within `deadline`. Then `done`, once, on the loop; it may destroy the handle. Destroying it cancels.
struct Survey {
  std::vector<std::uint32_t> block_tokens;  // of engines that told; may be empty
  std::vector<std::string> unanswered;      // URLs
};
[[nodiscard]] std::unique_ptr<io::Pending> survey(io::Loop& loop, const std::vector<EngineAddress>& engines,
                                                  Duration deadline, std::function<void(Survey)> done);

}  // namespace warmpath::ingest
