#include "io/loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "io/test_loop.h"

namespace warmpath::io {
namespace {

using std::chrono::milliseconds;

TEST(Loop, PostsRunInOrderAndNotInline) {
  Loop loop;
  std::vector<int> seen;
  loop.post([&] {
    seen.push_back(1);
    loop.post([&] { seen.push_back(3); });
    seen.push_back(2);
  });
  EXPECT_TRUE(seen.empty());
  ASSERT_TRUE(RunUntil(loop, [&] { return seen.size() == 3; }));
  EXPECT_EQ(seen, (std::vector<int>{1, 2, 3}));
}

TEST(Loop, PostsFromManyThreadsAllArriveEachThreadsInOrder) {
  Loop loop;
  constexpr int kThreads = 4;
  constexpr int kEach = 5'000;
  std::vector<std::vector<int>> seen(kThreads);
  int total = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        loop.post([&, t, i] {
          seen[static_cast<std::size_t>(t)].push_back(i);
          if (++total == kThreads * kEach) loop.stop();
        });
      }
    });
  }
  loop.run();
  for (auto& thread : threads) thread.join();
  for (const auto& one : seen) {
    ASSERT_EQ(one.size(), static_cast<std::size_t>(kEach));
    EXPECT_TRUE(std::is_sorted(one.begin(), one.end()));
  }
}

TEST(Loop, StopWakesASleepingLoopAndItCanRunAgain) {
  Loop loop;
  for (int i = 0; i < 3; ++i) {
    std::thread other([&] { loop.stop(); });  // before or while run() sleeps: both end it
    loop.run();
    other.join();
  }
}

TEST(Loop, KnowsItsThread) {
  Loop loop;
  bool inside = false;
  EXPECT_FALSE(loop.on_this_thread());
  loop.post([&] {
    inside = loop.on_this_thread();
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(inside);
  EXPECT_FALSE(loop.on_this_thread());
}

TEST(Loop, TimersFireInOrderOfTimeThenOfArming) {
  Loop loop;
  std::vector<int> seen;
  std::vector<Timer> timers;
  timers.push_back(loop.after(milliseconds(6), [&] { seen.push_back(4); }));
  timers.push_back(loop.after(milliseconds(3), [&] { seen.push_back(3); }));
  timers.push_back(loop.after(milliseconds(-5), [&] { seen.push_back(1); }));  // in the past: now
  timers.push_back(loop.after(milliseconds(1), [&] { seen.push_back(2); }));
  const Instant before = loop.now();
  ASSERT_TRUE(RunUntil(loop, [&] { return seen.size() == 4; }));
  EXPECT_GE(loop.now() - before, milliseconds(5));
  EXPECT_EQ(seen, (std::vector<int>{1, 2, 3, 4}));
  EXPECT_FALSE(timers[0].armed());
}

TEST(Loop, CancelledOrDestroyedTimersDoNotFire) {
  Loop loop;
  int fired = 0;
  Timer cancelled = loop.after(Duration{0}, [&] { ++fired; });
  EXPECT_TRUE(cancelled.armed());
  cancelled.cancel();
  EXPECT_FALSE(cancelled.armed());
  cancelled.cancel();
  { const Timer gone = loop.after(Duration{0}, [&] { ++fired; }); }
  Timer replaced = loop.after(Duration{0}, [&] { fired += 100; });
  replaced = loop.after(Duration{0}, [&] { ++fired; });
  bool last = false;
  const Timer after = loop.after(milliseconds(2), [&] { last = true; });
  ASSERT_TRUE(RunUntil(loop, [&] { return last; }));
  EXPECT_EQ(fired, 1);
  Timer empty;
  empty.cancel();
  EXPECT_FALSE(empty.armed());
}

TEST(Loop, ATimerMayReplaceCancelAndOutliveEverything) {
  std::optional<Loop> loop;
  loop.emplace();
  auto timer = std::make_shared<Timer>();
  int ticks = 0;
  std::function<void()> tick = [&] {
    if (++ticks < 5) *timer = loop->after(Duration{0}, tick);  // replaces itself while running
  };
  *timer = loop->after(Duration{0}, tick);
  ASSERT_TRUE(RunUntil(*loop, [&] { return ticks == 5; }));
  *timer = loop->after(std::chrono::hours(1), [&] { ++ticks; });
  loop.reset();
  EXPECT_FALSE(timer->armed());
  timer->cancel();
}

TEST(Loop, ATimerThatReArmsItselfAtOnceStarvesNobody) {
  Loop loop;
  Timer timer;
  bool posted = false;
  int ticks = 0;
  std::function<void()> tick = [&] {
    ++ticks;
    timer = loop.after(Duration{0}, tick);
  };
  timer = loop.after(Duration{0}, tick);
  std::thread other([&] { loop.post([&] { posted = true; }); });
  ASSERT_TRUE(RunUntil(loop, [&] { return posted && ticks > 10; }));
  other.join();
}

TEST(Loop, TasksNeverRunAreDestroyedWithTheLoop) {
  auto token = std::make_shared<int>(1);
  {
    Loop loop;
    loop.post([token] {});
    const Timer timer = loop.after(std::chrono::hours(1), [token] {});
    EXPECT_EQ(token.use_count(), 3);
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Loop, TellsSignalsOnItsThread) {
  Loop loop;
  std::vector<int> seen;
  const int watched[] = {SIGUSR1, SIGUSR2};
  loop.on_signals(watched, [&](int number) { seen.push_back(number); });
  ::raise(SIGUSR1);
  ASSERT_TRUE(RunUntil(loop, [&] { return seen.size() == 1; }));
  ::raise(SIGUSR2);
  ::raise(SIGUSR1);
  ASSERT_TRUE(RunUntil(loop, [&] { return seen.size() == 3; }));
  EXPECT_EQ(seen, (std::vector<int>{SIGUSR1, SIGUSR2, SIGUSR1}));
}

TEST(Loop, ReadsTheProcessAndTheClock) {
  const ProcessUsage usage = process_usage();
  EXPECT_GT(usage.resident_bytes, 1u << 20);
  EXPECT_GE(usage.cpu_seconds, 0);
  EXPECT_GT(unix_time_ms(), 1'700'000'000'000);
}

}  // namespace
}  // namespace warmpath::io
