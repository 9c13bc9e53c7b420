#include "http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "http/parser.h"
#include "io/test_loop.h"

namespace warmpath::http {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using std::chrono::milliseconds;

std::string plain_error(const Error& error, int& status, Headers& headers) {
  switch (error.kind) {
    case ErrorKind::kTimeoutClient: status = 408; break;
    case ErrorKind::kTooLarge: status = 413; break;
    case ErrorKind::kHeadTooLarge: status = 431; break;
    case ErrorKind::kUnsupported: status = 501; break;
    case ErrorKind::kUnavailable: status = 503; break;
    default: status = 400;
  }
  headers.add("Content-Type", "text/plain");
  return error.message;
}

// A client that writes bytes, not requests.
struct RawClient final : io::StreamSink {
  void on_data(std::string_view bytes) override { data += bytes; }
  void on_end() override { ended = true; }
  void on_drained() override {}
  void on_closed(const Error&) override { ended = true; }
  std::shared_ptr<io::Stream> stream;
  std::string data;
  bool ended = false;
};

class ServerTest : public ::testing::Test {
 protected:
  void Open(Limits limits = {}) {
    ServerOptions options;
    options.limits = limits;
    options.errors = plain_error;
    auto opened = HttpListener::open(loop_, {"127.0.0.1", 0}, std::move(options), [this](std::shared_ptr<Exchange> exchange) {
      if (serve_) return serve_(exchange);
      exchanges_.push_back(std::move(exchange));
    });
    ASSERT_TRUE(opened.ok());
    listener_ = std::move(opened).value();
  }
  std::unique_ptr<RawClient> Dial() {
    auto client = std::make_unique<RawClient>();
    const auto pending = io::connect(loop_, listener_->address(), {},
                                     [&](Result<std::shared_ptr<io::Stream>> s) { client->stream = std::move(s).value(); });
    EXPECT_TRUE(io::RunUntil(loop_, [&] { return client->stream != nullptr; }));
    client->stream->set_sink(client.get());
    return client;
  }
  bool Until(const std::function<bool()>& predicate) { return io::RunUntil(loop_, predicate); }
  // Answers every request with what it was.
  void Echo() {
    serve_ = [](const std::shared_ptr<Exchange>& exchange) {
      exchange->respond(200, {}, exchange->head().method + " " + exchange->head().target + " " + exchange->body());
    };
  }

