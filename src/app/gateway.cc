#include "app/gateway.h"

#include <future>
#include <random>
#include <set>
#include <thread>

#include "app/log.h"
#include "app/model_folder.h"
#include "app/peer_copy.h"
#include "app/pool_run.h"
#include "app/scribe.h"
#include "io/files.h"

namespace warmpath::app {
namespace {

constexpr Duration kLastSnapshotMax = std::chrono::seconds(10);

Result<io::Address> numeric_address(std::string_view text, std::string_view flag) {
  auto parsed = io::parse_host_port(text);
  if (!parsed.ok()) return Error{ErrorKind::kInvalid, std::string(flag) + ": " + parsed.error().message};
  std::string host = parsed->host;
  if (host.empty()) host = "0.0.0.0";
  if (host == "localhost") host = "127.0.0.1";
  return io::Address{host, parsed->port};
}

std::uint64_t engines_in(const index::SnapshotContent& content) {
  std::uint64_t engines = 0;
  for (const auto& pool : content.pools) engines += pool.engines.size();
  return engines;
}

class GatewayImpl final : public Gateway {
 public:
  GatewayImpl(config::GatewayConfig config, Log* log) : config_(std::move(config)), log_(log) {}

  ~GatewayImpl() override {
    if (control_thread_.joinable()) {
      // The control thread reads the proxy's counters and drains it: it lets go before the proxy goes.
      std::promise<void> let_go;
      control_.post([&] {
        drain_timer_.cancel();
        if (scribe_) scribe_->stop_timer();
        peer_copy_.reset();
        admin_.reset();
        let_go.set_value();
      });
      let_go.get_future().wait();
      if (scribe_) scribe_->end();
    }
    proxy_.reset();  // exchanges end while brains still stand
    if (control_thread_.joinable()) {
      control_.post([this] { control_.stop(); });
      control_thread_.join();
    }
    admin_.reset();
    scribe_.reset();
    pools_.clear();
  }

  Result<void> open() {
    const auto listen = numeric_address(config_.listen, "--listen");
    if (!listen.ok()) return listen.error();
    const auto admin = numeric_address(config_.admin_listen, "--admin-listen");
    if (!admin.ok()) return admin.error();
    if (auto made = make_pools(); !made.ok()) return made;
    if (auto opened = open_admin(*admin); !opened.ok()) return opened;
    if (auto opened = open_proxy(*listen); !opened.ok()) return opened;
    make_scribe();
    index::SnapshotContent from;
    const std::string& path = config_.index.snapshot_path;
    if (!path.empty() && io::file_exists(path)) from = read_snapshot(path);
    if (from.foreign) {
      return Error{ErrorKind::kInvalid, "--index-snapshot: " + path +
                                            " is no snapshot of an index and would be overwritten; name another " +
                                            "path, or move that file away"};
    }
    control_.post([this, from = std::make_shared<index::SnapshotContent>(std::move(from))] { copy_or_start(*from); });
    control_thread_ = std::thread([this] { control_.run(); });
    if (log_ != nullptr) {
      log_->info("serving", {{"listen", "http://" + address().text()}, {"admin", "http://" + admin_address().text()}});
    }
    return {};
  }

  io::Address address() const override { return proxy_->address(); }
  io::Address admin_address() const override { return admin_address_; }
  observe::Registry& registry() override { return registry_; }
  std::uint64_t requests_in_flight() const override { return proxy_->counters().requests_in_flight; }

  void drain(Duration longest, std::function<void(Drained)> done) override {
    auto once = std::make_shared<std::function<void(Drained)>>(std::move(done));
    const auto finish = [this, once](Drained how) {
      if (!*once) return;
      drain_timer_.cancel();
      const auto call = std::exchange(*once, nullptr);
      call(how);
    };
    control_.post([this, longest, finish] {
      draining_ = true;
      // The map is written down last, when no request needs the time.
      const auto end = [this, finish](Drained how) {
        if (std::exchange(ending_, true)) return;
        drain_timer_ = control_.after(kLastSnapshotMax, [finish, how] { finish(how); });
        scribe_->write([finish, how] { finish(how); });
      };
      drain_timer_ = control_.after(longest, [end] { end(Drained::kTimeout); });
      proxy_->drain([this, end] { control_.post([end] { end(Drained::kEmpty); }); });
    });
  }

  std::vector<admin::PoolReport> report(std::size_t decisions_max) override {
    WP_CHECK(!control_.on_this_thread());
    std::promise<std::vector<admin::PoolReport>> answer;
    control_.post([&] { answer.set_value(reports(decisions_max)); });
    return answer.get_future().get();
  }

