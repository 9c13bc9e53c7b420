#include "loadgen/answer.h"

#include <gtest/gtest.h>

namespace warmpath::loadgen {
namespace {

std::string chunk(std::string_view text) {
  return "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" +
         std::string(text) + "\"},\"finish_reason\":null}]}\n\n";
}
constexpr std::string_view kUsage =
    "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":2,"
    "\"prompt_tokens_details\":{\"cached_tokens\":32}},\"warmpath\":{\"ttft_ms\":12.5,\"queue_ms\":1}}\n\n";

TEST(Answer, StreamIsReadPieceByPiece) {
  const std::string body = chunk("one") + chunk(" two") + std::string(kUsage) + "data: [DONE]\n\n";
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, body.size()}) {
    Answer answer(true);
    answer.head(200);
    for (std::size_t at = 0; at < body.size(); at += piece) {
      answer.feed(std::string_view(body).substr(at, piece), 1.0 + static_cast<double>(at));
    }
    EXPECT_EQ(answer.end(99), "");
    EXPECT_EQ(answer.text(), "one two");
    ASSERT_TRUE(answer.usage());
    EXPECT_EQ(answer.usage()->prompt_tokens, 40u);
    EXPECT_EQ(answer.usage()->cached_tokens, 32u);
    ASSERT_TRUE(answer.engine_ttft());
    EXPECT_DOUBLE_EQ(*answer.engine_ttft(), 0.0125);
    EXPECT_EQ(answer.gaps().size(), 1u);
  }
}

TEST(Answer, FirstContentIsNotTheRoleChunk) {
  Answer answer(true);
  answer.head(200);
  answer.feed("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n", 1);
  EXPECT_FALSE(answer.first_content_at());
  answer.feed(chunk("a"), 2);
  EXPECT_EQ(answer.first_content_at(), 2);
}

TEST(Answer, AStreamWithoutItsEndFailed) {
  Answer answer(true);
  answer.head(200);
  answer.feed(chunk("one"), 1);
  EXPECT_EQ(answer.end(2), "broken_stream");
}

TEST(Answer, AnErrorEventFailed) {
  Answer answer(true);
  answer.head(200);
  answer.feed(chunk("one") + "data: {\"error\":{\"message\":\"engine broke\"}}\n\n", 1);
  EXPECT_EQ(answer.end(2), "error_event");
}

TEST(Answer, AStatusFailedAndItsBodyIsNotContent) {
  Answer answer(false);
  answer.head(503);
  answer.feed("{\"error\":{}}", 1);
  EXPECT_EQ(answer.end(2), "status_503");
  EXPECT_EQ(answer.text(), "");
}

TEST(Answer, WholeAnswer) {
  Answer answer(false);
  answer.head(200);
  answer.feed("{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hi", 1);
  answer.feed(" there\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}", 1.5);
  EXPECT_EQ(answer.end(2), "");
  EXPECT_EQ(answer.text(), "hi there");
  EXPECT_EQ(answer.first_content_at(), 2);
  EXPECT_EQ(answer.usage()->completion_tokens, 2u);
  EXPECT_FALSE(answer.usage()->cached_tokens);
}

TEST(Answer, WholeAnswerThatIsNoJson) {
  Answer answer(false);
  answer.head(200);
  answer.feed("<html>", 1);
  EXPECT_EQ(answer.end(2), "malformed");
}

}  // namespace
}  // namespace warmpath::loadgen
