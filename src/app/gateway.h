// Gateway: a running gateway, put together: I/O threads (proxy), brains (one a pool), a control thread (engines' news,
// admin, timers), log. `serve` runs one; `demo` runs one in its own process.
//
//   auto gateway = Gateway::open(config, log);           // listeners are open, engines are being looked for
//   ... (*gateway)->address().text() ...
//   (*gateway)->drain(std::chrono::seconds(30), [](Gateway::Drained) { ... });
//
// Start order: tokenizers, listeners, then per pool block sizes of its engines (a survey of at most survey_max), index,
// brain, engine news. Requests before that are answered 503 with Retry-After. Engines that are down are waited for.
// Shutdown order is the destructor's: listeners and exchanges, then engine news, then brains, then the control loop.
//
// Thread rule: from the thread that opened it, but for what says otherwise.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "admin/admin.h"
#include "base/base.h"
#include "config/gateway_config.h"
#include "io/io.h"
#include "observe/observe.h"

namespace warmpath::app {

class Log;

class Gateway {
 public:
  virtual ~Gateway() = default;  // ends everything at once
  // kInvalid: a tokenizer folder, key file or certificate that cannot be used; kConflict: a taken address. `log` may be
  // null, else it must outlive the gateway. The configuration is taken as checked (config::GatewayFlags::finish).
  static Result<std::unique_ptr<Gateway>> open(const config::GatewayConfig& config, Log* log);

  virtual io::Address address() const = 0;
  virtual io::Address admin_address() const = 0;
  virtual observe::Registry& registry() = 0;

  enum class Drained : std::uint8_t { kEmpty, kTimeout };
  // Not ready any more; no new connections; `done` once, on the control thread, when the last exchange ended or
  // `longest` has passed.
  virtual void drain(Duration longest, std::function<void(Drained)> done) = 0;

  // What /ready, /engines and /decisions say. Any thread but the control thread; waits for it.
  virtual std::vector<admin::PoolReport> report(std::size_t decisions_max) = 0;
  virtual std::uint64_t requests_in_flight() const = 0;  // any thread
};

}  // namespace warmpath::app
