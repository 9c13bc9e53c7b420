#include "proxy/io_thread.h"

#include <algorithm>
#include <array>

#include "proxy/headers.h"

namespace warmpath::proxy {
namespace {

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kModelsPath = "/v1/models";
constexpr std::string_view kHealthPath = "/health";
constexpr Duration kTick = std::chrono::seconds(1);

http::Headers json_headers() {
  http::Headers headers;
  headers.add("content-type", std::string(kJson));
  return headers;
}

void answer_error(http::Exchange& exchange, const Error& error, http::Headers headers = json_headers(),
                  api::ErrorForm form = api::ErrorForm::kOpenAi) {
  exchange.respond(api::status_of(error.kind).status, std::move(headers), api::error_body(error, {}, form));
}

std::string known_paths() {
  std::string all;
  for (const api::Endpoint endpoint : api::endpoints()) {
    all += "POST " + std::string(api::path_of_endpoint(endpoint)) + ", ";
  }
  return all + "GET " + std::string(kModelsPath) + ", GET " + std::string(kHealthPath);
}

std::string text_of(std::string_view text) { return std::string(text.substr(0, 200)); }

}  // namespace

std::string write_http_error(const Error& error, int& status, http::Headers& headers) {
  status = api::status_of(error.kind).status;
  headers.set("content-type", std::string(kJson));
  return api::error_body(error);
}

IoThread::IoThread(Shared& shared, std::uint32_t number)
    : shared_(shared),
      number_(number),
      metrics_(*shared.registry),
      ids_(shared.options.seed, "proxy.request_ids." + std::to_string(number)) {
  client_ = http::HttpClient::create(loop_, shared.options.client);
}

IoThread::~IoThread() = default;

Result<io::Address> IoThread::open(const io::Address& address) {
  http::ServerOptions options;
  options.limits = shared_.options.limits;
  // Each thread takes its share of the connections.
  const std::size_t threads = std::max<std::size_t>(1, shared_.options.io_threads);
  options.limits.connections_max = std::max<std::size_t>(1, options.limits.connections_max / threads);
  options.listen.reuse_port = threads > 1;
  options.errors = write_http_error;
  auto opened = http::HttpListener::open(loop_, address, std::move(options),
                                         [this](std::shared_ptr<http::Exchange> exchange) { serve(exchange); });
  if (!opened.ok()) return opened.error();
  listener_ = std::move(opened).value();
  return listener_->address();
}

void IoThread::run() {
  for (Pool* pool : shared_.pools) pool->bind(number_, &loop_, this);
  loop_.post([this] { tick(); });
  thread_ = std::thread([this] { loop_.run(); });
}

void IoThread::drain(std::function<void()> done) {
  loop_.post([this, done = std::move(done)] {
    if (listener_) {
      listener_->drain(done);
    } else {
      done();
    }
  });
}

void IoThread::stop() {
  loop_.post([this] {
    std::vector<std::shared_ptr<Relay>> running;
    running.reserve(relays_.size());
    for (const auto& [id, relay] : relays_) running.push_back(relay);
    for (const auto& relay : running) relay->cut_off();  // each leaves relays_
    for (Pool* pool : shared_.pools) pool->bind(number_, nullptr, nullptr);
    tick_.cancel();
    ended_calls_.clear();
    ended_relays_.clear();
    listener_.reset();
    client_.reset();
    loop_.stop();
  });
}

void IoThread::join() {
  if (thread_.joinable()) thread_.join();
}

http::ServerCounters IoThread::counters() const {
  http::ServerCounters out;
  out.connections_open = open_.load(std::memory_order_relaxed);
  out.connections_accepted = accepted_.load(std::memory_order_relaxed);
  out.connections_refused = refused_.load(std::memory_order_relaxed);
  out.requests = requests_.load(std::memory_order_relaxed);
  out.requests_malformed = malformed_.load(std::memory_order_relaxed);
  return out;
}

void IoThread::tick() {
  const http::ServerCounters now = listener_->counters();
  open_.store(now.connections_open, std::memory_order_relaxed);
  accepted_.store(now.connections_accepted, std::memory_order_relaxed);
  refused_.store(now.connections_refused, std::memory_order_relaxed);
  requests_.store(now.requests, std::memory_order_relaxed);
  malformed_.store(now.requests_malformed, std::memory_order_relaxed);
  std::uint64_t removals = 0;
  for (const Pool* pool : shared_.pools) removals += pool->engines_removed();
  if (std::exchange(removals_seen_, removals) != removals) metrics_.forget_handles();
  tick_ = loop_.after(kTick, [this] { tick(); });
}

std::string IoThread::new_request_id() {
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t half = 0; half < 2; ++half) {
    std::uint64_t bits = ids_.next();
    for (std::size_t i = 0; i < 8; ++i, bits >>= 8) bytes[half * 8 + i] = static_cast<std::uint8_t>(bits);
  }
  return to_hex(bytes);
}

