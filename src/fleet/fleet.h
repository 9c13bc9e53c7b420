// fleet: the engines of a pool as the brain knows them: what they are, whether they live, how busy they are, what this
// router has in flight on them, and how fast they have proved to be.
//
//   Fleet fleet;
//   fleet.apply(Added{info}, now);
//   fleet.candidates("qwen3-32b", now, views);
//   fleet.forwarded(views[0].id, request, 2'000, 500, now);
//   fleet.first_byte(request, now); ... fleet.released(request, now);
//
// Thread rule: one owner (the brain). Pure: changes, samples and time are handed in. Cost: O(log engines) per call, a
// view is O(engines). Memory: one booking per request in flight; the caller bounds those (flow::GateOptions).
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
  EngineId id{};
  std::string name{};                   // unique in the pool: "http://10.0.0.7:8000" or "…#1" for rank 1
  std::string url{};                    // base URL of its HTTP server
  std::optional<std::uint32_t> rank{};  // set: pin with X-data-parallel-rank
  std::vector<std::string> models{};    // model and adapter names it serves; empty: any
  std::uint32_t block_tokens = 0;       // 0: not known
  std::uint64_t kv_tokens = 0;          // KV capacity in tokens; 0: not known
  bool has_events = false;              // its KV events are followed
};

// A load sample as scraped or pushed. Unknown values are nullopt. Values that cannot be (NaN, infinite, negative) are
// ignored, a KV use above 1 counts as 1.
struct Sample {
  EngineId engine{};
  std::optional<std::uint32_t> running{};
  std::optional<std::uint32_t> waiting{};
  std::optional<double> kv_usage{};               // 0..1
  std::optional<double> prefix_queries_tokens{};  // engine's own counters, cumulative
  std::optional<double> prefix_hits_tokens{};
};

enum class Liveness : std::uint8_t { kUnknown, kUp, kDown, kDraining };
std::string_view liveness_name(Liveness liveness);  // "unknown", "up", "down", "draining"

// What happened to an engine.
struct Added {
  EngineInfo info;
};  // new, or its facts changed (same id)
struct Removed {
  EngineId engine;
};  // gone for good; its id is not used again
struct LivenessChanged {
  EngineId engine;
  Liveness liveness = Liveness::kUp;
};
using Change = std::variant<Added, Removed, LivenessChanged>;

// One engine at the moment of a decision. Plain numbers only: what policies may see.
struct EngineView {
  EngineId id;
  Liveness liveness = Liveness::kUnknown;  // kDown also while set aside after local failures
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
  // Forwarded after the last sample of `waiting` and without a first byte yet: what the sampled queue cannot show.
  std::uint32_t inflight_since_sample = 0;
  // Uncached prompt tokens forwarded there, fading (half of it after FleetOptions::recent_half_life): how much of its
  // cache this router has replaced of late. Taken back by nothing, also where a request failed.
  double prefill_tokens_recent = 0;
  // Learned; 0 until known. Over first bytes: time since forward / uncached tokens this router had there at the
  // forward (its own included), so the queue ahead is part of the work and not mistaken for slowness.
  double ttft_ms_per_prefill_token = 0;
};

struct FleetOptions {
  // This many local failures in a row set an engine aside: no candidate until a health check says kUp or `aside_for`
  // has passed; then one more failure sets it aside again.
  std::uint32_t failures_before_down = 3;
  Duration aside_for = std::chrono::seconds(10);
  // When setting aside would leave less than this share of the engines that serve a model, it is ignored for that
  // model: a refusal storm must not push everything onto the last engine standing, or onto none.
  double standing_share_min = 0.25;
  // Below this the fixed costs of a request hide the cost per token: no lesson for ttft_ms_per_prefill_token.
  std::uint64_t lesson_tokens_min = 256;
  double lesson_weight = 0.1;                            // of the newest in the moving average
  Duration recent_half_life = std::chrono::seconds(30);  // of EngineView::prefill_tokens_recent
};

class Fleet {
 public:
  explicit Fleet(FleetOptions options = {}) : options_(options) {}

  // Removed: requests in flight there stay booked until released (their connections may well finish). Changes and
  // samples of unknown engines are ignored.
  void apply(const Change& change, Instant now);
  void apply(const Sample& sample, Instant now);

  // Books. `uncached_tokens`: prompt tokens the engine has to compute. The engine must be known and the request not
  // booked (WP_CHECK).
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
    std::uint64_t prefill_tokens_there = 0;  // at the forward, its own included
    std::uint64_t sample_epoch = 0;
    Instant at;
    bool first_byte_seen = false;
  };
  struct Entry {
    EngineInfo info;
    EngineView view;
    std::optional<Instant> sampled_at;
    Instant recent_at;  // when view.prefill_tokens_recent was what it says
    std::optional<Instant> aside_until;
    std::uint64_t sample_epoch = 0;  // samples of `waiting` so far
    std::uint32_t failures_in_a_row = 0;
  };
  Entry* find(EngineId engine);
  const Entry* find(EngineId engine) const;
  EngineView view_of(const Entry& entry, Instant now) const;
  double recent_of(const Entry& entry, Instant now) const;
  void leave_queue(Entry& entry, const Booking& booking);

  FleetOptions options_;
  std::vector<Entry> engines_;  // sorted by id
  std::unordered_map<RequestId, Booking> bookings_;
};

}  // namespace warmpath::fleet
