#include "app/demo.h"

#include <algorithm>
#include <future>
#include <thread>

#include "app/gateway.h"
#include "app/model_folder.h"
#include "demo_model/embedded_files.h"
#include "engine_server/engine_server.h"
#include "io/io.h"
#include "loadgen/loadgen.h"
#include "tokens/stable_words.h"

namespace warmpath::app {
namespace {

constexpr std::string_view kModel = "demo";
constexpr std::size_t kWords = 1'024;
constexpr Duration kLagMax = std::chrono::milliseconds(2);
constexpr Duration kReadyMax = std::chrono::seconds(60);

// Simulated engines on a thread of their own: their clocks must not wait for the load generator.
class Engines {
 public:
  ~Engines() {
    if (!thread_.joinable()) return;
    loop_.post([this] {
      servers_.clear();
      loop_.stop();
    });
    thread_.join();
  }

  Result<void> start(const DemoOptions& options, const std::shared_ptr<const tokens::Tokenizer>& tokenizer) {
    for (std::uint32_t i = 0; i < options.engines; ++i) {
      engine_server::Options one;
      one.listen = {"127.0.0.1", 0};
      one.model = kModel;
      one.engine.profile = engine::shipped_profiles().front();
      one.engine.profile.kv_blocks = options.kv_blocks;
      one.engine.profile.block_tokens = options.block_tokens;
      one.engine.speed = options.speed;
      one.output_seed = options.seed;
      // A busy laptop is not the engines' fault: their clocks stand still while the process is kept from running.
      one.lag_max = kLagMax;
      auto server = engine_server::EngineServer::create(loop_, one, tokenizer);
      if (!server.ok()) return server.error();
      urls_.push_back("http://" + (*server)->address().text());
      servers_.push_back(std::move(server).value());
    }
    thread_ = std::thread([this] { loop_.run(); });
    return {};
  }

  const std::vector<std::string>& urls() const { return urls_; }

  std::vector<engine::Stats> stats() {
    std::promise<std::vector<engine::Stats>> answer;
    loop_.post([&] {
      std::vector<engine::Stats> all;
      for (const auto& server : servers_) all.push_back(server->model(0).stats());
      answer.set_value(std::move(all));
    });
    return answer.get_future().get();
  }

