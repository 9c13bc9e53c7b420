#include "ingest/engine_watch.h"

#include <algorithm>
#include <utility>

namespace warmpath::ingest {
namespace {

constexpr Duration kBackoffFirst = std::chrono::milliseconds(200);
constexpr Duration kBackoffMax = std::chrono::milliseconds(1'500);  // an engine that is back is used within 2 s
constexpr std::uint32_t kRanksMax = 1'024;
// Where all ranks push their load the page tells sizes, restarts and hit counters alone: so many intervals are enough.
constexpr int kScrapeSlower = 10;
constexpr std::uint32_t kModelsEvery = 5;  // health checks: adapters come and go while an engine runs

std::string ids_of(const std::vector<ServedModel>& models) {
  std::string text;
  for (const ServedModel& model : models) text += (text.empty() ? "" : ", ") + model.id;
  return text;
}

}  // namespace

EngineWatch::EngineWatch(WatchShared& shared, EngineAddress engine, io::Address address, std::string name)
    : shared_(shared),
      engine_(std::move(engine)),
      address_(std::move(address)),
      name_(std::move(name)),
      origin_{address_, engine_.url.host_header(), engine_.tls},
      random_(shared.options.seed, name_) {
  look_up_metrics();
}

EngineWatch::~EngineWatch() {
  call_.reset();
  scrape_call_.reset();
  drop_ranks();
  shared_.registry.remove("engine", name_);
}

void EngineWatch::look_up_metrics() {
  const observe::Labels labels{{"pool", shared_.options.pool}, {"engine", name_}};
  up_ = &shared_.registry.gauge("warmpath_engine_up", "1 while the engine answers its health check.", labels);
  scrapes_failed_ =
      &shared_.registry.counter("warmpath_engine_scrapes_failed_total", "Load samples that could not be had.", labels);
}

Duration EngineWatch::jittered(Duration d) {
  return Duration{static_cast<std::int64_t>(static_cast<double>(d.count()) * (0.9 + 0.2 * random_.unit()))};
}

void EngineWatch::get(std::string_view path, Answer answer) {
  http::ClientRequest request;
  request.target = engine_.url.path + std::string(path);
  call_ = shared_.client.fetch(origin_, std::move(request), shared_.options.ask_timeout, std::move(answer));
}

void EngineWatch::start() { ask_models(); }

void EngineWatch::failed(const std::string& why) {
  why_not_ = why;
  set_liveness(fleet::Liveness::kDown);
  state_ = State::kDown;
  scrape_timer_.cancel();
  scrape_call_.reset();
  backoff_ = std::clamp(backoff_ * 2, kBackoffFirst, kBackoffMax);
  timer_ = shared_.loop.after(jittered(backoff_), [this] { ask_models(); });
}

// Told again even where it did not change: it ends a time aside after failed requests.
void EngineWatch::set_liveness(fleet::Liveness liveness) {
  up_->set(liveness == fleet::Liveness::kUp ? 1 : 0);
  if (liveness_ == liveness && liveness != fleet::Liveness::kUp) return;
  liveness_ = liveness;
  for (const auto& [number, rank] : ranks_) shared_.sink.changed(fleet::LivenessChanged{rank.id, liveness});
}

// ---- asking ----

void EngineWatch::ask_models() {
  get("/v1/models", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    if (const auto wrong = take_models(*answer)) return failed(*wrong);
    ask_sources();
  });
}

// Why the engine cannot be used, or nullopt.
std::optional<std::string> EngineWatch::take_models(const http::HttpClient::Whole& answer) {
  const std::string& wanted = shared_.options.model;
  std::vector<ServedModel> models;
  // vLLM with --api-key (0.6 to 0.32) guards paths under /v1 alone; clients bring their own keys.
  const bool hidden = answer.head.status == 401 || answer.head.status == 403;
  if (hidden) {
    if (!wanted.empty()) models.push_back({wanted, wanted, std::nullopt, std::nullopt});
    if (!std::exchange(models_hidden_, true)) {
      shared_.sink.warned("models_hidden", name_,
                          "GET /v1/models asks for a key; it is taken to serve the pool's model");
    }
  } else if (answer.head.status != 200) {
    return "GET /v1/models answers " + std::to_string(answer.head.status);
  } else {
    auto parsed = read_served_models(answer.body);
    if (!parsed.ok()) return parsed.error().message;
    models = std::move(parsed).value();
    const bool serves = wanted.empty() || std::any_of(models.begin(), models.end(), [&](const ServedModel& model) {
                          return model.id == wanted || model.root == wanted;
                        });
    if (!serves) return "it serves " + (models.empty() ? "no model" : ids_of(models)) + ", not " + wanted;
  }
  for (const std::string& adapter : engine_.adapters) {
    const bool known = std::any_of(models.begin(), models.end(), [&](const ServedModel& m) { return m.id == adapter; });
    if (!known && !models.empty()) models.push_back({adapter, adapter, models.front().id, std::nullopt});
  }
  models_ = std::move(models);
  return std::nullopt;
}

void EngineWatch::use_given_sources() {
  const EventSource& given = *engine_.events;
  const bool bind = given.side == EventSource::Side::kBind;
  const std::uint32_t ranks = std::clamp(engine_.ranks, 1u, kRanksMax);
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    RankSource source;
    source.side = given.side;
    // A wildcard to bind stays one; to connect it means the engine's own address.
    const auto events = rank_endpoint(given.events, rank, bind ? "*" : address_.ip);
    if (!events) {
      no_events_ = "'" + given.events + "' is not tcp://host:port with room for the ranks' ports";
      return;
    }
    source.events = *events;
    if (!given.replay.empty()) source.replay = rank_endpoint(given.replay, rank, address_.ip).value_or("");
    sources_.emplace(rank, std::move(source));
  }
}

