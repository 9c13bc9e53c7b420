#include "ingest/engine_watch.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace warmpath::ingest {
namespace {

constexpr Duration kBackoffFirst = std::chrono::milliseconds(200);
constexpr Duration kBackoffMax = std::chrono::seconds(2);
constexpr std::uint32_t kRanksMax = 1'024;

}  // namespace

EngineWatch::EngineWatch(WatchShared& shared, EngineAddress engine, io::Address address, std::string name)
    : shared_(shared),
      engine_(std::move(engine)),
      address_(std::move(address)),
      name_(std::move(name)),
      origin_{address_, engine_.url.host_header(), engine_.tls},
      random_(shared.options.seed, name_),
      up_(shared.registry.gauge("warmpath_engine_up", "1 while the engine answers its health check.", {{"engine", name_}})),
      scrapes_failed_(shared.registry.counter("warmpath_engine_scrapes_failed_total", "Load samples that could not be had.",
                                              {{"engine", name_}})) {}

EngineWatch::~EngineWatch() {
  call_.reset();
  scrape_call_.reset();
  for (auto& [number, rank] : ranks_) {
    rank.feed.reset();
    if (shared_.index != nullptr) shared_.index->forget(rank.id);
    shared_.sink.changed(fleet::Removed{rank.id});
    shared_.registry.remove("engine", rank.name);
  }
  shared_.registry.remove("engine", name_);
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
  if (why != why_not_ && state_ != State::kDown) {
    spdlog::warn("engine {} cannot be used: {}; it is asked again until it answers", name_, why);
  }
  why_not_ = why;
  set_liveness(fleet::Liveness::kDown);
  state_ = State::kDown;
  scrape_timer_.cancel();
  scrape_call_.reset();
  backoff_ = std::clamp(backoff_ * 2, kBackoffFirst, kBackoffMax);
  timer_ = shared_.loop.after(jittered(backoff_), [this] { ask_models(); });
}

void EngineWatch::set_liveness(fleet::Liveness liveness) {
  up_.set(liveness == fleet::Liveness::kUp ? 1 : 0);
  if (liveness_ == liveness) return;
  liveness_ = liveness;
  for (const auto& [number, rank] : ranks_) shared_.sink.changed(fleet::LivenessChanged{rank.id, liveness});
}

void EngineWatch::ask_models() {
  get("/v1/models", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    if (answer->head.status != 200) {
      return failed("GET /v1/models answers " + std::to_string(answer->head.status));
    }
    auto models = parse_served_models(answer->body);
    if (!models.ok()) return failed(models.error().message);
    models_ = std::move(models).value();
    for (const std::string& adapter : engine_.adapters) {
      const bool known = std::any_of(models_.begin(), models_.end(), [&](const ServedModel& m) { return m.id == adapter; });
      if (!known && !models_.empty()) models_.push_back({adapter, adapter, models_.front().id, std::nullopt});
    }
    const std::string& wanted = shared_.options.model;
    const bool serves = wanted.empty() || std::any_of(models_.begin(), models_.end(), [&](const ServedModel& m) {
                          return m.id == wanted || m.root == wanted;
                        });
    if (!serves) {
      return failed("it serves " + (models_.empty() ? std::string("no model") : models_.front().id) + ", not " + wanted);
    }
    ask_sources();
  });
}

