#include "engine_server/engine_server.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "engine_server/generation.h"
#include "engine_server/job.h"
#include "engine_server/metrics.h"
#include "engine_server/output_writer.h"
#include "engine_server/publisher.h"
#include "engine_server/rank.h"
#include "observe/observe.h"

namespace warmpath::engine_server {
namespace {

constexpr std::uint32_t kRanksMax = 64;
constexpr std::uint64_t kPortMax = 65'535;
constexpr std::size_t kRequestIdBytesMax = 256;
constexpr std::string_view kVersion = "0.32.0+warmpath";

Refusal scale_out_is_off() {
  return {.status = 403,
          .message =
              "Scale-out endpoints are disabled. Restart vllm serve with "
              "--enable-scale-out to enable them.",
          .type = "PermissionDeniedError",
          .param = {}};
}

using ExchangePtr = std::shared_ptr<http::Exchange>;

void respond_json(http::Exchange& exchange, int status, std::string_view body) {
  http::Headers headers;
  headers.add("Content-Type", "application/json");
  exchange.respond(status, std::move(headers), body);
}

void refuse(http::Exchange& exchange, const Refusal& refusal,
            api::Endpoint endpoint = api::Endpoint::kChatCompletions) {
  respond_json(exchange, refusal.status, refusal_body(refusal, api::error_form_of(endpoint)));
}

std::string_view id_prefix(api::Endpoint endpoint) {
  switch (endpoint) {
    case api::Endpoint::kChatCompletions: return "chatcmpl-";
    case api::Endpoint::kCompletions: return "cmpl-";
    case api::Endpoint::kResponses: return "resp_";
    case api::Endpoint::kMessages:
    case api::Endpoint::kCountTokens: return "chatcmpl-";  // as vLLM 0.32 has it
    case api::Endpoint::kEmbeddings: return "embd-";
    case api::Endpoint::kGenerate: return "generate-tokens-";
  }
  return {};
}

// Faults that are settings of their own.
void set_faults(Options& options) {
  const FaultSet& faults = options.faults;
  if (faults.has(Fault::kNoPrefixCaching)) options.engine.prefix_caching = false;
  if (faults.has(Fault::kDraftModel)) options.engine.last_hit = engine::LastHit::kDropped;
  if (faults.has(Fault::kNoEvents)) options.kv_events = KvEvents::kOff;
  if (faults.has(Fault::kNoCachedTokens)) options.prompt_details = PromptDetails::kHide;
}

// Where nothing listens: tcpmux, which nobody has used for decades.
std::string dead_endpoint(const std::string& endpoint) { return endpoint.substr(0, endpoint.rfind(':')) + ":1"; }

Result<void> check(const Options& options) {
  const auto invalid = [](std::string what) { return Error{ErrorKind::kInvalid, std::move(what)}; };
  if (options.model.empty()) return invalid("an engine needs a model name: give --model NAME");
  if (options.ranks == 0 || options.ranks > kRanksMax) {
    return invalid("data-parallel ranks must be 1 to " + std::to_string(kRanksMax));
  }
  for (const std::uint64_t port : {options.kv_events_port, options.kv_replay_port}) {
    if (port != 0 && port + options.ranks - 1 > kPortMax)
      return invalid("event ports of all ranks must be below 65536");
  }
  return {};
}

}  // namespace

struct EngineServer::Impl {
  Impl(io::Loop& loop_in, Options options_in, std::shared_ptr<const tokens::Tokenizer> tokenizer_in,
       OutputWriter writer_in)
      : loop(loop_in),
        options(std::move(options_in)),
        tokenizer(std::move(tokenizer_in)),
        writer(std::move(writer_in)),
        ids(options.output_seed, "engine response ids") {}

  struct OneRank {
    std::unique_ptr<Rank> rank;
    std::unique_ptr<RankMetrics> metrics;
  };
  // Where a request of the model belongs.
  struct Origin {
    std::uint64_t generation = 0;
    std::size_t choice = 0;
  };

