#include "io/stream.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "io/test_loop.h"

namespace warmpath::io {
namespace {

using ::testing::HasSubstr;

struct Sink final : StreamSink {
  void on_data(std::string_view bytes) override {
    data += bytes;
    if (each) each();
  }
  void on_end() override { ended = true; }
  void on_hangup() override { ++hangups; }
  void on_drained() override { ++drained; }
  void on_closed(const Error& why) override { closed = why; }
  std::string data;
  bool ended = false;
  int hangups = 0;
  int drained = 0;
  std::optional<Error> closed;
  std::function<void()> each;
};

// A connected pair over loopback: `near` is what connect() made, `far` what the listener accepted.
class StreamTest : public ::testing::Test {
 protected:
  void Connect() {
    listener_ = listen(loop_, {"127.0.0.1", 0}, {}, [this](std::shared_ptr<Stream> s) { far_ = std::move(s); }).value();
    auto pending = connect(loop_, listener_->address(), {}, [this](Result<std::shared_ptr<Stream>> s) {
      ASSERT_TRUE(s.ok()) << s.error().message;
      near_ = std::move(s).value();
    });
    EXPECT_EQ(near_, nullptr);  // never from inside the call
    ASSERT_TRUE(RunUntil(loop_, [&] { return near_ && far_; }));
    near_->set_sink(&near_sink_);
    far_->set_sink(&far_sink_);
  }
  // A far end that is a plain blocking socket, to do what a Stream would not.
  int ConnectRaw() {
    listener_ = listen(loop_, {"127.0.0.1", 0}, {}, [this](std::shared_ptr<Stream> s) { near_ = std::move(s); }).value();
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(listener_->address().port);
    ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    EXPECT_TRUE(RunUntil(loop_, [&] { return near_ != nullptr; }));
    near_->set_sink(&near_sink_);
    return fd;
  }

  Loop loop_;
  Sink near_sink_;
  Sink far_sink_;
  std::unique_ptr<Listener> listener_;
  std::shared_ptr<Stream> near_;
  std::shared_ptr<Stream> far_;
};

std::string pattern(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>((i * 2'654'435'761u) >> 13);
  return out;
}

TEST_F(StreamTest, EchoesWhateverTheFragments) {
  Connect();
  RandomStream random(7, "fragments");
  far_sink_.each = [&] { far_->write(std::exchange(far_sink_.data, {})); };
  const std::string sent = pattern(300'000);
  std::size_t at = 0;
  while (at < sent.size()) {
    const std::size_t take = std::min<std::size_t>(sent.size() - at, 1 + random.below(random.below(2) == 0 ? 20 : 20'000));
    if (random.below(2) == 0 && take > 1) {
      const std::size_t half = take / 2;
      const std::string_view parts[] = {std::string_view(sent).substr(at, half), {},
                                        std::string_view(sent).substr(at + half, take - half)};
      near_->write_parts(parts);
    } else {
      near_->write(std::string_view(sent).substr(at, take));
    }
    at += take;
    if (random.below(8) == 0) RunUntil(loop_, [&, once = false]() mutable { return std::exchange(once, true); });
  }
  ASSERT_TRUE(RunUntil(loop_, [&] { return near_sink_.data.size() == sent.size(); }));
  EXPECT_TRUE(near_sink_.data == sent);
  EXPECT_EQ(near_->sent(), sent.size());
  EXPECT_EQ(near_->pending(), 0u);
}

TEST_F(StreamTest, HalfCloseFlushesFirstAndTheOtherWayStaysOpen) {
  Connect();
  const std::string sent = pattern(8 << 20);
  near_->write(sent);
  near_->finish();
  near_->write("ignored after finish");
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.ended; }));
  EXPECT_TRUE(far_sink_.data == sent);
  EXPECT_EQ(far_sink_.hangups, 1);
  far_->write("still");
  ASSERT_TRUE(RunUntil(loop_, [&] { return near_sink_.data == "still"; }));
  EXPECT_FALSE(near_sink_.ended);
}

TEST_F(StreamTest, WatermarksBoundAWriterThatListensToThem) {
  Connect();
  near_->set_watermarks(10'000, 50'000);
  far_->pause_reading();
  const std::string piece(10'000, 'w');
  std::uint64_t written = 0;
  // The kernel's buffers fill first; then the queue, then the mark.
  while (!near_->above_high() && written < (64u << 20)) {
    near_->write(piece);
    written += piece.size();
    if (near_->pending() > 0) Settle(loop_);
  }
  ASSERT_TRUE(near_->above_high());
  EXPECT_LE(near_->pending(), 60'000u);
  EXPECT_EQ(near_sink_.drained, 0);
  EXPECT_TRUE(far_sink_.data.empty());
  far_->resume_reading();
  ASSERT_TRUE(RunUntil(loop_, [&] { return near_sink_.drained == 1; }));
  EXPECT_LE(near_->pending(), 10'000u);
  EXPECT_FALSE(near_->above_high());
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.data.size() == written; }));
  EXPECT_EQ(near_sink_.drained, 1);
}

TEST_F(StreamTest, APausedReaderStillNoticesAnEndBehindUnreadBytes) {
  Connect();
  far_->pause_reading();
  near_->write("unread");
  near_->close();
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.hangups == 1; }));
  EXPECT_TRUE(far_sink_.data.empty());
  EXPECT_FALSE(far_sink_.ended);
  far_->resume_reading();
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.ended; }));
  EXPECT_EQ(far_sink_.data, "unread");
  EXPECT_EQ(far_sink_.hangups, 1);
}