void EngineWatch::ask_sources() {
  sources_.clear();
  no_events_.clear();
  if (engine_.events) {
    const std::uint32_t ranks = std::clamp(engine_.ranks, 1u, kRanksMax);
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      RankSource source;
      source.side = engine_.events->side;
      const bool bind = source.side == EventSource::Side::kBind;
      // A wildcard to bind stays one; to connect it means the engine's own address.
      const auto events = rank_endpoint(engine_.events->events, rank, bind ? "*" : address_.ip);
      if (!events) continue;
      source.events = *events;
      if (!engine_.events->replay.empty()) {
        source.replay = rank_endpoint(engine_.events->replay, rank, address_.ip).value_or("");
      }
      sources_.emplace(rank, std::move(source));
    }
    return ask_page();
  }
  if (!shared_.options.follow_events) {
    no_events_ = "not followed: the pool has no tokenizer or its policy needs none";
    return ask_page();
  }
  get("/kv_event_sources", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    if (answer->head.status != 200) return ask_server_info();
    auto sources = parse_event_sources(answer->body, address_.ip);
    if (!sources.ok()) {
      no_events_ = sources.error().message;
    } else {
      sources_ = std::move(sources).value();
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
      if (auto info = parse_server_info(answer->body, address_.ip); info.ok()) {
        sources_ = std::move(info->sources);
        figures_.block_tokens = info->block_tokens;
        if (!sources_.empty()) no_events_.clear();
      }
    }
    ask_page();
  });
}

void EngineWatch::ask_page() {
  get("/metrics", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    page_ = answer->head.status == 200 ? std::move(answer->body) : std::string();
    announce();
    page_ = std::string();
  });
}

void EngineWatch::announce() {
  std::uint32_t count = engine_.ranks;
  if (count == 0) count = sources_.empty() ? 1 : sources_.rbegin()->first + 1;
  count = std::clamp(count, 1u, kRanksMax);
  for (auto it = ranks_.begin(); it != ranks_.end();) {
    if (it->first < count) {
      ++it;
      continue;
    }
    it->second.feed.reset();
    if (shared_.index != nullptr) shared_.index->forget(it->second.id);
    shared_.sink.changed(fleet::Removed{it->second.id});
    it = ranks_.erase(it);
  }
  for (std::uint32_t rank = 0; rank < count; ++rank) announce_rank(rank, count);
  if (state_ == State::kDown) spdlog::info("engine {} is back", name_);
  state_ = State::kUp;
  why_not_.clear();
  backoff_ = Duration{0};
  liveness_ = fleet::Liveness::kUnknown;  // ranks may be new: tell all
  set_liveness(fleet::Liveness::kUp);
  next_health();
  next_scrape();
}

void EngineWatch::announce_rank(std::uint32_t number, std::uint32_t count) {
  Rank& rank = ranks_[number];
  const bool fresh = rank.name.empty();
  if (fresh) {
    rank.id = shared_.sink.next_engine_id();
    rank.name = count > 1 ? name_ + "#" + std::to_string(number) : name_;
  }
  const PageFigures figures = read_page(page_, count > 1 ? std::optional(number) : std::nullopt);
  Found found;
  found.info.id = rank.id;
  found.info.name = rank.name;
  found.info.url = engine_.url.text();
  if (count > 1) found.info.rank = number;
  for (const ServedModel& model : models_) found.info.models.push_back(model.id);
  found.info.block_tokens = figures.block_tokens.value_or(figures_.block_tokens.value_or(0));
  found.info.kv_tokens = figures.kv_tokens.value_or(0);
  found.origin = origin_;
  found.path = engine_.url.path;
  found.models = models_;
  if (number == 0) {
    figures_.block_tokens = found.info.block_tokens != 0 ? std::optional(found.info.block_tokens) : std::nullopt;
    figures_.kv_tokens = figures.kv_tokens;
  }
  const auto source = sources_.find(number);
  found.info.has_events = source != sources_.end() && shared_.index != nullptr && shared_.options.follow_events;
  shared_.sink.engine_found(found);
  if (!found.info.has_events) {
    rank.feed.reset();
    rank.events = no_events_.empty() ? "none for this rank" : no_events_;
    if (fresh && shared_.options.follow_events) {
      spdlog::warn("engine {}: no KV events ({}); its matches are guesses", rank.name, rank.events);
    }
    return;
  }
  follow(rank, number);
}