 private:
  Result<void> make_pools() {
    std::set<std::string> names;
    ModelFolders models;
    for (const config::PoolConfig& pool : config_.pools) {
      std::string name = pool.model.empty() ? "default" : pool.model;
      while (!names.insert(name).second) name += "'";
      auto made = PoolRun::create(config_, pool, name, models, control_, registry_, log_);
      if (!made.ok()) return made.error();
      pools_.push_back(std::move(made).value());
    }
    return {};
  }

  void make_scribe() {
    std::vector<SnapshotSource*> sources;
    for (auto& pool : pools_) sources.push_back(pool.get());
    scribe_ = std::make_unique<Scribe>(control_, std::move(sources), config_.index, registry_, log_);
  }

  index::SnapshotContent read_snapshot(const std::string& path) {
    index::SnapshotContent content = read_snapshot_file(path);
    if (!content.why.empty()) {
      registry_
          .counter("warmpath_index_snapshot_torn_total",
                   "Snapshot files read at start that were not whole: what was whole in them was used.")
          .add();
    }
    tell_snapshot(path, content);
    if (content.written_at_ms != 0) scribe_->restored_from(content.written_at_ms);
    return content;
  }

  void tell_snapshot(std::string_view from, const index::SnapshotContent& content) {
    if (log_ == nullptr) return;
    log_->line(content.why.empty() ? config::LogLevel::kInfo : config::LogLevel::kWarning, "snapshot_read",
               {{"from", from},
                {"engines", engines_in(content)},
                {"engines_refused", std::uint64_t{content.engines_refused}},
                {"not_whole_as", std::string_view(content.why)}});
  }

  // A live peer knows more than a file that was written before we ended. On the control thread.
  void copy_or_start(index::SnapshotContent& from_file) {
    const auto peer = http::parse_url(config_.index.copy_from);
    if (config_.index.copy_from.empty() || !peer.ok()) return start_pools({&from_file});
    auto file = std::make_shared<index::SnapshotContent>(std::move(from_file));
    peer_copy_ = std::make_unique<PeerCopy>(control_, *peer, config_.index.copy_timeout,
                                            [this, file](index::SnapshotContent copied) {
                                              peer_copy_.reset();
                                              tell_snapshot(config_.index.copy_from, copied);
                                              start_pools({&copied, file.get()});
                                            });
  }

  // The best first. A pool takes the first that has engines of it and that it can use.
  void start_pools(const std::vector<index::SnapshotContent*>& contents) {
    for (auto& pool : pools_) {
      std::vector<index::SnapshotContent::Pool> known;
      for (index::SnapshotContent* content : contents) {
        for (auto& one : content->pools) {
          if (one.pool.name == pool->name() && !one.engines.empty()) known.push_back(std::move(one));
        }
      }
      pool->start(std::move(known));
    }
    scribe_->start();
  }

  Result<void> open_proxy(const io::Address& listen) {
    proxy::ProxyOptions options;
    options.listen = listen;
    options.io_threads = config_.io_threads;
    http::Limits& limits = options.limits;
    limits.head_bytes_max = config_.limits.head_bytes_max;
    limits.headers_max = config_.limits.headers_max;
    limits.body_bytes_max = config_.limits.body_bytes_max;
    limits.connections_max = config_.limits.connections_max;
    limits.head_timeout = config_.timeouts.client_head;
    limits.body_timeout = config_.timeouts.client_body;
    limits.keep_alive = config_.timeouts.client_keep_alive;
    limits.write_stall = config_.timeouts.client_stall;
    options.engine_calls_max = static_cast<std::uint32_t>(config_.limits.engine_connections_max);
    options.timeouts = {config_.timeouts.connect, config_.timeouts.first_byte, config_.timeouts.idle};
    std::random_device device;
    options.seed = (std::uint64_t{device()} << 32) | device();
    if (log_ != nullptr) {
      options.access_log = [log = log_](const proxy::AccessRecord& record) { log->request(record); };
    }
    std::vector<proxy::Pool*> pools;
    for (auto& pool : pools_) pools.push_back(&pool->pool());
    auto opened = proxy::Proxy::open(std::move(options), std::move(pools), registry_);
    if (!opened.ok()) return Error{opened.error().kind, "--listen: " + opened.error().message};
    proxy_ = std::move(opened).value();
    return {};
  }

