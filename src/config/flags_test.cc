#include "config/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace warmpath::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Fixture {
  std::string name = "default";
  std::optional<std::string> salt;
  std::vector<std::string> hosts;
  std::uint32_t blocks = 7;
  std::optional<std::uint64_t> seed;
  double speed = 1.5;
  Duration wait = std::chrono::seconds(30);
  bool fast = false;
  std::string color = "red";
  Format format = Format::kTable;
  std::vector<std::string> files;
  static constexpr std::array<std::string_view, 2> kColors = {"red", "green"};

  Flags flags() {
    Flags f("paint", "paints");
    f.text("name", "NAME", "the name", &name).text("salt", "S", "a salt", &salt).list("host", "H", "a host", &hosts);
    f.number("blocks", "N", "how many", &blocks, 1, 64).number("seed", "N", "the seed", &seed);
    f.real("speed", "X", "how fast", &speed, 0.1, 10).duration("wait", "how long", &wait);
    f.toggle("fast", "no brakes", &fast).choice("color", "the color", &color, kColors).format(&format);
    f.positionals("FILE", "what to paint", &files, 0, 2).example("warmpath paint a", "paints a");
    return f;
  }
  std::vector<std::string> faults(std::vector<std::string> args) { return flags().parse(args).faults; }
};

TEST(Flags, ReadsEveryKindInBothForms) {
  Fixture x;
  EXPECT_THAT(
      x.faults({"--name", "n", "--salt=", "--host", "a", "--host=b", "--blocks=64", "--seed", "18446744073709551615",
                "--speed=2", "--wait", "1500ms", "--fast", "--color", "green", "--format=json", "f1", "--", "--f2"}),
      IsEmpty());
  EXPECT_EQ(x.name, "n");
  EXPECT_EQ(x.salt, "");
  EXPECT_THAT(x.hosts, ElementsAre("a", "b"));
  EXPECT_EQ(x.blocks, 64u);
  EXPECT_EQ(x.seed, ~std::uint64_t{0});
  EXPECT_EQ(x.speed, 2.0);
  EXPECT_EQ(x.wait, std::chrono::milliseconds(1'500));
  EXPECT_TRUE(x.fast);
  EXPECT_EQ(x.color, "green");
  EXPECT_EQ(x.format, Format::kJson);
  EXPECT_THAT(x.files, ElementsAre("f1", "--f2"));
}

TEST(Flags, LeavesDefaultsAlone) {
  Fixture x;
  const auto parsed = x.flags().parse({});
  EXPECT_THAT(parsed.faults, IsEmpty());
  EXPECT_THAT(parsed.given, IsEmpty());
  EXPECT_EQ(x.name, "default");
  EXPECT_FALSE(x.salt);
  EXPECT_EQ(x.blocks, 7u);
  EXPECT_FALSE(x.seed);
}

TEST(Flags, NamesEveryFaultAtOnce) {
  Fixture x;
  EXPECT_THAT(
      x.faults({"--blocks", "65", "--speed=fast", "--colour", "red", "--color=gren", "--fast=1", "--wait", "3",
                "--name", "a", "--name", "b", "-x", "one", "two", "three", "--seed"}),
      ElementsAre("--blocks takes a whole number from 1 to 64, not '65'",
                  "--speed takes a number from 0.1 to 10, not 'fast'",
                  "there is no option '--colour'; did you mean '--color'?",
                  "--color takes one of red, green, not 'gren'; did you mean 'green'?", "--fast takes no value",
                  "--wait takes a time such as 500ms, 30s, 2m or 1h, at most 366 days, not '3'",
                  "--name is given twice; it takes one value", "'-x' is no option: options start with two dashes",
                  "--seed needs a value: --seed N", "'three' is one word too many"));
  EXPECT_EQ(x.blocks, 7u);
}

TEST(Flags, AValueMayStartWithOneDash) {
  Fixture x;
  EXPECT_THAT(x.faults({"--name", "-5", "-"}), IsEmpty());
  EXPECT_EQ(x.name, "-5");
  EXPECT_THAT(x.files, ElementsAre("-"));
}

TEST(Flags, WantsWhatIsRequired) {
  std::string model;
  std::vector<std::string> words;
  Flags flags("engine", "an engine");
  flags.text("model", "NAME", "the model", &model).required("model").positionals("DIR", "a folder", &words, 1, 1);
  EXPECT_THAT(flags.parse({}).faults, ElementsAre("--model NAME is missing: the model", "DIR is missing: a folder"));
  const std::vector<std::string> args = {"--model", "m", "d"};
  EXPECT_THAT(flags.parse(args).faults, IsEmpty());
  EXPECT_THAT(flags.help_text(), HasSubstr("Usage: warmpath engine --model NAME [OPTIONS] DIR\n"));
}

TEST(Flags, HelpHoldsEveryOptionDefaultAndExample) {
  Fixture x;
  const std::string help = x.flags().help_text();
  for (const auto* part : {"warmpath paint: paints\n", "Usage: warmpath paint [OPTIONS] [FILE…]", "--blocks N",
                           "how many (default: 7)", "a host (may be repeated)", "--color red|green", "(default: 30s)",
                           "--format table|json", "Examples:\n  warmpath paint a\n      paints a\n", "--help"}) {
    EXPECT_THAT(help, HasSubstr(part));
  }
  const std::vector<std::string> ask = {"--blocks", "99", "--help"};
  EXPECT_TRUE(x.flags().parse(ask).help);
  const std::vector<std::string> list = {"--list-options"};
  EXPECT_TRUE(x.flags().parse(list).list_options);
  EXPECT_THAT(x.flags().option_names(), HasSubstr("--blocks\n"));
}

TEST(Durations, RoundTripAndRefuse) {
  for (const auto* text : {"0", "1us", "500ms", "30s", "90s", "2m", "1h", "36h"}) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parse_duration(duration_text(*parsed)), *parsed) << text;
  }
  EXPECT_EQ(duration_text(std::chrono::seconds(90)), "90s");
  EXPECT_EQ(*parse_duration("1.5s"), std::chrono::milliseconds(1'500));
  for (const auto* text : {"", "5", "s", "-1s", "1 s", "1d", "1e3s", "nans", "1..5s", "9999999h"}) {
    EXPECT_FALSE(parse_duration(text).ok()) << text;
  }
}

TEST(Sizes, RoundTripAndRefuse) {
  EXPECT_EQ(*parse_size("0"), 0u);
  EXPECT_EQ(*parse_size("65536"), 65'536u);
  EXPECT_EQ(*parse_size("16MiB"), 16u << 20);
  EXPECT_EQ(size_text(16u << 20), "16MiB");
  EXPECT_EQ(size_text(1'000), "1000");
  EXPECT_EQ(size_text(0), "0");
  for (const auto* text : {"", "MiB", "1MB", "-1", "1.5MiB", "18446744073709551615GiB"}) {
    EXPECT_FALSE(parse_size(text).ok()) << text;
  }
}

}  // namespace
}  // namespace warmpath::config
