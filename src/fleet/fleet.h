// fleet: the engines of a pool as the brain knows them: what they are, whether they live, how busy they are, what this
// router has in flight on them, and how fast they have proved to be.
//
// Thread rule: one owner (the brain). Pure: changes, samples and time are handed in. Cost: O(1) per call, view O(engines).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/base.h"

namespace warmpath::fleet {

// One engine, that is one data-parallel rank of one server process.
struct EngineInfo {
  EngineId id;
  std::string name;                    // unique in the pool: "http://10.0.0.7:8000" or "…#1" for rank 1
  std::string url;                     // base URL of its HTTP server
  std::optional<std::uint32_t> rank;   // set: pin with X-data-parallel-rank
  std::vector<std::string> models;     // model and adapter names it serves; empty: any
  std::uint32_t block_tokens = 0;      // 0: not known
  std::uint64_t kv_tokens = 0;         // KV capacity in tokens; 0: not known
  bool has_events = false;             // its KV events are followed
};

// A load sample as scraped or pushed. Unknown values are nullopt.
struct Sample {
  EngineId engine;
  std::optional<std::uint32_t> running;
  std::optional<std::uint32_t> waiting;
  std::optional<double> kv_usage;  // 0..1
  std::optional<double> prefix_queries_tokens;  // engine's own counters, cumulative
  std::optional<double> prefix_hits_tokens;
};

enum class Liveness : std::uint8_t { kUnknown, kUp, kDown, kDraining };

// What happened to an engine.
struct Added { EngineInfo info; };              // new, or its facts changed (same id)
struct Removed { EngineId engine; };            // gone for good; its id is not used again
struct LivenessChanged { EngineId engine; Liveness liveness = Liveness::kUp; };
using Change = std::variant<Added, Removed, LivenessChanged>;

// One engine at the moment of a decision. Plain numbers only: what policies may see.
struct EngineView {
  EngineId id;
  Liveness liveness = Liveness::kUnknown;
  std::uint32_t block_tokens = 0;
  std::uint64_t kv_tokens = 0;
  bool has_events = false;
  // Last sample; while none came yet: zeros and sample_age nullopt.
  double running = 0;
  double waiting = 0;
  double kv_usage = 0;
  std::optional<Duration> sample_age;
  // This router's own books.
  std::uint32_t inflight_requests = 0;
  std::uint64_t inflight_prefill_tokens = 0;  // uncached prompt tokens of requests without a first byte yet
  std::uint64_t inflight_tokens = 0;          // prompt tokens of all in flight
  std::uint32_t inflight_since_sample = 0;    // forwarded after the last sample: not in running/waiting yet
  double ttft_ms_per_prefill_token = 0;       // learned; 0 until known
};

class Fleet {
 public:
  void apply(const Change& change, Instant now);
  void apply(const Sample& sample, Instant now);

  // Books. `uncached_tokens`: prompt tokens the engine has to compute.
  void forwarded(EngineId engine, RequestId request, std::uint64_t prompt_tokens, std::uint64_t uncached_tokens,
                 Instant now);
  void first_byte(RequestId request, Instant now);
  // Finished, failed or cancelled: the booking is removed. Unknown requests are ignored.
  void released(RequestId request, Instant now);
  // A local connect/first-byte failure: after `failures_before_down` in a row the engine counts as down until a health
  // check says otherwise.
  void failed(EngineId engine, Instant now);
  void succeeded(EngineId engine, Instant now);

  const EngineInfo* info(EngineId engine) const;
  std::optional<EngineId> engine_of(RequestId request) const;
  // Up or unknown engines that serve `model`, sorted by id. Down and draining ones are left out.
  void candidates(std::string_view model, Instant now, std::vector<EngineView>& out) const;
  void all(Instant now, std::vector<EngineView>& out) const;
  std::size_t inflight_total() const;

 private:
  struct Booking {
    EngineId engine;
    std::uint64_t prompt_tokens = 0;
    std::uint64_t uncached_tokens = 0;
    Instant at;
    bool first_byte_seen = false;
  };
  struct Entry {
    EngineInfo info;
    EngineView view;
    Instant sampled_at;
    bool sampled = false;
    std::uint32_t failures_in_a_row = 0;
  };
  std::vector<Entry> engines_;  // sorted by id
  std::unordered_map<RequestId, Booking> bookings_;
};

}  // namespace warmpath::fleet