  io::Loop& loop;
  Options options;
  std::shared_ptr<const tokens::Tokenizer> tokenizer;
  OutputWriter writer;
  RandomStream ids;
  observe::Registry registry;
  std::vector<OneRank> ranks;
  std::vector<EventSource> sources;
  std::unordered_map<std::uint64_t, std::unique_ptr<Generation>> generations;  // at most requests_max
  std::unordered_map<std::uint64_t, Origin> origins;
  std::uint64_t next_generation = 1;
  std::uint64_t next_model_id = 1;
  std::uint32_t next_rank = 0;
  std::int64_t created_at = 0;
  std::unique_ptr<http::HttpListener> listener;  // last: closed before what it calls

  std::string published_topic() const {
    return options.topic + (options.faults.has(Fault::kEventsTopic) ? "-elsewhere" : "");
  }
  Result<void> open_rank(std::uint32_t rank);
  Result<void> listen();
  JobContext context() const {
    return {options, *tokenizer, options.engine.profile.model_tokens_max, io::unix_time_ms() / 1'000};
  }

  void serve(const ExchangePtr& exchange);
  void complete(const ExchangePtr& exchange, api::Endpoint endpoint);
  void render(const ExchangePtr& exchange, api::Endpoint endpoint);
  std::variant<std::uint32_t, Refusal> rank_of(const http::RequestHead& head);
  void generate(const ExchangePtr& exchange, Job job, std::uint32_t rank);
  std::string response_id(const http::RequestHead& head, api::Endpoint endpoint);
  void emitted(std::uint32_t rank, const engine::Emitted& emitted, Instant now);
  void cancel(std::uint64_t generation);

  void tokenize(const ExchangePtr& exchange);
  void models(const ExchangePtr& exchange);
  void metrics(const ExchangePtr& exchange);
  void event_sources(const ExchangePtr& exchange);
  void reset(const ExchangePtr& exchange);
};

Result<void> EngineServer::Impl::open_rank(std::uint32_t rank) {
  engine::ModelOptions model_options = options.engine;
  model_options.rank = rank;
  auto model = engine::Model::create(model_options);
  if (!model) return model.error();
  std::unique_ptr<Publisher> publisher;
  if (options.kv_events == KvEvents::kPublish) {
    const auto port = [rank](std::uint16_t base) { return static_cast<std::uint16_t>(base == 0 ? 0 : base + rank); };
    auto opened = Publisher::open(loop, {.ip = options.listen.ip,
                                         .port = port(options.kv_events_port),
                                         .replay_port = port(options.kv_replay_port),
                                         .topic = published_topic(),
                                         .rank = rank,
                                         .buffer_steps = options.buffer_steps});
    if (!opened) return opened.error();
    publisher = std::move(*opened);
    sources.push_back({publisher->endpoint(), publisher->replay_endpoint()});
  }
  OneRank one;
  engine::ModelOptions told = model_options;
  if (options.faults.has(Fault::kBlockSize)) told.profile.block_tokens *= 2;
  one.metrics = std::make_unique<RankMetrics>(registry, options.model, told, options.ranks);
  Rank::Callbacks callbacks;
  callbacks.emitted = [this, rank](const engine::Emitted& e, Instant now) { emitted(rank, e, now); };
  callbacks.stepped = [page = one.metrics.get()](const engine::StepPlan& plan) { page->stepped(plan); };
  one.rank =
      std::make_unique<Rank>(loop, std::move(*model), std::move(publisher), options.lag_max, std::move(callbacks));
  ranks.push_back(std::move(one));
  return {};
}

Result<void> EngineServer::Impl::listen() {
  http::ServerOptions server;
  server.limits = options.limits;
  server.errors = [](const Error& error, int& status, http::Headers& headers) {
    const Refusal refusal = refusal_of(error);
    status = refusal.status;
    headers.set("Content-Type", "application/json");
    return refusal_body(refusal);
  };
  auto opened = http::HttpListener::open(loop, options.listen, std::move(server),
                                         [this](const ExchangePtr& exchange) { serve(exchange); });
  if (!opened) return opened.error();
  listener = std::move(*opened);
  return {};
}

// ---- paths ----

void EngineServer::Impl::serve(const ExchangePtr& exchange) {
  struct Path {
    std::string_view path;
    std::string_view method;
    void (*serve)(Impl&, const ExchangePtr&);
  };
  static constexpr auto kEmpty = [](Impl&, const ExchangePtr& e) { e->respond(200, {}, ""); };
  static constexpr Path kPaths[] = {
      {"/v1/chat/completions", "POST",
       [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kChatCompletions); }},
      {"/v1/completions", "POST", [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kCompletions); }},
      {"/v1/responses", "POST", [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kResponses); }},
      {"/v1/messages", "POST", [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kMessages); }},
      {"/v1/messages/count_tokens", "POST",
       [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kCountTokens); }},
      {"/v1/responses/render", "POST", [](Impl& i, const ExchangePtr& e) { i.render(e, api::Endpoint::kResponses); }},
      {"/v1/messages/render", "POST", [](Impl& i, const ExchangePtr& e) { i.render(e, api::Endpoint::kMessages); }},
      {"/v1/embeddings", "POST", [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kEmbeddings); }},
      {"/inference/v1/generate", "POST",
       [](Impl& i, const ExchangePtr& e) { i.complete(e, api::Endpoint::kGenerate); }},
      {"/v1/chat/completions/render", "POST",
       [](Impl& i, const ExchangePtr& e) { i.render(e, api::Endpoint::kChatCompletions); }},
      {"/v1/completions/render", "POST",
       [](Impl& i, const ExchangePtr& e) { i.render(e, api::Endpoint::kCompletions); }},
      {"/v1/models", "GET", [](Impl& i, const ExchangePtr& e) { i.models(e); }},
      {"/tokenize", "POST", [](Impl& i, const ExchangePtr& e) { i.tokenize(e); }},
      {"/metrics", "GET", [](Impl& i, const ExchangePtr& e) { i.metrics(e); }},
      {"/kv_event_sources", "GET", [](Impl& i, const ExchangePtr& e) { i.event_sources(e); }},
      {"/reset_prefix_cache", "POST", [](Impl& i, const ExchangePtr& e) { i.reset(e); }},
      {"/health", "GET", kEmpty},
      {"/ping", "GET", kEmpty},
      {"/version", "GET",
       [](Impl&, const ExchangePtr& e) { respond_json(*e, 200, "{\"version\":\"" + std::string(kVersion) + "\"}"); }},
      {"/load", "GET",
       [](Impl& i, const ExchangePtr& e) {
         respond_json(*e, 200, "{\"server_load\":" + std::to_string(i.generations.size()) + "}");
       }},
  };
  const http::RequestHead& head = exchange->head();
  for (const Path& path : kPaths) {
    if (head.path() != path.path) continue;
    if (head.method == path.method) return path.serve(*this, exchange);
    http::Headers headers;
    headers.add("Content-Type", "application/json");
    headers.add("Allow", std::string(path.method));
    return exchange->respond(405, std::move(headers), R"({"detail":"Method Not Allowed"})");
  }
  respond_json(*exchange, 404, R"({"detail":"Not Found"})");
}

