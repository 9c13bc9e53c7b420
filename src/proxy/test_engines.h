// What the proxy's tests stand on: scripted engines, a client that waits, a gateway of one pool. Test code only.
#pragma once

#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proxy/proxy.h"

namespace warmpath::proxy::testing {

constexpr Duration kPatience = std::chrono::seconds(20);  // far above anything that should happen

// A value that threads wait for.
class Flag {
 public:
  void set() {
    const std::lock_guard lock(mutex_);
    set_ = true;
    at_ = std::chrono::steady_clock::now();
    wake_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, kPatience, [this] { return set_; });
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    set_ = false;
  }
  std::chrono::steady_clock::time_point at() {
    const std::lock_guard lock(mutex_);
    return at_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool set_ = false;
  std::chrono::steady_clock::time_point at_;
};

// A loop on a thread of its own.
class LoopThread {
 public:
  LoopThread() : thread_([this] { loop_.run(); }) {}
  ~LoopThread() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    loop_.stop();
    thread_.join();
  }
  io::Loop& loop() { return loop_; }
  // Runs `task` on the loop and waits for it.
  template <class F>
  auto run(F&& task) {
    std::promise<decltype(task())> done;
    loop_.post([&] {
      if constexpr (std::is_void_v<decltype(task())>) {
        task();
        done.set_value();
      } else {
        done.set_value(task());
      }
    });
    return done.get_future().get();
  }
  // Lets some of the loop's time pass.
  void pass(Duration time) {
    Flag later;
    loop_.post([&] { timer_ = loop_.after(time, [&later] { later.set(); }); });
    (void)later.wait();
  }

 private:
  io::Loop loop_;
  io::Timer timer_;
  std::thread thread_;
};

// An engine whose behaviour is a function of the exchange; the function runs on the engine's own loop thread.
class ScriptedEngine {
 public:
  using Script = std::function<void(std::shared_ptr<http::Exchange>)>;
  struct Seen {
    http::RequestHead head;
    std::string body;
  };

  ScriptedEngine() {
    io_.run([this] {
      http::ServerOptions options;
      options.limits.body_bytes_max = 64u << 20;
      options.errors = [](const Error& error, int& status, http::Headers&) {
        status = 400;
        return error.message;
      };
      auto opened = http::HttpListener::open(io_.loop(), {"127.0.0.1", 0}, std::move(options),
                                             [this](std::shared_ptr<http::Exchange> exchange) { serve(exchange); });
      WP_CHECK(opened.ok());
      listener_ = std::move(opened).value();
      address_ = listener_->address();
    });
  }
  ~ScriptedEngine() {
    io_.run([this] {
      running_.clear();
      listener_.reset();
    });
  }

  void script(Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }
  void refuse() {  // connections are refused from now on
    io_.run([this] { listener_.reset(); });
  }
  io::Address address() const { return address_; }
  io::Loop& loop() { return io_.loop(); }
  // Runs `task` on the engine's thread and waits for it: whatever it touches is the test's again afterwards.
  template <class F>
  auto run(F&& task) {
    return io_.run(std::forward<F>(task));
  }
  void pass(Duration time) { io_.pass(time); }
  std::vector<Seen> seen() {
    const std::lock_guard lock(mutex_);
    return seen_;
  }
  Flag hung_up;  // set when the gateway closes on a running exchange
  Flag asked;    // set by the first request

 private:
  void serve(const std::shared_ptr<http::Exchange>& exchange) {
    Script script;
    {
      const std::lock_guard lock(mutex_);
      seen_.push_back({exchange->head(), exchange->body()});
      script = script_;
    }
    exchange->on_gone([this] { hung_up.set(); });
    running_.push_back(exchange);
    asked.set();
    script(exchange);
  }

  std::mutex mutex_;
  Script script_;
  std::vector<Seen> seen_;
  io::Address address_;
  std::unique_ptr<http::HttpListener> listener_;
  std::vector<std::shared_ptr<http::Exchange>> running_;  // on the loop's thread
  LoopThread io_;
};

// One call to the gateway, watched from the test's thread.
class Call final : public http::ResponseSink {
 public:
  void on_head(const http::ResponseHead& head) override {
    const std::lock_guard lock(mutex_);
    head_ = head;
    wake_.notify_all();
  }
  void on_body(std::string_view bytes) override {
    const std::lock_guard lock(mutex_);
    body_.append(bytes);
    wake_.notify_all();
  }
  void on_done() override { end(""); }
  void on_failed(const Error& error, bool, bool) override { end(error.message.empty() ? "failed" : error.message); }

