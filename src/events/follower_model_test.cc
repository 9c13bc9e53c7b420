// A publisher with a true cache, links that lose, double and break, restarts of either side (ours with what was written
// down a while ago) and a bad replay endpoint; when the faults stop, the Follower's word must hold: exact means equal,
// partial means contained.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <queue>
#include <set>

#include "events/follower.h"

namespace warmpath::events {
namespace {

using blocks::PublisherState;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Cache = std::set<std::uint64_t>;

void apply_to(Cache& cache, const Batch& batch) {
  for (const blocks::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      for (const auto& hash : stored->block_hashes) cache.insert(hash.value.value());
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      for (const auto& hash : removed->block_hashes) cache.erase(hash.value.value());
    } else {
      cache.clear();
    }
  }
}

// One engine process after the other at one address.
class Publisher {
 public:
  Publisher(RandomStream& random, std::size_t buffer_max, bool garbles)
      : random_(random), buffer_max_(buffer_max), garbles_(garbles) {}

  std::pair<std::uint64_t, Batch> publish(Instant now) {
    Batch batch;
    batch.ts = to_seconds(now.since_zero());
    for (std::uint64_t n = 1 + random_.below(4); n > 0; --n) batch.events.push_back(event());
    apply_to(truth_, batch);
    if (garbles_ && random_.below(50) == 0) {
      batch.events.pop_back();  // it happened, but nobody can read it
      batch.events_malformed = 1;
    }
    buffer_.emplace_back(next_seq_, batch);
    if (buffer_.size() > buffer_max_) buffer_.pop_front();
    return {next_seq_++, std::move(batch)};
  }
  void restart() {
    ++life_;
    truth_.clear();
    buffer_.clear();
    next_seq_ = 0;
  }
  std::vector<std::pair<std::uint64_t, Batch>> from(std::uint64_t start) const {
    std::vector<std::pair<std::uint64_t, Batch>> out;
    for (const auto& entry : buffer_) {
      if (entry.first >= start) out.push_back(entry);
    }
    return out;
  }
  const Cache& truth() const { return truth_; }
  std::uint64_t life() const { return life_; }

 private:
  blocks::KvEvent event() {
    if (random_.below(1000) == 0) return blocks::AllBlocksCleared{};
    if (truth_.size() > 5 && random_.below(2) == 0) {
      auto victim = truth_.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random_.below(truth_.size())));
      blocks::BlockRemoved removed;
      removed.block_hashes = {{EngineHash(*victim), ""}};
      return removed;
    }
    blocks::BlockStored stored;
    stored.block_hashes = {{EngineHash(random_.below(200)), ""}};
    return stored;
  }

  RandomStream& random_;
  std::size_t buffer_max_;
  bool garbles_;
  Cache truth_;
  std::deque<std::pair<std::uint64_t, Batch>> buffer_;
  std::uint64_t next_seq_ = 0;
  std::uint64_t life_ = 0;
};

class World {
 public:
  explicit World(std::uint64_t seed)
      : random_(seed, "world"),
        can_replay_(random_.below(8) != 0),
        garbles_(random_.below(10) == 0),
        publisher_(random_, 1 + random_.below(80), garbles_),
        options_{.can_replay = can_replay_,
                 .parked_batches_max = 1 + random_.below(60),
                 .parked_events_max = 1 + random_.below(200)},
        follower_(options_, seed),
        loss_(random_.unit() * 0.1),
        double_(random_.unit() * 0.1),
        break_(random_.unit() * 0.05),
        replay_fault_(random_.unit() * 0.8) {}

  void run() {
    const Instant faults_end{seconds(15)};
    const Instant end{seconds(240)};
    for (std::uint64_t early = random_.below(100); early > 0; --early) publisher_.publish(now_);
    connect();
    at(now_, [this] { publish_and_again(); });
    at(now_, [this] { mischief(); });
    at(faults_end, [this] { faults_ = false; });
    while (!queue_.empty() && queue_.top().at < end) {
      Item item = queue_.top();
      queue_.pop();
      now_ = item.at;
      actions_.extract(item.number).mapped()();
      if (testing::Test::HasFatalFailure()) return;
    }
    check();
  }

  PublisherState state() const { return follower_.state(); }
  const FollowerCounters& counters() const { return follower_.counters(); }
  int resumed() const { return resumed_; }
  bool can_replay() const { return can_replay_; }

 private:
  struct Item {
    Instant at;
    std::uint64_t number;
    bool operator<(const Item& other) const { return at != other.at ? at > other.at : number > other.number; }
  };

