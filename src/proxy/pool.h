// Pool: the running brain of one pool and what the proxy needs of its engines.
//
// The brain is route::Core behind one lock that nobody waits for on the request path: an input is queued, and whoever
// gets the lock steps everything queued; who does not get it leaves the input to the holder. So a request's decision
// costs no thread switch (docs/adr/0010-brain-without-a-thread.md), and still exactly one thread at a time is inside.
// Effects return to the I/O thread that owns the request.
//
//   Pool pool({.name = "qwen", .model = "qwen3"}, registry, control_loop);
//   pool.engine_added({.info = {...}, .origin = {...}, .models = {...}});    // from ingest or by hand, any time
//   pool.start(core_options, &index, encoder);                              // once; before it requests get 503
//   pool.changed(fleet::LivenessChanged{id, fleet::Liveness::kUp});
//   pool.sampled(sample);
//
// Thread rule: everything here from any thread. Bounded: arrivals_max requests wait for the brain, beyond them Arrived
// is refused (503); samples are dropped when the inbox is that full (counted; the next one is never far).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/api.h"
#include "base/base.h"
#include "http/http.h"
#include "io/io.h"
#include "observe/observe.h"
#include "prompt/prompt.h"
#include "route/route.h"

namespace warmpath::proxy {

// When an engine is asked for a prompt's ids instead of taking ours.
enum class AskEngine : std::uint8_t {
  kNever,
  kWhenInexact,  // ours cannot be had for this prompt, or are not known to be the engine's (ids_doubt)
  kAlways,
};
struct AskOptions {
  AskEngine when = AskEngine::kNever;
  Duration deadline = std::chrono::seconds(1);  // then the prompt is matched approximately
  std::size_t cache_bytes_max = 64u << 20;      // of ids that were told
  std::string ids_doubt;                        // why ours are not known to be the engines'; empty: they are
};
// What became of asking; a metric's label.
enum class AskOutcome : std::uint8_t { kTold, kKnown, kTimeout, kRefused, kError, kNoEngine, kBusy, kUnsupported };
inline constexpr std::size_t kAskOutcomes = 8;
std::string_view ask_outcome_name(AskOutcome outcome);  // "told", "known", "timeout", …
struct AskCounts {
  std::array<std::uint64_t, kAskOutcomes> by_outcome{};
  std::uint64_t of(AskOutcome outcome) const { return by_outcome[static_cast<std::size_t>(outcome)]; }
  std::uint64_t failed() const;  // neither told nor known
};

struct PoolOptions {
  std::string name;                  // unique; the metrics' label `pool`
  std::string model;                 // as requests and engines name it; empty: what the engines say
  std::vector<std::string> aliases;  // further names for it, rewritten before an engine sees them
  std::size_t arrivals_max = 10'000;
  // Streams that did not ask for usage: ask the engine, strip the extra chunk again.
  api::UsageSplice usage = api::UsageSplice::kKeep;
  AskOptions ask;
  // Told of every forwarded prompt, on I/O threads; quick and thread-safe; may be empty (ingest::Ingest::routed).
  std::function<void(EngineId engine, std::uint64_t prompt_tokens)> routed;
};

// One engine as the proxy reaches it. `info.id` is given by next_engine_id(); adding the same id again changes it.
struct EngineAt {
  fleet::EngineInfo info;
  http::Origin origin;                  // resolved address
  std::string path;                     // prefix of its base URL: "" or "/prefix"
  std::vector<api::ModelEntry> models;  // what it serves; empty: not known, taken to serve the pool's model
  // Requests of this gateway at it; made by engine_added().
  std::shared_ptr<std::atomic<std::uint32_t>> calls{};
};

class EffectSink;  // private: an I/O thread of the Proxy
class EngineIds;   // private: asks engines for ids

class Pool {
 public:
  // `timers`: the loop that holds the brain's timer; it must outlive the pool.
  Pool(PoolOptions options, observe::Registry& registry, io::Loop& timers);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  const PoolOptions& options() const;
  // Brings the brain to life with all engines added so far. Once. `index` may be null and must outlive the pool.
  void start(route::CoreOptions core, const index::Index* index, std::shared_ptr<const prompt::Encoder> encoder);
  bool started() const;

  // ---- news: what ingest calls ----
  EngineId next_engine_id();  // dense from 0, never reused
  void engine_added(EngineAt engine);
  void changed(const fleet::Change& change);  // Removed, LivenessChanged; Added without an origin is a bug
  void sampled(const fleet::Sample& sample);
  void publisher_changed(EngineId engine, blocks::PublisherState state);

  // ---- views ----
  std::shared_ptr<const EngineAt> engine(EngineId id) const;  // null: gone
  std::vector<std::shared_ptr<const EngineAt>> engines() const;
  std::shared_ptr<const prompt::Encoder> encoder() const;  // null before start()
  // Stops the brain while it copies: for admin, not for every request.
  route::Snapshot snapshot(std::size_t decisions_max) const;
  std::vector<api::ModelEntry> models() const;  // union over engines, aliases, adapters; sorted

  // How a name in a request is served here; nullopt: not by this pool. An empty name means the base model. While
  // neither options nor engines name a model, every name is taken, so that requests meet "no engine yet" and not "no
  // such model".
  struct Resolved {
    std::string engine_model;            // what engines call it
    std::string label;                   // for metrics and logs: the public name
    std::string adapter;                 // LoRA name; empty: the base model
    bool rewrite = false;                // the body's name has to become engine_model
    std::uint32_t model_tokens_max = 0;  // prompt and answer; 0: not known
  };
  std::optional<Resolved> resolve(std::string_view model) const;

  AskCounts asked() const;  // for ids, since the start
  std::size_t inbox_depth() const;
  std::uint64_t engines_removed() const;  // so far; whoever keeps metric handles by engine looks them up again
  // Writes gauges and totals that are kept elsewhere (inbox, proofs, engines) into the registry; call before a scrape.
  void refresh_metrics();

  // ---- for the Proxy ----
  // Effects for requests whose id carries `thread` go to `sink` on its loop. nullptr unbinds. On that loop's thread, or
  // before it runs.
  void bind(std::uint32_t thread, io::Loop* loop, EffectSink* sink);
  EngineIds* engine_ids() const;  // null: never asked
  // False: the inbox is full (Arrived only). May call sink of the calling thread before it returns.
  [[nodiscard]] bool submit(route::Input input);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// A request's id carries the I/O thread that owns it.
RequestId request_id_of(std::uint32_t thread, std::uint64_t number);
std::uint32_t thread_of(RequestId id);
constexpr std::uint32_t kThreadsMax = 64;

}  // namespace warmpath::proxy
