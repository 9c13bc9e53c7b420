#include "app/engine_feed.h"

#include <map>

#include "api/api.h"

namespace warmpath::app {
namespace {

// One resolved address of one configured URL, with its ranks.
struct Place {
  http::Url url;
  http::Origin origin;
  std::uint32_t ranks = 1;
  std::vector<EngineId> engines;  // one a rank; empty until it answered once
  std::vector<std::string> names;
  std::string models;
  std::vector<std::string> adapters;
  fleet::Liveness liveness = fleet::Liveness::kUnknown;
  std::string why_not = "not asked yet";
  bool resolved_now = true;
  std::unique_ptr<http::ClientCall> call;
};

std::string name_of(const http::Url& url, const io::Address& address, std::size_t addresses, std::uint32_t rank,
                    std::uint32_t ranks) {
  std::string name = url.text();
  if (addresses > 1) name += "@" + address.text();
  if (ranks > 1) name += "#" + std::to_string(rank);
  return name;
}

}  // namespace

struct EngineFeed::Impl {
  struct Configured {
    ingest::EngineAddress address;
    std::string why_not = "name not looked up yet";
    std::map<std::string, std::unique_ptr<Place>> places;  // by address
    std::unique_ptr<io::Pending> lookup;
  };

  Impl(io::Loop& l, ingest::IngestOptions o, ingest::Sink& s)
      : loop(l), options(std::move(o)), sink(s), client(http::HttpClient::create(l, {})) {}

  void resolve_all() {
    for (auto& one : configured) {
      Configured* entry = one.get();
      entry->lookup = io::resolve(loop, entry->address.url.host, entry->address.url.port, options.ask_timeout,
                                  [this, entry](Result<std::vector<io::Address>> found) { resolved(*entry, found); });
    }
    resolve_timer = loop.after(options.resolve_interval, [this] { resolve_all(); });
  }

  void resolved(Configured& entry, const Result<std::vector<io::Address>>& found) {
    if (!found.ok() || found->empty()) {
      entry.why_not = found.ok() ? "the name has no address" : found.error().message;
      return;  // what is known stays: an empty answer is no proof that engines are gone
    }
    for (auto& [key, place] : entry.places) place->resolved_now = false;
    for (const io::Address& address : *found) {
      auto& place = entry.places[address.text()];
      if (!place) place = new_place(entry, address, found->size());
      place->resolved_now = true;
    }
    for (auto at = entry.places.begin(); at != entry.places.end();) {
      if (at->second->resolved_now) {
        ++at;
        continue;
      }
      for (const EngineId id : at->second->engines) sink.changed(fleet::Removed{id});
      at = entry.places.erase(at);
    }
  }

  std::unique_ptr<Place> new_place(const Configured& entry, const io::Address& address, std::size_t addresses) {
    auto place = std::make_unique<Place>();
    place->url = entry.address.url;
    place->origin = {address, entry.address.url.host_header(), entry.address.tls};
    place->ranks = std::max(1u, entry.address.ranks);
    place->adapters = entry.address.adapters;
    for (std::uint32_t rank = 0; rank < place->ranks; ++rank) {
      place->names.push_back(name_of(place->url, address, addresses, rank, place->ranks));
    }
    check(*place);
    return place;
  }

  void check_all() {
    for (auto& entry : configured) {
      for (auto& [key, place] : entry->places) {
        if (!place->call) check(*place);
      }
    }
    check_timer = loop.after(options.health_interval, [this] { check_all(); });
  }

  void check(Place& place) {
    const bool known = !place.engines.empty();
    http::ClientRequest request;
    request.target = place.url.path + (known ? "/health" : "/v1/models");
    place.call = client->fetch(place.origin, std::move(request), options.ask_timeout,
                               [this, &place](Result<http::HttpClient::Whole> answer) { answered(place, answer); });
  }

  void answered(Place& place, const Result<http::HttpClient::Whole>& answer) {
    // The call may not be destroyed inside its own callback.
    ended.push_back(std::move(place.call));
    loop.post([this] { ended.clear(); });
    if (!answer.ok() || answer->head.status != 200) {
      place.why_not = answer.ok() ? "answered " + std::to_string(answer->head.status) : answer.error().message;
      set_liveness(place, fleet::Liveness::kDown);
      return;
    }
    if (place.engines.empty() && !found(place, answer->body)) return;
    place.why_not.clear();
    set_liveness(place, fleet::Liveness::kUp);
  }

  bool found(Place& place, const std::string& models_body) {
    auto models = api::parse_models(models_body);
    if (!models.ok()) {
      place.why_not = "/v1/models: " + models.error().message;
      return false;
    }
    for (const std::string& adapter : place.adapters) {
      models->push_back({.id = adapter, .root = adapter, .parent = options.model, .max_model_len = std::nullopt});
    }
    for (std::uint32_t rank = 0; rank < place.ranks; ++rank) {
      ingest::Found engine;
      engine.info.id = sink.next_engine_id();
      engine.info.name = place.names[rank];
      engine.info.url = place.url.text();
      if (place.ranks > 1) engine.info.rank = rank;
      engine.origin = place.origin;
      engine.path = place.url.path;
      place.models.clear();
      for (const api::ModelEntry& model : *models) {
        engine.info.models.push_back(model.id);
        engine.models.push_back({model.id, model.root, model.parent, model.max_model_len});
        place.models += (place.models.empty() ? "" : ", ") + model.id;
      }
      place.engines.push_back(engine.info.id);
      sink.engine_found(std::move(engine));
    }
    return true;
  }

  void set_liveness(Place& place, fleet::Liveness liveness) {
    // Said again even when it did not change: it also ends a time aside after local failures.
    place.liveness = liveness;
    for (const EngineId id : place.engines) sink.changed(fleet::LivenessChanged{id, liveness});
  }

  io::Loop& loop;
  ingest::IngestOptions options;
  ingest::Sink& sink;
  std::unique_ptr<http::HttpClient> client;
  std::vector<std::unique_ptr<http::ClientCall>> ended;
  std::vector<std::unique_ptr<Configured>> configured;
  io::Timer resolve_timer, check_timer;
};

EngineFeed::EngineFeed(io::Loop& loop, ingest::IngestOptions options, ingest::Sink& sink)
    : impl_(std::make_unique<Impl>(loop, std::move(options), sink)) {}
EngineFeed::~EngineFeed() = default;

void EngineFeed::add(ingest::EngineAddress engine) {
  auto entry = std::make_unique<Impl::Configured>();
  entry->address = std::move(engine);
  impl_->configured.push_back(std::move(entry));
}

void EngineFeed::start() {
  impl_->resolve_all();
  impl_->check_timer = impl_->loop.after(impl_->options.health_interval, [impl = impl_.get()] { impl->check_all(); });
}

std::vector<ingest::EngineStatus> EngineFeed::status() const {
  std::vector<ingest::EngineStatus> out;
  for (const auto& entry : impl_->configured) {
    if (entry->places.empty()) {
      ingest::EngineStatus status;
      status.name = entry->address.url.text();
      status.why_not = entry->why_not;
      out.push_back(std::move(status));
    }
    for (const auto& [key, place] : entry->places) {
      for (std::uint32_t rank = 0; rank < place->ranks; ++rank) {
        ingest::EngineStatus status;
        status.name = place->names[rank];
        if (rank < place->engines.size()) status.engine = place->engines[rank];
        status.liveness = place->liveness;
        status.why_not = place->why_not;
        status.models = place->models;
        status.events = "not followed";
        out.push_back(std::move(status));
      }
    }
  }
  return out;
}

}  // namespace warmpath::app
