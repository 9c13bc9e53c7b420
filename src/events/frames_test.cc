#include "events/frames.h"

#include <gtest/gtest.h>

namespace warmpath::events {
namespace {

const Frame kSeq7{"\0\0\0\0\0\0\0\x07", 8};
const Frame kEnd(8, '\xff');

std::string text(std::span<const std::uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(Frames, Live) {
  const std::vector<Frame> frames{"topic", kSeq7, "payload"};
  const auto live = parse_live(frames);
  ASSERT_TRUE(live.ok());
  EXPECT_EQ(live->topic, "topic");
  EXPECT_EQ(live->seq.value(), 7u);
  EXPECT_EQ(text(live->payload), "payload");
  EXPECT_EQ(make_live("topic", PublisherSeq(7), live->payload), frames);
  EXPECT_EQ(make_live("", PublisherSeq(0x0102030405060708), {})[1], Frame("\1\2\3\4\5\6\7\x08", 8));

  EXPECT_FALSE(parse_live({}).ok());
  EXPECT_FALSE(parse_live(std::vector<Frame>{"topic", kSeq7}).ok());
  EXPECT_FALSE(parse_live(std::vector<Frame>{"topic", kSeq7, "p", "q"}).ok());
  EXPECT_FALSE(parse_live(std::vector<Frame>{"topic", "short", "p"}).ok());
  EXPECT_FALSE(parse_live(std::vector<Frame>{"topic", "", "p"}).ok());
}

TEST(Frames, ReplayRequest) {
  std::vector<Frame> sent = make_replay_request(PublisherSeq(7));
  EXPECT_EQ(sent, (std::vector<Frame>{"", kSeq7}));
  sent.insert(sent.begin(), "id");  // the ROUTER socket puts it on
  const auto request = parse_replay_request(sent);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->identity, "id");
  EXPECT_EQ(request->start.value(), 7u);
  EXPECT_FALSE(parse_replay_request(std::vector<Frame>{"id", kSeq7}).ok());
  EXPECT_FALSE(parse_replay_request(std::vector<Frame>{"id", "x", kSeq7}).ok());
  EXPECT_FALSE(parse_replay_request(std::vector<Frame>{"id", "", "7"}).ok());
}

TEST(Frames, ReplayRepliesWithAndWithoutTopic) {
  for (const std::vector<Frame>& frames : {std::vector<Frame>{"", kSeq7, "p"}, {"", "topic", kSeq7, "p"},
                                           {"", "", kSeq7, "p"}, {"", "12345678", kSeq7, "p"}}) {
    const auto reply = parse_replay_reply(frames);
    ASSERT_TRUE(reply.ok());
    EXPECT_FALSE(reply->end);
    EXPECT_EQ(reply->seq.value(), 7u);
    EXPECT_EQ(text(reply->payload), "p");
  }
  for (const std::vector<Frame>& frames : {std::vector<Frame>{"", kEnd, ""}, {"", "", kEnd, ""}}) {
    const auto reply = parse_replay_reply(frames);
    ASSERT_TRUE(reply.ok());
    EXPECT_TRUE(reply->end);
  }
  // A sequence of 7 with an empty payload is an empty batch (and will not decode), not the end.
  const auto empty = parse_replay_reply(std::vector<Frame>{"", "", kSeq7, ""});
  ASSERT_TRUE(empty.ok());
  EXPECT_FALSE(empty->end);

  for (const std::vector<Frame>& frames :
       {std::vector<Frame>{}, {""}, {"", kSeq7}, {"x", kSeq7, "p"}, {"", "topic", "short", "p"},
        {"", "t", kSeq7, "p", "q"}, {"", "", kEnd, "payload"}}) {
    EXPECT_FALSE(parse_replay_reply(frames).ok());
  }
}

}  // namespace
}  // namespace warmpath::events