void EngineWatch::ask_sources() {
  sources_.clear();
  loads_.clear();
  no_events_.clear();
  told_block_tokens_.reset();
  if (!shared_.options.follow_events || shared_.index == nullptr) {
    no_events_ = "not followed: the pool has no tokenizer or its policy needs none";
    return ask_page();
  }
  if (engine_.events) {
    use_given_sources();
    return ask_page();
  }
  get("/kv_event_sources", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    if (answer->head.status != 200) return ask_server_info();
    auto sources = read_event_sources(answer->body, address_.ip);
    if (!sources.ok()) {
      no_events_ = sources.error().message;
    } else {
      sources_ = followable(std::move(sources).value());
      if (sources_.empty()) no_events_ = "KV events are off at the engine; start it with --kv-events-config";
    }
    ask_page();
  });
}

void EngineWatch::ask_server_info() {
  get("/server_info", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    no_events_ = "the engine does not tell where its KV events are; name them with kv=tcp://…";
    if (answer->head.status == 200) {
      if (auto told = read_server_info(answer->body, address_.ip); told.ok()) {
        sources_ = followable(std::move(told->ranks));
        loads_ = std::move(told->loads);
        told_block_tokens_ = told->block_tokens;
        if (!sources_.empty()) no_events_.clear();
      }
    }
    ask_page();
  });
}

void EngineWatch::ask_page() {
  get("/metrics", [this](Result<http::HttpClient::Whole> answer) {
    const bool told = answer.ok() && answer->head.status == 200;
    if (!told) scrapes_failed_->add();
    announce(told ? std::string_view(answer->body) : std::string_view());
  });
}

// ---- ranks ----

// vLLM 0.32 numbers ranks over all servers of a deployment: one server may have 4 to 7.
std::vector<std::uint32_t> EngineWatch::rank_numbers() const {
  std::vector<std::uint32_t> numbers;
  if (engine_.ranks == 0) {
    for (const auto& [number, source] : sources_) numbers.push_back(number);
  } else {
    for (std::uint32_t number = 0; number < std::min(engine_.ranks, kRanksMax); ++number) numbers.push_back(number);
  }
  if (numbers.empty()) numbers.push_back(0);
  return numbers;
}

