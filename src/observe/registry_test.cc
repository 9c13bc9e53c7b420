#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "observe/observe.h"

namespace warmpath::observe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Registry, WritesCountersAndGauges) {
  Registry registry;
  registry.counter("b_total", "Second.", {{"pool", "p"}}).add(3);
  registry.gauge("a_now", "First.").set(-1.5);
  EXPECT_EQ(registry.expose(),
            "# HELP a_now First.\n"
            "# TYPE a_now gauge\n"
            "a_now -1.5\n"
            "# HELP b_total Second.\n"
            "# TYPE b_total counter\n"
            "b_total{pool=\"p\"} 3\n");
}

TEST(Registry, ExposesNothingWhenEmpty) { EXPECT_EQ(Registry().expose(), ""); }

TEST(Registry, GivesTheSameHandleForTheSameLabelsInAnyOrder) {
  Registry registry;
  Counter& one = registry.counter("x_total", "X.", {{"a", "1"}, {"b", "2"}});
  Counter& two = registry.counter("x_total", "X.", {{"b", "2"}, {"a", "1"}});
  Counter& three = registry.counter("x_total", "X.", {{"a", "1"}, {"b", "3"}});
  EXPECT_EQ(&one, &two);
  EXPECT_NE(&one, &three);
}

TEST(Registry, WritesHistogramsWithCumulativeBuckets) {
  Registry registry;
  Histogram& h = registry.histogram("h_seconds", "H.", {{"k", "v"}}, std::vector<double>{1, 2});
  h.observe(1);  // a bound belongs to its bucket
  h.observe(1.5);
  h.observe(99);
  h.observe(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(h.count(), 3u);
  EXPECT_EQ(registry.expose(),
            "# HELP h_seconds H.\n"
            "# TYPE h_seconds histogram\n"
            "h_seconds_count{k=\"v\"} 3\n"
            "h_seconds_sum{k=\"v\"} 101.5\n"
            "h_seconds_bucket{k=\"v\",le=\"1\"} 1\n"
            "h_seconds_bucket{k=\"v\",le=\"2\"} 2\n"
            "h_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\n");
}

TEST(Registry, KeepsLargeCountersExact) {
  Registry registry;
  registry.counter("big_total", "Big.").add((std::uint64_t{1} << 53) - 1);
  EXPECT_THAT(registry.expose(), HasSubstr("big_total 9007199254740991\n"));
}

TEST(Registry, EscapesLabelValuesAndHelp) {
  Registry registry;
  registry.gauge("g", "Line one\nback\\slash", {{"l", "quote\" back\\ line\n end"}}).set(1);
  const std::string page = registry.expose();
  EXPECT_THAT(page, HasSubstr("# HELP g Line one\\nback\\\\slash\n"));
  EXPECT_THAT(page, HasSubstr("g{l=\"quote\\\" back\\\\ line\\n end\"} 1\n"));
}

TEST(Registry, ReplacesBytesThatAreNotUtf8) {
  Registry registry;
  registry.gauge("g", "G.", {{"l", "ok \xC3\xA9 \xFF\xC3 \xED\xA0\x80 \xF0\x9F\x99\x82"}}).set(1);
  EXPECT_THAT(registry.expose(), HasSubstr("g{l=\"ok \xC3\xA9 ?? ??? \xF0\x9F\x99\x82\"} 1\n"));
}

TEST(Registry, BoundsLabelSetsOfAFamily) {
  Registry registry({.label_sets_max = 3});
  for (int i = 0; i < 10; ++i) registry.counter("c_total", "C.", {{"model", std::to_string(i)}}).add();
  registry.counter("d_total", "D.", {{"model", "9"}}).add();
  const std::string page = registry.expose();
  EXPECT_THAT(page, HasSubstr("c_total{model=\"0\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("c_total{model=\"2\"} 1\n"));
  EXPECT_THAT(page, Not(HasSubstr("c_total{model=\"3\"}")));
  EXPECT_THAT(page, HasSubstr("c_total{model=\"other\"} 7\n"));
  EXPECT_THAT(page, HasSubstr("d_total{model=\"9\"} 1\n"));
  EXPECT_EQ(registry.overflows(), 7u);
  // Those known before stay themselves.
  registry.counter("c_total", "C.", {{"model", "1"}}).add();
  EXPECT_THAT(registry.expose(), HasSubstr("c_total{model=\"1\"} 2\n"));
}

TEST(Registry, RemovesSeriesByLabelAndMakesRoom) {
  Registry registry({.label_sets_max = 2});
  Counter& old = registry.counter("c_total", "C.", {{"engine", "1"}, {"k", "a"}});
  registry.counter("c_total", "C.", {{"engine", "2"}, {"k", "a"}}).add(5);
  registry.gauge("g", "G.", {{"engine", "1"}}).set(1);
  registry.gauge("free", "No such label.", {{"k", "1"}}).set(1);
  EXPECT_EQ(registry.remove("engine", "1"), 2u);
  old.add(7);  // still safe
  std::string page = registry.expose();
  EXPECT_THAT(page, Not(HasSubstr("engine=\"1\"")));
  EXPECT_THAT(page, Not(HasSubstr("# TYPE g ")));
  EXPECT_THAT(page, HasSubstr("c_total{engine=\"2\",k=\"a\"} 5\n"));
  EXPECT_THAT(page, HasSubstr("free{k=\"1\"} 1\n"));
  registry.counter("c_total", "C.", {{"engine", "3"}, {"k", "a"}}).add();
  EXPECT_EQ(registry.overflows(), 0u);
  Counter& fresh = registry.counter("c_total", "C.", {{"engine", "1"}, {"k", "a"}});
  EXPECT_EQ(registry.overflows(), 1u);
  EXPECT_NE(&fresh, &old);
  EXPECT_EQ(registry.remove("engine", "other"), 0u) << "the overflow set stays";
}

TEST(Counter, RaisesButNeverLowers) {
  Counter counter;
  counter.raise_to(5);
  counter.raise_to(3);
  EXPECT_EQ(counter.value(), 5u);
}

TEST(Registry, UpdatesFromManyThreadsAreNotLost) {
  Registry registry;
  constexpr int kThreads = 4;
  constexpr int kRounds = 5000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&registry, t] {
      Counter& counter = registry.counter("c_total", "C.");
      Gauge& gauge = registry.gauge("g", "G.");
      Histogram& histogram = registry.histogram("h", "H.", {}, ratios());
      for (int i = 0; i < kRounds; ++i) {
        counter.add();
        gauge.add(i % 2 == 0 ? 2 : -1);
        histogram.observe(0.5);
        if (i % 500 == 0) registry.counter("own_total", "O.", {{"t", std::to_string(t)}}).add();
        if (i % 1000 == 0) EXPECT_FALSE(registry.expose().empty());
        if (i % 1000 == 1) registry.remove("t", std::to_string((t + 1) % kThreads));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry.counter("c_total", "C.").value(), std::uint64_t{kThreads} * kRounds);
  EXPECT_EQ(registry.gauge("g", "G.").value(), kThreads * kRounds / 2.0);
  Histogram& histogram = registry.histogram("h", "H.", {}, ratios());
  EXPECT_EQ(histogram.count(), std::uint64_t{kThreads} * kRounds);
  EXPECT_EQ(histogram.sum(), kThreads * kRounds * 0.5);
}

using RegistryDeathTest = ::testing::Test;

TEST(RegistryDeathTest, RefusesNamesThatAreBugs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Registry registry;
  EXPECT_DEATH(registry.counter("", "X."), "is_metric_name");
  EXPECT_DEATH(registry.counter("1x", "X."), "is_metric_name");
  EXPECT_DEATH(registry.counter("a-b", "X."), "is_metric_name");
  EXPECT_DEATH(registry.counter("a", "X.", {{"__x", "1"}}), "is_label_name");
  EXPECT_DEATH(registry.counter("a", "X.", {{"a:b", "1"}}), "is_label_name");
  EXPECT_DEATH(registry.counter("a", "X.", {{"l", "1"}, {"l", "2"}}), "check|names");
  EXPECT_DEATH(registry.histogram("h", "X.", {{"le", "1"}}, ratios()), "le");
  registry.counter("c_total", "C.", {{"k", "1"}});
  EXPECT_DEATH(registry.gauge("c_total", "C.", {{"k", "1"}}), "type");
  EXPECT_DEATH(registry.counter("c_total", "C."), "label_names");
  registry.histogram("h2", "H.", {}, ratios());
  EXPECT_DEATH(registry.histogram("h2", "H.", {}, latency_seconds()), "bounds");
  EXPECT_DEATH(registry.histogram("h3", "H.", {}, std::vector<double>{2, 1}), "bounds");
}

}  // namespace
}  // namespace warmpath::observe