void EngineServer::Impl::tokenize(const ExchangePtr& exchange) {
  const auto prepared = prepare_tokenize(context(), exchange->body());
  if (const auto* refusal = std::get_if<Refusal>(&prepared)) return refuse(*exchange, *refusal);
  const Tokenized& made = std::get<Tokenized>(prepared);
  JsonWriter json;
  json.object().member("count", static_cast<std::uint64_t>(made.ids.size()));
  json.member("max_model_len", options.engine.profile.model_tokens_max).key("tokens").array();
  for (const TokenId id : made.ids) json.value(id);
  json.end().key("token_strs");
  if (made.tell_texts) {
    json.array();
    for (const TokenId& id : made.ids) {
      const auto text = tokenizer->decode({&id, 1}, tokens::SpecialText::kKeep);
      json.value(text ? std::string_view(*text) : std::string_view());
    }
    json.end().end();
  } else {
    json.null().end();
  }
  respond_json(*exchange, 200, json.text());
}

void EngineServer::Impl::models(const ExchangePtr& exchange) {
  std::vector<api::ModelEntry> entries;
  const std::string root = options.root.empty() ? options.model : options.root;
  const std::uint64_t tokens_max = options.engine.profile.model_tokens_max;
  entries.push_back({options.model, root, std::nullopt, tokens_max});
  for (const std::string& alias : options.aliases) entries.push_back({alias, root, std::nullopt, tokens_max});
  for (const Adapter& a : options.adapters) entries.push_back({a.name, a.path, options.model, std::nullopt});
  respond_json(*exchange, 200, api::models_body(entries, created_at));
}