PageFigures EngineWatch::figures_of(std::string_view page, std::uint32_t number) const {
  return read_page(page, ranks_.size() > 1 ? std::optional(number) : std::nullopt);
}

void EngineWatch::announce(std::string_view page) {
  const std::vector<std::uint32_t> numbers = rank_numbers();
  const bool same = std::equal(numbers.begin(), numbers.end(), ranks_.begin(), ranks_.end(),
                               [](std::uint32_t number, const auto& rank) { return number == rank.first; });
  if (!same && !ranks_.empty()) drop_ranks();
  for (const std::uint32_t number : numbers) {
    Rank& rank = ranks_[number];
    if (!rank.name.empty()) continue;
    rank.id = shared_.sink.next_engine_id();
    rank.name = numbers.size() > 1 ? name_ + "#" + std::to_string(number) : name_;
  }
  for (auto& [number, rank] : ranks_) {
    const PageFigures figures = figures_of(page, number);
    rank.block_tokens = figures.block_tokens.value_or(told_block_tokens_.value_or(0));
    rank.kv_tokens = figures.kv_tokens.value_or(0);
    started_at_s_ = figures.started_at_s;
    follow(rank, number);
    follow_load(rank, number);
    tell(rank, number);
  }
  state_ = State::kUp;
  why_not_.clear();
  backoff_ = Duration{0};
  checks_ = 0;
  set_liveness(fleet::Liveness::kUp);
  if (!page.empty()) take_page(page);
  next_health();
  next_scrape();
}

void EngineWatch::tell(const Rank& rank, std::uint32_t number) {
  Found found;
  found.info.id = rank.id;
  found.info.name = rank.name;
  found.info.url = engine_.url.text();
  if (ranks_.size() > 1) found.info.rank = number;
  for (const ServedModel& model : models_) found.info.models.push_back(model.id);
  found.info.block_tokens = rank.block_tokens;
  found.info.kv_tokens = rank.kv_tokens;
  found.info.has_events = rank.feed != nullptr;
  found.origin = origin_;
  found.path = engine_.url.path;
  found.models = models_;
  shared_.sink.engine_found(std::move(found));
}

void EngineWatch::follow(Rank& rank, std::uint32_t number) {
  const auto at = sources_.find(number);
  const std::string before = std::exchange(rank.events, "");
  if (at == sources_.end()) {
    unfollow(rank);
    rank.events = no_events_.empty() ? "the engine tells no KV events of this rank" : no_events_;
  } else {
    const RankSource& source = at->second;
    rank.events = source.events;
    if (rank.feed && rank.feed->source() == source) return rank.feed->hurry();
    unfollow(rank);
    rank.feed = std::make_unique<PublisherFeed>(
        shared_.loop,
        PublisherFeed::Setup{rank.id, rank.name, source, shared_.options.pool, shared_.options.follower,
                             shared_.options.seed ^ stable_hash(rank.name)},
        *shared_.index, shared_.registry,
        [this, id = rank.id](blocks::PublisherState state) { shared_.sink.publisher_changed(id, state); });
    const auto opened = rank.feed->open();
    if (opened.ok()) return restore(rank);
    rank.feed.reset();
    rank.events = opened.error().message;
  }
  if (shared_.options.follow_events && rank.events != before) {
    shared_.sink.warned("no_kv_events", rank.name, rank.events + "; its matches are guesses");
  }
}

// Once: what is followed later under this name has nothing to do with it any more.
void EngineWatch::restore(Rank& rank) {
  const auto at = shared_.restored.find(rank.name);
  if (at == shared_.restored.end()) return;
  index::SnapshotEngine from = std::move(at->second);
  shared_.restored.erase(at);
  shared_.sink.restored(rank.name, rank.feed->restore(std::move(from), started_at_s_));
}

