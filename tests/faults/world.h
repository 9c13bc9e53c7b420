// Engines, links that fail, and the router's event plane (codec, Follower, index) in virtual time. When the faults have
// stopped and some calm has passed, the index is held against the caches of the engine models.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "events/events.h"
#include "index/index.h"
#include "process.h"
#include "schedule.h"

namespace warmpath::faults {

// A bug planted between Follower and index, to show that the suite would notice it.
enum class Plant : std::uint8_t { kNone, kLostRemoval, kReplayTwice, kRestartUnnoticed };

// What a run came to.
struct Outcome {
  std::vector<std::string> faults;  // empty: all is as it should be
  std::map<blocks::PublisherState, int> ends;
  events::FollowerCounters totals;  // over all publishers there were
  std::uint64_t blocks_true = 0;    // cached by engines whose publisher ended exact
  std::uint64_t curtailed = 0;      // applies that the index could not keep whole
  std::uint64_t replies_garbled = 0;
  std::uint64_t blocks_restored = 0;  // from snapshots
  std::map<Kind, int> happened;
};

class World {
 public:
  enum class Trace : std::uint8_t { kNo, kYes };  // each input and effect of the Followers on standard output
  World(const Schedule& schedule, Plant plant, Trace trace = Trace::kNo);
  Outcome run();

 private:
  struct Address;
  // The router's end of one rank's stream.
  struct Subscription {
    EngineId engine;
    std::uint32_t address = 0;
    std::uint32_t rank = 0;
    std::string name;
    events::Follower follower;
    bool up = false;
    std::uint64_t link = 0;      // of the connection: frames of older ones are lost
    std::uint64_t exchange = 0;  // the replay that is listened to
    bool exchange_open = false;
    std::uint64_t timer = 0;
    Instant link_free;
    std::vector<Instant> asks;
    std::uint64_t restarts_told = 0;
    std::uint64_t removals = 0;
    std::uint64_t evicted = 0;  // as the index last said
  };
  struct Address {
    AddressPlan plan;
    std::uint64_t life = 0;  // of its process
    bool down = false;
    Duration delay{};
    Duration ts_offset{};
    std::vector<std::unique_ptr<Process>> ranks;
    std::vector<Subscription*> subscriptions;  // by rank
  };
  struct Item {
    Instant at;
    std::uint64_t number;
    bool operator<(const Item& other) const { return at != other.at ? at > other.at : number > other.number; }
  };

  void at(Instant when, std::function<void()> action);
  void after(Duration delay, std::function<void()> action) { at(now_ + delay, std::move(action)); }
  bool active(Kind kind, std::uint32_t address, double* strength = nullptr) const;
  bool chance(Kind kind, std::uint32_t address, double most);

  void begin(const Fault& fault);
  void begin_address(std::uint32_t number);
  void start_process(std::uint32_t number, std::uint32_t ranks);
  void restart(std::uint32_t number, std::uint32_t ranks, bool passed);
  void notice_ranks(std::uint32_t number);
  void subscribe(std::uint32_t number, std::uint32_t rank, const index::SnapshotEngine* from = nullptr);
  void traffic(std::uint32_t number, std::uint32_t rank, std::uint64_t life);
  void steps(std::uint32_t number, std::uint32_t rank, std::uint64_t life);
  void quieten();

  std::unique_ptr<index::Index> fresh_index() const;
  std::string name_of(std::uint32_t number, std::uint32_t rank) const;
  void write_snapshot();
  void restart_gateway(double strength);
  void resume(Subscription& one, const index::SnapshotEngine& from);

  void connect(Subscription& one);
  void disconnect(Subscription& one, Duration notice);
  void send(Subscription& one, const Message& message);
  void deliver(Subscription& one, std::vector<events::Frame> frames, Duration extra);
  void garble(std::vector<events::Frame>& frames);
  void serve_replay(Subscription& one, PublisherSeq start);
  struct Replies {
    std::vector<std::vector<events::Frame>> messages;
    Duration pause{};
    std::size_t lasting = 0;  // those behind it end with the faults
  };
  Replies faulty_replay(Subscription& one, PublisherSeq start);
  void on_reply(Subscription& one, const std::vector<events::Frame>& frames);

  void step(Subscription& one, events::FollowerInput input);
  bool obey(Subscription& one, events::FollowerEffect& effect, bool replay);
  bool apply(Subscription& one, events::Batch& batch, bool replay);
  void tell_evictions(const Subscription& cause);
  void trace(const Subscription& one, const events::FollowerInput& input) const;
  void trace(const Subscription& one, const std::vector<events::FollowerEffect>& effects) const;
  void take_totals(const events::FollowerCounters& counters);

  void check();
  void check_one(const Subscription& one);
  void fault(const std::string& what);

  const Schedule& schedule_;
  const Plant plant_;
  const bool trace_;
  RandomStream random_;
  blocks::KeySpace space_;
  std::unique_ptr<index::Index> index_;
  std::string snapshot_;  // as written last
  std::vector<Address> addresses_;
  std::vector<std::unique_ptr<Subscription>> subscriptions_;  // all there were; those of gone ranks stay, unused
  std::uint32_t next_engine_ = 0;
  std::uint64_t next_process_ = 1;
  std::set<std::pair<std::uint64_t, std::uint64_t>> garbled_;  // (life, sequence): a reply is garbled once at most

  Instant now_{std::chrono::hours(1)};
  const Instant start_ = now_;
  Duration router_clock_{};  // how far our clock has jumped ahead
  bool quiet_ = false;
  std::priority_queue<Item> queue_;
  std::map<std::uint64_t, std::function<void()>> actions_;
  std::uint64_t next_number_ = 0;
  Outcome outcome_;
};

}  // namespace warmpath::faults
