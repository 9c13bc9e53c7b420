// Our parser beside Boost.Beast's on the same bytes, and what a relayed chunk costs end to end.
#include <benchmark/benchmark.h>
#include <pthread.h>

#include <atomic>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <ctime>
#include <future>
#include <string>
#include <thread>

#include "http/http.h"

namespace warmpath::http {
namespace {

namespace beast = boost::beast;

// What a client library sends through a load balancer: 15 headers.
const std::string kRequest =
    "POST /v1/chat/completions HTTP/1.1\r\n"
    "Host: gateway.example.net:8080\r\n"
    "Accept: application/json\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\n"
    "Content-Type: application/json\r\n"
    "User-Agent: OpenAI/Python 3.54.0\r\n"
    "X-Stainless-Lang: python\r\n"
    "X-Stainless-Package-Version: 3.54.0\r\n"
    "X-Stainless-OS: Linux\r\n"
    "X-Stainless-Arch: x64\r\n"
    "X-Stainless-Runtime: CPython\r\n"
    "Authorization: Bearer sk-0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
    "X-Request-Id: 5f0c1d6e-6f0c-4b58-9c0b-0d3c2d1e4f5a\r\n"
    "X-Forwarded-For: 10.1.2.3\r\n"
    "Content-Length: 2048\r\n"
    "\r\n";

void request_head_ours(benchmark::State& state) {
  const Limits limits;
  for (auto _ : state) {
    RequestHead head;
    Framing framing;
    auto size = parse_request_head(kRequest, limits, head, framing);
    benchmark::DoNotOptimize(size);
    benchmark::DoNotOptimize(head);
  }
}
BENCHMARK(request_head_ours);

void request_head_beast(benchmark::State& state) {
  for (auto _ : state) {
    beast::http::request_parser<beast::http::empty_body> parser;
    parser.header_limit(32u << 10);
    parser.body_limit(16u << 20);
    beast::error_code error;
    auto size = parser.put(boost::asio::buffer(kRequest), error);
    benchmark::DoNotOptimize(size);
    benchmark::DoNotOptimize(parser.get());
  }
}
BENCHMARK(request_head_beast);

// 1,000 chunks of 250 bytes, each arriving in a read of its own.
constexpr int kChunks = 1'000;
const std::string kChunk = "fa\r\n" + std::string(250, 'x') + "\r\n";

void chunked_body_ours(benchmark::State& state) {
  for (auto _ : state) {
    BodyReader reader({Framing::Kind::kChunked, 0});
    std::size_t total = 0;
    for (int i = 0; i < kChunks; ++i) {
      std::string_view bytes = kChunk;
      while (!bytes.empty()) total += reader.feed(bytes).value().size();
    }
    benchmark::DoNotOptimize(total);
  }
  state.SetItemsProcessed(state.iterations() * kChunks);
}
BENCHMARK(chunked_body_ours);

void chunked_body_beast(benchmark::State& state) {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (auto _ : state) {
    beast::http::response_parser<beast::http::buffer_body> parser;
    parser.body_limit(boost::none);
    parser.eager(true);
    beast::error_code error;
    parser.put(boost::asio::buffer(head), error);
    std::size_t total = 0;
    char out[1'024];
    for (int i = 0; i < kChunks; ++i) {
      boost::asio::const_buffer bytes(kChunk.data(), kChunk.size());
      while (bytes.size() > 0) {
        parser.get().body().data = out;
        parser.get().body().size = sizeof out;
        const std::size_t used = parser.put(bytes, error);
        total += sizeof out - parser.get().body().size;
        if (used == 0 && error) break;
        bytes += used;
        error = {};
      }
    }
    benchmark::DoNotOptimize(total);
  }
  state.SetItemsProcessed(state.iterations() * kChunks);
}
BENCHMARK(chunked_body_beast);

// The proxy's innermost loop alone: engine -> HttpClient -> Exchange -> client, one chunk at a time over loopback.
struct Relay final : ResponseSink {
  void on_head(const ResponseHead& head) override {
    exchange->start(head.status, {}, std::nullopt);
  }
  void on_body(std::string_view bytes) override { exchange->write(bytes); }
  void on_done() override { exchange->end(); }
  void on_failed(const Error&, bool, bool) override { exchange->abort(); }
  std::shared_ptr<Exchange> exchange;
  std::unique_ptr<ClientCall> call;
};

std::string no_errors(const Error& error, int&, Headers&) { return error.message; }

double cpu_seconds(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Time reported: CPU of the relaying thread (user and kernel) for each chunk.
void relayed_chunk_cpu(benchmark::State& state) {
  io::Loop ends;  // engine and client, on this thread
  std::shared_ptr<Exchange> engine_side;
  ServerOptions options;
  options.errors = no_errors;
  const auto engine = HttpListener::open(ends, {"127.0.0.1", 0}, options, [&](std::shared_ptr<Exchange> exchange) {
                        engine_side = std::move(exchange);
                        engine_side->start(200, {}, std::nullopt);
                        engine_side->write("x");
                      }).value();

  io::Loop relay_loop;
  std::promise<io::Address> ready;
  std::thread relaying([&] {
    const auto client = HttpClient::create(relay_loop, {});
    Relay relay;
    const auto gateway = HttpListener::open(relay_loop, {"127.0.0.1", 0}, options, [&](std::shared_ptr<Exchange> exchange) {
                           relay.exchange = std::move(exchange);
                           ClientRequest request;
                           request.timeouts.first_byte = request.timeouts.idle = std::chrono::hours(1);
                           relay.call = client->start({engine->address(), "engine", nullptr}, std::move(request), relay);
                         }).value();
    ready.set_value(gateway->address());
    relay_loop.run();
    relay.call.reset();
    relay.exchange.reset();
  });
  const io::Address gateway = ready.get_future().get();
  clockid_t clock{};
  ::pthread_getcpuclockid(relaying.native_handle(), &clock);

  struct Reader final : io::StreamSink {
    void on_data(std::string_view bytes) override {
      got += bytes.size();
      if (got >= wanted) loop->stop();
    }
    void on_end() override {}
    void on_drained() override {}
    void on_closed(const Error&) override {}
    io::Loop* loop = nullptr;
    std::size_t got = 0;
    std::size_t wanted = 53;  // the head and the first chunk
  } reader;
  reader.loop = &ends;
  std::shared_ptr<io::Stream> stream;
  const auto pending = io::connect(ends, gateway, {}, [&](Result<std::shared_ptr<io::Stream>> connected) {
    stream = std::move(connected).value();
    stream->set_sink(&reader);
    stream->write("GET / HTTP/1.1\r\nHost: gateway\r\n\r\n");
  });
  ends.run();

  const std::string content(250, 'x');
  for (auto _ : state) {
    constexpr int kRound = 200;
    const double before = cpu_seconds(clock);
    for (int i = 0; i < kRound; ++i) {
      reader.wanted = reader.got + content.size() + 6;
      engine_side->write(content);
      ends.run();
    }
    state.SetIterationTime((cpu_seconds(clock) - before) / kRound);
  }
  stream->close();
  relay_loop.stop();
  relaying.join();
  engine_side.reset();
}
BENCHMARK(relayed_chunk_cpu)->UseManualTime()->Unit(benchmark::kMicrosecond)->Iterations(50);

}  // namespace
}  // namespace warmpath::http
