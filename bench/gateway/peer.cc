// Both ends of the gateway benchmark: a trivial upstream, and a client that sends what is asked and waits for answers.
//
//   gateway_peer upstream              prints its address; a chat with "stream":true gets 1,000 chunks 1 ms apart
//   gateway_peer send ADDRESS KIND N   KIND short | long (400 KB) | stream; N requests, 4 (streams: 8) at a time
//
// `send` prints JSON: requests, chunks, seconds, failed. Exit code 1 when one failed.
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "http/http.h"
#include "io/io.h"

namespace warmpath {
namespace {

constexpr int kChunks = 1'000;
constexpr Duration kChunkEvery = std::chrono::milliseconds(1);
constexpr std::size_t kLongBytes = 400'000;

http::Headers typed(std::string type) {
  http::Headers headers;
  headers.add("Content-Type", std::move(type));
  return headers;
}

std::string chunk() {
  return http::sse_event(
      R"({"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1790000000,)"
      R"("model":"m","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]})");
}

// One stream on its way out; keeps itself alive through its timer.
class Ticker : public std::enable_shared_from_this<Ticker> {
 public:
  Ticker(io::Loop& loop, std::shared_ptr<http::Exchange> exchange) : loop_(loop), exchange_(std::move(exchange)) {}
  void begin() {
    exchange_->start(200, typed("text/event-stream"), std::nullopt);
    next_ = loop_.now();
    tick();
  }

 private:
  void tick() {
    if (exchange_->gone()) return;
    exchange_->write(text_);
    if (++sent_ == kChunks) {
      exchange_->write(http::sse_event("[DONE]"));
      return exchange_->end();
    }
    next_ = next_ + kChunkEvery;
    timer_ = loop_.after(std::max(Duration(0), next_ - loop_.now()), [self = shared_from_this()] { self->tick(); });
  }
  io::Loop& loop_;
  std::shared_ptr<http::Exchange> exchange_;
  const std::string text_ = chunk();
  Instant next_;
  int sent_ = 0;
  io::Timer timer_;
};

int upstream() {
  io::Loop loop;
  http::ServerOptions options;
  options.limits.requests_per_connection_max = 1u << 30;
  options.errors = [](const Error& error, int& status, http::Headers&) {
    status = 400;
    return error.message;
  };
  const std::string answer =
      R"({"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"m","choices":[{"index":0,"message":)"
      R"({"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,)"
      R"("total_tokens":10}})";
  auto listener = http::HttpListener::open(loop, {"127.0.0.1", 0}, options, [&](std::shared_ptr<http::Exchange> exchange) {
    const std::string_view path = exchange->head().path();
    if (path == "/v1/chat/completions") {
      // The flag is at the front of what `send` writes.
      if (std::string_view(exchange->body()).substr(0, 64).find("\"stream\":true") != std::string_view::npos) {
        return std::make_shared<Ticker>(loop, std::move(exchange))->begin();
      }
      return exchange->respond(200, typed("application/json"), answer);
    }
    if (path == "/v1/models") {
      return exchange->respond(200, typed("application/json"),
                               R"({"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"b"}]})");
    }
    exchange->respond(path == "/health" ? 200 : 404, {}, "");
  });
  if (!listener.ok()) return 1;
  std::printf("%s\n", (*listener)->address().text().c_str());
  std::fflush(stdout);
  constexpr std::array<int, 2> kEnds = {SIGINT, SIGTERM};
  loop.on_signals(kEnds, [&](int) { loop.stop(); });
  loop.run();
  return 0;
}

std::string body_of(std::string_view kind) {
  std::string content = "Say hello in one word, please.";
  if (kind == "long") {
    content.clear();
    while (content.size() < kLongBytes) content += "The quick brown fox jumps over the lazy dog. ";
  }
  return std::string(R"({"model":"m","stream":)") + (kind == "stream" ? "true" : "false") +
         R"(,"messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":")" + content + "\"}]}";
}

struct Tally {
  std::uint64_t left = 0, running = 0, requests = 0, chunks = 0, failed = 0;
};

// One of the clients: the next request when the last is answered.
class Sender final : public http::ResponseSink {
 public:
  Sender(io::Loop& loop, http::HttpClient& client, http::Origin origin, std::shared_ptr<const std::string> body, Tally& tally)
      : loop_(loop), client_(client), origin_(std::move(origin)), body_(std::move(body)), tally_(tally) {}
  void next() {
    call_.reset();
    if (tally_.left == 0) {
      if (tally_.running == 0) loop_.stop();
      return;
    }
    --tally_.left;
    ++tally_.running;
    http::ClientRequest request;
    request.method = "POST";
    request.target = "/v1/chat/completions";
    request.headers.add("Content-Type", "application/json");
    request.body = body_;
    call_ = client_.start(origin_, std::move(request), *this);
  }
  void on_head(const http::ResponseHead& head) override { good_ = head.status == 200; }
  void on_body(std::string_view bytes) override {
    const auto found = parser_.feed(bytes, [this](std::string_view) { ++tally_.chunks; });
    good_ = good_ && found.ok();
  }
  void on_done() override { ended(); }
  void on_failed(const Error& error, bool, bool) override {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    good_ = false;
    ended();
  }

 private:
  void ended() {
    ++tally_.requests;
    --tally_.running;
    if (!good_) ++tally_.failed;
    loop_.post([this] { next(); });
  }
  io::Loop& loop_;
  http::HttpClient& client_;
  http::Origin origin_;
  std::shared_ptr<const std::string> body_;
  Tally& tally_;
  http::SseParser parser_;
  bool good_ = false;
  std::unique_ptr<http::ClientCall> call_;
};

int send(const std::string& address, const std::string& kind, std::uint64_t requests) {
  const auto to = io::parse_host_port(address);
  if (!to.ok()) return 2;
  io::Loop loop;
  const auto client = http::HttpClient::create(loop, {});
  const http::Origin origin{{to->host, to->port}, address, nullptr};
  const auto body = std::make_shared<const std::string>(body_of(kind));
  Tally tally;
  tally.left = requests;
  std::vector<std::unique_ptr<Sender>> senders;
  const std::size_t at_once = kind == "stream" ? 8 : 4;
  for (std::size_t i = 0; i < at_once; ++i) {
    senders.push_back(std::make_unique<Sender>(loop, *client, origin, body, tally));
  }
  const Instant begun = loop.now();
  for (auto& sender : senders) loop.post([one = sender.get()] { one->next(); });
  loop.run();
  JsonWriter json;
  json.object().member("requests", tally.requests).member("chunks", tally.chunks).member("failed", tally.failed);
  json.member("seconds", to_seconds(loop.now() - begun)).end();
  std::printf("%s\n", json.take().c_str());
  return tally.failed == 0 ? 0 : 1;
}

int run(const std::vector<std::string>& args) {
  if (args.size() == 2 && args[1] == "upstream") return upstream();
  if (args.size() == 5 && args[1] == "send") {
    if (const auto requests = parse_u64(args[4])) return send(args[2], args[3], *requests);
  }
  std::fputs("gateway_peer upstream | gateway_peer send ADDRESS short|long|stream N\n", stderr);
  return 2;
}

}  // namespace
}  // namespace warmpath

int main(int count, char** values) { return warmpath::run(std::vector<std::string>(values, values + count)); }
