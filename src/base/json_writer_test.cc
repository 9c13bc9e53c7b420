#include "base/json_writer.h"

#include <gtest/gtest.h>

#include <limits>

namespace warmpath {
namespace {

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonWriter, NestsWithCommasWhereTheyBelong) {
  JsonWriter w;
  w.object().key("ids").array().value(1u).value(2u).array().end().object().end().end();
  w.member("a", "x").member("b", true).key("c").null().key("d").object().member("e", -1).end().end();
  EXPECT_EQ(w.text(), R"({"ids":[1,2,[],{}],"a":"x","b":true,"c":null,"d":{"e":-1}})");
}

TEST(JsonWriter, WritesAnyTopLevelValue) {
  EXPECT_EQ(JsonWriter().value("x").text(), R"("x")");
  EXPECT_EQ(JsonWriter().array().end().text(), "[]");
  EXPECT_EQ(JsonWriter().raw(R"({"k":1})").text(), R"({"k":1})");
}

TEST(JsonWriter, KeepsWholeNumbersExact) {
  JsonWriter w;
  w.array().value(std::numeric_limits<std::uint64_t>::max()).value(std::numeric_limits<std::int64_t>::min()).end();
  EXPECT_EQ(w.text(), "[18446744073709551615,-9223372036854775808]");
}

TEST(JsonWriter, PrintsDoublesShortestAndNeverInvalid) {
  JsonWriter w;
  w.array().value(0.1).value(1.0).value(1e300).value(-0.0);
  w.value(std::numeric_limits<double>::quiet_NaN()).value(std::numeric_limits<double>::infinity()).end();
  EXPECT_EQ(w.text(), "[0.1,1,1e+300,-0,null,null]");
}

TEST(JsonWriter, EscapesWhatJsonForbidsAndLeavesUtf8Alone) {
  EXPECT_EQ(quoted("a\"b\\c\n\r\t"), R"("a\"b\\c\n\r\t")");
  EXPECT_EQ(quoted(std::string_view("\0\x1f\x7f", 3)), "\"\\u0000\\u001f\x7f\"");
  EXPECT_EQ(quoted("é漢🙂"), "\"é漢🙂\"");
  EXPECT_EQ(quoted("</script>"), R"("</script>")");
}

TEST(JsonWriter, TakeEmptiesIt) {
  JsonWriter w;
  w.object().end();
  EXPECT_EQ(w.take(), "{}");
  EXPECT_EQ(w.text(), "");
}

TEST(JsonWriterDeathTest, RefusesBrokenStructure) {
  EXPECT_DEATH(JsonWriter().object().value(1), "bug");
  EXPECT_DEATH(JsonWriter().array().key("a"), "bug");
  EXPECT_DEATH(JsonWriter().key("a"), "bug");
  EXPECT_DEATH(JsonWriter().end(), "bug");
  EXPECT_DEATH(JsonWriter().object().key("a").end(), "bug");
  EXPECT_DEATH(JsonWriter().object().key("a").key("b"), "bug");
  EXPECT_DEATH(JsonWriter().object().take(), "bug");
}

}  // namespace
}  // namespace warmpath
