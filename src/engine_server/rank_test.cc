#include "engine_server/rank.h"

#include <gtest/gtest.h>

#include "engine_server/test_words.h"

namespace warmpath::engine_server {
namespace {

struct RankTest : ::testing::Test {
  void open(double speed, Duration lag_max) {
    engine::ModelOptions options;
    options.speed = speed;
    options.profile.kv_blocks = 100;
    auto model = engine::Model::create(options);
    ASSERT_TRUE(model.ok());
    rank = std::make_unique<Rank>(
        loop, std::move(*model), nullptr, lag_max,
        Rank::Callbacks{.emitted = [this](const engine::Emitted& e, Instant now) { saw(e, now); },
                        .stepped = [](const engine::StepPlan&) {}});
  }
  void saw(const engine::Emitted& e, Instant now) {
    if (on_emitted) on_emitted();
    if (e.first) first_at = now;
    last_at = now;
    ++tokens;
    if (e.finished) loop.stop();
  }
  void add(std::uint64_t id, std::size_t prompt, std::size_t output) {
    engine::Request request;
    request.id = id;
    request.prompt.assign(prompt, 7);
    request.output.assign(output, 8);
    added_at = rank->now();
    ASSERT_TRUE(rank->add(std::move(request), added_at).ok());
    rank->wake(added_at);
  }
  io::Loop loop;
  std::unique_ptr<Rank> rank;
  std::function<void()> on_emitted;
  Instant added_at, first_at, last_at;
  int tokens = 0;
};

// Engine time is the model's own, to the nanosecond, whatever the machine does meanwhile.
TEST_F(RankTest, TimesAreThoseOfTheModel) {
  open(10, std::chrono::seconds(100));
  add(1, 1, 21);
  testing::run_guarded(loop, "21 tokens");
  EXPECT_EQ(tokens, 21);
  EXPECT_EQ(first_at - added_at, std::chrono::microseconds(1'200));  // a step of 12 ms, ten times faster
  EXPECT_NEAR(to_ms(last_at - first_at), 20 * 1.2, .01);
}

TEST_F(RankTest, KeepsPaceWithTheWall) {
  open(1, std::chrono::seconds(100));
  const Instant began = loop.now();
  add(1, 1, 10);
  testing::run_guarded(loop, "10 tokens");
  EXPECT_GE(loop.now() - began, std::chrono::microseconds(119'900));
  EXPECT_EQ(rank->slipped(), Duration(0));
}

// A callback that takes longer than a step: the clock slips, and says so, but told times stay the model's.
TEST_F(RankTest, LagSlipsTheClockInsteadOfDistortingTimes) {
  open(1'000, std::chrono::milliseconds(1));
  on_emitted = [this] {
    const Instant until = loop.now() + std::chrono::milliseconds(3);
    while (loop.now() < until) {
    }
  };
  add(1, 1, 6);
  testing::run_guarded(loop, "6 tokens");
  EXPECT_GE(rank->slipped(), std::chrono::milliseconds(10));
  EXPECT_NEAR(to_ms(last_at - added_at), 6 * .012, .001);
  // What arrives now arrives after all that the engine has done.
  EXPECT_GE(rank->now(), last_at);
}

TEST_F(RankTest, AnAbortedRequestEndsTheSteps) {
  open(1'000, std::chrono::seconds(100));
  add(1, 1, 1'000);
  on_emitted = [this] {
    EXPECT_TRUE(rank->abort(1));
    loop.stop();
  };
  testing::run_guarded(loop, "first token");
  on_emitted = nullptr;
  testing::run_until(loop, "idle", [this] { return !rank->model().in_step(); });
  EXPECT_EQ(rank->model().stats().running, 0u);
  EXPECT_EQ(tokens, 1);
}

}  // namespace
}  // namespace warmpath::engine_server