void IoThread::retire(std::unique_ptr<http::ClientCall> call) {
  if (!call) return;
  ended_calls_.push_back(std::move(call));
  sweep_later();
}

void IoThread::retire(RequestId relay) {
  const auto at = relays_.find(relay);
  if (at == relays_.end()) return;
  ended_relays_.push_back(std::move(at->second));
  relays_.erase(at);
  shared_.in_flight.fetch_sub(1, std::memory_order_relaxed);
  sweep_later();
}

void IoThread::sweep_later() {
  if (std::exchange(sweep_posted_, true)) return;
  loop_.post([this] {
    sweep_posted_ = false;
    const auto calls = std::exchange(ended_calls_, {});
    const auto relays = std::exchange(ended_relays_, {});
  });
}

void IoThread::ended(const AccessRecord& record) {
  metrics_.ended(record);
  if (shared_.options.access_log) shared_.options.access_log(record);
}

void IoThread::on_effect(route::Effect effect) {
  const RequestId id = std::holds_alternative<route::Forward>(effect)  ? std::get<route::Forward>(effect).id
                       : std::holds_alternative<route::Reject>(effect) ? std::get<route::Reject>(effect).id
                                                                       : std::get<route::Cancel>(effect).id;
  const auto at = relays_.find(id);
  if (at == relays_.end()) return;  // it ended meanwhile and told the brain so
  const std::shared_ptr<Relay> relay = at->second;
  relay->on_effect(std::move(effect));
}

void IoThread::serve(const std::shared_ptr<http::Exchange>& exchange) {
  const std::string_view path = exchange->head().path();
  const std::string& method = exchange->head().method;
  const auto endpoint = api::endpoint_of_path(path);
  const bool known = endpoint || path == kModelsPath || path == kHealthPath;
  if (!known) {
    answer_error(*exchange, {ErrorKind::kNotFound, "no such path: " + text_of(path) + "; there are " + known_paths()});
    return;
  }
  const std::string_view allowed = endpoint ? "POST" : "GET";
  if (method != allowed) {
    http::Headers headers = json_headers();
    headers.add("allow", std::string(allowed));
    answer_error(*exchange,
                 {ErrorKind::kMethod,
                  text_of(method) + " is not allowed for " + text_of(path) + "; use " + std::string(allowed)},
                 std::move(headers), endpoint ? api::error_form_of(*endpoint) : api::ErrorForm::kOpenAi);
    return;
  }
  if (endpoint) {
    begin_relay(exchange, *endpoint);
  } else if (path == kModelsPath) {
    answer_models(*exchange);
  } else {
    exchange->respond(200, json_headers(), R"({"status":"ok"})");
  }
}

void IoThread::answer_models(http::Exchange& exchange) {
  std::vector<api::ModelEntry> models;
  for (const Pool* pool : shared_.pools) {
    for (api::ModelEntry& model : pool->models()) models.push_back(std::move(model));
  }
  std::sort(models.begin(), models.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  exchange.respond(200, json_headers(), api::models_body(models, io::unix_time_ms() / 1000));
}

void IoThread::begin_relay(const std::shared_ptr<http::Exchange>& exchange, api::Endpoint endpoint) {
  const RequestId id = request_id_of(number_, next_request_++);
  const auto relay = std::make_shared<Relay>(*this, exchange, id);
  relays_.emplace(id, relay);
  shared_.in_flight.fetch_add(1, std::memory_order_relaxed);
  relay->begin(endpoint);
}

}  // namespace warmpath::proxy