  io::Loop loop_;
  std::function<void(std::shared_ptr<Exchange>)> serve_;
  std::deque<std::shared_ptr<Exchange>> exchanges_;
  std::unique_ptr<HttpListener> listener_;
};

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST_F(ServerTest, KeepsTheConnectionAndCountsRequests) {
  Open();
  Echo();
  auto client = Dial();
  for (int i = 1; i <= 3; ++i) {
    client->stream->write(kGet);
    ASSERT_TRUE(Until([&] { return count(client->data, "GET /a ") == static_cast<std::size_t>(i); }));
  }
  EXPECT_THAT(client->data, StartsWith("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nGET /a HTTP/1.1 200 OK"));
  EXPECT_FALSE(client->ended);
  const ServerCounters counters = listener_->counters();
  EXPECT_EQ(counters.requests, 3u);
  EXPECT_EQ(counters.connections_accepted, 1u);
  EXPECT_EQ(counters.connections_open, 1u);
}

TEST_F(ServerTest, RequestsInAnyFragmentsGiveTheSameAnswers) {
  Open();
  Echo();
  const std::string bytes =
      "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
      "\r\nPOST /two HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: 1\r\n\r\n"
      "GET /three HTTP/1.1\r\nHost: x\r\n\r\n"
      "HEAD /four HTTP/1.1\r\nHost: x\r\n\r\n"
      "GET /five HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  std::string expected;
  RandomStream random(3, "fragments");
  for (int round = 0; round < 20; ++round) {
    auto client = Dial();
    std::size_t at = 0;
    while (at < bytes.size()) {
      const std::size_t take = round == 0 ? bytes.size() : 1 + random.below(round < 10 ? 3 : 60);
      client->stream->write(std::string_view(bytes).substr(at, take));
      at += take;
      io::RunUntil(loop_, [&, turns = random.below(3)]() mutable { return turns-- == 0; }, milliseconds(2));
    }
    ASSERT_TRUE(Until([&] { return client->ended; })) << "round " << round;
    if (round == 0) {
      expected = client->data;
      EXPECT_THAT(expected, HasSubstr("POST /one hello"));
      EXPECT_THAT(expected, HasSubstr("POST /two abcde"));
      EXPECT_THAT(expected, HasSubstr("GET /three "));
      EXPECT_THAT(expected, ::testing::Not(HasSubstr("HEAD /four ")));
      EXPECT_THAT(expected, HasSubstr("Content-Length: 11\r\n\r\nHTTP/1.1 200 OK"));  // HEAD's length, no body
      EXPECT_THAT(expected, HasSubstr("Connection: close"));
    }
    EXPECT_EQ(client->data, expected) << "round " << round;
  }
}

TEST_F(ServerTest, PipelinedRequestsAreServedOneByOneInOrder) {
  Open();
  auto client = Dial();
  std::string bytes;
  for (int i = 0; i < 100; ++i) bytes += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\n\r\n";
  client->stream->write(bytes);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Until([&] { return !exchanges_.empty(); }));
    io::Settle(loop_);
    ASSERT_EQ(exchanges_.size(), 1u);  // the next one waits for this answer
    EXPECT_EQ(exchanges_[0]->head().target, "/" + std::to_string(i));
    const auto exchange = std::move(exchanges_.front());
    exchanges_.pop_front();
    exchange->respond(200, {}, "r" + std::to_string(i) + ";");
  }
  ASSERT_TRUE(Until([&] { return client->data.ends_with("r99;"); }));
  std::size_t at = 0;
  for (int i = 0; i < 100; ++i) {
    const auto next = client->data.find("\r\n\r\nr" + std::to_string(i) + ";", at);
    ASSERT_NE(next, std::string::npos) << i;
    at = next;
  }
}

TEST_F(ServerTest, APipeliningClientIsHeldBackNotBuffered) {
  Open();
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
  // 64 MB of further requests: they stay with the client once the kernel's buffers and ours are full.
  std::string flood;
  while (flood.size() < (64u << 20)) flood += kGet;
  client->stream->write(flood);
  std::uint64_t sent = 0;
  for (int still = 0; still < 20; ++still) {  // until the flood stands still
    io::Settle(loop_);
    if (std::exchange(sent, client->stream->sent()) != sent) still = 0;
  }
  EXPECT_GT(client->stream->pending(), 0u);
  EXPECT_LT(client->stream->sent(), 32u << 20);
  bool gone = false;
  exchanges_[0]->on_gone([&] { gone = true; });
  client->stream->reset();  // a FIN would queue behind the flood; a reset passes it
  ASSERT_TRUE(Until([&] { return gone; }));
}

TEST_F(ServerTest, StreamsChunksAndTheClientSeesThemOneByOne) {
  Open();
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
  Headers headers;
  headers.add("Content-Type", "text/event-stream");
  headers.add("Connection", "upgrade");  // not the application's to say
  exchanges_[0]->start(200, std::move(headers), std::nullopt);
  EXPECT_TRUE(exchanges_[0]->started());
  ASSERT_TRUE(Until([&] { return client->data.ends_with("\r\n\r\n"); }));  // the head does not wait for a body
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(client->data, head);
  exchanges_[0]->write("data: 1\n\n");
  exchanges_[0]->write("");
  ASSERT_TRUE(Until([&] { return client->data == head + "9\r\ndata: 1\n\n\r\n"; }));
  exchanges_[0]->write(std::string(300, 'x'));
  exchanges_[0]->end();
  ASSERT_TRUE(Until([&] { return client->data.ends_with("0\r\n\r\n"); }));
  EXPECT_THAT(client->data, HasSubstr("\r\n12c\r\nxxx"));
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 2; }));
}