TEST_F(StreamTest, APausedReaderStillNoticesAReset) {
  Connect();
  far_->pause_reading();
  near_->write("lost");
  near_->reset();
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.hangups == 1; }));
  far_->resume_reading();
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.closed.has_value(); }));
  EXPECT_EQ(far_sink_.closed->kind, ErrorKind::kUpstream);
  EXPECT_EQ(far_sink_.hangups, 1);
}

TEST_F(StreamTest, PausingFromInsideOnDataHoldsTheRest) {
  Connect();
  far_sink_.each = [&] { far_->pause_reading(); };
  const std::string sent = pattern(1 << 20);
  near_->write(sent);
  ASSERT_TRUE(RunUntil(loop_, [&] { return !far_sink_.data.empty(); }));
  const std::size_t first = far_sink_.data.size();
  Settle(loop_);
  EXPECT_EQ(far_sink_.data.size(), first);
  EXPECT_LE(first, 64u << 10);
  far_sink_.each = nullptr;
  far_->resume_reading();
  EXPECT_EQ(far_sink_.data.size(), first);  // never from inside the call
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.data.size() == sent.size(); }));
  EXPECT_TRUE(far_sink_.data == sent);
}

TEST_F(StreamTest, ASinkSetLateGetsWhatCameBefore) {
  Connect();
  far_->set_sink(nullptr);
  near_->write("early");
  near_->finish();
  Settle(loop_);
  far_->set_sink(&far_sink_);
  EXPECT_TRUE(far_sink_.data.empty());
  ASSERT_TRUE(RunUntil(loop_, [&] { return far_sink_.ended; }));
  EXPECT_EQ(far_sink_.data, "early");
}