 private:
  io::Loop loop_;
  std::vector<std::unique_ptr<engine_server::EngineServer>> servers_;
  std::vector<std::string> urls_;
  std::thread thread_;
};

config::GatewayConfig gateway_config(const DemoOptions& options, const std::string& policy, const std::string& folder,
                                     const Engines& engines) {
  config::GatewayConfig config;
  config.listen = "127.0.0.1:0";
  config.admin_listen = "127.0.0.1:0";
  config.io_threads = 1;
  config.scrape_interval = std::chrono::milliseconds(100);
  config::PoolConfig pool;
  pool.model = kModel;
  pool.tokenizer = folder;
  pool.policy = policy;
  pool.seed = options.seed;
  for (const std::string& url : engines.urls()) {
    config::EngineConfig engine;
    engine.url = url;
    pool.engines.push_back(std::move(engine));
  }
  config.pools.push_back(std::move(pool));
  return config;
}

bool all_ready(Gateway& gateway, std::size_t engines, bool with_events) {
  const auto pools = gateway.report(0);
  if (pools.empty() || !pools[0].started || pools[0].engines.size() < engines) return false;
  for (const admin::EngineReport& engine : pools[0].engines) {
    if (engine.liveness != fleet::Liveness::kUp) return false;
    if (with_events && engine.publisher != blocks::PublisherState::kExact) return false;
  }
  return true;
}

Result<void> wait_until_ready(io::Loop& loop, Gateway& gateway, std::size_t engines, bool with_events) {
  const Instant latest = loop.now() + kReadyMax;
  bool ready = false;
  io::Timer timer;
  std::function<void()> look = [&] {
    ready = all_ready(gateway, engines, with_events);
    if (ready || loop.now() > latest) return loop.stop();
    timer = loop.after(std::chrono::milliseconds(20), look);
  };
  look();
  if (!ready) loop.run();
  if (!ready) return Error{ErrorKind::kUnavailable, "the engines did not become ready"};
  return {};
}

workload::Options workload_of(const DemoOptions& options) {
  workload::Options wanted;
  workload::MultiTurn conversations = options.conversations;
  conversations.think_seconds /= options.speed;
  wanted.population = conversations;
  wanted.arrivals = workload::Poisson{options.conversations_per_second * options.speed};
  wanted.seed = options.seed;
  return wanted;
}

Arm arm_of(const std::string& policy, const loadgen::Report& report, const std::vector<engine::Stats>& engines,
           double speed) {
  Arm arm;
  arm.policy = policy;
  std::vector<double> ttft_ms;
  std::uint64_t output_tokens = 0;
  for (const loadgen::Outcome& one : report.outcomes) {
    ++arm.requests;
    if (!one.ok) {
      ++arm.failed;
      continue;
    }
    output_tokens += one.output_tokens;
    if (one.engine_ttft) ttft_ms.push_back(*one.engine_ttft * 1e3);
  }
  std::uint64_t queries = 0;
  std::uint64_t hits = 0;
  for (const engine::Stats& engine : engines) {
    queries += engine.prefix_queries_tokens;
    hits += engine.prefix_hits_tokens;
    arm.prompt_tokens += engine.prompt_tokens;
    arm.prefill_tokens_computed += engine.prefill_tokens_computed;
    arm.prefill_tokens_saved += engine.prompt_cached_tokens;
  }
  if (queries > 0) arm.prefix_hit_ratio = static_cast<double>(hits) / static_cast<double>(queries);
  arm.ttft_ms_p50 = loadgen::percentile(ttft_ms, 50);
  arm.ttft_ms_p90 = loadgen::percentile(ttft_ms, 90);
  arm.ttft_ms_p99 = loadgen::percentile(ttft_ms, 99);
  if (report.seconds > 0) arm.output_tokens_per_s = static_cast<double>(output_tokens) / (report.seconds * speed);
  return arm;
}

}  // namespace

void make_quick(DemoOptions& options) {
  options.conversations.tenants = std::max(1u, options.conversations.tenants / 5);
  options.kv_blocks = std::max<std::uint64_t>(options.kv_blocks / 5, 400);  // one conversation has to fit
  options.conversations.think_seconds /= 3;
}

double working_set_share(const DemoOptions& options) {
  workload::Options wanted = workload_of(options);
  const double fleet =
      static_cast<double>(options.kv_blocks) * options.block_tokens * static_cast<double>(options.engines);
  return static_cast<double>(workload::working_set_tokens(wanted)) / fleet;
}

Result<void> write_demo_model(const std::string& folder) {
  const std::pair<const char*, std::string_view> files[] = {{"tokenizer.json", demo_model::tokenizer},
                                                            {"tokenizer_config.json", demo_model::tokenizer_config},
                                                            {"config.json", demo_model::config}};
  for (const auto& [name, content] : files) {
    if (auto written = io::replace_file(folder + "/" + name, content); !written.ok()) return written;
  }
  return {};
}

Result<Arm> run_demo_arm(const DemoOptions& options, const std::string& policy, const std::string& model_folder,
                         const std::function<void(const DemoProgress&)>& progress) {
  auto found = schedule::find_policy(policy);
  if (!found.ok()) return found.error();
  auto tokenizer = load_model_folder(model_folder);
  if (!tokenizer.ok()) return tokenizer.error();
  auto source = workload::Source::create(workload_of(options), tokens::stable_word_ids(**tokenizer, kWords));
  if (!source.ok()) return source.error();
  Engines engines;
  if (auto started = engines.start(options, *tokenizer); !started.ok()) return started.error();
  auto gateway = Gateway::open(gateway_config(options, policy, model_folder, engines), nullptr);
  if (!gateway.ok()) return gateway.error();
  io::Loop loop;
  const bool with_events = (*found)->needs() == schedule::Needs::kExact;
  if (auto ready = wait_until_ready(loop, **gateway, options.engines, with_events); !ready.ok()) return ready.error();

  loadgen::Options load_options;
  load_options.address = (*gateway)->address();
  load_options.url = {.tls = false, .host = load_options.address.ip, .port = load_options.address.port, .path = {}};
  load_options.model = kModel;
  load_options.engine_times = loadgen::EngineTimes::kAsk;
  loadgen::Loadgen load(loop, load_options, **tokenizer, **source);
  Instant told = loop.now();
  const std::uint64_t total = (*source)->total().value_or(0);
  load.start([&] { loop.stop(); },
             [&](std::uint64_t finished) {
               if (!progress || (loop.now() - told < std::chrono::seconds(1) && finished != total)) return;
               told = loop.now();
               progress({policy, finished, total});
             });
  loop.run();
  return arm_of(policy, load.report(), engines.stats(), options.speed);
}

}  // namespace warmpath::app