TEST_F(ServerTest, StreamsWithAKnownLengthAndTowardsHttp10) {
  Open();
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
  exchanges_[0]->start(200, {}, 5);
  exchanges_[0]->write("he");
  exchanges_[0]->write("llo");
  exchanges_[0]->end();
  ASSERT_TRUE(Until([&] { return client->data == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"; }));

  auto old = Dial();
  old->stream->write("GET / HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 2; }));
  exchanges_[1]->start(200, {}, std::nullopt);
  exchanges_[1]->write("until close");
  exchanges_[1]->end();
  ASSERT_TRUE(Until([&] { return old->ended; }));
  EXPECT_EQ(old->data, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil close");

  auto kept = Dial();
  kept->stream->write("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 3; }));
  exchanges_[2]->respond(200, {}, "x");
  ASSERT_TRUE(Until([&] { return kept->data.ends_with("x"); }));
  EXPECT_THAT(kept->data, HasSubstr("Connection: keep-alive"));
  io::Settle(loop_);
  EXPECT_FALSE(kept->ended);
}

TEST_F(ServerTest, AWholeAnswerMadeInOneTurnArrivesWhole) {
  Open();
  serve_ = [](const std::shared_ptr<Exchange>& exchange) {
    exchange->start(200, {}, std::nullopt);
    exchange->write("abc");
    exchange->end();
  };
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return !client->data.empty(); }));
  EXPECT_EQ(client->data, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
}

TEST_F(ServerTest, NoBodyFor204And304AndHead) {
  Open();
  auto client = Dial();
  const int statuses[] = {204, 304};
  for (const int status : statuses) {
    serve_ = [&](const std::shared_ptr<Exchange>& exchange) { exchange->respond(status, {}, "must not be sent"); };
    client->data.clear();
    client->stream->write(kGet);
    ASSERT_TRUE(Until([&] { return client->data.ends_with("\r\n\r\n"); }));
    EXPECT_THAT(client->data, ::testing::Not(HasSubstr("Content-Length")));
  }
  serve_ = [](const std::shared_ptr<Exchange>& exchange) {
    exchange->start(200, {}, std::nullopt);
    exchange->write("must not be sent");
    exchange->end();
  };
  client->data.clear();
  client->stream->write("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(Until([&] { return client->data.ends_with("\r\n\r\n"); }));
  io::Settle(loop_);
  EXPECT_EQ(client->data, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
}

// What is refused gets its answer and then the end of the connection.
TEST_F(ServerTest, RefusalTable) {
  Limits limits;
  limits.body_bytes_max = 100;
  limits.head_bytes_max = 1'000;
  Open(limits);
  Echo();
  const struct {
    const char* what;
    std::string bytes;
    int status;
  } cases[] = {
      {"nonsense", "nonsense\r\n\r\n", 400},
      {"bare LF, head not ended", "GET / HTTP/1.1\n", 400},
      {"declared body too large", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", 413},
      {"chunked body too large",
       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n60\r\n" + std::string(96, 'x') + "\r\n60\r\n" + std::string(96, 'x'), 413},
      {"one huge chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n" + std::string(200, 'x'), 413},
      {"bad chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"head too large", "GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(1'000, 'x'), 431},
      {"unknown coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"smuggling", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"other expectation", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 400},
      {"413 before 100-continue", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n", 413},
  };
  std::uint64_t refused = 0;
  for (const auto& one : cases) {
    auto client = Dial();
    client->stream->write(one.bytes);
    ASSERT_TRUE(Until([&] { return client->ended; })) << one.what;
    EXPECT_THAT(client->data, StartsWith("HTTP/1.1 " + std::to_string(one.status) + " ")) << one.what;
    EXPECT_THAT(client->data, HasSubstr("Connection: close\r\n")) << one.what;
    EXPECT_EQ(count(client->data, "HTTP/1.1 "), 1u) << one.what;
    EXPECT_EQ(listener_->counters().requests_malformed, ++refused) << one.what;
  }
  EXPECT_EQ(listener_->counters().requests, 0u);
}

TEST_F(ServerTest, ARefusedBodyIsReadOnSoThatTheAnswerArrives) {
  Limits limits;
  limits.body_bytes_max = 100;
  Open(limits);
  auto client = Dial();
  // Far more than any socket buffer takes before the answer is read: a close without reading on would reset it away.
  client->stream->write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + std::string(3'000'000, 'x'));
  ASSERT_TRUE(Until([&] { return client->ended; }));
  EXPECT_THAT(client->data, StartsWith("HTTP/1.1 413 "));
}

TEST_F(ServerTest, ExpectContinueIsHonoured) {
  Open();
  Echo();
  auto client = Dial();
  client->stream->write("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  ASSERT_TRUE(Until([&] { return client->data == "HTTP/1.1 100 Continue\r\n\r\n"; }));
  client->stream->write("hi");
  ASSERT_TRUE(Until([&] { return client->data.ends_with("POST /e hi"); }));
}

TEST_F(ServerTest, SlowHeadsAndBodiesEndIn408AndSilenceWithoutAWord) {
  Limits limits;
  limits.head_timeout = milliseconds(40);
  limits.body_timeout = milliseconds(40);
  limits.keep_alive = milliseconds(40);
  Open(limits);
  Echo();
  auto silent = Dial();
  auto slow_head = Dial();
  auto slow_body = Dial();
  auto dripping = Dial();
  slow_head->stream->write("GET / HT");
  slow_body->stream->write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
  dripping->stream->write("G");
  io::Timer drip;  // never idle, never done: the whole head has one deadline
  std::function<void()> next = [&] {
    dripping->stream->write("E");
    drip = loop_.after(milliseconds(3), next);
  };
  next();
  ASSERT_TRUE(Until([&] { return silent->ended && slow_head->ended && slow_body->ended && dripping->ended; }));
  drip.cancel();
  EXPECT_EQ(silent->data, "");
  for (const auto* one : {slow_head.get(), slow_body.get(), dripping.get()}) EXPECT_THAT(one->data, StartsWith("HTTP/1.1 408 "));
  auto idle = Dial();
  idle->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return idle->ended; }));
  EXPECT_THAT(idle->data, StartsWith("HTTP/1.1 200 "));
}

TEST_F(ServerTest, HangUpsAreToldAtOnceInEveryForm) {
  Open();
  enum class How { kClose, kReset, kHalfClose };
  for (const How how : {How::kClose, How::kReset, How::kHalfClose}) {
    for (const bool streaming : {false, true}) {
      auto client = Dial();
      client->stream->write(kGet);
      ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
      const auto exchange = std::move(exchanges_.front());
      exchanges_.pop_front();
      if (streaming) {
        exchange->start(200, {}, std::nullopt);
        exchange->write("x");
      }
      int gone = 0;
      exchange->on_gone([&] { ++gone; });
      EXPECT_FALSE(exchange->gone());
      if (how == How::kClose) client->stream->close();
      if (how == How::kReset) client->stream->reset();
      if (how == How::kHalfClose) client->stream->finish();  // as nginx and HAProxy take it: the client left
      ASSERT_TRUE(Until([&] { return gone == 1; }));
      EXPECT_TRUE(exchange->gone());
      // What comes too late is dropped without a word.
      if (!streaming) {
        exchange->respond(200, {}, "late");
      } else {
        exchange->write("late");
        exchange->end();
      }
      EXPECT_EQ(gone, 1);
    }
  }
  io::Settle(loop_);
  EXPECT_EQ(listener_->counters().connections_open, 0u);
}

TEST_F(ServerTest, OneHangUpAmongManyIsNoticedBeforeAnythingElseHappens) {
  Open();
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<std::string> events;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(Dial());
    clients.back()->stream->write(kGet);
  }
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 20; }));
  for (auto& exchange : exchanges_) exchange->on_gone([&] { events.push_back("gone"); });
  const io::Timer deadline = loop_.after(milliseconds(50), [&] { events.push_back("50 ms"); });
  clients[7]->stream->close();
  ASSERT_TRUE(Until([&] { return !events.empty(); }));
  EXPECT_EQ(events[0], "gone");
  exchanges_.clear();  // their calls look at this test's locals
}

TEST_F(ServerTest, ASlowReaderBoundsTheWriterAndDrainsLater) {
  Open();
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
  client->stream->pause_reading();
  const auto exchange = exchanges_[0];
  int drained = 0;
  exchange->on_drained([&] { ++drained; });
  exchange->start(200, {}, std::nullopt);
  std::uint64_t written = 0;
  const std::string piece(16'000, 'x');
  while (!exchange->above_high() && written < (256u << 20)) {
    exchange->write(piece);
    written += piece.size();
    if (written % (64 * piece.size()) == 0) io::Settle(loop_);
  }
  ASSERT_TRUE(exchange->above_high());
  EXPECT_EQ(drained, 0);
  client->stream->resume_reading();
  ASSERT_TRUE(Until([&] { return drained == 1; }));
  EXPECT_FALSE(exchange->above_high());
  exchange->end();
  ASSERT_TRUE(Until([&] { return client->data.ends_with("0\r\n\r\n"); }));
  EXPECT_EQ(static_cast<std::uint64_t>(std::count(client->data.begin(), client->data.end(), 'x')), written);
}

TEST_F(ServerTest, AReaderThatTakesNothingIsCutOffASlowOneIsNot) {
  Limits limits;
  limits.write_stall = milliseconds(60);
  limits.keep_alive = milliseconds(60);
  Open(limits);
  const std::string big(32 << 20, 'b');
  serve_ = [&](const std::shared_ptr<Exchange>& exchange) { exchange->respond(200, {}, big); };
  auto stalled = Dial();
  auto slow = Dial();
  stalled->stream->pause_reading();
  stalled->stream->write(kGet);
  slow->stream->write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  // Reads in bursts, for longer than the stall limit in all.
  io::Timer tick;
  int ticks = 0;
  std::function<void()> burst = [&] {
    if (++ticks % 2 == 0 || ticks > 20) {
      slow->stream->resume_reading();
    } else {
      slow->stream->pause_reading();
    }
    tick = loop_.after(milliseconds(ticks % 2 == 0 ? 1 : 12), burst);
  };
  burst();
  ASSERT_TRUE(Until([&] { return slow->ended; }));
  tick.cancel();
  EXPECT_EQ(slow->data.size() - slow->data.find("\r\n\r\n") - 4, big.size());
  ASSERT_TRUE(Until([&] { return listener_->counters().connections_open == 0; }));
  stalled->stream->resume_reading();
  ASSERT_TRUE(Until([&] { return stalled->ended; }));
  EXPECT_LT(stalled->data.size(), big.size());
}

TEST_F(ServerTest, AbortBreaksTheBodyAndADroppedExchangeClosesIt) {
  Open();
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
  exchanges_[0]->start(200, {}, std::nullopt);
  exchanges_[0]->write("part");
  exchanges_[0]->abort();
  ASSERT_TRUE(Until([&] { return client->ended; }));
  EXPECT_THAT(client->data, HasSubstr("4\r\npart\r\n"));
  EXPECT_THAT(client->data, ::testing::Not(HasSubstr("0\r\n\r\n")));

  auto short_of = Dial();
  short_of->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 2; }));
  exchanges_[1]->start(200, {}, 10);
  exchanges_[1]->write("four");
  exchanges_[1]->end();  // fewer bytes than declared: not a whole answer
  ASSERT_TRUE(Until([&] { return short_of->ended; }));

  auto dropped = Dial();
  dropped->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 3; }));
  exchanges_.clear();
  ASSERT_TRUE(Until([&] { return dropped->ended; }));
  EXPECT_EQ(dropped->data, "");
}

