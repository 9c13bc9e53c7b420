#include "io/zmq.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "io/test_loop.h"

namespace warmpath::io {
namespace {

using Frames = std::vector<std::string>;

struct Peer {
  std::unique_ptr<ZmqSocket> socket;
  std::vector<Frames> got;
  int connected = 0;
  int disconnected = 0;
};

void open(Loop& loop, Peer& peer, ZmqKind kind, const std::string& endpoint, ZmqOptions::Attach attach,
          ZmqOptions options = {}) {
  options.kind = kind;
  options.endpoint = endpoint;
  options.attach = attach;
  if (kind == ZmqKind::kSub && options.topics.empty()) options.topics = {""};
  ZmqSocket::Callbacks callbacks;
  callbacks.message = [&peer](Frames&& frames) { peer.got.push_back(std::move(frames)); };
  callbacks.connected = [&peer] { ++peer.connected; };
  callbacks.disconnected = [&peer] { ++peer.disconnected; };
  auto opened = ZmqSocket::open(loop, options, std::move(callbacks));
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  peer.socket = std::move(opened).value();
}

constexpr auto kBind = ZmqOptions::Attach::kBind;
constexpr auto kConnect = ZmqOptions::Attach::kConnect;

// A subscription travels after the connection: publish until it has arrived.
void PublishUntilHeard(Loop& loop, Peer& pub, Peer& sub) {
  Timer again;
  std::function<void()> hello = [&] {
    pub.socket->send({"hello"});
    again = loop.after(std::chrono::milliseconds(1), hello);
  };
  hello();
  ASSERT_TRUE(RunUntil(loop, [&] { return !sub.got.empty(); }));
  again.cancel();
}

TEST(Zmq, PublishesABurstInOrderWithoutALostWakeUp) {
  Loop loop;
  Peer pub;
  Peer sub;
  open(loop, pub, ZmqKind::kPub, "tcp://127.0.0.1:*", kBind);
  open(loop, sub, ZmqKind::kSub, pub.socket->bound_endpoint(), kConnect);
  ASSERT_TRUE(RunUntil(loop, [&] { return sub.connected == 1; }));
  PublishUntilHeard(loop, pub, sub);
  constexpr int kBurst = 10'000;
  for (int i = 0; i < kBurst; ++i) ASSERT_TRUE(pub.socket->send({"topic", std::to_string(i), std::string(200, 'p')}));
  std::size_t heard = 0;
  ASSERT_TRUE(RunUntil(loop, [&] {
    return !sub.got.empty() && sub.got.back().size() == 3 && sub.got.back()[1] == std::to_string(kBurst - 1);
  }));
  for (const Frames& frames : sub.got) {
    if (frames.size() == 1) continue;
    ASSERT_EQ(frames.size(), 3u);
    EXPECT_EQ(frames[1], std::to_string(heard));
    ++heard;
  }
  EXPECT_EQ(heard, static_cast<std::size_t>(kBurst));
}

TEST(Zmq, SubscribesByPrefixOnly) {
  Loop loop;
  Peer pub;
  Peer sub;
  open(loop, pub, ZmqKind::kPub, "tcp://127.0.0.1:0", kBind);
  ZmqOptions options;
  options.topics = {"kv", "hello"};
  open(loop, sub, ZmqKind::kSub, pub.socket->bound_endpoint(), kConnect, options);
  PublishUntilHeard(loop, pub, sub);
  sub.got.clear();
  pub.socket->send({"other", "1"});
  pub.socket->send({"kv-events", "2"});
  ASSERT_TRUE(RunUntil(loop, [&] { return !sub.got.empty() && sub.got.back()[0] != "hello"; }));
  EXPECT_EQ(sub.got.back(), (Frames{"kv-events", "2"}));
}

TEST(Zmq, RouterAndDealerAskAndAnswer) {
  Loop loop;
  Peer router;
  Peer dealer;
  open(loop, router, ZmqKind::kRouter, "tcp://127.0.0.1:*", kBind);
  open(loop, dealer, ZmqKind::kDealer, router.socket->bound_endpoint(), kConnect);
  ASSERT_TRUE(dealer.socket->send({"", "ask"}));
  ASSERT_TRUE(RunUntil(loop, [&] { return router.got.size() == 1; }));
  ASSERT_EQ(router.got[0].size(), 3u);
  const std::string who = router.got[0][0];
  // Answering and asking at once, from both sides: a send must not swallow the wake-up of what came meanwhile.
  constexpr int kRounds = 500;
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(router.socket->send({who, "", std::to_string(i)}));
    ASSERT_TRUE(dealer.socket->send({"", std::to_string(i)}));
  }
  ASSERT_TRUE(RunUntil(loop, [&] { return router.got.size() == kRounds + 1 && dealer.got.size() == kRounds; }));
  EXPECT_EQ(dealer.got.back(), (Frames{"", std::to_string(kRounds - 1)}));
  EXPECT_FALSE(router.socket->send({"nobody", "", "x"}));  // a peer that does not exist is an answer, not a drop
}

TEST(Zmq, SendSaysWhenTheHighWaterMarkRefuses) {
  Loop loop;
  Peer dealer;
  ZmqOptions options;
  options.send_high_water = 10;
  open(loop, dealer, ZmqKind::kDealer, "tcp://127.0.0.1:9", kConnect, options);  // nobody listens: all is queued
  int taken = 0;
  while (taken < 1'000 && dealer.socket->send({"x"})) ++taken;
  EXPECT_EQ(taken, 10);
}

TEST(Zmq, AReaderTooFarBehindLosesTheRestOfItsQueue) {
  Loop loop;
  Peer sub;
  Peer pub;
  open(loop, pub, ZmqKind::kPub, "tcp://127.0.0.1:*", kBind);
  open(loop, sub, ZmqKind::kSub, pub.socket->bound_endpoint(), kConnect, {.receive_high_water = 100});
  ASSERT_TRUE(RunUntil(loop, [&] {
    pub.socket->send({"hello"});
    return !sub.got.empty();
  }));
  const auto hellos = [&] {
    return static_cast<std::size_t>(std::count(sub.got.begin(), sub.got.end(), Frames{"hello"}));
  };
  // Bursts come faster than they are read; sooner or later more than 100 wait.
  std::uint64_t sent = 0;
  const auto lost = [&] {
    return sub.got.back() != Frames{"hello"} && *parse_u64(sub.got.back()[0]) + 1 > sub.got.size() - hellos();
  };
  ASSERT_TRUE(RunUntil(loop, [&] {
    for (int i = 0; i < 1'000; ++i) pub.socket->send({std::to_string(sent++)});
    return lost();
  }));
  ASSERT_TRUE(RunUntil(loop, [&] {
    pub.socket->send({"end"});
    return sub.got.back() == Frames{"end"};
  }));
}

TEST(Zmq, ReconnectsAndTellsBoth) {
  Loop loop;
  Peer pub;
  Peer sub;
  open(loop, pub, ZmqKind::kPub, "tcp://127.0.0.1:*", kBind);
  const std::string endpoint = pub.socket->bound_endpoint();
  open(loop, sub, ZmqKind::kSub, endpoint, kConnect);
  ASSERT_TRUE(RunUntil(loop, [&] { return sub.connected == 1 && pub.connected == 1; }));
  pub.socket.reset();
  ASSERT_TRUE(RunUntil(loop, [&] { return sub.disconnected == 1; }));
  // libzmq closes the listening socket on its own thread: the port may stay taken a moment.
  Peer again;
  ASSERT_TRUE(RunUntil(loop, [&] {
    ZmqOptions options;
    options.kind = ZmqKind::kPub;
    options.endpoint = endpoint;
    options.attach = kBind;
    auto opened = ZmqSocket::open(loop, options, {});
    if (!opened.ok()) return false;
    again.socket = std::move(opened).value();
    return true;
  }));
  ASSERT_TRUE(RunUntil(loop, [&] { return sub.connected == 2; }));
  PublishUntilHeard(loop, again, sub);
}

TEST(Zmq, NamesBadEndpoints) {
  Loop loop;
  ZmqOptions options;
  for (const char* endpoint :
       {"", "nonsense", "tcp://", "tcp://127.0.0.1", "udp://1.2.3.4:5", "tcp://127.0.0.1:99999"}) {
    options.endpoint = endpoint;
    const auto opened = ZmqSocket::open(loop, options, {});
    ASSERT_FALSE(opened.ok()) << endpoint;
    EXPECT_EQ(opened.error().kind, ErrorKind::kInvalid) << endpoint;
  }
  Peer holder;
  open(loop, holder, ZmqKind::kPub, "tcp://127.0.0.1:*", kBind);
  options.kind = ZmqKind::kPub;
  options.attach = kBind;
  options.endpoint = holder.socket->bound_endpoint();
  EXPECT_EQ(ZmqSocket::open(loop, options, {}).error().kind, ErrorKind::kConflict);
}

TEST(Zmq, AMessageCallbackMayCloseItsSocket) {
  Loop loop;
  Peer pub;
  open(loop, pub, ZmqKind::kPub, "tcp://127.0.0.1:*", kBind);
  std::unique_ptr<ZmqSocket> sub;
  int got = 0;
  ZmqOptions options;
  options.endpoint = pub.socket->bound_endpoint();
  options.topics = {""};
  ZmqSocket::Callbacks callbacks;
  callbacks.message = [&](Frames&&) {
    ++got;
    sub.reset();
  };
  sub = ZmqSocket::open(loop, options, std::move(callbacks)).value();
  Timer again;
  std::function<void()> hello = [&] {
    for (int i = 0; i < 50; ++i) pub.socket->send({"hello"});
    again = loop.after(std::chrono::milliseconds(1), hello);
  };
  hello();
  ASSERT_TRUE(RunUntil(loop, [&] { return got > 0; }));
  again.cancel();
  Settle(loop);
  EXPECT_EQ(got, 1);
}

TEST(Zmq, ManySocketsShareOneContext) {
  Loop loop;
  Peer pub;
  open(loop, pub, ZmqKind::kPub, "tcp://127.0.0.1:*", kBind);
  constexpr std::size_t kMany = 300;
  std::vector<std::unique_ptr<Peer>> subs;
  for (std::size_t i = 0; i < kMany; ++i) {
    subs.push_back(std::make_unique<Peer>());
    open(loop, *subs.back(), ZmqKind::kSub, pub.socket->bound_endpoint(), kConnect);
  }
  ASSERT_TRUE(RunUntil(loop, [&] { return pub.connected == static_cast<int>(kMany); }));
}

}  // namespace
}  // namespace warmpath::io
