// For this room's fuzzers: a Follower whose every answer is held to its word: one exchange at a time, asks bounded,
// timers sane, states told.
#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "events/follower.h"

namespace warmpath::events::testing {

class Driver {
 public:
  explicit Driver(FollowerOptions options) : options_(options), follower_(options, 1) {}

  // Before any step.
  void resume(const FollowerMark& mark) {
    waits_ = true;
    std::vector<FollowerEffect> out;
    follower_.resume(mark, now_, out);
    for (const FollowerEffect& effect : out) take(effect);
    WP_CHECK(told_ == follower_.state() && timer_);
  }
  void step(FollowerInput input) {
    waits_ = waits_ && follower_.state() == blocks::PublisherState::kSuspect &&
             (std::holds_alternative<Timeout>(input) || std::holds_alternative<LiveBroken>(input) ||
              std::holds_alternative<ReplayBatch>(input) || std::holds_alternative<ReplayEnd>(input) ||
              std::holds_alternative<ReplayBroken>(input) || std::holds_alternative<Curtailed>(input));
    if (std::holds_alternative<ReplayEnd>(input)) open_ = false;
    if (std::holds_alternative<Timeout>(input)) timer_.reset();
    before_ = follower_.last_applied();
    std::vector<FollowerEffect> out;
    follower_.step(std::move(input), now_, out);
    for (const FollowerEffect& effect : out) take(effect);
    WP_CHECK(told_ == follower_.state());
    // With an exchange open there is always a deadline: nothing waits for ever.
    WP_CHECK(!open_ || timer_);
    WP_CHECK(options_.can_replay || !timer_ || waits_);
    // What can be gone on from is what was applied last.
    if (const auto mark = follower_.mark()) WP_CHECK(mark->seq == follower_.last_applied());
  }
  void pass(Duration time) { now_ = now_ + time; }
  // Moves to the deadline; false when there is none.
  bool expire() {
    if (!timer_) return false;
    now_ = std::max(now_, *timer_);
    step(Timeout{});
    return true;
  }

 private:
  void take(const FollowerEffect& effect) {
    if (const auto* ask = std::get_if<AskReplay>(&effect)) {
      WP_CHECK(options_.can_replay && !open_);
      WP_CHECK(ask->start.value() == 0 || ask->start == before_ || ask->start == follower_.last_applied());
      open_ = true;
      asks_.push_back(now_);
      if (asks_.size() > 5) asks_.pop_front();
      WP_CHECK(asks_.size() < 5 || now_ - asks_.front() >= std::chrono::seconds(4));
    } else if (std::holds_alternative<StopReplay>(effect)) {
      WP_CHECK(open_);
      open_ = false;
    } else if (const auto* arm = std::get_if<ArmTimer>(&effect)) {
      WP_CHECK(arm->at <= now_ + std::max(options_.backoff_max, options_.replay_total_max));
      timer_ = arm->at;
    } else if (std::holds_alternative<DisarmTimer>(effect)) {
      timer_.reset();
    } else if (const auto* state = std::get_if<StateChanged>(&effect)) {
      WP_CHECK(state->state != told_);
      told_ = state->state;
    }
  }

  FollowerOptions options_;
  Follower follower_;
  Instant now_{std::chrono::seconds(100)};
  std::optional<Instant> timer_;
  bool open_ = false;
  bool waits_ = false;  // resumed, and not connected yet
  std::deque<Instant> asks_;
  std::optional<PublisherSeq> before_;  // last applied before the step: one step may ask, restart and ask again
  blocks::PublisherState told_ = blocks::PublisherState::kLost;
};

}  // namespace warmpath::events::testing
