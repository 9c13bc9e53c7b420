// route: the request state machine of one pool: the one room that knows the order of things. Single-threaded, never
// blocks, never throws; time is handed in. Live it runs on the pool's brain thread, simulated inside sim.
//
//   Core core(options, index);
//   core.step(Arrived{...}, now, effects);   // -> Forward | Reject
//   core.step(FirstByte{id}, now, effects);
//   core.step(Finished{id, usage}, now, effects);
//
// Every Arrived gets exactly one of Forward or Reject; a Failed before the client saw a byte gets Forward to another
// engine, or Reject. Every request ends with one of Finished, Failed (answered by Reject) or ClientGone (answered by
// Cancel): then its books are empty again. Inputs about requests that are not in flight, and a Failed of an engine that
// no longer has the request, are late news and ignored. An Arrived with an id in flight is a bug of the caller
// (WP_CHECK).
//
// What is decided when: at the forward, not at the arrival, the chain is matched against the index, the tables of
// guesses and the fleet's view, so a retry is a fresh decision without the engines already tried.
//
// Cost: Arrived O(chain + engines), for several prompts O(chain + prompts x engines); the others O(1) on average
// (Failed with retry as Arrived). Memory: at most gate.inflight_requests_max requests with their chains (freed at the
// first byte), receipts_max receipts, and the bounded tables of guesses.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "fleet/fleet.h"
#include "flow/flow.h"
#include "index/index.h"
#include "schedule/schedule.h"

namespace warmpath::route {

// What an engine reported in `usage`.
struct Usage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::optional<std::uint64_t> cached_tokens{};
};

// One of several prompts of a request: how much of its chains and of its tokens is this one's.
struct PromptPart {
  std::uint32_t chain_blocks = 0;
  std::uint32_t guessed_blocks = 0;
  std::uint32_t prompt_tokens = 0;
};

// Inputs.
struct Arrived {
  RequestId id;
  std::string model{};                    // as engines know it (alias resolved); adapters included
  std::vector<BlockKey> chain{};          // empty: not exact
  std::vector<BlockKey> guessed_chain{};  // empty: none; blocks of the policy's guess_block_bytes()
  std::uint32_t prompt_tokens = 0;
  // Several prompts: their chains stand one behind the other, each is matched by itself and an engine's match is the
  // sum. Empty: one prompt. The parts add up to the chains (WP_CHECK).
  std::vector<PromptPart> parts{};
};
struct FirstByte {
  RequestId id;
};  // first body byte of the answer came from the engine: no retry from here on
struct Progress {
  RequestId id;
  std::uint32_t tokens = 0;
};  // implies the first byte
struct Finished {
  RequestId id;
  std::optional<Usage> usage{};
};
struct Failed {
  RequestId id;
  EngineId engine;
  // With blame, kUnavailable says that the engine was not reached (connect refused or timed out): that is no fault of
  // the request. Any other kind: the engine had the request when it broke, which counts towards poison_deaths_max.
  ErrorKind kind = ErrorKind::kUpstream;
  // Whether another engine may be tried: nothing has reached the client.
  enum class Retry : std::uint8_t { kMay, kMayNot } retry = Retry::kMay;
  // Whether it counts against the engine: connect failures and broken connections do; 429, 503 and 4xx answers do not.
  enum class Blame : std::uint8_t { kEngine, kNone } blame = Blame::kEngine;
};
struct ClientGone {
  RequestId id;
};
struct Sampled {
  fleet::Sample sample;
};
struct EngineChanged {
  fleet::Change change;
};
// What index knows of a publisher, handed in so that receipts and policies see it. After the engine's Added; lost until
// the first one; of engines not known it is ignored.
struct PublisherChanged {
  EngineId engine;
  blocks::PublisherState state = blocks::PublisherState::kLost;
};
struct TimerFired {};
using Input = std::variant<Arrived, FirstByte, Progress, Finished, Failed, ClientGone, Sampled, EngineChanged,
                           PublisherChanged, TimerFired>;

