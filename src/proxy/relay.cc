#include "proxy/relay.h"

#include <algorithm>

#include "proxy/engine_ids.h"
#include "proxy/headers.h"
#include "proxy/io_thread.h"

namespace warmpath::proxy {
namespace {

constexpr std::size_t kHeldBytesMax = 64u << 10;  // of an engine's refusal that is kept for the client

http::Headers json_headers() {
  http::Headers headers;
  headers.add("content-type", "application/json");
  return headers;
}

bool is_event_stream(const http::ResponseHead& head) {
  const std::string* type = head.headers.find("content-type");
  return type != nullptr && to_lower(*type).starts_with("text/event-stream");
}

// Answers that say "not now" rather than "not so".
bool is_busy(int status) { return status == 429 || status == 502 || status == 503 || status == 504; }

std::optional<std::uint64_t> declared_length(const http::ResponseHead& head) {
  const std::string* length = head.headers.find("content-length");
  return length == nullptr ? std::nullopt : parse_u64(*length);
}

std::optional<route::Usage> to_route(const std::optional<api::Usage>& usage) {
  if (!usage) return std::nullopt;
  return route::Usage{usage->prompt_tokens, usage->completion_tokens, usage->cached_tokens};
}

}  // namespace

Relay::Relay(IoThread& io, std::shared_ptr<http::Exchange> client, RequestId id)
    : io_(io), client_(std::move(client)), id_(id) {}

// ---- before the engine ----

void Relay::begin(api::Endpoint endpoint) {
  endpoint_ = endpoint;
  take_request_id();
  record_.model = "other";
  client_->on_gone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->client_gone();
  });
  body_ = std::make_shared<const std::string>(client_->take_body());
  record_.request_bytes = body_->size();
  const std::string* coding = client_->head().headers.find("content-encoding");
  if (coding != nullptr && !equals_ignoring_case(*coding, "identity")) {
    refuse({ErrorKind::kInvalid, "request bodies may not be compressed; send it without content-encoding"});
    return;
  }
  std::string param;
  auto parsed = api::parse_request(endpoint, *body_, io_.shared().options.request_limits, &param);
  if (!parsed.ok()) {
    refuse(parsed.error(), param);
    return;
  }
  client_wants_stream_ = parsed->stream;
  record_.stream = parsed->stream;
  if (!choose_pool(parsed->model)) return;
  strip_usage_ = pool_->options().usage == api::UsageSplice::kAdd && api::takes_stream_options(endpoint) &&
                 parsed->stream && !parsed->include_usage;
  to_send_ = body_;
  if (model_.rewrite || strip_usage_) {
    const auto name = model_.rewrite ? std::optional<std::string_view>(model_.engine_model) : std::nullopt;
    to_send_ = std::make_shared<const std::string>(
        api::spliced(*body_, *parsed, name, strip_usage_ ? api::UsageSplice::kAdd : api::UsageSplice::kKeep));
  }
  encode(std::make_shared<const api::Request>(std::move(parsed).value()));
}

void Relay::take_request_id() {
  const std::string* given = client_->head().headers.find("x-request-id");
  const bool good =
      given != nullptr && is_sane_request_id(*given) && client_->head().headers.count("x-request-id") == 1;
  record_.request_id = good ? *given : io_.new_request_id();
}

bool Relay::choose_pool(const std::string& model) {
  const std::vector<Pool*>& pools = io_.shared().pools;
  for (Pool* pool : pools) {
    if (model.empty() && pools.size() > 1) break;
    auto resolved = pool->resolve(model);
    if (!resolved) continue;
    pool_ = pool;
    model_ = std::move(*resolved);
    record_.pool = pool->options().name;
    record_.model = model_.label;
    if (pool->started()) return true;
    refuse({ErrorKind::kUnavailable, "the gateway is starting: no engine is known yet; try again"}, {},
           std::chrono::seconds(1));
    return false;
  }
  std::string names;
  for (const Pool* pool : pools) {
    for (const api::ModelEntry& entry : pool->models()) names += (names.empty() ? "" : ", ") + entry.id;
  }
  if (model.empty()) {
    refuse({ErrorKind::kInvalid, "`model`: required here; there are " + names}, "model");
  } else {
    refuse({ErrorKind::kNotFound, "the model `" + model + "` does not exist; there are " + names}, "model");
  }
  return false;
}

