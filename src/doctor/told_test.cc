#include "doctor/told.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::doctor {
namespace {

TEST(Told, AnEnginesWordsAreShownWithoutControlCharacters) {
  EXPECT_EQ(printable("kv@h\x1b[31m\xff\n"), "kv@h?[31m??");
  EXPECT_EQ(printable(std::string(500, 'a')).size(), 128u);
  EXPECT_EQ(read_version(R"({"version":"1\u001b[0m"})"), "1?[0m");
  EXPECT_EQ(read_version("[]"), "");
}

TEST(Told, RefusalsAreOneLine) {
  EXPECT_EQ(read_refusal(400, R"({"error":{"message":"one\ntwo","code":400}})"), "400: one two");
  EXPECT_EQ(read_refusal(404, R"({"detail":"Not Found"})"), "404: Not Found");
  EXPECT_EQ(read_refusal(500, "<html>"), "500");
  const std::string longer = read_refusal(400, R"({"message":")" + std::string(199, 'a') + R"(ééé"})");
  EXPECT_EQ(longer, "400: " + std::string(199, 'a') + "…");
}

}  // namespace
}  // namespace warmpath::doctor
