#include "proxy/proxy.h"

#include <algorithm>
#include <thread>

#include "proxy/io_thread.h"

namespace warmpath::proxy {
namespace {

constexpr std::uint32_t kIoThreadsDefaultMax = 4;

std::uint32_t cores() { return std::max(1u, std::thread::hardware_concurrency()); }

class ProxyImpl final : public Proxy {
 public:
  ProxyImpl(ProxyOptions options, std::vector<Pool*> pools, observe::Registry& registry) {
    if (options.io_threads == 0) options.io_threads = std::min(cores(), kIoThreadsDefaultMax);
    options.io_threads = std::min(options.io_threads, kThreadsMax);
    if (options.encode_threads == 0) options.encode_threads = options.io_threads;
    shared_.options = std::move(options);
    shared_.pools = std::move(pools);
    shared_.registry = &registry;
  }

  ~ProxyImpl() override {
    for (auto& thread : threads_) thread->stop();
    for (auto& thread : threads_) thread->join();
    shared_.crew.reset();  // its tasks post to the loops, which live until here
    threads_.clear();
  }

  Result<void> open() {
    io::Address address = shared_.options.listen;
    if (auto free = check_free(address); !free.ok()) return free;
    shared_.crew = std::make_unique<EncodeCrew>(shared_.options.encode_threads, shared_.options.encode_queue_max);
    for (std::uint32_t i = 0; i < shared_.options.io_threads; ++i) {
      auto thread = std::make_unique<IoThread>(shared_, i);
      auto opened = thread->open(address);
      if (!opened.ok()) return opened.error();
      address = *opened;  // the first one's real port is everyone's
      unstarted_.push_back(std::move(thread));
    }
    address_ = address;
    for (auto& thread : unstarted_) {
      thread->run();
      threads_.push_back(std::move(thread));
    }
    unstarted_.clear();
    return {};
  }

  io::Address address() const override { return address_; }

  void drain(std::function<void()> done) override {
    auto left = std::make_shared<std::atomic<std::size_t>>(threads_.size());
    auto shared_done = std::make_shared<std::function<void()>>(std::move(done));
    for (auto& thread : threads_) {
      thread->drain([left, shared_done] {
        if (left->fetch_sub(1) == 1) (*shared_done)();
      });
    }
  }

  ProxyCounters counters() const override {
    ProxyCounters out;
    for (const auto& thread : threads_) {
      const http::ServerCounters one = thread->counters();
      out.http.connections_open += one.connections_open;
      out.http.connections_accepted += one.connections_accepted;
      out.http.connections_refused += one.connections_refused;
      out.http.requests += one.requests;
      out.http.requests_malformed += one.requests_malformed;
    }
    out.requests_in_flight = shared_.in_flight.load(std::memory_order_relaxed);
    return out;
  }

 private:
  // SO_REUSEPORT would let two gateways share a port in silence: a plain bind says whether it is taken.
  Result<void> check_free(const io::Address& address) const {
    if (address.port == 0 || shared_.options.io_threads == 1) return {};
    io::Loop loop;
    auto probe = io::listen(loop, address, {.backlog = 1, .reuse_port = false}, [](std::shared_ptr<io::Stream>) {});
    if (!probe.ok()) return probe.error();
    (*probe)->close();
    return {};
  }

  Shared shared_;
  io::Address address_;
  std::vector<std::unique_ptr<IoThread>> unstarted_;
  std::vector<std::unique_ptr<IoThread>> threads_;
};

}  // namespace

Result<std::unique_ptr<Proxy>> Proxy::open(ProxyOptions options, std::vector<Pool*> pools,
                                           observe::Registry& registry) {
  WP_CHECK(!pools.empty());
  auto proxy = std::make_unique<ProxyImpl>(std::move(options), std::move(pools), registry);
  if (auto opened = proxy->open(); !opened.ok()) return opened.error();
  return std::unique_ptr<Proxy>(std::move(proxy));
}

}  // namespace warmpath::proxy