void Relay::encode(std::shared_ptr<const api::Request> request) {
  phase_ = Phase::kEncoding;
  const auto encoder = pool_->encoder();
  const std::int64_t now = io::unix_time_ms() / 1000;
  const Instant begun = io_.loop().now();
  if (body_->size() <= io_.shared().options.encode_inline_bytes_max) {
    Plan plan = make_plan(*encoder, *request, {model_.adapter, now, model_.model_tokens_max});
    io_.metrics().encoded(io_.loop().now() - begun);
    encoded(std::move(request), std::move(plan));
    return;
  }
  // The request's slices point into the body: the task keeps both.
  auto task = [weak = weak_from_this(), &io = io_, encoder, request, body = body_, adapter = model_.adapter, now, begun,
               tokens_max = model_.model_tokens_max] {
    auto plan = std::make_shared<Plan>(make_plan(*encoder, *request, {adapter, now, tokens_max}));
    io.loop().post([weak, &io, plan, begun, request] {
      const auto self = weak.lock();
      if (!self || self->phase_ != Phase::kEncoding) return;
      io.metrics().encoded(io.loop().now() - begun);
      self->encoded(request, std::move(*plan));
    });
  };
  if (!io_.shared().crew->submit(std::move(task))) planned(plan_without_chain(body_->size(), "encoders_busy"));
}

// Our ids are there, or why not: an engine may know better.
void Relay::encoded(std::shared_ptr<const api::Request> request, Plan plan) {
  EngineIds* const engine_ids = pool_->engine_ids();
  if (engine_ids == nullptr || !engine_ids->wants(*request, plan)) return planned(std::move(plan));
  const auto encoder = pool_->encoder();
  const BlockKey key = engine_ids->key_of(*request, model_.engine_model, encoder->space());
  if (const auto ids = engine_ids->find(key, io_.loop().now())) {
    engine_ids->count(AskOutcome::kKnown);
    return planned(with_ids(std::move(plan), *encoder, *request, model_.adapter, *ids));
  }
  ask_for_ids(std::move(request), body_, std::make_shared<Plan>(std::move(plan)), key);
}

// `body` is what the request's slices point into.
void Relay::ask_for_ids(std::shared_ptr<const api::Request> request, std::shared_ptr<const std::string> body,
                        std::shared_ptr<Plan> plan, BlockKey key) {
  EngineIds& engine_ids = *pool_->engine_ids();
  AskOutcome why{};
  auto begun = engine_ids.begin(*request, model_.engine_model, to_send_, *pool_, io_.loop().now(), why);
  if (!begun) return not_told(std::move(*plan), why);
  const auto question = std::make_shared<const EngineIds::Question>(*std::move(begun));
  asking_given_up_ = [&engine_ids, question] { engine_ids.ended(*question, AskOutcome::kTold, Instant()); };
  http::ClientRequest asked;
  asked.method = "POST";
  asked.target = question->target;
  asked.headers = to_engine(client_->head().headers, record_.request_id, question->engine->info.rank);
  asked.headers.remove("accept-encoding");
  asked.body = question->body;
  asked.timeouts = io_.shared().options.timeouts;
  auto answered = [this, request, body, plan, key, question,
                   &engine_ids](const Result<http::HttpClient::Whole>& answer) mutable {
    io_.retire(std::move(asking_));
    asking_given_up_ = nullptr;
    const Instant now = io_.loop().now();
    const auto told = engine_ids.read(*question, answer, now);
    engine_ids.ended(*question, told.ask_again ? AskOutcome::kTold : told.outcome, now);
    if (told.ask_again) return ask_for_ids(std::move(request), std::move(body), std::move(plan), key);
    if (!told.ids) return not_told(std::move(*plan), told.outcome);
    engine_ids.keep(key, told.ids, now);
    engine_ids.count(AskOutcome::kTold);
    planned(with_ids(std::move(*plan), *pool_->encoder(), *request, model_.adapter, *told.ids));
  };
  asking_ = io_.client().fetch(question->engine->origin, std::move(asked), engine_ids.options().deadline,
                               std::move(answered));
}