std::optional<Ingest::Held> EngineWatch::hold(std::string_view name) {
  for (auto& [number, rank] : ranks_) {
    if (rank.name != name || !rank.feed) continue;
    rank.feed->look_for_evictions();  // else an engine that lost blocks since its last batch would pass for exact
    auto standing = rank.feed->standing();
    auto point = shared_.index->copy_point(rank.id);
    if (!standing || !point) return std::nullopt;
    standing->started_at_s = started_at_s_.value_or(0);
    rank.feed->hold();
    return Ingest::Held{rank.id, *std::move(standing), *std::move(point)};
  }
  return std::nullopt;
}

void EngineWatch::release(std::string_view name) {
  for (auto& [number, rank] : ranks_) {
    if (rank.name == name && rank.feed) return rank.feed->release();
  }
}

void EngineWatch::follow_load(Rank& rank, std::uint32_t number) {
  const auto at = loads_.find(number);
  if (at != loads_.end() && rank.load && rank.load->source() == at->second) return;
  rank.load.reset();
  if (at == loads_.end()) return;
  rank.load = std::make_unique<LoadFeed>(shared_.loop, at->second, [this, &rank](const events::LoadStat& stat) {
    const auto whole = [](std::uint64_t value) {
      return static_cast<std::uint32_t>(std::min<std::uint64_t>(value, 1'000'000'000));
    };
    fleet::Sample sample;
    sample.engine = rank.id;
    sample.running = whole(stat.running);
    sample.waiting = whole(stat.waiting);
    if (stat.kv_tokens_max > 0) {
      sample.kv_usage = static_cast<double>(stat.kv_tokens_used) / static_cast<double>(stat.kv_tokens_max);
    }
    shared_.sink.sampled(sample);
    if (stat.kv_tokens_max == 0 || stat.kv_tokens_max == rank.kv_tokens) return;
    rank.kv_tokens = stat.kv_tokens_max;
    for (const auto& [rank_number, one] : ranks_) {
      if (one.id == rank.id) tell(one, rank_number);
    }
  });
  if (!rank.load->open().ok()) rank.load.reset();  // the page tells its load as before
}

bool EngineWatch::all_push_load() const {
  return !ranks_.empty() && std::all_of(ranks_.begin(), ranks_.end(), [](const auto& entry) {
    return entry.second.load && entry.second.load->fresh();
  });
}

// What was learned from a publisher goes with it: the next one's Follower knows nothing of it.
void EngineWatch::unfollow(Rank& rank) {
  if (!rank.feed) return;
  rank.feed.reset();
  shared_.index->forget(rank.id);
  shared_.index->set_state(rank.id, blocks::PublisherState::kLost);
  shared_.sink.publisher_changed(rank.id, blocks::PublisherState::kLost);
}

void EngineWatch::drop_ranks() {
  for (auto& [number, rank] : ranks_) {
    unfollow(rank);
    shared_.sink.changed(fleet::Removed{rank.id});
    shared_.registry.remove("engine", rank.name);
  }
  ranks_.clear();
  look_up_metrics();
}

// ---- watching ----

void EngineWatch::next_health() {
  timer_ = shared_.loop.after(jittered(shared_.options.health_interval), [this] { check_health(); });
}

void EngineWatch::check_health() {
  timer_.cancel();
  if (!models_hidden_ && ++checks_ % kModelsEvery == 0) {
    return get("/v1/models", [this](Result<http::HttpClient::Whole> answer) {
      if (!answer.ok()) return failed(answer.error().message);
      const std::string before = ids_of(models_);
      if (const auto wrong = take_models(*answer)) return failed(*wrong);
      if (ids_of(models_) != before) {
        for (const auto& [number, rank] : ranks_) tell(rank, number);
      }
      healthy();
    });
  }
  get("/health", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    if (answer->head.status != 200) return failed("GET /health answers " + std::to_string(answer->head.status));
    healthy();
  });
}

void EngineWatch::healthy() {
  set_liveness(fleet::Liveness::kUp);
  for (auto& [number, rank] : ranks_) {
    if (rank.feed || !sources_.contains(number)) continue;  // an address that could not be used may be free now
    follow(rank, number);
    if (rank.feed) tell(rank, number);
  }
  next_health();
}

void EngineWatch::next_scrape() {
  const Duration interval = shared_.options.scrape_interval;
  const bool pushed = all_push_load();
  // Looked at again at each interval: a feed that falls silent gives way to the page at once.
  scrapes_spared_ = pushed ? scrapes_spared_ + 1 : 0;
  scrape_timer_ = shared_.loop.after(jittered(interval), [this] {
    if (scrapes_spared_ % kScrapeSlower != 0 && all_push_load()) return next_scrape();
    scrape();
  });
}

void EngineWatch::scrape() {
  http::ClientRequest request;
  request.target = engine_.url.path + "/metrics";
  scrape_call_ = shared_.client.fetch(origin_, std::move(request), shared_.options.ask_timeout,
                                      [this](Result<http::HttpClient::Whole> answer) {
                                        next_scrape();
                                        if (answer.ok() && answer->head.status == 200) return take_page(answer->body);
                                        scrapes_failed_->add();
                                        // Refused: do not wait for the next health check to find out.
                                        if (!answer.ok() && answer.error().kind == ErrorKind::kUnavailable)
                                          check_health();
                                      });
}

void EngineWatch::take_page(std::string_view page) {
  bool another = false;
  for (auto& [number, rank] : ranks_) {
    const PageFigures figures = figures_of(page, number);
    if (!started_at_s_) started_at_s_ = figures.started_at_s;
    another = another || (figures.started_at_s && started_at_s_ && *figures.started_at_s > *started_at_s_);
    fleet::Sample sample;
    sample.engine = rank.id;
    const auto whole = [](const std::optional<double>& value) -> std::optional<std::uint32_t> {
      if (!value) return std::nullopt;
      return static_cast<std::uint32_t>(std::min(*value, 1e9));
    };
    if (!rank.load || !rank.load->fresh()) {
      sample.running = whole(figures.running);
      sample.waiting = whole(figures.waiting);
      sample.kv_usage = figures.kv_usage;
    }
    sample.prefix_queries_tokens = figures.prefix_queries_tokens;
    sample.prefix_hits_tokens = figures.prefix_hits_tokens;
    shared_.sink.sampled(sample);
    if (rank.feed) rank.feed->look_for_evictions();
    const std::uint32_t block_tokens = figures.block_tokens.value_or(rank.block_tokens);
    const std::uint64_t kv_tokens = figures.kv_tokens.value_or(rank.kv_tokens);
    if (block_tokens == rank.block_tokens && kv_tokens == rank.kv_tokens) continue;
    rank.block_tokens = block_tokens;
    rank.kv_tokens = kv_tokens;
    tell(rank, number);
  }
  // Restarted between two health checks: models, ports and ranks may be others.
  if (another && state_ == State::kUp) {
    scrape_timer_.cancel();
    timer_.cancel();
    state_ = State::kAsking;
    ask_models();
  }
}

void EngineWatch::append_status(std::vector<EngineStatus>& out) const {
  EngineStatus base;
  base.name = name_;
  base.liveness = liveness_;
  base.why_not = why_not_;
  base.models = ids_of(models_);
  if (ranks_.empty()) {
    base.events = no_events_;
    out.push_back(std::move(base));
    return;
  }
  for (const auto& [number, rank] : ranks_) {
    EngineStatus one = base;
    one.name = rank.name;
    one.engine = rank.id;
    one.block_tokens = rank.block_tokens;
    one.kv_tokens = rank.kv_tokens;
    one.events = rank.events;
    if (rank.feed) {
      one.has_events = true;
      one.heard = rank.feed->heard();
      one.publisher = rank.feed->follower().state();
      one.batches = rank.feed->follower().counters().batches_applied;
      one.counters = rank.feed->follower().counters();
      one.lag_batches = rank.feed->follower().lag_batches();
      if (!rank.feed->connected()) one.events += " (not connected)";
    }
    out.push_back(std::move(one));
  }
}

}  // namespace warmpath::ingest
