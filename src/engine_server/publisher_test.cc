#include "engine_server/publisher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_server/test_words.h"
#include "events/events.h"

namespace warmpath::engine_server {
namespace {

std::vector<blocks::KvEvent> removed(std::uint64_t hash) {
  blocks::BlockRemoved event;
  event.block_hashes.push_back({EngineHash(hash), {}});
  event.medium = "GPU";
  event.group_idx = 0;
  return {event};
}

struct PublisherTest : ::testing::Test {
  std::unique_ptr<Publisher> open(std::uint32_t buffer_steps) {
    auto opened = Publisher::open(loop, {.ip = "127.0.0.1", .topic = "kv", .rank = 3, .buffer_steps = buffer_steps});
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    return std::move(*opened);
  }
  // Sequence numbers replayed from `start`, until the end marker.
  std::vector<std::uint64_t> replay(const Publisher& publisher, std::uint64_t start) {
    std::vector<std::uint64_t> seqs;
    bool ended = false;
    io::ZmqOptions options;
    options.kind = io::ZmqKind::kDealer;
    options.endpoint = publisher.replay_endpoint();
    auto dealer = io::ZmqSocket::open(loop, options, {.message = [&](std::vector<std::string>&& frames) {
                                        EXPECT_EQ(frames.size(), 4u);
                                        const auto reply = events::parse_replay_reply(frames);
                                        ASSERT_TRUE(reply.ok());
                                        if (reply->end) {
                                          ended = true;
                                          loop.stop();
                                        } else {
                                          EXPECT_EQ(frames[1], "kv");
                                          seqs.push_back(reply->seq.value());
                                        }
                                      }});
    EXPECT_TRUE(dealer.ok());
    EXPECT_TRUE((*dealer)->send(events::make_replay_request(PublisherSeq(start))));
    testing::run_guarded(loop, "replay");
    EXPECT_TRUE(ended);
    return seqs;
  }
  io::Loop loop;
};

TEST_F(PublisherTest, SubscribersGetBatchesInOrder) {
  auto publisher = open(10);
  std::vector<std::uint64_t> seqs;
  std::vector<events::Batch> batches;
  io::ZmqOptions options;
  options.endpoint = publisher->endpoint();
  options.topics = {"kv"};
  auto sub = io::ZmqSocket::open(loop, options, {.message = [&](std::vector<std::string>&& frames) {
                                   const auto live = events::parse_live(frames);
                                   ASSERT_TRUE(live.ok());
                                   EXPECT_EQ(live->topic, "kv");
                                   seqs.push_back(live->seq.value());
                                   auto batch = events::decode_batch(live->payload);
                                   ASSERT_TRUE(batch.ok());
                                   batches.push_back(std::move(*batch));
                                 }});
  ASSERT_TRUE(sub.ok());
  // Subscriptions travel on their own: publish until some have come.
  testing::run_until(loop, "live batches", [&] {
    publisher->publish(removed(publisher->published()));
    return seqs.size() >= 5;
  });
  for (std::size_t i = 1; i < seqs.size(); ++i) EXPECT_EQ(seqs[i], seqs[0] + i);
  EXPECT_EQ(batches.front().rank, 3u);
  EXPECT_EQ(batches.front().events, removed(seqs[0]));
  EXPECT_GT(batches.front().ts, 1.5e9);
}

TEST_F(PublisherTest, NothingIsPublishedForNoEvents) {
  auto publisher = open(10);
  publisher->publish({});
  EXPECT_EQ(publisher->published(), 0u);
}

TEST_F(PublisherTest, ReplaysWhatIsKeptFromTheStartAsked) {
  auto publisher = open(4);
  for (std::uint64_t i = 0; i < 6; ++i) publisher->publish(removed(i));
  EXPECT_THAT(replay(*publisher, 0), ::testing::ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(replay(*publisher, 5), ::testing::ElementsAre(5));
  EXPECT_THAT(replay(*publisher, 6), ::testing::IsEmpty()) << "beyond the end: the marker alone";
}

TEST_F(PublisherTest, ALongReplayIsWhole) {
  auto publisher = open(5'000);
  for (std::uint64_t i = 0; i < 5'000; ++i) publisher->publish(removed(i));
  EXPECT_EQ(replay(*publisher, 0).size(), 5'000u);
}

TEST_F(PublisherTest, WithoutABufferOnlyTheMarkerComes) {
  auto publisher = open(0);
  publisher->publish(removed(1));
  EXPECT_THAT(replay(*publisher, 0), ::testing::IsEmpty());
}

TEST_F(PublisherTest, ATakenPortIsAConflict) {
  auto first = open(1);
  const auto port = parse_u64(first->endpoint().substr(first->endpoint().rfind(':') + 1));
  ASSERT_TRUE(port.has_value());
  auto second = Publisher::open(loop, {.ip = "127.0.0.1", .port = static_cast<std::uint16_t>(*port)});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::kConflict);
}

}  // namespace
}  // namespace warmpath::engine_server