// Approximate matching it is: our ids, if there are any, are not known to be the engine's.
void Relay::not_told(Plan plan, AskOutcome why) {
  pool_->engine_ids()->count(why);
  plan.chain.clear();
  for (route::PromptPart& part : plan.parts) part.chain_blocks = 0;
  plan.chain_kind = "ask_" + std::string(ask_outcome_name(why));
  planned(std::move(plan));
}

void Relay::planned(Plan plan) {
  io_.metrics().prompt(pool_->options().name, plan.chain_kind);
  record_.prompt_tokens = plan.prompt_tokens;
  record_.exact = plan.exact();
  if (to_send_ != body_) body_.reset();
  phase_ = Phase::kDeciding;
  route::Arrived arrived{.id = id_,
                         .model = model_.engine_model,
                         .chain = std::move(plan.chain),
                         .guessed_chain = std::move(plan.guessed_chain),
                         .prompt_tokens = plan.prompt_tokens,
                         .parts = std::move(plan.parts)};
  if (!pool_->submit(std::move(arrived))) {
    refuse({ErrorKind::kUnavailable, "too many requests wait for a decision; try again"}, {}, std::chrono::seconds(1));
  }
}

void Relay::on_effect(route::Effect effect) {
  if (phase_ != Phase::kDeciding) return;  // Cancel answers our own ClientGone
  if (const auto* chosen = std::get_if<route::Forward>(&effect)) {
    forward(*chosen);
  } else if (const auto* reject = std::get_if<route::Reject>(&effect)) {
    rejected(*reject);
  }
}

void Relay::forward(const route::Forward& forward) {
  const auto engine = pool_->engine(forward.engine);
  engine_ = forward.engine;
  record_.attempts = forward.attempt;
  record_.matched_tokens = forward.predicted_cached_tokens;
  if (!engine) {  // it left between the decision and now
    submit(route::Failed{id_, forward.engine, ErrorKind::kUnavailable, route::Failed::Retry::kMay,
                         route::Failed::Blame::kNone});
    return;
  }
  record_.engine = engine->info.name;
  const std::uint32_t before = engine->calls->fetch_add(1, std::memory_order_relaxed);
  place_.emplace(engine->calls);
  if (before >= io_.shared().options.engine_calls_max) {
    place_.reset();
    submit(route::Failed{id_, forward.engine, ErrorKind::kExhausted, route::Failed::Retry::kMay,
                         route::Failed::Blame::kNone});
    return;
  }
  answer_ = Answer::kNone;
  whole_.clear();
  http::ClientRequest request;
  request.method = "POST";
  request.target = engine->path + std::string(api::path_of_endpoint(endpoint_));
  request.headers = to_engine(client_->head().headers, record_.request_id, engine->info.rank);
  request.body = to_send_;
  request.timeouts = io_.shared().options.timeouts;
  phase_ = Phase::kCalling;
  call_ = io_.client().start(engine->origin, std::move(request), *this);
  if (pool_->options().routed) pool_->options().routed(engine_, record_.prompt_tokens);
}

void Relay::rejected(const route::Reject& reject) {
  if (held_) {  // no other engine took it: the first one's own words, Retry-After included
    Held held = std::move(*held_);
    respond(held.head.status, to_client(held.head.headers, record_.request_id), held.body);
    end("refused_by_engine");
    return;
  }
  refuse(reject.error, {}, reject.retry_after);
}