void EngineServer::Impl::metrics(const ExchangePtr& exchange) {
  for (const OneRank& one : ranks) {
    one.metrics->refresh(one.rank->model().stats(), one.rank->publisher(), one.rank->slipped());
  }
  http::Headers headers;
  headers.add("Content-Type", std::string(observe::Registry::content_type()));
  exchange->respond(200, std::move(headers), registry.expose());
}

void EngineServer::Impl::event_sources(const ExchangePtr& exchange) {
  constexpr std::uint64_t kHighWater = 100'000;
  JsonWriter json;
  json.object();
  for (std::size_t rank = 0; rank < sources.size(); ++rank) {
    json.key(std::to_string(rank)).object().member("enable_kv_cache_events", true).member("publisher", "zmq");
    const bool dead = options.faults.has(Fault::kEventsPort);
    json.member("endpoint", dead ? dead_endpoint(sources[rank].endpoint) : sources[rank].endpoint)
        .member("replay_endpoint", sources[rank].replay_endpoint);
    json.member("buffer_steps", options.buffer_steps).member("hwm", kHighWater);
    json.member("max_queue_size", kHighWater).member("topic", options.topic).end();
  }
  json.end();
  respond_json(*exchange, 200, json.text());
}

void EngineServer::Impl::reset(const ExchangePtr& exchange) {
  bool success = true;
  for (const OneRank& one : ranks) success = one.rank->reset_prefix_cache() && success;
  respond_json(*exchange, 200, success ? R"({"success":true})" : R"({"success":false})");
}

// ---- completions ----

void EngineServer::Impl::complete(const ExchangePtr& exchange, api::Endpoint endpoint) {
  if (endpoint == api::Endpoint::kGenerate && options.scale_out == ScaleOut::kRefuse) {
    return refuse(*exchange, scale_out_is_off(), endpoint);
  }
  if (generations.size() >= options.requests_max) {
    return refuse(
        *exchange,
        {.status = 503,
         .message = "the engine holds " + std::to_string(generations.size()) + " requests, its limit: try again later",
         .type = "ServiceUnavailableError"},
        endpoint);
  }
  auto rank = rank_of(exchange->head());
  if (const auto* refusal = std::get_if<Refusal>(&rank)) return refuse(*exchange, *refusal, endpoint);
  auto prepared = prepare_job(context(), endpoint, exchange->body());
  if (const auto* refusal = std::get_if<Refusal>(&prepared)) return refuse(*exchange, *refusal, endpoint);
  Job& job = std::get<Job>(prepared);
  if (endpoint == api::Endpoint::kCountTokens) {
    return respond_json(*exchange, 200, api::count_tokens_body(job.prompts.front().size()));
  }
  generate(exchange, std::move(job), std::get<0>(rank));
}

void EngineServer::Impl::render(const ExchangePtr& exchange, api::Endpoint endpoint) {
  if (options.scale_out == ScaleOut::kRefuse) {
    return refuse(*exchange, scale_out_is_off(), endpoint);
  }
  const auto prepared = prepare_job(context(), endpoint, exchange->body());
  if (const auto* refusal = std::get_if<Refusal>(&prepared)) return refuse(*exchange, *refusal, endpoint);
  respond_json(*exchange, 200, render_body(std::get<Job>(prepared), response_id(exchange->head(), endpoint)));
}

