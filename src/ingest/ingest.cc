#include "ingest/ingest.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "ingest/engine_watch.h"

namespace warmpath::ingest {
namespace {

constexpr Duration kResolveRetry = std::chrono::seconds(1);
// An empty answer is not believed at once while engines of the name still answer (reliability: a flapping resolver).
constexpr int kMissesBeforeRemoval = 3;
constexpr std::size_t kAddressesMax = 1'024;  // of one name
constexpr Duration kSilenceMax = std::chrono::seconds(30);
constexpr std::uint64_t kSilenceTokensMin = 1'024;

}  // namespace

struct Ingest::Impl {
  // One configured URL: its name's addresses, each an engine.
  struct Site {
    EngineAddress engine;
    std::unique_ptr<io::Pending> resolving;
    io::Timer timer;
    std::string why_not = "not resolved yet";
    struct Member {
      std::unique_ptr<EngineWatch> watch;
      int misses = 0;
    };
    std::map<std::string, Member> members;  // by address
  };

  Impl(io::Loop& loop_in, IngestOptions options_in, index::Index* index_in, Sink& sink, observe::Registry& registry)
      : loop(loop_in),
        options(std::move(options_in)),
        client(http::HttpClient::create(loop, {.idle_per_origin_max = 2,
                                               .idle_max = std::chrono::seconds(4),
                                               .limits = {},
                                               .whole_body_bytes_max = options.page_bytes_max})),
        index(index_in),
        shared{loop, *client, options, index, sink, registry},
        silent(registry.gauge("warmpath_engines_silent",
                              "Engines that got prompts for half a minute and sent no KV events.")) {}

  void resolve(Site& site) {
    site.resolving = io::resolve(loop, site.engine.url.host, site.engine.url.port, options.ask_timeout,
                                 [this, &site](Result<std::vector<io::Address>> found) {
                                   site.resolving.reset();
                                   resolved(site, std::move(found));
                                 });
  }

  void resolved(Site& site, Result<std::vector<io::Address>> found) {
    if (!found.ok()) {
      if (site.members.empty() && site.why_not != found.error().message) {
        spdlog::warn("engine {}: {}; it is looked up again", site.engine.url.text(), found.error().message);
      }
      site.why_not = found.error().message;  // members that stand are kept: their health decides
      site.timer = loop.after(kResolveRetry, [this, &site] { resolve(site); });
      return;
    }
    site.why_not.clear();
    const bool many = found->size() > 1 || site.members.size() > 1;
    for (auto& [key, member] : site.members) ++member.misses;
    for (const io::Address& address : *found) {
      if (site.members.size() >= kAddressesMax) break;
      Site::Member& member = site.members[address.text()];
      member.misses = 0;
      if (member.watch) continue;
      const bool numeric = address.ip == site.engine.url.host;
      std::string name = site.engine.url.text();
      if (many && !numeric) name += "@" + address.text();
      member.watch = std::make_unique<EngineWatch>(shared, site.engine, address, std::move(name));
      member.watch->start();
    }
    std::erase_if(site.members, [](const auto& entry) { return entry.second.misses >= kMissesBeforeRemoval; });
    site.timer = loop.after(options.resolve_interval, [this, &site] { resolve(site); });
  }

  // Warns once an episode: prompts went there, no event came.
  void look_for_silence() {
    std::vector<EngineStatus> engines;
    for (const auto& site : sites) {
      for (const auto& [key, member] : site->members) member.watch->append_status(engines);
    }
    int count = 0;
    const Instant now = loop.now();
    {
      const std::lock_guard lock(mutex);
      for (const EngineStatus& engine : engines) {
        if (!engine.engine || !engine.has_events || engine.batches > 0) continue;
        const auto it = traffic.find(*engine.engine);
        if (it == traffic.end() || it->second.tokens < kSilenceTokensMin || now - it->second.first < kSilenceMax) continue;
        ++count;
        if (std::exchange(it->second.warned, true)) continue;
        spdlog::warn(
            "no KV events from {} though {} prompt tokens were routed to it; check that {} is its event address and that "
            "prefix caching is on",
            engine.name, it->second.tokens, engine.events);
      }
    }
    silent.set(count);
    silence_timer = loop.after(std::chrono::seconds(5), [this] { look_for_silence(); });
  }

  io::Loop& loop;
  IngestOptions options;
  std::unique_ptr<http::HttpClient> client;
  index::Index* index;
  WatchShared shared;
  observe::Gauge& silent;
  std::vector<std::unique_ptr<Site>> sites;
  io::Timer silence_timer;

  struct Traffic {
    std::uint64_t tokens = 0;
    Instant first;
    bool warned = false;
  };
  std::mutex mutex;
  std::unordered_map<EngineId, Traffic> traffic;  // guarded by mutex
};

Ingest::Ingest(io::Loop& loop, IngestOptions options, index::Index* index, Sink& sink, observe::Registry& registry)
    : impl_(std::make_unique<Impl>(loop, std::move(options), index, sink, registry)) {}

Ingest::~Ingest() {
  impl_->sites.clear();  // before the client they call through
}

void Ingest::add(EngineAddress engine) {
  auto site = std::make_unique<Impl::Site>();
  site->engine = std::move(engine);
  impl_->sites.push_back(std::move(site));
}

void Ingest::start() {
  for (auto& site : impl_->sites) impl_->resolve(*site);
  if (impl_->options.follow_events) impl_->look_for_silence();
}

std::vector<EngineStatus> Ingest::status() const {
  std::vector<EngineStatus> out;
  for (const auto& site : impl_->sites) {
    if (site->members.empty()) {
      EngineStatus one;
      one.name = site->engine.url.text();
      one.why_not = site->why_not;
      out.push_back(std::move(one));
    }
    for (const auto& [key, member] : site->members) member.watch->append_status(out);
  }
  if (impl_->index != nullptr) {
    const index::IndexStat stat = impl_->index->stat();
    for (EngineStatus& one : out) {
      if (!one.engine) continue;
      const auto held = std::find_if(stat.engines.begin(), stat.engines.end(),
                                     [&](const index::EngineStat& e) { return e.engine == *one.engine; });
      if (held != stat.engines.end()) one.blocks_held = held->blocks_held;
    }
  }
  return out;
}

void Ingest::routed(EngineId engine, std::uint64_t prompt_tokens) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Traffic& traffic = impl_->traffic[engine];
  if (traffic.tokens == 0) traffic.first = impl_->loop.now();
  traffic.tokens += prompt_tokens;
}

}  // namespace warmpath::ingest
