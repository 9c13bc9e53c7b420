// admin: a listener of its own for those who run the gateway: metrics, health, readiness, engines, decisions.
//
//   auto admin = Admin::open(loop, address, {.registry = &registry, .refresh = ..., .pools = ...});
//
//   GET /metrics            Prometheus text
//   GET /health             200 while the process serves
//   GET /ready              200 once every pool has an engine that is up; 503 before, naming what is missing and why
//   GET /engines            every engine: what it is, how it is, what it has, predicted against reported
//   GET /decisions?limit=N  receipts, newest first (default 20, at most 1000); &pool=NAME
//   GET /index, /index/dump, /index/snapshot, POST /index/who   what the index knows: index_queries.h
// Everything is read only. Not for clients: it names engines and shows load; the default address is loopback.
//
// Thread rule: one loop (the control loop, not an I/O thread's); `refresh` and `pools` are called on it, once a request
// that needs them. Bounds: body kWhoBytesMax, few connections, decisions_max.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/index_queries.h"  // IWYU pragma: export
#include "base/base.h"
#include "http/http.h"
#include "io/io.h"
#include "observe/observe.h"
#include "route/route.h"

namespace warmpath::admin {

// One engine, or one configured URL where none has been found yet, as ingest sees it.
struct EngineReport {
  std::string name;
  std::optional<EngineId> engine;  // nullopt: not found yet
  fleet::Liveness liveness = fleet::Liveness::kUnknown;
  std::string why_not;  // of not being up: "connection refused"
  std::string models;   // comma separated
  std::uint32_t block_tokens = 0;
  std::uint64_t kv_tokens = 0;
  std::string events;  // the source followed, or why there is none
  bool has_events = false;
  blocks::PublisherState publisher = blocks::PublisherState::kLost;
  std::uint64_t batches = 0;
  std::uint64_t blocks_held = 0;
};

// One pool at the moment of the question.
struct PoolReport {
  std::string name;
  std::string model;
  std::string mode;  // "precise", or why it runs otherwise: "approximate: no tokenizer"
  bool started = false;
  std::vector<EngineReport> engines;
  route::Snapshot snapshot;
};

struct Sources {
  observe::Registry* registry = nullptr;  // required
  std::function<void()> refresh;          // before a scrape; may be empty
  // Required. `decisions_max` 0: none are looked at.
  std::function<std::vector<PoolReport>(std::size_t decisions_max)> pools;
  IndexSources index;  // all of them but `snapshot`, or none: then those paths answer 404
};

class Admin {
 public:
  virtual ~Admin() = default;
  // kConflict when the address is taken.
  static Result<std::unique_ptr<Admin>> open(io::Loop& loop, const io::Address& address, Sources sources);
  virtual io::Address address() const = 0;
};

// The bodies, for tests and for commands that print the same.
bool is_ready(const std::vector<PoolReport>& pools);
std::string ready_body(const std::vector<PoolReport>& pools);
std::string engines_body(const std::vector<PoolReport>& pools);
std::string decisions_body(const std::vector<PoolReport>& pools, std::size_t limit, Instant now);

}  // namespace warmpath::admin