// ---- the engine's answer ----

void Relay::on_head(const http::ResponseHead& head) {
  head_ = head;
  const bool success = head.status >= 200 && head.status < 300;
  if (is_busy(head.status) && !busy_seen_) {
    answer_ = Answer::kBusy;
  } else if (success && is_event_stream(head)) {
    answer_ = Answer::kStream;
    filter_.emplace(strip_usage_ ? StreamFilter::UsageChunk::kStrip : StreamFilter::UsageChunk::kPass,
                    io_.shared().options.event_bytes_max);
  } else {
    answer_ = Answer::kWhole;
  }
}

void Relay::on_body(std::string_view bytes) {
  switch (answer_) {
    case Answer::kStream: stream_body(bytes); return;
    case Answer::kWhole: whole_body(bytes); return;
    case Answer::kRaw: send(bytes); return;
    case Answer::kBusy: whole_.append(bytes.substr(0, kHeldBytesMax - std::min(kHeldBytesMax, whole_.size()))); return;
    case Answer::kNone: return;
  }
}

void Relay::stream_body(std::string_view bytes) {
  const std::string_view events = filter_->feed(bytes);
  if (events.empty()) return;
  if (phase_ == Phase::kCalling) {
    start_answer(std::nullopt);
    submit(route::FirstByte{id_});
    if (phase_ == Phase::kDone) return;
  }
  send(events);
}

void Relay::whole_body(std::string_view bytes) {
  whole_.append(bytes);
  if (whole_.size() <= io_.shared().options.whole_bytes_max) return;
  answer_ = Answer::kRaw;
  start_answer(declared_length(head_));
  submit(route::FirstByte{id_});
  send(std::exchange(whole_, {}));
}

void Relay::start_answer(std::optional<std::uint64_t> length) {
  phase_ = Phase::kAnswering;
  to_send_.reset();  // nothing can be sent again any more
  body_.reset();
  record_.status = head_.status;
  record_.ttft = io_.loop().now() - client_->received_at();
  client_->on_drained([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->client_drained();
  });
  client_->start(head_.status, to_client(head_.headers, record_.request_id), length);
}

void Relay::send(std::string_view bytes) {
  if (phase_ != Phase::kAnswering || bytes.empty()) return;
  record_.response_bytes += bytes.size();
  client_->write(bytes);
  if (!paused_ && call_ && client_->above_high()) {
    paused_ = true;
    call_->pause();
  }
}

void Relay::client_drained() {
  if (!std::exchange(paused_, false) || !call_ || phase_ != Phase::kAnswering) return;
  call_->resume();
}

void Relay::on_done() {
  end_call();
  switch (answer_) {
    case Answer::kStream: {
      if (phase_ == Phase::kCalling) start_answer(std::nullopt);  // an empty stream
      send(filter_->finish());
      const auto usage = filter_->usage();
      client_->end();
      finished(usage, "ok");
      return;
    }
    case Answer::kRaw:
      client_->end();
      finished(std::nullopt, "ok");
      return;
    case Answer::kBusy:
      busy_seen_ = true;
      record_.why = "the engine answered " + std::to_string(head_.status);
      held_ = Held{head_, std::exchange(whole_, {})};
      retry(head_.status == 429 ? ErrorKind::kExhausted : ErrorKind::kUnavailable, route::Failed::Blame::kNone);
      return;
    case Answer::kWhole: {
      const bool success = head_.status >= 200 && head_.status < 300;
      const auto usage = success ? api::find_usage(whole_) : std::nullopt;
      respond(head_.status, to_client(head_.headers, record_.request_id), whole_);
      finished(usage, success ? "ok" : "refused_by_engine");
      return;
    }
    case Answer::kNone: WP_CHECK(false);
  }
}

