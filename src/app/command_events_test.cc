#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "app/commands.h"
#include "app/test_run.h"

namespace warmpath::app {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;
using testing::outcome_of;

constexpr const char* kRemovedAndCleared =
    "93cb41d954fc404000009284a474797065ac426c6f636b52656d6f766564ac626c6f636b5f68617368657391cf9121a015df011ebaa66d6564"
    "69756da3475055a967726f75705f6964780081a474797065b0416c6c426c6f636b73436c656172656400";
constexpr const char* kJson =
    R"({"ts":1700000001,"rank":0,"events":[{"type":"BlockRemoved","block_hashes":[10457815825527152314],)"
    R"("medium":"GPU","group_idx":0},{"type":"AllBlocksCleared"}]})";

Outcome decode(const std::vector<std::string>& args) { return outcome_of(run_events_decode, args); }

TEST(EventsDecodeCommand, JsonIsOneObjectAPayload) {
  const auto one = decode({"--hex", kRemovedAndCleared});
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(one.out, std::string(kJson) + "\n");
  const auto two = decode({"--format", "json", "--hex", std::string(kRemovedAndCleared) + " \n" + kRemovedAndCleared});
  EXPECT_EQ(two.out, std::string(kJson) + "\n" + kJson + "\n");
}

TEST(EventsDecodeCommand, Table) {
  const auto run = decode({"--hex", kRemovedAndCleared, "--format", "table"});
  EXPECT_EQ(run.code, 0);
  EXPECT_THAT(run.out, HasSubstr("2 events"));
  EXPECT_THAT(run.out, HasSubstr("removed  1 block: 10457815825527152314, GPU, group 0"));
  EXPECT_THAT(run.out, HasSubstr("cleared  all blocks"));
}

TEST(EventsDecodeCommand, BadInputIsExplained) {
  const auto odd = decode({"--hex", "93c"});
  EXPECT_EQ(odd.code, 1);
  EXPECT_THAT(odd.err, HasSubstr("byte 1"));
  const auto digit = decode({"--hex", "93zz"});
  EXPECT_EQ(digit.code, 1);
  EXPECT_THAT(digit.err, HasSubstr("character 2"));
  const auto cut = decode({"--hex", "9300dcffff"});
  EXPECT_EQ(cut.code, 1);
  EXPECT_THAT(cut.err, HasSubstr("byte 2"));
  EXPECT_THAT(decode({"--hex", "930090c0 93"}).err, HasSubstr("payload 2"));
  EXPECT_EQ(decode({"--hex", " "}).code, 2);
  EXPECT_EQ(decode({}).code, 2);
  EXPECT_EQ(cut.out, "");
}

}  // namespace
}  // namespace warmpath::app