  bool chance(double probability) { return faults_ && random_.unit() < probability; }
  void at(Instant when, std::function<void()> action) {
    queue_.push({when, next_number_});
    actions_.emplace(next_number_++, std::move(action));
  }
  void after(Duration delay, std::function<void()> action) { at(now_ + delay, std::move(action)); }

  void publish_and_again() {
    if (now_ > Instant(seconds(230))) return;  // what is under way at the end arrives
    auto [seq, batch] = publisher_.publish(now_);
    if (subscribed_ && !chance(loss_)) {
      send_live(seq, batch);
      if (chance(double_)) send_live(seq, batch);
    }
    after(faults_ ? milliseconds(random_.below(150)) : Duration(seconds(2)), [this] { publish_and_again(); });
  }
  void send_live(std::uint64_t seq, const Batch& batch) {
    const std::uint64_t link = link_;
    const bool no_frames = chance(break_ / 4);
    Result<Batch> content = batch;
    if (chance(break_)) content = Error{ErrorKind::kInvalid, "garbled on the way"};
    // In order: a message is never ahead of the one before it.
    link_free_ = std::max(link_free_, now_ + Duration(milliseconds(random_.below(5))));
    at(link_free_, [this, link, seq, no_frames, content] {
      if (link != link_) return;
      if (no_frames) {
        step(LiveBroken{});
      } else {
        step(LiveBatch{PublisherSeq(seq), content});
      }
    });
  }

  void mischief() {
    if (!faults_) return;
    const std::uint64_t kind = random_.below(4);
    if (random_.below(2) == 0) {
      if (const auto mark = follower_.mark()) saved_ = {*mark, applied_};
    }
    if (kind == 3) begin_again();
    if (kind == 0 && subscribed_) {
      disconnect(milliseconds(0));
    } else if (kind == 1 && subscribed_) {
      publisher_.restart();
      ++exchange_;  // replies of the old process die with it
      disconnect(milliseconds(random_.below(300)));
    }
    after(milliseconds(500 + random_.below(6000)), [this] { mischief(); });
  }
  // Our process ends; the next one has what was saved, if it was, and the engine may have been restarted since.
  void begin_again() {
    ++link_;
    ++exchange_;
    ++timer_;
    subscribed_ = open_ = false;
    asks_.clear();
    applied_.clear();
    follower_ = Follower(options_, random_.next());
    if (saved_ && random_.below(4) != 0) {
      ++resumed_;
      applied_ = saved_->second;
      std::vector<FollowerEffect> out;
      follower_.resume(saved_->first, now_, out);
      obey(out);
      EXPECT_EQ(follower_.state(), PublisherState::kSuspect);
    }
    after(milliseconds(random_.below(1500)), [this] { connect(); });
  }
  // The break is noticed after `notice`; from now on nothing arrives.
  void disconnect(Duration notice) {
    ++link_;
    subscribed_ = false;
    after(notice, [this] {
      if (random_.below(4) != 0) step(Disconnected{});  // else only the new connection tells
      after(milliseconds(random_.below(1500)), [this] { connect(); });
    });
  }
  void connect() {
    ++link_;
    link_free_ = now_;
    subscribed_ = true;
    step(Connected{});
  }

  void serve_replay(std::uint64_t start) {
    const std::uint64_t exchange = ++exchange_;
    open_ = true;
    after(milliseconds(random_.below(20)), [this, exchange, start] {
      if (exchange != exchange_) return;
      enum Fault { kSilent, kRefused, kTruncated, kDropped, kWrong, kEndless, kGarbled, kOnlyEnd, kFaults };
      const auto fault = chance(replay_fault_) ? static_cast<Fault>(random_.below(kFaults)) : kFaults;
      Duration delay{};
      const auto say = [&](FollowerInput input) {
        delay += milliseconds(random_.below(3));
        after(delay, [this, exchange, input] {
          if (exchange == exchange_) step(input);
        });
      };
      if (fault == kSilent) return;
      if (fault == kRefused) return say(ReplayBroken{});
      if (fault == kOnlyEnd) return say(ReplayEnd{});
      auto batches = publisher_.from(start);
      const std::uint64_t victim = batches.empty() ? 0 : random_.below(batches.size());
      for (std::uint64_t i = 0; i < batches.size(); ++i) {
        const bool hit = i == victim;
        if (hit && fault == kTruncated) return;
        if (hit && fault == kDropped) continue;
        const PublisherSeq seq(hit && fault == kWrong ? random_.below(100) : batches[i].first);
        // Never the same one twice: that would look like an engine that garbles what it says.
        if (hit && fault == kGarbled && garbled_.insert({publisher_.life(), batches[i].first}).second) {
          say(ReplayBatch{seq, Error{ErrorKind::kInvalid, "garbled"}});
        } else {
          say(ReplayBatch{seq, batches[i].second});
        }
        if (fault == kEndless && i + 1 == batches.size()) {
          for (int again = 0; again < 300; ++again) {
            delay += seconds(1);
            say(ReplayBatch{seq, batches[i].second});
          }
          return;
        }
      }
      say(ReplayEnd{});
    });
  }