void Relay::on_failed(const Error& error, bool /*head_seen*/, bool /*sent*/) {
  end_call();
  record_.why = error.message;
  if (phase_ == Phase::kAnswering) {
    broke(error);
  } else if (answer_ == Answer::kBusy) {  // it said no and then broke: the no counts
    busy_seen_ = true;
    retry(ErrorKind::kUnavailable, route::Failed::Blame::kNone);
  } else {
    retry(error.kind, route::Failed::Blame::kEngine);
  }
}

// The engine broke off after the client had seen a part.
void Relay::broke(const Error& error) {
  break_answer({error.kind, "the engine broke off in the middle of its answer: " + error.message});
  phase_ = Phase::kDone;
  submit(route::Failed{id_, engine_, error.kind, route::Failed::Retry::kMayNot, route::Failed::Blame::kEngine});
  end("broken");
}

void Relay::break_answer(const Error& shown) {
  if (answer_ == Answer::kStream && filter_->at_boundary()) {
    send(api::error_event(shown, api::error_form_of(endpoint_), filter_->events()));
    client_->end();
  } else {
    client_->abort();
  }
}

void Relay::retry(ErrorKind kind, route::Failed::Blame blame) {
  phase_ = Phase::kDeciding;
  submit(route::Failed{id_, engine_, kind, route::Failed::Retry::kMay, blame});
}

void Relay::end_call() {
  io_.retire(std::move(call_));
  place_.reset();
}

// Ends what is asked of engines. True: the brain knows of the request.
bool Relay::let_go() {
  if (call_) {
    call_->cancel();
    end_call();
  }
  if (asking_) {
    asking_->cancel();
    io_.retire(std::move(asking_));
    std::exchange(asking_given_up_, nullptr)();
  }
  return phase_ == Phase::kDeciding || phase_ == Phase::kCalling || phase_ == Phase::kAnswering;
}

void Relay::client_gone() {
  if (phase_ == Phase::kDone) return;
  const bool brain_knows = let_go();
  phase_ = Phase::kDone;
  if (brain_knows) submit(route::ClientGone{id_});
  end("client_gone");
}

void Relay::cut_off() {
  if (phase_ == Phase::kDone) return;
  const bool answering = phase_ == Phase::kAnswering;
  if (let_go()) submit(route::ClientGone{id_});
  const Error shown{ErrorKind::kUnavailable, "the gateway is shutting down; try again"};
  record_.why = shown.message;
  if (!answering) return refuse(shown, {}, std::chrono::seconds(1));
  break_answer(shown);
  end("broken");
}

// ---- ends ----

void Relay::refuse(const Error& error, std::string_view param, Duration retry_after) {
  http::Headers headers = json_headers();
  if (retry_after > Duration(0)) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(retry_after).count();
    headers.add("retry-after", std::to_string(seconds));
  }
  headers.add("x-request-id", record_.request_id);
  const api::StatusRow row = api::status_of(error.kind);
  if (record_.why.empty() && row.status >= 500) record_.why = error.message;
  respond(row.status, std::move(headers), api::error_body(error, param, api::error_form_of(endpoint_)));
  end(row.code);
}

void Relay::respond(int status, http::Headers headers, std::string_view body) {
  record_.status = status;
  record_.response_bytes = body.size();
  if (record_.ttft == Duration(0)) record_.ttft = io_.loop().now() - client_->received_at();
  client_->respond(status, std::move(headers), body);
}

void Relay::finished(std::optional<api::Usage> usage, std::string_view outcome) {
  record_.usage = usage;
  phase_ = Phase::kDone;
  submit(route::Finished{id_, to_route(usage)});
  end(outcome);
}

void Relay::end(std::string_view outcome) {
  phase_ = Phase::kDone;
  record_.outcome = outcome;
  record_.total = io_.loop().now() - client_->received_at();
  io_.ended(record_);
  io_.retire(id_);
}

void Relay::submit(route::Input input) { (void)pool_->submit(std::move(input)); }

}  // namespace warmpath::proxy