// The pinned rank, else the next one: vLLM 0.32 with data parallel 2 alternates.
std::variant<std::uint32_t, Refusal> EngineServer::Impl::rank_of(const http::RequestHead& head) {
  const std::string* pinned = head.headers.find("X-data-parallel-rank");
  const auto asked = pinned == nullptr ? std::nullopt : parse_i64(trim(*pinned));
  if (!asked) {
    const std::uint32_t rank = next_rank;
    next_rank = (next_rank + 1) % options.ranks;
    return rank;
  }
  if (*asked < 0 || *asked >= static_cast<std::int64_t>(options.ranks)) {
    return Refusal{.message = "data_parallel_rank " + std::to_string(*asked) + " is out of range [0, " +
                              std::to_string(options.ranks) + ")."};
  }
  return static_cast<std::uint32_t>(*asked);
}

// As vLLM: the client's x-request-id becomes part of the id.
std::string EngineServer::Impl::response_id(const http::RequestHead& head, api::Endpoint endpoint) {
  const std::string prefix(id_prefix(endpoint));
  const std::string* given = head.headers.find("X-Request-Id");
  if (given != nullptr && !given->empty() && given->size() <= kRequestIdBytesMax) return prefix + *given;
  const std::uint64_t value = ids.next();
  std::uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return prefix + to_hex(bytes);
}

void EngineServer::Impl::generate(const ExchangePtr& exchange, Job job, std::uint32_t rank) {
  OneRank& one = ranks[rank];
  const std::uint64_t number = next_generation++;
  const bool chat = api::has_chat(job.endpoint);
  std::vector<ChoiceState> choices;
  std::optional<Refusal> refused;
  const Instant at = one.rank->now();
  for (std::size_t p = 0; p < job.prompts.size() && !refused; ++p) {
    for (std::uint32_t n = 0; n < job.choices && !refused; ++n) {
      const OutputWriter::Prompt prompt{job.prompts[p], job.salt, job.adapter.name, n};
      const Opening opening = chat ? Opening::kTurn : Opening::kContinuation;
      OutputWriter::Answer answer = job.exact_length ? writer.words(prompt, opening, job.output_max[p])
                                                     : writer.natural(prompt, opening, job.output_max[p]);
      ChoiceState state;
      state.model_id = next_model_id++;
      state.index = static_cast<std::uint32_t>(choices.size());
      state.end = answer.end == OutputWriter::End::kStop ? FinishReason::kStop : FinishReason::kLength;
      state.prompt = static_cast<std::uint32_t>(p);
      state.prompt_tokens = job.prompts[p].size();
      if (job.endpoint == api::Endpoint::kEmbeddings) state.vector = writer.vector(prompt, job.dimensions);
      engine::Request request;
      request.id = state.model_id;
      request.prompt = n + 1 == job.choices ? std::move(job.prompts[p]) : job.prompts[p];
      request.output = std::move(answer.ids);
      request.lora = job.adapter.name;
      request.lora_path = job.adapter.path;
      request.salt = job.salt;
      request.report = job.report;
      if (auto added = one.rank->add(std::move(request), at); !added) {
        refused = refusal_of(added.error());
        continue;
      }
      one.metrics->added(job.output_max[p], job.choices);
      origins[state.model_id] = {number, choices.size()};
      choices.push_back(state);
    }
  }
  if (refused) {
    for (const ChoiceState& choice : choices) {
      one.rank->abort(choice.model_id);
      origins.erase(choice.model_id);
    }
    return refuse(*exchange, *refused, job.endpoint);
  }
  const std::string* timing = exchange->head().headers.find("x-warmpath-timing");
  Generation::Options described{.endpoint = job.endpoint,
                                .id = response_id(exchange->head(), job.endpoint),
                                .model = std::move(job.model),
                                .created = io::unix_time_ms() / 1'000,
                                .stream = job.stream,
                                .include_usage = job.include_usage,
                                .tell_cached = options.prompt_details == PromptDetails::kTell,
                                .timing = timing != nullptr && *timing == "1" ? Timing::kTell : Timing::kSilent,
                                .speed = options.engine.speed,
                                .rank = rank,
                                .format = job.format,
                                .output_tokens_max = job.output_max.front()};
  auto generation = std::make_unique<Generation>(exchange, std::move(described), std::move(choices));
  exchange->on_gone([this, number] { cancel(number); });
  generation->start();
  generations.emplace(number, std::move(generation));
  one.rank->wake(at);
}

