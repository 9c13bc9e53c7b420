// The world of one run: clients, router, links, engines, and the queue of what happens next.
#pragma once

#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

#include "events/events.h"
#include "index/index.h"
#include "sim/event_queue.h"
#include "sim/machine.h"
#include "sim/sim.h"

namespace warmpath::sim {

class World {
 public:
  // `source` and `machines` are made from the options by the caller, who has checked them.
  World(const SimOptions& options, const schedule::Policy* policy, std::unique_ptr<workload::Source> source,
        std::vector<Machine> machines);
  Result<Report> run();

 private:
  // What can happen.
  struct WorkloadDue {};
  struct AtEngine {  // a request arrives at an engine
    EngineId engine;
    RequestId request;
    engine::Request body;
  };
  struct StepEnds {
    EngineId engine;
  };
  struct Answer {  // news of a request arrives at the router
    RequestId request;
    bool first = false;
    bool finished = false;
    std::uint32_t cached_tokens = 0;
  };
  struct Refused {  // the engine did not take it
    RequestId request;
    EngineId engine;
  };
  struct Frames {  // a live message arrives at the router
    EngineId engine;
    std::vector<events::Frame> frames;
  };
  struct ReplayAsked {  // at the engine
    EngineId engine;
    std::uint64_t exchange = 0;
    std::vector<events::Frame> frames;
  };
  struct ReplayReply {  // at the router
    EngineId engine;
    std::uint64_t exchange = 0;
    std::vector<events::Frame> frames;
  };
  struct FollowerDeadline {
    EngineId engine;
    std::uint64_t generation = 0;
  };
  struct ScrapeDue {};
  struct SampleArrives {
    fleet::Sample sample;
  };
  using Item = std::variant<WorkloadDue, AtEngine, StepEnds, Answer, Refused, Frames, ReplayAsked, ReplayReply,
                            FollowerDeadline, ScrapeDue, SampleArrives>;

  struct Client {  // a request from the client's side
    Instant at;
    std::vector<TokenId> prompt;
    std::vector<TokenId> output;
    std::string salt;
    bool first_seen = false;
  };
  struct Subscription {
    events::Follower follower;
    std::uint64_t generation = 0;  // of its timer
    std::uint64_t exchange = 0;    // the replay that is listened to
  };
  struct Prompt {  // kept for the comparison at the end
    std::vector<TokenId> ids;
    std::string salt;
  };

  void on(WorkloadDue&);
  void on(AtEngine& item);
  void on(StepEnds& item);
  void on(Answer& item);
  void on(Refused& item);
  void on(Frames& item);
  void on(ReplayAsked& item);
  void on(ReplayReply& item);
  void on(FollowerDeadline& item);
  void on(ScrapeDue&);
  void on(SampleArrives& item) { tell_core(route::Sampled{item.sample}); }

  void start();
  bool drained() const { return source_->exhausted() && clients_.empty(); }
  void schedule_workload();
  void arrive(workload::Request&& request);
  void tell_core(const route::Input& input);
  void obey(const route::Effect& effect);
  void end(RequestId request, std::uint32_t cached_tokens);
  void begin_step(EngineId engine);
  void send_frames(EngineId engine, std::vector<events::Frame> frames);
  void tell_follower(EngineId engine, events::FollowerInput input);
  void obey(EngineId engine, events::FollowerEffect& effect);
  void settle();
  IndexTruth compare() const;
  Report report() const;
  void remember(std::uint64_t value);
  Machine& machine(EngineId engine) { return machines_[engine.value()]; }
  bool has_events(EngineId engine) const { return engine.value() >= options_.engines_without_events; }

  const SimOptions& options_;
  const schedule::Policy* policy_;
  std::unique_ptr<workload::Source> source_;
  std::vector<Machine> machines_;
  blocks::KeySpace space_;
  index::Index index_;
  route::Core core_;
  std::vector<Subscription> subscriptions_;
  RandomStream outputs_;
  RandomStream links_;
  bool links_healed_ = false;

  EventQueue<Item> queue_;
  Instant now_;
  Instant ended_at_;  // of the last answer
  std::optional<Instant> workload_at_;
  std::unordered_map<RequestId, Client> clients_;
  std::vector<Prompt> prompts_;
  engine::StepResult step_;
  Report totals_;
  std::vector<double> ttft_ms_;
};

}  // namespace warmpath::sim
