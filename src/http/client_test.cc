#include "http/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "http/server.h"
#include "io/test_loop.h"

namespace warmpath::http {
namespace {

using ::testing::HasSubstr;
using std::chrono::milliseconds;

struct Sink final : ResponseSink {
  void on_head(const ResponseHead& h) override {
    EXPECT_FALSE(head || over());
    head = h;
    events += "head ";
  }
  void on_body(std::string_view bytes) override {
    EXPECT_TRUE(head && !over());
    body += bytes;
    ++pieces;
    if (each) each();
  }
  void on_done() override {
    EXPECT_FALSE(over());
    done = true;
    if (finished) finished();
  }
  void on_failed(const Error& e, bool head_seen, bool sent_in) override {
    EXPECT_FALSE(over());
    EXPECT_EQ(head_seen, head.has_value());
    error = e;
    sent = sent_in;
    if (finished) finished();
  }
  bool over() const { return done || error; }
  std::optional<ResponseHead> head;
  std::string body;
  std::string events;
  int pieces = 0;
  bool done = false;
  bool sent = false;
  std::optional<Error> error;
  std::function<void()> each;
  std::function<void()> finished;
};

// An engine that answers in bytes, one script for each connection.
struct RawEngine {
  struct Peer final : io::StreamSink {
    void on_data(std::string_view bytes) override {
      data += bytes;
      if (on_bytes) on_bytes(*this);
    }
    void on_end() override { ended = true; }
    void on_drained() override {}
    void on_closed(const Error&) override { ended = true; }
    std::shared_ptr<io::Stream> stream;
    std::string data;
    bool ended = false;
    std::function<void(Peer&)> on_bytes;
  };
  explicit RawEngine(io::Loop& loop) {
    listener = io::listen(loop, {"127.0.0.1", 0}, {}, [this](std::shared_ptr<io::Stream> stream) {
                 peers.push_back(std::make_unique<Peer>());
                 peers.back()->stream = std::move(stream);
                 peers.back()->on_bytes = script;
                 peers.back()->stream->set_sink(peers.back().get());
               }).value();
  }
  // Answers every whole request head with `bytes`.
  void Answer(std::string bytes) {
    script = [bytes](Peer& peer) {
      while (peer.data.find("\r\n\r\n") != std::string::npos) {
        peer.data.erase(0, peer.data.find("\r\n\r\n") + 4);
        peer.stream->write(bytes);
      }
    };
  }
  std::function<void(Peer&)> script;
  std::vector<std::unique_ptr<Peer>> peers;
  std::unique_ptr<io::Listener> listener;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : engine_(loop_) { Make({}); }
  void Make(ClientOptions options) { client_ = HttpClient::create(loop_, std::move(options)); }
  Origin origin() const { return {engine_.listener->address(), "engine:8000", nullptr}; }
  std::unique_ptr<ClientCall> Start(Sink& sink, ClientRequest request = {}) {
    auto call = client_->start(origin(), std::move(request), sink);
    EXPECT_FALSE(sink.over());
    return call;
  }
  // One request from start to end.
  void Run(Sink& sink, ClientRequest request = {}) {
    const auto call = Start(sink, std::move(request));
    ASSERT_TRUE(Until([&] { return sink.over(); }));
  }
  bool Until(const std::function<bool()>& predicate) { return io::RunUntil(loop_, predicate); }