  bool wait_body(const std::function<bool(const std::string&)>& good) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, kPatience, [&] { return good(body_); });
  }
  // Waits for the end; then head, body and failure may be read.
  bool wait_end() {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, kPatience, [this] { return ended_; });
  }
  int status() const { return head_.status; }
  std::string header(std::string_view name) const {
    const std::string* value = head_.headers.find(name);
    return value == nullptr ? "" : *value;
  }
  const std::string& body() const { return body_; }
  const std::string& failure() const { return failure_; }
  std::size_t received() {
    const std::lock_guard lock(mutex_);
    return body_.size();
  }

 private:
  friend class Caller;
  void end(std::string failure) {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    failure_ = std::move(failure);
    wake_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  http::ResponseHead head_{.status = 0, .reason = {}, .minor = 1, .headers = {}};
  std::string body_;
  std::string failure_;
  bool ended_ = false;
  std::unique_ptr<http::ClientCall> call_;  // on the caller's loop
};

using HeaderList = std::vector<std::pair<std::string, std::string>>;

class Caller {
 public:
  Caller() {
    io_.run([this] { client_ = http::HttpClient::create(io_.loop(), {}); });
  }
  ~Caller() {
    io_.run([this] {
      for (auto& call : calls_) call->call_.reset();
      client_.reset();
    });
  }
  std::shared_ptr<Call> start(const io::Address& to, std::string method, std::string target, std::string body,
                              const HeaderList& headers = {}) {
    auto call = std::make_shared<Call>();
    io_.run([&] {
      http::ClientRequest request;
      request.method = std::move(method);
      request.target = std::move(target);
      for (const auto& [name, value] : headers) request.headers.add(name, value);
      request.body = std::make_shared<const std::string>(std::move(body));
      request.timeouts.idle = request.timeouts.first_byte = kPatience;
      call->call_ = client_->start({to, to.text(), nullptr}, std::move(request), *call);
      calls_.push_back(call);
    });
    return call;
  }
  std::shared_ptr<Call> post(const io::Address& to, std::string body, const HeaderList& headers = {},
                             std::string path = "/v1/chat/completions") {
    auto call = start(to, "POST", std::move(path), std::move(body), headers);
    WP_CHECK(call->wait_end());
    return call;
  }
  void cancel(Call& call) {
    io_.run([&] { call.call_.reset(); });
  }
  void pause(Call& call) {
    io_.run([&] { call.call_->pause(); });
  }
  void resume(Call& call) {
    io_.run([&] { call.call_->resume(); });
  }

 private:
  std::unique_ptr<http::HttpClient> client_;
  std::vector<std::shared_ptr<Call>> calls_;
  LoopThread io_;
};

// A gateway of one pool named "pool" for the model "m", round robin, no tokenizer, engines added by hand.
class World {
 public:
  explicit World(std::size_t engines = 1, ProxyOptions options = {}, PoolOptions pool_options = {})
      : options_(std::move(options)) {
    pool_options.name = "pool";
    if (pool_options.model.empty()) pool_options.model = "m";
    pool_ = std::make_unique<Pool>(std::move(pool_options), registry, control_.loop());
    for (std::size_t i = 0; i < engines; ++i) {
      engines_.push_back(std::make_unique<ScriptedEngine>());
      add(engines_.back()->address());
    }
    options_.listen = {"127.0.0.1", 0};
    if (options_.io_threads == 0) options_.io_threads = 2;
    options_.access_log = [this](const AccessRecord& record) {
      const std::lock_guard lock(mutex_);
      records_.push_back(record);
      wake_.notify_all();
    };
  }
  ~World() { proxy_.reset(); }

