#include "loadgen/loadgen.h"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

#include "api/api.h"
#include "loadgen/answer.h"

namespace warmpath::loadgen {
namespace {

std::string_view role_name(workload::Role role) {
  switch (role) {
    case workload::Role::kSystem: return "system";
    case workload::Role::kUser: return "user";
    case workload::Role::kAssistant: return "assistant";
  }
  return "user";
}

}  // namespace

struct Loadgen::Impl {
  // One request on its way.
  struct Active final : http::ResponseSink {
    Active(Impl& owner_in, workload::Request request_in) : owner(owner_in), request(std::move(request_in)) {}
    void on_head(const http::ResponseHead& head) override { answer.head(head.status); }
    void on_body(std::string_view bytes) override {
      answer.feed(bytes, owner.now_seconds() - sent_at);
    }
    void on_done() override { owner.finish(*this, answer.end(owner.now_seconds() - sent_at)); }
    void on_failed(const Error& error, bool, bool) override {
      owner.finish(*this, std::string(error_kind_name(error.kind)));
    }

    Impl& owner;
    workload::Request request;
    Answer answer{owner.options.stream};
    double sent_at = 0;
    std::unique_ptr<http::ClientCall> call;
  };

  Impl(io::Loop& loop_in, Options options_in, const tokens::Tokenizer& tokenizer_in, workload::Source& source_in)
      : loop(loop_in),
        options(std::move(options_in)),
        tokenizer(tokenizer_in),
        source(source_in),
        client(http::HttpClient::create(loop, {.idle_per_origin_max = 4'096})) {}

  double now_seconds() const { return to_seconds(loop.now() - started); }
  Instant workload_now() const { return Instant(loop.now() - started); }

  void start() {
    started = loop.now();
    pump();
  }

  // Sends what is due, then sleeps until the next one.
  void pump() {
    if (ended) return;
    if (!stopping) {
      due.clear();
      source.due(workload_now(), due);
      for (workload::Request& request : due) waiting.push_back(std::move(request));
    }
    while (!waiting.empty() && active.size() < options.inflight_max) {
      send(std::move(waiting.front()));
      waiting.pop_front();
    }
    timer.cancel();
    const bool over = stopping || source.exhausted();
    if (over && active.empty() && waiting.empty()) {
      ended = true;
      if (done) loop.post(done);
      return;
    }
    if (stopping) return;
    if (const auto next = source.next_at()) {
      const Duration left = std::max(*next - workload_now(), Duration{0});
      timer = loop.after(left, [this] { pump(); });
    }
  }

  void send(workload::Request request) {
    const std::uint64_t id = request.id;
    auto owned = std::make_unique<Active>(*this, std::move(request));
    Active& one = *owned;
    active.emplace(id, std::move(owned));
    one.sent_at = now_seconds();
    auto body = write_body(one.request);
    if (!body.ok()) {
      finish(one, "workload");
      return;
    }
    http::ClientRequest call;
    call.method = "POST";
    call.target = options.url.path +
                  std::string(api::path_of_endpoint(options.api == Api::kChat ? api::Endpoint::kChatCompletions
                                                                              : api::Endpoint::kCompletions));
    call.headers.add("Content-Type", "application/json");
    call.headers.add("x-request-id", "load-" + std::to_string(id));
    if (options.engine_times == EngineTimes::kAsk) call.headers.add("x-warmpath-timing", "1");
    if (!options.authorization.empty()) call.headers.add("Authorization", options.authorization);
    call.body = std::make_shared<const std::string>(std::move(body).value());
    call.timeouts = options.timeouts;
    one.call = client->start({.address = options.address, .host = options.url.host_header(), .tls = options.tls},
                             std::move(call), one);
  }

  Result<std::string> write_body(const workload::Request& request) const {
    JsonWriter json;
    json.object().member("model", options.model);
    if (options.api == Api::kChat) {
      json.key("messages").array();
      for (const workload::Message& message : request.messages) {
        auto text = tokenizer.decode(message.ids, tokens::SpecialText::kKeep);
        if (!text.ok()) return text.error();
        json.object().member("role", role_name(message.role)).member("content", *text).end();
      }
      json.end();
    } else {
      auto text = tokenizer.decode(request.flat(), tokens::SpecialText::kKeep);
      if (!text.ok()) return text.error();
      json.member("prompt", *text);
    }
    json.member("max_tokens", request.output_tokens).member("ignore_eos", true).member("temperature", 0);
    if (!request.salt.empty()) json.member("cache_salt", request.salt);
    json.member("stream", options.stream);
    if (options.stream) json.key("stream_options").object().member("include_usage", true).end();
    json.end();
    return json.take();
  }

  // `failure` empty: it went well.
  void finish(Active& one, std::string failure) {
    const double now = now_seconds();
    const Answer& answer = one.answer;
    Outcome outcome;
    outcome.id = one.request.id;
    outcome.ok = failure.empty();
    outcome.failure = std::move(failure);
    outcome.due_at = to_seconds(one.request.at - Instant{});
    outcome.sent_at = one.sent_at;
    outcome.latency = now - one.sent_at;
    outcome.ttft = answer.first_content_at().value_or(outcome.latency);
    outcome.engine_ttft = answer.engine_ttft();
    outcome.gaps = answer.gaps();
    if (const auto& usage = answer.usage()) {
      outcome.prompt_tokens = usage->prompt_tokens;
      outcome.output_tokens = usage->completion_tokens;
      outcome.cached_tokens = usage->cached_tokens.value_or(0);
    }
    report.seconds = std::max(report.seconds, now);
    report.send_seconds = std::max(report.send_seconds, one.sent_at);
    std::vector<TokenId> output;
    if (outcome.ok) {
      auto ids = tokenizer.encode(answer.text(), tokens::SpecialTokens::kNone);
      if (ids.ok()) output = std::move(ids).value();
    }
    source.finished(outcome.id, output, workload_now());
    report.outcomes.push_back(std::move(outcome));
    // The call is on the stack below us: it goes with the next turn of the loop.
    const auto node = active.find(one.request.id);
    gone.push_back(std::move(node->second));
    active.erase(node);
    if (progress) progress(report.outcomes.size());
    if (!turn_posted) {
      turn_posted = true;
      loop.post([this, alive = std::weak_ptr<int>(life)] {
        if (alive.expired()) return;
        turn_posted = false;
        gone.clear();
        pump();
      });
    }
  }

  void stop() {
    stopping = true;
    waiting.clear();
    std::vector<Active*> running;
    for (auto& [id, one] : active) running.push_back(one.get());
    for (Active* one : running) {
      if (one->call) one->call->cancel();
      finish(*one, "cancelled");
    }
    pump();
  }

  io::Loop& loop;
  Options options;
  const tokens::Tokenizer& tokenizer;
  workload::Source& source;
  std::unique_ptr<http::HttpClient> client;
  std::function<void()> done;
  std::function<void(std::uint64_t)> progress;
  Instant started;
  io::Timer timer;
  std::vector<workload::Request> due;
  std::deque<workload::Request> waiting;
  std::unordered_map<std::uint64_t, std::unique_ptr<Active>> active;
  std::vector<std::unique_ptr<Active>> gone;
  std::shared_ptr<int> life = std::make_shared<int>(0);
  Report report;
  bool turn_posted = false;
  bool stopping = false;
  bool ended = false;
};

Loadgen::Loadgen(io::Loop& loop, Options options, const tokens::Tokenizer& tokenizer, workload::Source& source)
    : impl_(std::make_unique<Impl>(loop, std::move(options), tokenizer, source)) {}

Loadgen::~Loadgen() = default;

void Loadgen::start(std::function<void()> done, std::function<void(std::uint64_t finished)> progress) {
  impl_->done = std::move(done);
  impl_->progress = std::move(progress);
  impl_->start();
}

void Loadgen::stop() { impl_->stop(); }

const Report& Loadgen::report() const {
  auto& outcomes = impl_->report.outcomes;
  std::sort(outcomes.begin(), outcomes.end(), [](const Outcome& a, const Outcome& b) { return a.id < b.id; });
  return impl_->report;
}

}  // namespace warmpath::loadgen
