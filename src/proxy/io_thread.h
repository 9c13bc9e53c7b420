// IoThread: one event loop with its listener, engine connections and relays. Private to proxy.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "proxy/effect_sink.h"
#include "proxy/encode_crew.h"
#include "proxy/proxy.h"
#include "proxy/proxy_metrics.h"
#include "proxy/relay.h"

namespace warmpath::proxy {

// What all I/O threads of a proxy share; read only while they run, but for the atomics.
struct Shared {
  ProxyOptions options;
  std::vector<Pool*> pools;
  observe::Registry* registry = nullptr;
  std::unique_ptr<EncodeCrew> crew;
  std::atomic<std::uint64_t> in_flight{0};
};

class IoThread final : public EffectSink {
 public:
  IoThread(Shared& shared, std::uint32_t number);
  ~IoThread() override;  // after join()

  // Before run(): opens the listener; several threads share an address by SO_REUSEPORT.
  Result<io::Address> open(const io::Address& address);
  void run();                              // starts the thread
  void drain(std::function<void()> done);  // any thread
  void stop();                             // any thread: ends every relay and the loop
  void join();
  http::ServerCounters counters() const;  // any thread; a second old at most

  // For relays, on the loop's thread.
  io::Loop& loop() { return loop_; }
  http::HttpClient& client() { return *client_; }
  Shared& shared() { return shared_; }
  ProxyMetrics& metrics() { return metrics_; }
  std::string new_request_id();
  void retire(std::unique_ptr<http::ClientCall> call);
  void retire(RequestId relay);
  void ended(const AccessRecord& record);

  void on_effect(route::Effect effect) override;

 private:
  void serve(const std::shared_ptr<http::Exchange>& exchange);
  void answer_models(http::Exchange& exchange);
  void begin_relay(const std::shared_ptr<http::Exchange>& exchange, api::Endpoint endpoint);
  void sweep_later();
  void tick();

  Shared& shared_;
  const std::uint32_t number_;
  io::Loop loop_;
  ProxyMetrics metrics_;
  std::unique_ptr<http::HttpClient> client_;
  std::unique_ptr<http::HttpListener> listener_;
  std::unordered_map<RequestId, std::shared_ptr<Relay>> relays_;
  // Things that ended inside a callback of their own: destroyed on the loop's next turn.
  std::vector<std::unique_ptr<http::ClientCall>> ended_calls_;
  std::vector<std::shared_ptr<Relay>> ended_relays_;
  bool sweep_posted_ = false;
  std::uint64_t next_request_ = 0;
  std::uint64_t removals_seen_ = 0;
  RandomStream ids_;
  io::Timer tick_;
  std::atomic<std::uint64_t> open_{0}, accepted_{0}, refused_{0}, requests_{0}, malformed_{0};
  std::thread thread_;
};

// Writes errors that http meets before a request exists in the API's form.
std::string write_http_error(const Error& error, int& status, http::Headers& headers);

}  // namespace warmpath::proxy
