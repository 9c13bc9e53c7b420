#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "app/app.h"
#include "app/test_run.h"

namespace warmpath::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Outcome;
using testing::outcome_of;
using ::testing::StartsWith;

Outcome run(const std::vector<std::string>& args) { return outcome_of(run_app, args); }

TEST(Commands, HaveUniqueNamesAndShortSummaries) {
  std::set<std::string_view> names;
  for (const Command& command : commands()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_FALSE(command.summary.empty()) << command.name;
    EXPECT_FALSE(command.summary.ends_with('.')) << command.name;
    EXPECT_LE(command.name.size() + command.summary.size(), 110u) << command.name;
  }
}

TEST(Commands, EachHasHelpOnStdoutWithAnExample) {
  for (const Command& command : commands()) {
    std::vector<std::string> args;
    for (const auto word : split(command.name, ' ')) args.emplace_back(word);
    args.emplace_back("--help");
    const Outcome help = run(args);
    EXPECT_EQ(help.code, 0) << command.name;
    EXPECT_THAT(help.out, StartsWith("warmpath " + std::string(command.name) + ": "));
    EXPECT_THAT(help.out, HasSubstr("Examples:")) << command.name;
    EXPECT_EQ(help.err, "") << command.name;
    args.back() = "--list-options";
    EXPECT_THAT(run(args).out, HasSubstr("--help\n")) << command.name;
    args.back() = "--no-such-option";
    EXPECT_EQ(run(args).code, 2) << command.name;
  }
}

TEST(RunApp, HelpListsEveryCommandAndNothingElse) {
  const Outcome help = run({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const Command& command : commands()) EXPECT_THAT(help.out, HasSubstr("  " + std::string(command.name) + " "));
  EXPECT_THAT(help.out, Not(HasSubstr("dashboard")));
  const Outcome nothing = run({});
  EXPECT_EQ(nothing.code, 2);
  EXPECT_EQ(nothing.out, "");
  EXPECT_EQ(nothing.err, help.out);
}

TEST(RunApp, MistakesNameTheNearestCommand) {
  const Outcome typo = run({"complition"});
  EXPECT_EQ(typo.code, 2);
  EXPECT_EQ(typo.out, "");
  EXPECT_THAT(typo.err, HasSubstr("there is no command 'complition'; did you mean 'completion'?"));
  EXPECT_THAT(run({"config", "chek", "f"}).err, HasSubstr("'config' needs one more word: config check, config docs"));
  EXPECT_THAT(run({"config"}).err, HasSubstr("'config' needs one more word"));
  EXPECT_THAT(run({"", ""}).err, HasSubstr("there is no command ''"));
}

TEST(Version, PrintsForPeopleAndPrograms) {
  const Outcome text = run({"--version"});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.out, StartsWith("warmpath 0."));
  const Outcome json = run({"--version", "--format", "json"});
  EXPECT_THAT(json.out, StartsWith(R"({"version":"0.)"));
  EXPECT_THAT(json.out, HasSubstr(R"("commit":")"));
  EXPECT_THAT(json.out, HasSubstr(R"("compiler":")"));
  EXPECT_EQ(run({"--version", "--format", "xml"}).code, 2);
}

TEST(Completion, KnowsThreeShells) {
  for (const auto* shell : {"bash", "zsh", "fish"}) {
    const Outcome script = run({"completion", shell});
    EXPECT_EQ(script.code, 0);
    EXPECT_THAT(script.out, HasSubstr("--list-commands")) << shell;
  }
  const Outcome other = run({"completion", "csh"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("bash, zsh and fish"));
  EXPECT_THAT(run({"--list-commands"}).out, HasSubstr("config check\n"));
}

class ConfigCheck : public ::testing::Test {
 protected:
  std::string write(std::string_view text) {
    const auto path = std::filesystem::path(::testing::TempDir()) / ("check_" + std::to_string(::getpid()) + ".yaml");
    std::ofstream(path) << text;
    return path.string();
  }
};

TEST_F(ConfigCheck, FindsNothingInAGoodFile) {
  const Outcome good = run({"config", "check", write("pools:\n- engines: [http://a:1, http://b:1]\n")});
  EXPECT_EQ(good.code, 0) << good.err << good.out;
  EXPECT_THAT(good.out, HasSubstr("no fault (pools: 1, engines: 2)"));
}

TEST_F(ConfigCheck, NamesAllFaultsAndExitsWithTwo) {
  const std::string file = write("lisen: a:1\npools:\n- policy: precice\n  engines: [http://a:1]\n");
  const Outcome bad = run({"config", "check", file});
  EXPECT_EQ(bad.code, 2);
  EXPECT_THAT(bad.out, HasSubstr(file + ":1: lisen: there is no such option; did you mean 'listen'?\n"));
  EXPECT_THAT(bad.out, HasSubstr(file + ":3: pools[0].policy: takes one of random, "));
  EXPECT_THAT(bad.out, HasSubstr("did you mean 'precise'?"));
  const Outcome json = run({"config", "check", file, "--format", "json"});
  EXPECT_EQ(json.code, 2);
  EXPECT_THAT(json.out, StartsWith(R"({"faults":[{"file":")"));
  EXPECT_THAT(json.out, HasSubstr(R"("line":1,"key":"lisen","message":")"));
  EXPECT_EQ(run({"config", "check", file + ".gone"}).code, 2);
}

}  // namespace
}  // namespace warmpath::app
