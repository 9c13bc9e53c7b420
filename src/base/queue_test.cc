#include "base/queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace warmpath {
namespace {

using Ints = BoundedQueue<int>;

TEST(BoundedQueue, KeepsOrderAndSaysWhenToWake) {
  Ints queue(3);
  EXPECT_EQ(queue.push(1), Ints::Push::kQueuedFirst);
  EXPECT_EQ(queue.push(2), Ints::Push::kQueued);
  EXPECT_EQ(queue.size(), 2u);
  std::vector<int> out = {0};
  queue.drain(out);
  EXPECT_EQ(out, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.push(3), Ints::Push::kQueuedFirst);
}

TEST(BoundedQueue, FullIsAnAnswerAndLosesNothing) {
  Ints queue(2);
  EXPECT_NE(queue.push(1), Ints::Push::kFull);
  EXPECT_NE(queue.push(2), Ints::Push::kFull);
  EXPECT_EQ(queue.push(3), Ints::Push::kFull);
  std::vector<int> out;
  queue.drain(out);
  EXPECT_EQ(out, (std::vector<int>{1, 2}));
  EXPECT_NE(queue.push(3), Ints::Push::kFull);
  EXPECT_EQ(Ints(0).push(1), Ints::Push::kFull);
}

TEST(BoundedQueue, HoldsMoveOnlyItems) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_EQ(queue.push(std::make_unique<int>(7)), BoundedQueue<std::unique_ptr<int>>::Push::kQueuedFirst);
  std::vector<std::unique_ptr<int>> out;
  queue.drain(out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(*out[0], 7);
}

// Goal: with many producers and one consumer nothing is lost, doubled or reordered within a producer.
TEST(BoundedQueue, ManyProducersOneConsumer) {
  constexpr int kProducers = 4;
  constexpr int kItems = 5'000;
  BoundedQueue<std::pair<int, int>> queue(64);
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&queue, p] {
      for (int i = 0; i < kItems;) {
        if (queue.push({p, i}) == BoundedQueue<std::pair<int, int>>::Push::kFull) {
          std::this_thread::yield();
        } else {
          ++i;
        }
      }
    });
  }
  std::vector<int> next(kProducers, 0);
  std::vector<std::pair<int, int>> out;
  for (int seen = 0; seen < kProducers * kItems;) {
    out.clear();
    queue.drain(out);
    ASSERT_LE(out.size(), 64u);
    if (out.empty()) std::this_thread::yield();
    for (const auto& [p, i] : out) {
      ASSERT_EQ(i, next[static_cast<std::size_t>(p)]++);
      ++seen;
    }
  }
  for (auto& producer : producers) producer.join();
  EXPECT_EQ(queue.size(), 0u);
}

}  // namespace
}  // namespace warmpath