  void step(const FollowerInput& input) {
    if (std::holds_alternative<ReplayEnd>(input)) open_ = false;
    std::vector<FollowerEffect> out;
    follower_.step(input, now_, out);
    obey(out);
  }
  void obey(const std::vector<FollowerEffect>& out) {
    for (const FollowerEffect& effect : out) {
      if (const auto* apply = std::get_if<Apply>(&effect)) {
        apply_to(applied_, apply->batch);
      } else if (std::holds_alternative<ForgetAll>(effect)) {
        applied_.clear();
      } else if (const auto* ask = std::get_if<AskReplay>(&effect)) {
        ASSERT_TRUE(can_replay_);
        ASSERT_FALSE(open_) << "an exchange at a time";
        asks_.push_back(now_);
        if (asks_.size() > 4) ASSERT_GE(now_ - asks_[asks_.size() - 5], seconds(4)) << "asks are bounded";
        serve_replay(ask->start.value());
      } else if (std::holds_alternative<StopReplay>(effect)) {
        ASSERT_TRUE(open_);
        open_ = false;
        ++exchange_;
      } else if (const auto* arm = std::get_if<ArmTimer>(&effect)) {
        const std::uint64_t timer = ++timer_;
        at(std::max(arm->at, now_), [this, timer] {
          if (timer == timer_) step(Timeout{});
        });
      } else if (std::holds_alternative<DisarmTimer>(effect)) {
        ++timer_;
      } else if (const auto* state = std::get_if<StateChanged>(&effect)) {
        ASSERT_EQ(state->state, follower_.state());
      }
    }
  }

  void check() const {
    const Cache& truth = publisher_.truth();
    if (follower_.state() == PublisherState::kExact) EXPECT_EQ(applied_, truth);
    if (follower_.state() == PublisherState::kPartial) {
      EXPECT_TRUE(std::includes(truth.begin(), truth.end(), applied_.begin(), applied_.end()));
    }
    EXPECT_NE(follower_.state(), PublisherState::kLost);
    // With a working replay nothing stays in doubt, unless the engine itself garbles what it says.
    if (can_replay_ && !garbles_) EXPECT_NE(follower_.state(), PublisherState::kSuspect);
  }

  RandomStream random_;
  bool can_replay_;
  bool garbles_;
  Publisher publisher_;
  FollowerOptions options_;
  Follower follower_;
  std::optional<std::pair<FollowerMark, Cache>> saved_;
  int resumed_ = 0;
  double loss_, double_, break_, replay_fault_;

  Instant now_{};
  bool faults_ = true;
  std::priority_queue<Item> queue_;
  std::map<std::uint64_t, std::function<void()>> actions_;
  std::uint64_t next_number_ = 0;

  bool subscribed_ = false;
  std::uint64_t link_ = 0;
  Instant link_free_{};
  std::uint64_t exchange_ = 0;
  bool open_ = false;
  std::uint64_t timer_ = 0;
  std::vector<Instant> asks_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> garbled_;  // (life, sequence)
  Cache applied_;
};

TEST(FollowerModel, ItsWordHoldsWhenTheFaultsStop) {
  std::map<PublisherState, int> ends;
  std::uint64_t restarts = 0;
  std::uint64_t failed = 0;
  std::uint64_t dropped = 0;
  int resumed = 0;
  for (std::uint64_t seed = 0; seed < 320; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    world.run();
    ++ends[world.state()];
    restarts += world.counters().restarts;
    failed += world.counters().replays_failed;
    dropped += world.counters().batches_dropped;
    resumed += world.resumed();
    if (HasFailure()) {
      ADD_FAILURE() << "stopped at seed " << seed;
      break;
    }
  }
  // The runs went where they were meant to go.
  EXPECT_GT(ends[PublisherState::kExact], 100);
  EXPECT_GT(ends[PublisherState::kPartial], 20);
  EXPECT_GT(restarts, 150u);
  EXPECT_GT(failed, 300u);
  EXPECT_GT(dropped, 50u);
  EXPECT_GT(resumed, 100);
  RecordProperty("exact", ends[PublisherState::kExact]);
  RecordProperty("partial", ends[PublisherState::kPartial]);
  RecordProperty("suspect", ends[PublisherState::kSuspect]);
}

}  // namespace
}  // namespace warmpath::events