// Effects.
struct Forward {
  RequestId id;
  EngineId engine;
  std::uint32_t attempt = 1;
  std::uint32_t predicted_cached_tokens = 0;
  std::shared_ptr<const schedule::Receipt> receipt;
};
struct Reject {
  RequestId id;
  Error error;
  Duration retry_after{0};  // 0: say nothing
};
struct Cancel {
  RequestId id;
  EngineId engine;
};  // close the exchange with the engine
struct ArmTimer {
  Instant at;
};
using Effect = std::variant<Forward, Reject, Cancel, ArmTimer>;

struct CoreOptions {
  const schedule::Policy* policy = nullptr;
  std::uint64_t seed = 0;
  std::uint32_t attempts_max = 3;                                 // engines tried for one request
  Duration recent_ttl = std::chrono::seconds(2);                  // what was just routed counts as held so long,
  Duration recent_answered_ttl = std::chrono::milliseconds(250);  // or so long after the answer has begun
  std::size_t recent_entries_max = 65'536;
  std::size_t receipts_max = 1'024;  // kept for `decisions`
  flow::GateOptions gate;
  std::uint32_t block_tokens = 64;                 // the router block; with an index: the index's, whatever stands here
  std::uint32_t poison_deaths_max = 2;             // a request that broke this many engines is not tried again
  Duration retry_after = std::chrono::seconds(1);  // told when all engines refused
  fleet::FleetOptions fleet;
};

// Predicted against reported, per engine: the proof on live traffic. Only predictions that rest on
// KV events are in it, none on requests just routed, and none of several prompts: of those vLLM 0.32 reports one.
struct EngineProof {
  EngineId engine;
  std::uint64_t requests = 0;  // finished with usage that told cached_tokens
  std::uint64_t predicted_cached_tokens = 0;
  std::uint64_t reported_cached_tokens = 0;
  std::uint64_t requests_equal = 0;
  std::uint64_t prompt_tokens = 0;
  double absolute_error_tokens_recent = 0;  // exponentially weighted over about 50 requests

  // The recent error is beyond `allowed_tokens()`, judged from 50 requests on: prompts are not what the engine makes of
  // them, or its events do not tell what it holds.
  bool differs() const { return requests >= 50 && absolute_error_tokens_recent > allowed_tokens(); }
  // A twentieth of a mean prompt; below 64 tokens nothing is lost by being wrong.
  double allowed_tokens() const;
};

struct DecisionRecord {
  RequestId id;
  Instant at;
  std::uint32_t attempt = 1;
  std::shared_ptr<const schedule::Receipt> receipt;
  std::uint32_t predicted_cached_tokens = 0;
  std::optional<std::uint64_t> reported_cached_tokens;
};

// An immutable picture for admin: made when asked, on the brain.
struct Snapshot {
  std::string policy;
  std::vector<fleet::EngineView> engines;
  std::vector<fleet::EngineInfo> infos;  // same order
  std::vector<EngineProof> proofs;
  std::vector<DecisionRecord> decisions;  // newest first
  std::uint64_t decisions_total = 0;
  std::uint64_t rejected_total = 0;
  std::uint64_t retries_total = 0;
  std::size_t inflight = 0;
  std::uint64_t finished_total = 0;
  std::uint64_t cancelled_total = 0;  // clients that went away
  std::uint64_t poisoned_total = 0;   // requests given up because they broke poison_deaths_max engines
};

class Core {
 public:
  // `index` may be null (no events, no exact match) and must outlive the core; it is read only. A policy is required
  // (WP_CHECK).
  Core(CoreOptions options, const index::Index* index);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;
  void step(const Input& input, Instant now, std::vector<Effect>& out);
  Snapshot snapshot(Instant now, std::size_t decisions_max) const;  // O(engines + decisions_max)
  const fleet::Fleet& fleet() const;
  const schedule::Policy& policy() const;  // says what chains an Arrived should bring

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::route