  EngineId add(const io::Address& address, std::optional<std::uint32_t> rank = std::nullopt) {
    EngineAt at;
    at.info.id = pool_->next_engine_id();
    at.info.name = "e" + std::to_string(at.info.id.value());
    at.info.url = "http://" + address.text();
    at.info.rank = rank;
    at.info.models = {pool_->options().model};
    at.origin = {address, address.text(), nullptr};
    at.models = {{pool_->options().model, pool_->options().model, std::nullopt, 4096}};
    const EngineId id = at.info.id;
    pool_->engine_added(std::move(at));
    pool_->changed(fleet::LivenessChanged{id, fleet::Liveness::kUp});
    return id;
  }
  void start_brain() {
    route::CoreOptions core;
    core.policy = *schedule::find_policy("round-robin");
    pool_->start(core, nullptr,
                 std::make_shared<const prompt::Encoder>(nullptr, blocks::KeySpace(1, "m", 16), prompt::Guess{}));
  }
  void open() {
    auto opened = Proxy::open(options_, {pool_.get()}, registry);
    WP_CHECK(opened.ok());
    proxy_ = std::move(opened).value();
  }
  World& run() {
    start_brain();
    open();
    return *this;
  }

  Pool& pool() { return *pool_; }
  Proxy& proxy() { return *proxy_; }
  void close() { proxy_.reset(); }
  ScriptedEngine& engine(std::size_t i = 0) { return *engines_[i]; }
  io::Address address() const { return proxy_->address(); }
  // The first `n` access records, in the order requests ended.
  std::vector<AccessRecord> records(std::size_t n) {
    std::unique_lock lock(mutex_);
    WP_CHECK(wake_.wait_for(lock, kPatience, [&] { return records_.size() >= n; }));
    return records_;
  }
  // Whether the brain's books and the proxy's requests are all gone in good time: for tests whose clients leave.
  bool empties() {
    for (int look = 0; look < 2'000; ++look) {
      if (pool_->snapshot(0).inflight == 0 && proxy_->counters().requests_in_flight == 0) return true;
      control_.pass(std::chrono::milliseconds(5));
    }
    return false;
  }
  // Requests that the brain has in its books after `n` requests ended.
  std::size_t inflight_after(std::size_t n) {
    (void)records(n);
    return pool_->snapshot(0).inflight;
  }

  observe::Registry registry;
  Caller caller;

 private:
  LoopThread control_;
  ProxyOptions options_;
  std::unique_ptr<Pool> pool_;
  std::vector<std::unique_ptr<ScriptedEngine>> engines_;
  std::unique_ptr<Proxy> proxy_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<AccessRecord> records_;
};

// ---- bodies and scripts ----

inline std::string chat_body(std::string_view extra = {}, std::size_t text_bytes = 20, std::string_view model = "m") {
  return R"({"model": ")" + std::string(model) + R"(","messages":[{"role":"user","content":")" +
         std::string(text_bytes, 'x') + R"("}])" + std::string(extra) + "}";
}
inline std::string event(std::string_view data) { return "data: " + std::string(data) + "\n\n"; }
inline std::string chunk(std::string_view text) {
  return event(R"({"choices":[{"index":0,"delta":{"content":")" + std::string(text) + R"("}}]})");
}
inline const std::string kDone = event("[DONE]");
inline std::string usage_event(int prompt = 9, int cached = 8) {
  return event(R"({"choices":[],"usage":{"prompt_tokens":)" + std::to_string(prompt) +
               R"(,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":)" + std::to_string(cached) + "}}}");
}
inline http::Headers typed(std::string_view type) {
  http::Headers headers;
  headers.add("content-type", std::string(type));
  return headers;
}
inline ScriptedEngine::Script answers(int status, std::string body, HeaderList extra = {}) {
  return [=](const std::shared_ptr<http::Exchange>& exchange) {
    http::Headers headers = typed("application/json");
    for (const auto& [name, value] : extra) headers.add(name, value);
    exchange->respond(status, std::move(headers), body);
  };
}
inline ScriptedEngine::Script streams(std::vector<std::string> events) {
  return [=](const std::shared_ptr<http::Exchange>& exchange) {
    exchange->start(200, typed("text/event-stream; charset=utf-8"), std::nullopt);
    for (const std::string& one : events) exchange->write(one);
    exchange->end();
  };
}
inline ScriptedEngine::Script silent() {
  return [](const std::shared_ptr<http::Exchange>&) {};
}
inline ScriptedEngine::Script dies() {
  return [](const std::shared_ptr<http::Exchange>& exchange) { exchange->abort(); };
}
inline const std::string kWhole =
    R"({"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}})";

}  // namespace warmpath::proxy::testing
