// What it costs to know 100 engines: reading a metrics page, and the whole Ingest on its thread.
#include <benchmark/benchmark.h>
#include <time.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "ingest/publisher_feed.h"
#include "ingest/test_engine.h"
#include "io/test_loop.h"

namespace warmpath::ingest {
namespace {

std::string golden(const std::string& name) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/ingest/" + name);
  WP_CHECK(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void ReadPage(benchmark::State& state) {
  const std::string page = golden(state.range(0) == 1 ? "metrics_idle.prom" : "metrics_dp2.prom");
  std::optional<std::uint32_t> rank;
  if (state.range(0) == 2) rank = 1;
  for (auto _ : state) benchmark::DoNotOptimize(read_page(page, rank));
  state.SetBytesProcessed(static_cast<std::int64_t>(page.size()) * state.iterations());
}
BENCHMARK(ReadPage)->Arg(1)->Arg(2);

double cpu_seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

double thread_cpu_seconds() { return cpu_seconds(CLOCK_THREAD_CPUTIME_ID); }

class Staleness final : public Sink {
 public:
  explicit Staleness(io::Loop& loop) : loop_(loop) {}
  EngineId next_engine_id() override { return EngineId(next_++); }
  void engine_found(Found) override {}
  void changed(const fleet::Change&) override {}
  void sampled(const fleet::Sample& sample) override {
    const Instant now = loop_.now();
    auto [at, fresh] = last_.try_emplace(sample.engine, now);
    if (!fresh) worst = std::max(worst, now - at->second);
    at->second = now;
    ++samples;
  }
  void publisher_changed(EngineId, blocks::PublisherState state) override {
    exact += state == blocks::PublisherState::kExact ? 1 : 0;
  }
  std::uint64_t samples = 0;
  std::size_t exact = 0;
  Duration worst{0};

 private:
  io::Loop& loop_;
  std::map<EngineId, Instant> last_;
  std::uint32_t next_ = 0;
};

// 100 idle engines with pages of a real vLLM's size and event sockets, scraped every 500 ms for 10 s; the engines run
// on a thread of their own, only ours is measured.
void HundredIdleEngines(benchmark::State& state) {
  constexpr int kEngines = 100;
  const std::string page = golden("metrics_dp2.prom");
  io::Loop far;
  std::vector<std::unique_ptr<testing::TestEngine>> engines;
  std::vector<std::unique_ptr<testing::TestPublisher>> publishers;
  for (int i = 0; i < kEngines; ++i) {
    engines.push_back(std::make_unique<testing::TestEngine>(far));
    publishers.push_back(std::make_unique<testing::TestPublisher>(far, testing::TestPublisher::Replay::kAnswer));
    engines.back()->pages["/metrics"].body = page;
    engines.back()->pages["/kv_event_sources"] = {200, testing::TestEngine::sources({{0, publishers.back().get()}})};
  }
  std::thread thread([&] { far.run(); });
  for (auto _ : state) {
    io::Loop loop;
    index::Index index({.space = blocks::KeySpace(1, "m", 16)});
    observe::Registry registry;
    Staleness sink(loop);
    Ingest ingest(loop, {}, &index, sink, registry);
    for (const auto& engine : engines) ingest.add(engine->address());
    ingest.start();
    WP_CHECK(io::RunUntil(loop, [&] { return sink.exact == kEngines && sink.samples >= 2 * kEngines; }));
    sink.worst = Duration{0};
    const double cpu_before = thread_cpu_seconds();
    const Instant begun = loop.now();
    const std::uint64_t samples_before = sink.samples;
    io::RunUntil(loop, [] { return false; }, std::chrono::seconds(10));
    const double seconds = std::chrono::duration<double>(loop.now() - begun).count();
    const double cpu = thread_cpu_seconds() - cpu_before;
    const double scrapes = static_cast<double>(sink.samples - samples_before);
    state.counters["core_percent"] = 100 * cpu / seconds;
    state.counters["us_per_scrape"] = 1e6 * cpu / scrapes;
    state.counters["scrapes_per_s"] = scrapes / seconds;
    state.counters["staleness_max_ms"] = std::chrono::duration<double, std::milli>(sink.worst).count();
  }
  far.post([&] {
    engines.clear();
    publishers.clear();
    far.stop();
  });
  thread.join();
}
// The event plane alone: 100 idle publishers followed for 20 s. What is counted is the whole process: this thread,
// libzmq's, and the publishers' own ends of the connections.
void HundredIdlePublishers(benchmark::State& state) {
  constexpr std::uint32_t kPublishers = 100;
  io::Loop loop;
  std::vector<std::unique_ptr<testing::TestPublisher>> publishers;
  index::Index index({.space = blocks::KeySpace(1, "m", 16)});
  observe::Registry registry;
  std::vector<std::unique_ptr<PublisherFeed>> feeds;
  std::size_t exact = 0;
  for (std::uint32_t i = 0; i < kPublishers; ++i) {
    publishers.push_back(std::make_unique<testing::TestPublisher>(loop, testing::TestPublisher::Replay::kAnswer));
    RankSource source{publishers[i]->live_endpoint(), publishers[i]->replay_endpoint(), "",
                      EventSource::Side::kConnect};
    PublisherFeed::Setup setup{EngineId(i), "e" + std::to_string(i), source, "p", {}, i};
    feeds.push_back(std::make_unique<PublisherFeed>(
        loop, std::move(setup), index, registry,
        [&](blocks::PublisherState now) { exact += now == blocks::PublisherState::kExact ? 1 : 0; }));
    WP_CHECK(feeds.back()->open().ok());
  }
  WP_CHECK(io::RunUntil(loop, [&] { return exact == kPublishers; }));
  for (auto _ : state) {
    const double before = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    const Instant begun = loop.now();
    io::RunUntil(loop, [] { return false; }, std::chrono::seconds(20));
    const double seconds = std::chrono::duration<double>(loop.now() - begun).count();
    state.counters["core_percent"] = 100 * (cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - before) / seconds;
  }
}
BENCHMARK(HundredIdlePublishers)->Iterations(1)->UseRealTime()->Unit(benchmark::kSecond);

BENCHMARK(HundredIdleEngines)->Iterations(1)->UseRealTime()->Unit(benchmark::kSecond);

}  // namespace
}  // namespace warmpath::ingest