void EngineServer::Impl::emitted(std::uint32_t rank, const engine::Emitted& emitted, Instant now) {
  const auto origin = origins.find(emitted.id);
  if (origin == origins.end()) return;  // cancelled by an earlier token of this very step
  const std::uint64_t number = origin->second.generation;
  Generation& generation = *generations.at(number);
  ChoiceState& choice = generation.choices()[origin->second.choice];
  RankMetrics& page = *ranks[rank].metrics;
  for (const TokenId& token : emitted.tokens) {
    const bool finished = emitted.finished && &token == &emitted.tokens.back();
    if (choice.output_tokens++ == 0) {
      choice.added_at = emitted.added_at;
      choice.scheduled_at = emitted.scheduled_at;
      choice.first_at = now;
      choice.cached_tokens = emitted.cached_tokens;
      page.first_token(generation.engine_seconds(now - emitted.added_at));
    } else {
      page.next_token(generation.engine_seconds(now - choice.last_at));
    }
    choice.last_at = now;
    if (finished) {
      page.finished(choice.end, generation.times(choice));
      origins.erase(emitted.id);
    }
    if (generation.emit(choice, token, writer.text(token), finished)) {
      generations.erase(number);
      return;
    }
  }
}

// The client hung up: its requests leave the model at once.
void EngineServer::Impl::cancel(std::uint64_t number) {
  const auto it = generations.find(number);
  if (it == generations.end()) return;
  OneRank& one = ranks[it->second->rank()];
  for (const ChoiceState& choice : it->second->choices()) {
    if (choice.done) continue;
    one.rank->abort(choice.model_id);
    one.metrics->aborted();
    origins.erase(choice.model_id);
  }
  generations.erase(it);
}

// ---- door ----

Result<std::unique_ptr<EngineServer>> EngineServer::create(io::Loop& loop, Options options,
                                                           std::shared_ptr<const tokens::Tokenizer> tokenizer) {
  if (auto checked = check(options); !checked) return checked.error();
  set_faults(options);
  auto writer = OutputWriter::create(*tokenizer, options.output_seed, options.words, options.output_tokens_mean);
  if (!writer) return writer.error();
  // As vLLM, which wants the whole context of one request to fit: never more than the KV cache holds.
  engine::Profile& profile = options.engine.profile;
  const std::uint64_t held = (std::max<std::uint64_t>(profile.kv_blocks, 1) - 1) * profile.block_tokens + 1;
  profile.model_tokens_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(profile.model_tokens_max, held));
  auto impl = std::make_unique<Impl>(loop, std::move(options), std::move(tokenizer), std::move(*writer));
  impl->created_at = io::unix_time_ms() / 1'000;
  for (std::uint32_t rank = 0; rank < impl->options.ranks; ++rank) {
    if (auto opened = impl->open_rank(rank); !opened) return opened.error();
  }
  if (auto listening = impl->listen(); !listening) return listening.error();
  return std::unique_ptr<EngineServer>(new EngineServer(std::move(impl)));
}

EngineServer::EngineServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EngineServer::~EngineServer() = default;

io::Address EngineServer::address() const { return impl_->listener->address(); }
const std::vector<EventSource>& EngineServer::sources() const { return impl_->sources; }
const engine::Model& EngineServer::model(std::uint32_t rank) const {
  WP_CHECK(rank < impl_->ranks.size());
  return impl_->ranks[rank].rank->model();
}
void EngineServer::drain(std::function<void()> done) { impl_->listener->drain(std::move(done)); }

}  // namespace warmpath::engine_server
