// Private to ingest: one rank's KV events, from its sockets into the index.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "events/events.h"
#include "index/index.h"
#include "ingest/rank_source.h"
#include "io/io.h"
#include "observe/observe.h"

namespace warmpath::ingest {

// Obeys a Follower: it decides, this performs. Thread rule: the loop's thread.
class PublisherFeed {
 public:
  struct Setup {
    EngineId engine;
    std::string name;
    RankSource source;
    std::string pool;
    events::FollowerOptions follower;
    std::uint64_t seed = 0;
    // Live messages that wait for us in the socket. Beyond it libzmq drops: a gap, which a replay fills.
    int live_queue_max = 100'000;
  };
  PublisherFeed(io::Loop& loop, Setup setup, index::Index& index, observe::Registry& registry,
                std::function<void(blocks::PublisherState)> state_changed);
  ~PublisherFeed();
  PublisherFeed(const PublisherFeed&) = delete;
  PublisherFeed& operator=(const PublisherFeed&) = delete;

  // kInvalid / kConflict: the address cannot be used (now).
  Result<void> open();
  // The engine is known to be back while the connection is not: connects at once instead of when libzmq's back-off
  // ends.
  void hurry();
  // Goes on from what another life of the router had applied, right after open(); the blocks taken over. Refused where
  // nothing would tell whether it is the same process still: `started_at_s` of it, and a replay socket or that time.
  Result<std::uint64_t> restore(index::SnapshotEngine from, std::optional<double> started_at_s);
  // What to write down of the stream, without its blocks; nullopt: it is not at a place to go on from.
  std::optional<index::SnapshotEngine> standing() const;
  // What arrives waits, so that the index can be copied; until release(), or until too much waits.
  void hold() { held_ = true; }
  void release();
  // Tells the follower when the index forgot blocks of this engine since the last look; also done with each batch.
  void look_for_evictions();
  bool connected() const { return follower_.state() != blocks::PublisherState::kLost; }
  // Something readable came since the connection stands, live or as a reply.
  bool heard() const { return heard_; }
  const events::Follower& follower() const { return follower_; }
  const RankSource& source() const { return setup_.source; }

 private:
  static constexpr std::size_t kWaitingMax = 10'000;

  void step(events::FollowerInput input);
  void obey(std::vector<events::FollowerEffect>& effects);
  void perform(events::FollowerEffect& effect);
  void note_evictions(std::uint64_t evicted);
  void ask_replay(PublisherSeq start);
  void stop_replay();
  void on_live(std::vector<std::string>&& frames);
  void on_reply(std::vector<std::string>&& frames);
  void publish_counters();

  io::Loop& loop_;
  Setup setup_;
  index::Index& index_;
  std::function<void(blocks::PublisherState)> state_changed_;
  events::Follower follower_;
  std::unique_ptr<io::ZmqSocket> live_;
  std::shared_ptr<int> live_life_;  // of live_
  std::unique_ptr<io::ZmqSocket> replay_;
  bool heard_ = false;
  bool held_ = false;
  std::vector<events::FollowerInput> waiting_;  // while held
  std::uint64_t evicted_ = 0;                   // as the index last said
  bool curtailed_ = false;                      // in this step the index could not keep all
  std::shared_ptr<int> exchange_life_;          // of the replay exchange in flight: replies of older ones are not heard
  io::Timer timer_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);

  struct Counters {
    observe::Counter& batches;
    observe::Counter& stored;
    observe::Counter& removed;
    observe::Counter& parked;
    observe::Counter& dropped;
    observe::Counter& evicted;
    observe::Counter& duplicate;
    observe::Counter& malformed_batches;
    observe::Counter& malformed_events;
    observe::Counter& unknown_events;
    observe::Counter& gaps;
    observe::Counter& replays;
    observe::Counter& replays_failed;
    observe::Counter& restarts;
    observe::Counter& batches_dropped;
    observe::Gauge& state;
    observe::Gauge& lag;
  };
  Counters counters_;
  events::FollowerCounters published_;  // what counters_ have of the Follower's: the series outlives this feed
};

}  // namespace warmpath::ingest