  Result<void> open_admin(const io::Address& address) {
    admin::Sources sources;
    sources.registry = &registry_;
    sources.refresh = [this] { refresh_metrics(); };
    sources.pools = [this](std::size_t decisions_max) { return reports(decisions_max); };
    sources.index.stat = [this] {
      std::vector<admin::IndexPool> out;
      for (const auto& pool : pools_) out.push_back(pool->index_report());
      return out;
    };
    sources.index.dump = [this](std::string_view name, std::string_view engine) -> Result<admin::IndexDump> {
      const auto pool = pool_named(name, std::nullopt);
      if (!pool.ok()) return pool.error();
      return (*pool)->index_dump(engine);
    };
    sources.index.who = [this](std::string_view name, const api::Request& request) -> Result<admin::IndexWho> {
      const auto pool = pool_named(name, request.model);
      if (!pool.ok()) return pool.error();
      return (*pool)->index_who(request);
    };
    if (config_.index.share) sources.index.snapshot = [this] { return scribe_->stream(); };
    auto opened = admin::Admin::open(control_, address, std::move(sources));
    if (!opened.ok()) return Error{opened.error().kind, "--admin-listen: " + opened.error().message};
    admin_ = std::move(opened).value();
    admin_address_ = admin_->address();
    return {};
  }

  // An empty name: the only pool, or the first that serves the model.
  Result<const PoolRun*> pool_named(std::string_view name, const std::optional<std::string>& model) const {
    std::string names;
    for (const auto& pool : pools_) {
      if (name.empty() ? pools_.size() == 1 : pool->name() == name) return pool.get();
      if (name.empty() && model && !model->empty() && pool->pool().resolve(*model)) return pool.get();
      names += (names.empty() ? "" : ", ") + pool->name();
    }
    if (name.empty() && model && !model->empty()) {
      return Error{ErrorKind::kNotFound, "no pool serves the model '" + *model + "'; there are " + names};
    }
    if (name.empty()) return Error{ErrorKind::kInvalid, "`pool` is missing; there are " + names};
    return Error{ErrorKind::kNotFound, "no such pool; there are " + names};
  }

  // On the control thread.
  std::vector<admin::PoolReport> reports(std::size_t decisions_max) {
    std::vector<admin::PoolReport> out;
    for (const auto& pool : pools_) {
      out.push_back(pool->report(decisions_max));
      if (draining_) out.back().started = false;
    }
    return out;
  }

  void refresh_metrics() {
    for (auto& pool : pools_) pool->refresh_metrics();
    scribe_->refresh_metrics();
    const proxy::ProxyCounters now = proxy_->counters();
    registry_.gauge("warmpath_connections_open", "Client connections.")
        .set(static_cast<double>(now.http.connections_open));
    registry_.counter("warmpath_connections_accepted_total", "Client connections accepted.")
        .raise_to(now.http.connections_accepted);
    registry_.counter("warmpath_connections_refused_total", "Client connections refused: above the limit.")
        .raise_to(now.http.connections_refused);
    registry_.counter("warmpath_http_requests_total", "Requests read, all paths.").raise_to(now.http.requests);
    registry_.counter("warmpath_http_malformed_total", "Requests that were no HTTP.")
        .raise_to(now.http.requests_malformed);
    registry_.gauge("warmpath_requests_in_flight", "Requests not ended.")
        .set(static_cast<double>(now.requests_in_flight));
    const io::ProcessUsage usage = io::process_usage();
    registry_.gauge("warmpath_process_cpu_seconds", "CPU time of this process.").set(usage.cpu_seconds);
    registry_.gauge("warmpath_process_resident_bytes", "Memory of this process.")
        .set(static_cast<double>(usage.resident_bytes));
  }

  const config::GatewayConfig config_;
  Log* log_;
  observe::Registry registry_;
  io::Loop control_;
  std::vector<std::unique_ptr<PoolRun>> pools_;
  std::unique_ptr<Scribe> scribe_;
  std::unique_ptr<PeerCopy> peer_copy_;
  std::unique_ptr<admin::Admin> admin_;
  io::Address admin_address_;
  std::unique_ptr<proxy::Proxy> proxy_;
  bool draining_ = false;  // control thread
  bool ending_ = false;    // the last snapshot is being written
  io::Timer drain_timer_;
  std::thread control_thread_;
};

}  // namespace

Result<std::unique_ptr<Gateway>> Gateway::open(const config::GatewayConfig& config, Log* log) {
  WP_CHECK(!config.pools.empty());
  auto gateway = std::make_unique<GatewayImpl>(config, log);
  if (auto opened = gateway->open(); !opened.ok()) return opened.error();
  return std::unique_ptr<Gateway>(std::move(gateway));
}

}  // namespace warmpath::app
