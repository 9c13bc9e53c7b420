#include "ingest/ingest.h"

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
constexpr std::uint64_t kSilenceTokensMin = 1'024;
constexpr int kSilenceLooks = 6;  // in a silence_max

// One family: a dual-stack host is one engine.
std::vector<io::Address> one_family(std::vector<io::Address> found) {
  const auto is_v6 = [](const io::Address& address) { return address.ip.find(':') != std::string::npos; };
  if (!std::all_of(found.begin(), found.end(), is_v6)) std::erase_if(found, is_v6);
  return found;
}

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

  Impl(io::Loop& loop_in, IngestOptions options_in, index::Index* index_in, Sink& sink_in, observe::Registry& registry)
      : loop(loop_in),
        options(std::move(options_in)),
        client(http::HttpClient::create(loop, {.idle_per_origin_max = 2,
                                               .idle_max = std::chrono::seconds(4),
                                               .limits = {},
                                               .whole_body_bytes_max = options.page_bytes_max})),
        index(index_in),
        sink(sink_in),
        shared{loop, *client, options, index, sink_in, registry, {}},
        silent(registry.gauge("warmpath_engines_silent", "Engines that got prompts for a while and sent no KV events.",
                              {{"pool", options.pool}})) {}

  void resolve(Site& site) {
    site.resolving = options.resolver(loop, site.engine.url.host, site.engine.url.port, options.ask_timeout,
                                      [this, &site](Result<std::vector<io::Address>> found) {
                                        site.resolving.reset();
                                        resolved(site, std::move(found));
                                      });
  }

  void resolved(Site& site, Result<std::vector<io::Address>> answer) {
    if (!answer.ok() || answer->empty()) {
      site.why_not = answer.ok() ? "the name has no address" : answer.error().message;
      // Members that stand are kept: their health decides.
      site.timer = loop.after(kResolveRetry, [this, &site] { resolve(site); });
      return;
    }
    const std::vector<io::Address> found = one_family(std::move(answer).value());
    site.why_not.clear();
    const bool many = found.size() > 1 || !site.members.empty();
    for (auto& [key, member] : site.members) ++member.misses;
    for (const io::Address& address : found) {
      if (site.members.size() >= kAddressesMax) break;
      Site::Member& member = site.members[address.text()];
      member.misses = 0;
      if (member.watch) continue;
      std::string name = site.engine.url.text();
      if (many) name += "@" + address.text();
      member.watch = std::make_unique<EngineWatch>(shared, site.engine, address, std::move(name));
      member.watch->start();
    }
    std::erase_if(site.members, [](const auto& entry) { return entry.second.misses >= kMissesBeforeRemoval; });
    site.timer = loop.after(options.resolve_interval, [this, &site] { resolve(site); });
  }

  // Warns once an episode: prompts went there, no event came since its publisher was connected.
  void look_for_silence() {
    std::vector<EngineStatus> engines;
    for (const auto& site : sites) {
      for (const auto& [key, member] : site->members) member.watch->append_status(engines);
    }
    std::vector<std::pair<const EngineStatus*, std::uint64_t>> silent_now;
    std::size_t count = 0;
    const Instant now = loop.now();
    {
      const std::lock_guard lock(mutex);
      std::unordered_map<EngineId, Traffic> kept;
      for (const EngineStatus& engine : engines) {
        if (!engine.engine || !engine.has_events || engine.heard) continue;
        const auto at = traffic.find(*engine.engine);
        if (at == traffic.end()) continue;
        Traffic& one = kept[*engine.engine] = at->second;
        if (one.tokens < kSilenceTokensMin || now - one.first < options.silence_max) continue;
        ++count;
        if (!std::exchange(one.warned, true)) silent_now.emplace_back(&engine, one.tokens);
      }
      traffic.swap(kept);
    }
    silent.set(static_cast<double>(count));
    for (const auto& [engine, tokens] : silent_now) {
      sink.warned("engine_silent", engine->name,
                  "no KV events from " + engine->name + " though " + std::to_string(tokens) +
                      " prompt tokens were routed to it; check that " + engine->events +
                      " is its event address and that its prefix caching is on");
    }
    silence_timer = loop.after(options.silence_max / kSilenceLooks, [this] { look_for_silence(); });
  }

  io::Loop& loop;
  IngestOptions options;
  std::unique_ptr<http::HttpClient> client;
  index::Index* index;
  Sink& sink;
  WatchShared shared;
  observe::Gauge& silent;
  std::vector<std::unique_ptr<Site>> sites;
  io::Timer silence_timer, restore_timer;

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

void Ingest::restore(std::vector<index::SnapshotEngine> engines) {
  for (index::SnapshotEngine& engine : engines) {
    std::string name = engine.name;
    impl_->shared.restored.insert_or_assign(std::move(name), std::move(engine));
  }
  impl_->restore_timer = impl_->loop.after(kRestoreMax, [this] {
    for (const auto& [name, engine] : std::exchange(impl_->shared.restored, {})) {
      impl_->sink.restored(name, Error{ErrorKind::kNotFound, "no engine of this name was found"});
    }
  });
}

std::vector<std::string> Ingest::awaited() const {
  std::vector<std::string> names;
  for (const auto& [name, engine] : impl_->shared.restored) names.push_back(name);
  return names;
}

std::optional<index::SnapshotEngine> Ingest::as_restored(std::string_view name) const {
  const auto at = impl_->shared.restored.find(name);
  if (at == impl_->shared.restored.end()) return std::nullopt;
  return at->second;
}

std::vector<std::string> Ingest::followed() const {
  std::vector<std::string> names;
  for (const EngineStatus& one : status()) {
    if (one.has_events) names.push_back(one.name);
  }
  return names;
}

std::optional<Ingest::Held> Ingest::hold(std::string_view name) {
  std::optional<Held> out;
  for (const auto& site : impl_->sites) {
    for (const auto& [key, member] : site->members) {
      if (!out) out = member.watch->hold(name);
    }
  }
  return out;
}

void Ingest::release(std::string_view name) {
  for (const auto& site : impl_->sites) {
    for (const auto& [key, member] : site->members) member.watch->release(name);
  }
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

void Ingest::refresh_metrics() {
  if (impl_->index == nullptr) return;
  for (const EngineStatus& one : status()) {
    if (!one.has_events) continue;
    impl_->shared.registry
        .gauge("warmpath_kv_blocks_held", "Engine blocks that the index holds of this engine.",
               {{"pool", impl_->options.pool}, {"engine", one.name}})
        .set(static_cast<double>(one.blocks_held));
  }
}

void Ingest::routed(EngineId engine, std::uint64_t prompt_tokens) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Traffic& traffic = impl_->traffic[engine];
  if (traffic.tokens == 0) traffic.first = impl_->loop.now();
  traffic.tokens += prompt_tokens;
}

}  // namespace warmpath::ingest