void EngineWatch::follow(Rank& rank, std::uint32_t number) {
  const RankSource& source = sources_.at(number);
  const bool same = rank.feed && rank.feed->source().events == source.events && rank.feed->source().replay == source.replay;
  if (same) return;  // its socket reconnects by itself, and the Follower notices what happened meanwhile
  rank.feed = std::make_unique<PublisherFeed>(
      shared_.loop,
      PublisherFeed::Setup{rank.id, rank.name, source, shared_.options.follower,
                           shared_.options.seed ^ stable_hash(rank.name)},
      *shared_.index, shared_.registry,
      [this, id = rank.id](blocks::PublisherState state) { shared_.sink.publisher_changed(id, state); });
  rank.events = source.events;
  if (auto opened = rank.feed->open(); !opened.ok()) {
    rank.events = opened.error().message;
    rank.feed.reset();
    spdlog::warn("engine {}: its KV events cannot be followed: {}", rank.name, rank.events);
  }
}

void EngineWatch::next_health() {
  timer_ = shared_.loop.after(jittered(shared_.options.health_interval), [this] { check_health(); });
}

void EngineWatch::check_health() {
  get("/health", [this](Result<http::HttpClient::Whole> answer) {
    if (!answer.ok()) return failed(answer.error().message);
    if (answer->head.status != 200) return failed("GET /health answers " + std::to_string(answer->head.status));
    next_health();
  });
}

void EngineWatch::next_scrape() {
  scrape_timer_ = shared_.loop.after(jittered(shared_.options.scrape_interval), [this] { scrape(); });
}

void EngineWatch::scrape() {
  http::ClientRequest request;
  request.target = engine_.url.path + "/metrics";
  scrape_call_ = shared_.client.fetch(
      origin_, std::move(request), shared_.options.ask_timeout, [this](Result<http::HttpClient::Whole> answer) {
        if (!answer.ok() || answer->head.status != 200) {
          scrapes_failed_.add();
          // Refused: do not wait for the next health check to find out.
          if (!answer.ok() && answer.error().kind == ErrorKind::kUnavailable && state_ == State::kUp) {
            next_scrape();
            return check_health();
          }
          return next_scrape();
        }
        for (const auto& [number, rank] : ranks_) {
          const PageFigures figures =
              read_page(answer->body, ranks_.size() > 1 ? std::optional(number) : std::nullopt);
          fleet::Sample sample;
          sample.engine = rank.id;
          const auto whole = [](const std::optional<double>& value) -> std::optional<std::uint32_t> {
            if (!value) return std::nullopt;
            return static_cast<std::uint32_t>(std::min(*value, 1e9));
          };
          sample.running = whole(figures.running);
          sample.waiting = whole(figures.waiting);
          sample.kv_usage = figures.kv_usage;
          sample.prefix_queries_tokens = figures.prefix_queries_tokens;
          sample.prefix_hits_tokens = figures.prefix_hits_tokens;
          shared_.sink.sampled(sample);
        }
        next_scrape();
      });
}

void EngineWatch::append_status(std::vector<EngineStatus>& out) const {
  EngineStatus base;
  base.name = name_;
  base.liveness = liveness_;
  base.why_not = why_not_;
  for (const ServedModel& model : models_) base.models += (base.models.empty() ? "" : ", ") + model.id;
  base.block_tokens = figures_.block_tokens.value_or(0);
  base.kv_tokens = figures_.kv_tokens.value_or(0);
  base.events = no_events_;
  if (ranks_.empty()) {
    out.push_back(std::move(base));
    return;
  }
  for (const auto& [number, rank] : ranks_) {
    EngineStatus one = base;
    one.name = rank.name;
    one.engine = rank.id;
    one.events = rank.events;
    if (rank.feed) {
      one.has_events = true;
      one.publisher = rank.feed->follower().state();
      one.batches = rank.feed->follower().counters().batches_applied;
    }
    out.push_back(std::move(one));
  }
}

}  // namespace warmpath::ingest