TEST_F(ServerTest, AboveConnectionsMaxIsAnsweredAndRecovers) {
  Limits limits;
  limits.connections_max = 2;
  Open(limits);
  Echo();
  auto first = Dial();
  auto second = Dial();
  first->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return !first->data.empty(); }));
  auto third = Dial();
  third->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return third->ended; }));
  EXPECT_THAT(third->data, StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(listener_->counters().connections_refused, 1u);
  third->stream->close();
  first->stream->close();
  ASSERT_TRUE(Until([&] { return listener_->counters().connections_open < 2; }));
  auto fourth = Dial();
  fourth->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return !fourth->data.empty(); }));
  EXPECT_THAT(fourth->data, StartsWith("HTTP/1.1 200 "));
}

TEST_F(ServerTest, RequestsPerConnectionAreBounded) {
  Limits limits;
  limits.requests_per_connection_max = 2;
  Open(limits);
  Echo();
  auto client = Dial();
  client->stream->write(std::string(kGet) + std::string(kGet) + std::string(kGet));
  ASSERT_TRUE(Until([&] { return client->ended; }));
  EXPECT_EQ(count(client->data, "HTTP/1.1 200"), 2u);
  EXPECT_EQ(count(client->data, "Connection: close"), 1u);
}

TEST_F(ServerTest, DrainLetsRunningExchangesEndAndTellsWhenDone) {
  Open();
  auto idle = Dial();
  auto running = Dial();
  auto half = Dial();
  running->stream->write(kGet);
  half->stream->write("GET /half HTTP/1.1\r\n");
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1 && listener_->counters().connections_open == 3; }));
  io::Settle(loop_);
  exchanges_[0]->start(200, {}, std::nullopt);
  exchanges_[0]->write("one");
  const io::Address address = listener_->address();
  bool done = false;
  listener_->drain([&] { done = true; });
  EXPECT_FALSE(done);
  ASSERT_TRUE(Until([&] { return idle->ended; }));
  std::optional<Error> refused;
  const auto pending = io::connect(loop_, address, {}, [&](auto stream) { refused = stream.error(); });
  ASSERT_TRUE(Until([&] { return refused.has_value(); }));
  // A request whose head was on its way is still served.
  half->stream->write("Host: x\r\n\r\n");
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 2; }));
  exchanges_[1]->respond(200, {}, "last");
  ASSERT_TRUE(Until([&] { return half->ended; }));
  EXPECT_THAT(half->data, HasSubstr("Connection: close"));
  EXPECT_FALSE(done);
  exchanges_[0]->write("two");
  exchanges_[0]->end();
  ASSERT_TRUE(Until([&] { return running->ended; }));
  EXPECT_TRUE(running->data.ends_with("3\r\ntwo\r\n0\r\n\r\n"));
  idle->stream->close();
  running->stream->close();
  half->stream->close();
  ASSERT_TRUE(Until([&] { return done; }));
}

