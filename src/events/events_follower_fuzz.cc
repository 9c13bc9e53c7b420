// Bytes become inputs and passing time. Whatever comes: one exchange at a time, asks bounded, timers sane, states told.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "events/events.h"

namespace {

using namespace warmpath;          // NOLINT(google-build-using-namespace)
using namespace warmpath::events;  // NOLINT(google-build-using-namespace)
using std::chrono::milliseconds;
using std::chrono::seconds;

class Driver {
 public:
  explicit Driver(FollowerOptions options) : options_(options), follower_(options, 1) {}

  void step(FollowerInput input) {
    if (std::holds_alternative<ReplayEnd>(input)) open_ = false;
    if (std::holds_alternative<Timeout>(input)) timer_.reset();
    before_ = follower_.last_applied();
    std::vector<FollowerEffect> out;
    follower_.step(std::move(input), now_, out);
    for (const FollowerEffect& effect : out) take(effect);
    WP_CHECK(told_ == follower_.state());
    // With an exchange open there is always a deadline: nothing waits for ever.
    WP_CHECK(!open_ || timer_);
    WP_CHECK(options_.can_replay || !timer_);
  }
  void pass(Duration time) { now_ = now_ + time; }
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
      WP_CHECK(asks_.size() < 5 || now_ - asks_.front() >= seconds(4));
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
  Instant now_{seconds(100)};
  std::optional<Instant> timer_;
  bool open_ = false;
  std::deque<Instant> asks_;
  std::optional<PublisherSeq> before_;  // last applied before the step: one step may ask, restart and ask again
  blocks::PublisherState told_ = blocks::PublisherState::kLost;
};

Result<Batch> batch_of(std::uint8_t seq, std::uint8_t kind) {
  if (kind == 0) return Error{ErrorKind::kInvalid, "broken"};
  Batch batch;
  batch.ts = seq + 1000.0 * (kind >> 6);
  if (kind == 1) batch.events_malformed = 1;
  if (kind == 2) batch.events.emplace_back(blocks::AllBlocksCleared{});
  return batch;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Driver driver({.can_replay = (data[0] & 7) != 0,
                 .parked_batches_max = data[1] & 15u,
                 .parked_events_max = 1u + (data[1] >> 4)});
  for (std::size_t i = 2; i + 2 < size; i += 3) {
    const std::uint8_t seq = data[i + 1];
    const std::uint8_t kind = data[i + 2];
    const PublisherSeq wide = seq < 250 ? PublisherSeq(seq) : PublisherSeq(UINT64_MAX - (seq - 250));
    switch (data[i] % 10) {
      case 0: driver.step(Connected{}); break;
      case 1: driver.step(Disconnected{}); break;
      case 2:
      case 3: driver.step(LiveBatch{wide, batch_of(seq, kind)}); break;
      case 4: driver.step(LiveBroken{}); break;
      case 5:
      case 6: driver.step(ReplayBatch{wide, batch_of(seq, kind)}); break;
      case 7: driver.step(ReplayEnd{}); break;
      case 8: driver.step(ReplayBroken{}); break;
      case 9: driver.pass(milliseconds(seq) * kind); break;
    }
    if (data[i] >= 230) driver.expire();
  }
  // Left alone with a dead endpoint it goes on, but ever more slowly.
  for (int i = 0; i < 20 && driver.expire(); ++i) {}
  return 0;
}
