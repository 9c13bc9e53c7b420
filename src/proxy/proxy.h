// proxy: one exchange, client <-> prompt <-> route <-> engine: relays bytes, cancels, retries as told.
//
//   Pool pool(...);                                  // pool.h: the brain, and the engines it may choose
//   auto proxy = Proxy::open(options, {&pool}, registry);
//   ... proxy->address() ...
//   proxy->drain([] { ... });                        // no new connections; running exchanges end
//
// Serves POST to api::endpoints(), GET /v1/models and /health; other paths are 404 naming these. Errors have the form of
// the endpoint's API.
// Body bytes go to the engine as they came, unless an alias is resolved or usage is asked for (splices). Nothing
// reaches the client before the engine's first body byte, so that everything before it can be tried on another engine:
//   engine refuses, breaks or is silent  -> as route decides: another engine, or 502 / 503 / 504
//   engine answers 429, 502, 503, 504    -> one other engine, else its own answer, Retry-After included
//   engine has engine_calls_max already  -> another engine, else 429
//   any other answer                     -> passed on, never tried again
//   a stream breaks later                -> an SSE error event and the end, no [DONE]
//   an answer that is no stream breaks   -> 502: it is held until whole, up to whole_bytes_max; above that the client's
//                                           connection breaks too
//   client hangs up                      -> the engine's connection closes at once
// Streams are relayed in whole events, so that an error event never lands inside another.
//
// Threads: io_threads event loops, each with its own listener (SO_REUSEPORT), engine connections and requests; a few
// encode threads for long prompts. Memory: one body per request in flight plus at most a watermark of output each.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "http/http.h"
#include "observe/observe.h"
#include "proxy/plan.h"  // IWYU pragma: export
#include "proxy/pool.h"

namespace warmpath::proxy {

// One line of the access log. Never prompt text, keys or salts.
struct AccessRecord {
  std::string request_id;  // x-request-id
  std::string pool;
  std::string model;                // as known here; "other" when unknown
  std::string engine;               // name; empty: none was asked
  int status = 0;                   // 0: the client left before an answer began
  std::string_view outcome = "ok";  // "ok", "client_gone", "broken" (after the head), or an error kind's name
  std::uint32_t attempts = 0;
  std::string why;  // what went wrong last at an engine or here, also where another engine answered then; else empty
  bool stream = false;
  Duration ttft{0};  // request read -> first byte to the client; 0: none
  Duration total{0};
  std::uint32_t prompt_tokens = 0;  // ours, exact when `exact`
  bool exact = false;
  std::uint32_t matched_tokens = 0;  // predicted to be cached at the chosen engine
  std::optional<api::Usage> usage;   // as the engine reported
  std::uint64_t request_bytes = 0;
  std::uint64_t response_bytes = 0;
};

struct ProxyOptions {
  io::Address listen{"127.0.0.1", 8080};
  std::uint32_t io_threads = 0;      // 0: one a core, at most 4
  std::uint32_t encode_threads = 0;  // 0: as many as I/O threads
  http::Limits limits;
  http::ClientTimeouts timeouts;
  http::ClientOptions client;
  std::uint32_t engine_calls_max =
      4'096;  // requests at one engine (one rank), all threads; more go elsewhere or get 429
  api::RequestLimits request_limits;
  std::size_t encode_inline_bytes_max = 64u << 10;  // longer prompts go to an encode thread
  std::size_t encode_queue_max = 1'024;             // prompts waiting for one; beyond, they are routed without a chain
  std::size_t whole_bytes_max = 1u << 20;           // an answer that is no stream is held up to this
  std::size_t event_bytes_max = 1u << 20;           // an SSE event is held up to this
  std::uint64_t seed = 0;                           // of generated request ids
  // Called on I/O threads when a request ends; must be quick and thread-safe. May be empty.
  std::function<void(const AccessRecord&)> access_log;
};

struct ProxyCounters {
  http::ServerCounters http;  // all listeners
  std::uint64_t requests_in_flight = 0;
};

class Proxy {
 public:
  // Ends everything at once. Running streams end with an error event, requests not answered yet with 503.
  virtual ~Proxy() = default;
  // `pools` and `registry` must outlive the proxy. kConflict when the address is taken.
  static Result<std::unique_ptr<Proxy>> open(ProxyOptions options, std::vector<Pool*> pools,
                                             observe::Registry& registry);
  virtual io::Address address() const = 0;  // the real port when 0 was asked
  // Stops accepting, ends idle connections, lets running exchanges end. `done` is called once, on some thread.
  virtual void drain(std::function<void()> done) = 0;
  virtual ProxyCounters counters() const = 0;  // a second old at most
};

}  // namespace warmpath::proxy