TEST_F(ServerTest, DestroyingTheListenerEndsEverything) {
  Open();
  auto client = Dial();
  client->stream->write(kGet);
  ASSERT_TRUE(Until([&] { return exchanges_.size() == 1; }));
  listener_.reset();
  ASSERT_TRUE(Until([&] { return client->ended; }));
  exchanges_[0]->respond(200, {}, "late");
}

TEST_F(ServerTest, ATakenPortIsAConflict) {
  Open();
  ServerOptions options;
  options.errors = plain_error;
  EXPECT_EQ(HttpListener::open(loop_, listener_->address(), options, [](auto) {}).error().kind, ErrorKind::kConflict);
}

// Idle keep-alive connections hold no buffers. Prints what one costs with the test's client, the kernel's part aside.
TEST_F(ServerTest, IdleConnectionsAreSmall) {
  Open();
  Echo();
  constexpr std::size_t kConnections = 1'500;
  std::vector<std::unique_ptr<RawClient>> clients;
  clients.reserve(kConnections);
  auto grow = [&](std::size_t to) {
    while (clients.size() < to) {
      clients.push_back(Dial());
      clients.back()->stream->write(kGet);
      auto* client = clients.back().get();
      ASSERT_TRUE(Until([&] { return !client->data.empty(); }));
      client->data = {};
    }
  };
  grow(500);
  const std::size_t before = ::mallinfo2().uordblks;
  grow(kConnections);
  const std::size_t after = ::mallinfo2().uordblks;
  if (after == 0) GTEST_SKIP() << "a sanitizer's allocator keeps no count";
  const std::size_t each = (after - before) / (kConnections - 500);
  std::printf("[          ] %zu bytes of heap a connection, both ends\n", each);
  EXPECT_LT(each, 4'096u);
}

}  // namespace
}  // namespace warmpath::http