  io::Loop loop_;
  RawEngine engine_;
  std::unique_ptr<HttpClient> client_;
};

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

TEST_F(ClientTest, SendsExactlyOneFramingAndItsOwnHostAndConnection) {
  engine_.script = [](RawEngine::Peer& peer) {
    if (peer.data.ends_with("hello")) peer.stream->write(kOk);
  };
  ClientRequest request;
  request.method = "POST";
  request.target = "/v1/chat/completions";
  request.headers.add("host", "evil");
  request.headers.add("Connection", "close");
  request.headers.add("Content-Length", "99");
  request.headers.add("Transfer-Encoding", "chunked");
  request.headers.add("Authorization", "Bearer x");
  request.body = std::make_shared<const std::string>("hello");
  Sink sink;
  Run(sink, std::move(request));
  EXPECT_TRUE(sink.done);
  EXPECT_EQ(sink.body, "ok");
  EXPECT_EQ(engine_.peers[0]->data,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: engine:8000\r\nAuthorization: Bearer x\r\nContent-Length: 5\r\n\r\nhello");
}

TEST_F(ClientTest, ReusesTheMostRecentConnection) {
  engine_.Answer(kOk);
  Sink a;
  Sink b;
  {
    const auto first = Start(a);
    const auto second = Start(b);
    ASSERT_TRUE(Until([&] { return a.over() && b.over(); }));
  }
  EXPECT_EQ(engine_.peers.size(), 2u);
  for (int i = 0; i < 5; ++i) {
    Sink again;
    Run(again);
    EXPECT_TRUE(again.done);
  }
  EXPECT_EQ(engine_.peers.size(), 2u);
}

TEST_F(ClientTest, ACallMayStartTheNextFromItsEnd) {
  engine_.Answer(kOk);
  Sink first;
  Sink second;
  std::unique_ptr<ClientCall> next;
  first.finished = [&] { next = client_->start(origin(), {}, second); };
  Run(first);
  ASSERT_TRUE(Until([&] { return second.over(); }));
  EXPECT_TRUE(second.done);
  EXPECT_EQ(engine_.peers.size(), 1u);
}

// Every framing, whole and byte by byte, gives the same answer.
TEST_F(ClientTest, FramingTableWholeAndByteByByte) {
  const struct {
    const char* what;
    std::string bytes;
    std::string body;
    bool close;   // the engine ends it
    bool reused;  // and the connection serves again
  } cases[] = {
      {"length", kOk, "ok", false, true},
      {"length 0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false, true},
      {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n", "okabc", false, true},
      {"chunked with trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", "ok", false, true},
      {"until close", "HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", true, false},
      {"1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", false, false},
      {"connection: close", "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", "ok", false, false},
      {"204", "HTTP/1.1 204 No Content\r\n\r\n", "", false, true},
      {"interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + kOk, "ok", false, true},
      {"bytes beyond the answer", kOk + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "ok", false, false},
  };
  for (const auto& one : cases) {
    for (const bool drip : {false, true}) {
      engine_.peers.clear();
      Make({});
      io::Timer next;
      engine_.script = [&](RawEngine::Peer& peer) {
        if (!peer.data.ends_with("\r\n\r\n")) return;
        peer.data.clear();
        if (!drip) {
          peer.stream->write(one.bytes);
          if (one.close) peer.stream->finish();
          return;
        }
        auto at = std::make_shared<std::size_t>(0);
        auto step = std::make_shared<std::function<void()>>();
        *step = [&, at, stream = peer.stream, again = std::weak_ptr(step)] {
          if (*at < one.bytes.size()) {
            stream->write(one.bytes.substr((*at)++, 1));
            next = loop_.after(Duration{0}, [keep = again.lock()] { (*keep)(); });
          } else if (one.close) {
            stream->finish();
          }
        };
        (*step)();
      };
      Sink sink;
      Run(sink);
      EXPECT_TRUE(sink.done) << one.what << (sink.error ? ": " + sink.error->message : "");
      EXPECT_EQ(sink.body, one.body) << one.what;
      io::Settle(loop_);
      next.cancel();
      engine_.Answer(kOk);
      for (auto& peer : engine_.peers) peer->on_bytes = engine_.script;
      Sink again;
      Run(again);
      EXPECT_EQ(again.body, "ok") << one.what;  // never a byte of the answer before
      if (!drip) EXPECT_EQ(engine_.peers.size(), one.reused ? 1u : 2u) << one.what;
    }
  }
}

TEST_F(ClientTest, WhatArrivesInOneReadIsOnePiece) {
  std::string bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 50; ++i) bytes += "3\r\nabc\r\n";
  engine_.Answer(bytes + "0\r\n\r\n");
  Sink sink;
  Run(sink);
  EXPECT_EQ(sink.body.size(), 150u);
  EXPECT_EQ(sink.pieces, 1);
}

TEST_F(ClientTest, BrokenAnswersFailAndAreNotReused) {
  const struct {
    const char* what;
    std::string bytes;
    bool close;
    bool head_seen;
  } cases[] = {
      {"nonsense", "SSH-2.0-OpenSSH\r\n\r\n", false, false},
      {"bad status", "HTTP/1.1 999 X\r\n\r\n", false, false},
      {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, false},
      {"CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false, false},
      {"endless head", "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x'), false, false},
      {"flood of interim answers", [] { std::string out; for (int i = 0; i < 20; ++i) out += "HTTP/1.1 100 Continue\r\n\r\n"; return out; }(), false, false},
      {"upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n", false, false},
      {"cut in the head", "HTTP/1.1 200 OK\r\nConte", true, false},
      {"cut without a byte", "", true, false},
      {"cut in a length body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour", true, true},
      {"cut in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", true, true},
      {"cut before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true, true},
      {"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, true},
  };
  for (const auto& one : cases) {
    engine_.peers.clear();
    Make({});
    engine_.script = [&](RawEngine::Peer& peer) {
      peer.stream->write(one.bytes);
      if (one.close) peer.stream->finish();
    };
    Sink sink;
    Run(sink);
    ASSERT_TRUE(sink.error.has_value()) << one.what;
    EXPECT_EQ(sink.error->kind, ErrorKind::kUpstream) << one.what;
    EXPECT_EQ(sink.head.has_value(), one.head_seen) << one.what;
    EXPECT_TRUE(sink.sent) << one.what;
    engine_.Answer(kOk);
    Sink again;
    Run(again);
    EXPECT_EQ(again.body, "ok") << one.what;
    EXPECT_EQ(engine_.peers.size(), 2u) << one.what;
  }
}

TEST_F(ClientTest, RefusedConnectionsAreUnavailableAndNothingWasSent) {
  engine_.listener->close();
  Origin gone = {engine_.listener->address(), "x", nullptr};
  Sink sink;
  const auto call = client_->start(gone, {}, sink);
  ASSERT_TRUE(Until([&] { return sink.over(); }));
  EXPECT_EQ(sink.error->kind, ErrorKind::kUnavailable);
  EXPECT_FALSE(sink.sent);
}

// uvicorn closes idle connections after 5 s, often just as we send.
TEST_F(ClientTest, AStalePooledConnectionIsReplacedOnceAndSilently) {
  for (const bool reset : {false, true}) {
    engine_.peers.clear();
    Make({});
    engine_.Answer(kOk);
    Sink first;
    Run(first);
    ASSERT_EQ(engine_.peers.size(), 1u);
    // Closes when the next request arrives, without a byte.
    engine_.peers[0]->on_bytes = [&](RawEngine::Peer& peer) { reset ? peer.stream->reset() : peer.stream->close(); };
    ClientRequest request;
    request.method = "POST";
    request.body = std::make_shared<const std::string>("again");
    Sink second;
    Run(second, request);
    EXPECT_TRUE(second.done) << second.error->message;
    EXPECT_EQ(engine_.peers.size(), 2u);
    // A fresh connection that does the same is a failure, not a loop.
    for (auto& peer : engine_.peers) peer->on_bytes = [&](RawEngine::Peer& one) { one.stream->close(); };
    engine_.script = [&](RawEngine::Peer& one) { one.stream->close(); };
    Sink third;
    Run(third, request);
    ASSERT_TRUE(third.error.has_value());
    EXPECT_EQ(third.error->kind, ErrorKind::kUpstream);
    EXPECT_EQ(engine_.peers.size(), 3u);
  }
}

TEST_F(ClientTest, AConnectionClosedWhileIdleIsForgotten) {
  engine_.Answer(kOk);
  Sink first;
  Run(first);
  engine_.peers[0]->stream->close();
  io::Settle(loop_);
  Sink second;
  Run(second);
  EXPECT_TRUE(second.done);
  EXPECT_EQ(engine_.peers.size(), 2u);
  engine_.peers[1]->stream->write("HTTP/1.1 200 OK\r\n");  // unasked for
  ASSERT_TRUE(Until([&] { return engine_.peers[1]->ended; }));
  client_->forget(engine_.listener->address());
  Sink third;
  Run(third);
  EXPECT_EQ(engine_.peers.size(), 3u);
  client_->forget(engine_.listener->address());
  ASSERT_TRUE(Until([&] { return engine_.peers[2]->ended; }));
}

TEST_F(ClientTest, IdleConnectionsAgeOutAndAreBounded) {
  ClientOptions options;
  options.idle_max = milliseconds(1);
  options.idle_per_origin_max = 2;
  Make(options);
  engine_.Answer(kOk);
  std::vector<std::unique_ptr<Sink>> sinks;
  {
    std::vector<std::unique_ptr<ClientCall>> calls;
    for (int i = 0; i < 4; ++i) {
      sinks.push_back(std::make_unique<Sink>());
      calls.push_back(Start(*sinks.back()));
    }
    ASSERT_TRUE(Until([&] { return std::all_of(sinks.begin(), sinks.end(), [](auto& s) { return s->done; }); }));
  }
  const auto ended = [&] { return std::count_if(engine_.peers.begin(), engine_.peers.end(), [](auto& p) { return p->ended; }); };
  ASSERT_TRUE(Until([&] { return ended() == 2; }));  // above the bound: closed at once
  ASSERT_TRUE(Until([&] { return ended() == 4; }));  // too old: swept
}

TEST_F(ClientTest, CancelIsSeenByTheEngineBefore50Ms) {
  enum class When { kConnecting, kWaiting, kStreaming, kPaused };
  for (const When when : {When::kConnecting, When::kWaiting, When::kStreaming, When::kPaused}) {
    engine_.peers.clear();
    engine_.script = [&](RawEngine::Peer& peer) {
      if (when >= When::kStreaming) peer.stream->write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    };
    Sink sink;
    auto call = Start(sink);
    if (when == When::kConnecting) {
      call->cancel();
      io::Settle(loop_);
      EXPECT_FALSE(sink.over());
      continue;
    }
    ASSERT_TRUE(Until([&] { return !engine_.peers.empty() && !engine_.peers[0]->data.empty(); }));
    if (when >= When::kStreaming) ASSERT_TRUE(Until([&] { return sink.body == "ok"; }));
    if (when == When::kPaused) call->pause();
    std::vector<std::string> order;
    const io::Timer limit = loop_.after(milliseconds(50), [&] { order.push_back("50 ms"); });
    if (when == When::kWaiting) {
      call->cancel();
    } else {
      call.reset();
    }
    ASSERT_TRUE(Until([&] { return engine_.peers[0]->ended; }));
    order.push_back("engine saw it");
    EXPECT_EQ(order[0], "engine saw it");
    io::Settle(loop_);
    EXPECT_FALSE(sink.over());  // no call after a cancel
  }
}

TEST_F(ClientTest, CancellingFromInsideACallbackStopsTheRest) {
  engine_.Answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
  Sink sink;
  std::unique_ptr<ClientCall> call;
  sink.each = [&] { call.reset(); };
  call = Start(sink);
  ASSERT_TRUE(Until([&] { return sink.pieces == 1; }));
  io::Settle(loop_);
  EXPECT_FALSE(sink.over());
}

TEST_F(ClientTest, TimeoutsNameWhatWasSlow) {
  ClientRequest request;
  request.timeouts.first_byte = milliseconds(30);
  request.timeouts.idle = milliseconds(30);
  Sink silent;
  Run(silent, request);
  ASSERT_TRUE(silent.error.has_value());
  EXPECT_EQ(silent.error->kind, ErrorKind::kTimeoutEngine);
  EXPECT_THAT(silent.error->message, HasSubstr("begin"));

  engine_.script = [](RawEngine::Peer& peer) { peer.stream->write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"); };
  Sink stuck;
  Run(stuck, request);
  ASSERT_TRUE(stuck.error.has_value());
  EXPECT_EQ(stuck.error->kind, ErrorKind::kTimeoutEngine);
  EXPECT_EQ(stuck.body, "abc");

  // A slow stream that never stands still outlives both limits.
  io::Timer drip;
  int left = 12;
  engine_.script = [&](RawEngine::Peer& peer) {
    peer.stream->write("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n");
    auto step = std::make_shared<std::function<void()>>();
    *step = [&, stream = peer.stream, again = std::weak_ptr(step)] {
      stream->write("x");
      if (--left > 0) drip = loop_.after(milliseconds(10), [keep = again.lock()] { (*keep)(); });
    };
    (*step)();
  };
  Sink slow;
  Run(slow, request);
  EXPECT_TRUE(slow.done);
  EXPECT_EQ(slow.body, std::string(12, 'x'));
}

TEST_F(ClientTest, APausedCallHoldsTheEngineBackAndDoesNotTimeOut) {
  const std::string body(32 << 20, 'b');
  engine_.script = [&](RawEngine::Peer& peer) {
    peer.stream->write("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n");
    peer.stream->write(body);
  };
  ClientRequest request;
  request.timeouts.idle = milliseconds(250);
  Sink sink;
  const auto call = Start(sink, request);
  sink.each = [&] { call->pause(); };
  ASSERT_TRUE(Until([&] { return sink.pieces == 1; }));
  bool passed = false;
  const io::Timer later = loop_.after(milliseconds(600), [&] { passed = true; });
  ASSERT_TRUE(Until([&] { return passed; }));
  EXPECT_EQ(sink.pieces, 1);
  EXPECT_LE(sink.body.size(), 64u << 10);
  EXPECT_FALSE(sink.over());
  EXPECT_GT(engine_.peers[0]->stream->pending(), 16u << 20);  // it stays where it came from
  sink.each = nullptr;
  call->resume();
  ASSERT_TRUE(Until([&] { return sink.over(); }));
  EXPECT_TRUE(sink.done);
  EXPECT_EQ(sink.body.size(), body.size());
}

TEST_F(ClientTest, HeadAnswersHaveNoBody) {
  engine_.Answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
  ClientRequest request;
  request.method = "HEAD";
  for (int i = 0; i < 2; ++i) {
    Sink sink;
    Run(sink, request);
    EXPECT_TRUE(sink.done);
    EXPECT_EQ(sink.body, "");
  }
  EXPECT_EQ(engine_.peers.size(), 1u);
}

TEST_F(ClientTest, FetchCollectsUnderADeadlineAndABound) {
  ClientOptions options;
  options.whole_body_bytes_max = 100;
  Make(options);
  std::optional<Result<HttpClient::Whole>> got;
  const auto fetch = [&](Duration deadline) {
    got.reset();
    const auto call = client_->fetch(origin(), {}, deadline, [&](Result<HttpClient::Whole> whole) { got.emplace(std::move(whole)); });
    EXPECT_TRUE(Until([&] { return got.has_value(); }));
  };
  engine_.Answer(kOk);
  fetch(std::chrono::seconds(10));
  ASSERT_TRUE(got->ok());
  EXPECT_EQ((*got)->body, "ok");
  EXPECT_EQ((*got)->head.status, 200);
  for (auto& peer : engine_.peers) peer->stream->close();
  io::Settle(loop_);
  engine_.Answer("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + std::string(101, 'x'));
  fetch(std::chrono::seconds(10));
  EXPECT_EQ(got->error().kind, ErrorKind::kTooLarge);
  engine_.script = nullptr;
  fetch(milliseconds(20));
  EXPECT_EQ(got->error().kind, ErrorKind::kTimeoutEngine);
  bool called = false;
  auto cancelled = client_->fetch(origin(), {}, milliseconds(5), [&](auto) { called = true; });
  cancelled.reset();
  bool passed = false;
  const io::Timer later = loop_.after(milliseconds(15), [&] { passed = true; });
  ASSERT_TRUE(Until([&] { return passed; }));
  EXPECT_FALSE(called);
}

// Server and client of this room together, as the proxy uses them: every byte through, in order, with back-pressure.
class RelayTest : public ::testing::Test {
 protected:
  struct Relay final : ResponseSink {
    void on_head(const ResponseHead& head) override {
      Headers headers = head.headers;
      remove_hop_by_hop(headers);
      exchange->start(head.status, std::move(headers), std::nullopt);
    }
    void on_body(std::string_view bytes) override {
      exchange->write(bytes);
      if (exchange->above_high()) {
        call->pause();
      }
    }
    void on_done() override { exchange->end(); }
    void on_failed(const Error&, bool, bool) override { exchange->abort(); }
    std::shared_ptr<Exchange> exchange;
    std::unique_ptr<ClientCall> call;
  };

  std::unique_ptr<HttpListener> Listen(std::function<void(std::shared_ptr<Exchange>)> serve) {
    ServerOptions options;
    options.errors = [](const Error& error, int&, Headers&) { return error.message; };
    return HttpListener::open(loop_, {"127.0.0.1", 0}, std::move(options), std::move(serve)).value();
  }

  io::Loop loop_;
};

TEST_F(RelayTest, ManyConcurrentStreamsArriveWholeThroughASlowReader) {
  RandomStream random(5, "relay");
  constexpr int kStreams = 24;
  // The engine streams chunks of random size as long as the relay takes them.
  std::vector<std::string> bodies;
  for (int i = 0; i < kStreams; ++i) {
    std::string body(i == 0 ? (16u << 20) : 1 + random.below(200'000), '\0');
    for (std::size_t j = 0; j < body.size(); ++j) body[j] = static_cast<char>((j * 2'654'435'761u + i) >> 11);
    bodies.push_back(std::move(body));
  }
  std::vector<io::Timer> ticks(kStreams);
  std::vector<std::shared_ptr<std::function<void()>>> steps(kStreams);
  const auto engine = Listen([&](std::shared_ptr<Exchange> exchange) {
    const auto which = static_cast<std::size_t>(std::stoi(exchange->head().target.substr(1)));
    exchange->start(200, {}, std::nullopt);
    auto at = std::make_shared<std::size_t>(0);
    steps[which] = std::make_shared<std::function<void()>>([&, exchange, at, which] {
      while (*at < bodies[which].size() && !exchange->above_high()) {
        const std::size_t take = std::min<std::size_t>(bodies[which].size() - *at, 1 + random.below(which == 0 ? 60'000 : 3'000));
        exchange->write(std::string_view(bodies[which]).substr(*at, take));
        *at += take;
        if (random.below(4) == 0) {
          ticks[which] = loop_.after(Duration{0}, *steps[which]);
          return;
        }
      }
      if (*at == bodies[which].size()) {
        exchange->end();
        *at = bodies[which].size() + 1;
      } else if (*at < bodies[which].size()) {
        exchange->on_drained(*steps[which]);
      }
    });
    ticks[which] = loop_.after(Duration{0}, *steps[which]);
  });
  const auto client = HttpClient::create(loop_, {});
  std::vector<std::unique_ptr<Relay>> relays;
  const auto gateway = Listen([&](std::shared_ptr<Exchange> exchange) {
    relays.push_back(std::make_unique<Relay>());
    Relay& relay = *relays.back();
    relay.exchange = exchange;
    exchange->on_drained([&relay] { relay.call->resume(); });
    ClientRequest request;
    request.target = exchange->head().target;
    relay.call = client->start({engine->address(), "e", nullptr}, std::move(request), relay);
  });
  const auto users = HttpClient::create(loop_, {});
  std::vector<std::unique_ptr<Sink>> sinks;
  std::vector<std::unique_ptr<ClientCall>> calls;
  for (int i = 0; i < kStreams; ++i) {
    sinks.push_back(std::make_unique<Sink>());
    ClientRequest request;
    request.target = "/" + std::to_string(i);
    calls.push_back(users->start({gateway->address(), "g", nullptr}, std::move(request), *sinks.back()));
  }
  // The first reader stops until all others are through: they are not held up, and what it did not read is not kept here.
  ASSERT_TRUE(io::RunUntil(loop_, [&] { return sinks[0]->pieces > 0; }));
  calls[0]->pause();
  ASSERT_TRUE(io::RunUntil(loop_, [&] { return std::all_of(sinks.begin() + 1, sinks.end(), [](auto& s) { return s->done; }); }));
  io::Settle(loop_);
  EXPECT_FALSE(sinks[0]->done);
  calls[0]->resume();
  ASSERT_TRUE(io::RunUntil(loop_, [&] { return sinks[0]->over(); }));
  for (std::size_t i = 0; i < kStreams; ++i) EXPECT_TRUE(sinks[i]->body == bodies[i]) << i;
  for (auto& step : steps) *step = nullptr;
  relays.clear();
  calls.clear();
}

}  // namespace
}  // namespace warmpath::http