TEST_F(StreamTest, WritingToAResetPeerIsToldOnceAndLater) {
  Connect();
  near_->set_sink(nullptr);
  near_->reset();
  ASSERT_TRUE(RunUntil(loop_, [&] {
    far_->write(std::string(1'000, 'x'));
    return far_sink_.closed.has_value();
  }));
  far_sink_.closed.reset();
  far_->write("x");
  Settle(loop_);
  EXPECT_FALSE(far_sink_.closed);
}

TEST_F(StreamTest, ClosingOrDroppingInsideACallbackIsFine) {
  Connect();
  far_sink_.each = [&] { far_.reset(); };
  near_->write(std::string(200'000, 'x'));
  ASSERT_TRUE(RunUntil(loop_, [&] { return near_sink_.closed || near_sink_.ended; }));
  EXPECT_EQ(far_, nullptr);
  EXPECT_LE(far_sink_.data.size(), 64u << 10);
}

TEST_F(StreamTest, ClosedStreamsCallNobody) {
  Connect();
  near_->write("x");
  near_->finish();
  far_->close();
  far_->close();
  far_->write("x");
  far_->finish();
  far_->resume_reading();
  Settle(loop_);
  EXPECT_TRUE(far_sink_.data.empty());
  EXPECT_FALSE(far_sink_.ended || far_sink_.closed);
}

TEST_F(StreamTest, TellsPeersAndAddresses) {
  Connect();
  EXPECT_EQ(near_->peer(), listener_->address());
  EXPECT_EQ(far_->peer().ip, "127.0.0.1");
  EXPECT_NE(far_->peer().port, 0);
}

TEST_F(StreamTest, OneRawByteAtATimeArrives) {
  const int fd = ConnectRaw();
  for (const char c : std::string("drip")) {
    const std::size_t before = near_sink_.data.size();
    ASSERT_EQ(::send(fd, &c, 1, 0), 1);
    ASSERT_TRUE(RunUntil(loop_, [&] { return near_sink_.data.size() == before + 1; }));
  }
  ::close(fd);
  ASSERT_TRUE(RunUntil(loop_, [&] { return near_sink_.ended; }));
  EXPECT_EQ(near_sink_.data, "drip");
}

TEST(Connect, RefusedIsUnavailable) {
  Loop loop;
  Address free;
  { free = listen(loop, {"127.0.0.1", 0}, {}, [](auto) {}).value()->address(); }
  std::optional<Error> error;
  const auto pending = connect(loop, free, {}, [&](Result<std::shared_ptr<Stream>> s) { error = s.error(); });
  ASSERT_TRUE(RunUntil(loop, [&] { return error.has_value(); }));
  EXPECT_EQ(error->kind, ErrorKind::kUnavailable);
  EXPECT_THAT(error->message, HasSubstr(free.text()));
}

TEST(Connect, TimesOutWhenTheBacklogIsFull) {
  Loop loop;
  // Nobody accepts and the backlog is full: the handshake's SYN is dropped.
  auto listener = listen(loop, {"127.0.0.1", 0}, {.backlog = 0}, [](auto) {}).value();
  listener->pause();
  std::vector<std::unique_ptr<Pending>> pending;
  std::vector<std::shared_ptr<Stream>> streams;
  std::optional<Error> error;
  ConnectOptions options;
  options.timeout = std::chrono::milliseconds(50);
  for (int i = 0; i < 8; ++i) {
    pending.push_back(connect(loop, listener->address(), options, [&](Result<std::shared_ptr<Stream>> s) {
      if (s.ok()) {
        streams.push_back(std::move(s).value());
      } else {
        error = s.error();
      }
    }));
  }
  ASSERT_TRUE(RunUntil(loop, [&] { return error.has_value(); }));
  EXPECT_EQ(error->kind, ErrorKind::kUnavailable);
  EXPECT_THAT(error->message, HasSubstr("timed out"));
}

TEST(Connect, DestroyingThePendingCancels) {
  Loop loop;
  int accepted = 0;
  auto listener = listen(loop, {"127.0.0.1", 0}, {}, [&](auto) { ++accepted; }).value();
  bool called = false;
  auto pending = connect(loop, listener->address(), {}, [&](auto) { called = true; });
  pending.reset();
  auto bad = connect(loop, {"not an ip", 1}, {}, [&](auto) { called = true; });
  bad.reset();
  Settle(loop);
  EXPECT_FALSE(called);
}

TEST(Listen, ConflictsAndNonsenseAreNamed) {
  Loop loop;
  const auto first = listen(loop, {"127.0.0.1", 0}, {}, [](auto) {}).value();
  const auto second = listen(loop, first->address(), {}, [](auto) {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::kConflict);
  EXPECT_THAT(second.error().message, HasSubstr(first->address().text()));
  EXPECT_EQ(listen(loop, {"localhost", 0}, {}, [](auto) {}).error().kind, ErrorKind::kInvalid);
}

TEST(Listen, ReusePortSharesAPort) {
  Loop loop;
  const auto first = listen(loop, {"127.0.0.1", 0}, {.reuse_port = true}, [](auto) {}).value();
  EXPECT_TRUE(listen(loop, first->address(), {.reuse_port = true}, [](auto) {}).ok());
}

TEST(Listen, SpeaksIpv6) {
  Loop loop;
  std::shared_ptr<Stream> far;
  std::shared_ptr<Stream> near;
  auto listener = listen(loop, {"::1", 0}, {}, [&](std::shared_ptr<Stream> s) { far = std::move(s); });
  if (!listener.ok()) GTEST_SKIP() << "no IPv6 here: " << listener.error().message;
  const auto pending = connect(loop, (*listener)->address(), {}, [&](Result<std::shared_ptr<Stream>> s) { near = std::move(s).value(); });
  ASSERT_TRUE(RunUntil(loop, [&] { return near && far; }));
  EXPECT_EQ(far->peer().ip, "::1");
}

TEST(Listen, PausedAcceptsNothingUntilResumed) {
  Loop loop;
  int accepted = 0;
  auto listener = listen(loop, {"127.0.0.1", 0}, {}, [&](auto) { ++accepted; }).value();
  listener->pause();
  bool connected = false;
  const auto pending = connect(loop, listener->address(), {}, [&](Result<std::shared_ptr<Stream>> s) { connected = s.ok(); });
  ASSERT_TRUE(RunUntil(loop, [&] { return connected; }));  // the kernel's backlog answers
  Settle(loop);
  EXPECT_EQ(accepted, 0);
  listener->resume();
  ASSERT_TRUE(RunUntil(loop, [&] { return accepted == 1; }));
}

TEST(Listen, OutOfDescriptorsPausesAndRecovers) {
  Loop loop;
  std::vector<std::shared_ptr<Stream>> accepted;
  auto listener = listen(loop, {"127.0.0.1", 0}, {}, [&](std::shared_ptr<Stream> s) { accepted.push_back(std::move(s)); }).value();
  // Client sockets first, then use up every descriptor.
  std::vector<int> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(clients.back()) + 40;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  std::vector<int> hogs;
  for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0; fd = ::open("/dev/null", O_RDONLY)) hogs.push_back(fd);
  ASSERT_FALSE(hogs.empty());
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(listener->address().port);
  ::inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  for (const int fd : clients) EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  // The first is told by a close; meanwhile the loop sleeps instead of spinning on a readable listener.
  const double cpu = process_usage().cpu_seconds;
  bool passed = false;
  const Timer later = loop.after(std::chrono::milliseconds(80), [&] { passed = true; });
  ASSERT_TRUE(RunUntil(loop, [&] { return passed; }));
  EXPECT_LT(process_usage().cpu_seconds - cpu, 0.06);
  char byte = 0;
  EXPECT_EQ(::recv(clients[0], &byte, 1, 0), 0);
  EXPECT_TRUE(accepted.empty());
  for (const int fd : hogs) ::close(fd);
  ASSERT_TRUE(RunUntil(loop, [&] { return accepted.size() == 2; }));
  ::setrlimit(RLIMIT_NOFILE, &before);
  for (const int fd : clients) ::close(fd);
}

TEST(Resolve, AnswersNumericAndLocalNames) {
  Loop loop;
  std::vector<Result<std::vector<Address>>> got;
  const auto take = [&](Result<std::vector<Address>> found) { got.push_back(std::move(found)); };
  auto a = resolve(loop, "10.1.2.3", 80, std::chrono::seconds(5), take);
  EXPECT_TRUE(got.empty());
  ASSERT_TRUE(RunUntil(loop, [&] { return got.size() == 1; }));
  EXPECT_EQ(got[0].value(), (std::vector<Address>{{"10.1.2.3", 80}}));
  auto b = resolve(loop, "::1", 81, std::chrono::seconds(5), take);
  ASSERT_TRUE(RunUntil(loop, [&] { return got.size() == 2; }));
  EXPECT_EQ(got[1].value()[0].text(), "[::1]:81");
  auto c = resolve(loop, "localhost", 82, std::chrono::seconds(10), take);
  ASSERT_TRUE(RunUntil(loop, [&] { return got.size() == 3; }));
  ASSERT_TRUE(got[2].ok()) << got[2].error().message;
  EXPECT_EQ((*got[2])[0].port, 82);
}

TEST(Resolve, TimesOutAndCancels) {
  Loop loop;
  std::optional<Error> error;
  // No lookup is faster than no time at all.
  auto a = resolve(loop, "name.invalid", 80, Duration{0}, [&](Result<std::vector<Address>> found) { error = found.error(); });
  ASSERT_TRUE(RunUntil(loop, [&] { return error.has_value(); }));
  EXPECT_EQ(error->kind, ErrorKind::kUnavailable);
  EXPECT_THAT(error->message, HasSubstr("name.invalid"));
  bool called = false;
  auto b = resolve(loop, "localhost", 80, std::chrono::seconds(5), [&](auto) { called = true; });
  b.reset();
  Settle(loop);
  EXPECT_FALSE(called);
}

TEST(HostPorts, ParseOrSayWhatIsExpected) {
  const struct {
    const char* text;
    const char* host;
    std::uint16_t port;
  } good[] = {{"a:80", "a", 80}, {":8080", "", 8080}, {"[::1]:443", "::1", 443}, {"127.0.0.1:0", "127.0.0.1", 0}, {"x:65535", "x", 65535}};
  for (const auto& one : good) {
    const auto parsed = parse_host_port(one.text);
    ASSERT_TRUE(parsed.ok()) << one.text;
    EXPECT_EQ(parsed->host, one.host);
    EXPECT_EQ(parsed->port, one.port);
  }
  for (const char* bad : {"", "a", "a:", "a:b", "a:65536", "a:-1", "::1:80", "[::1]", "[::1]80", "[]:1", "[::1:80", "a:1 "}) {
    EXPECT_EQ(parse_host_port(bad).error().kind, ErrorKind::kInvalid) << bad;
  }
}

}  // namespace
}  // namespace warmpath::io
