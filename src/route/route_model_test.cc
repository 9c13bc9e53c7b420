// The core against a naive twin: random inputs in any order, nonsense included.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "route/route.h"
#include "route/testing.h"

namespace warmpath::route {
namespace {

// A naive twin of what must hold whatever comes in.
struct Twin {
  struct Request {
    EngineId engine;
    std::string model;
    std::set<EngineId> tried;
    bool first_byte = false;
  };
  std::map<std::uint32_t, fleet::EngineInfo> engines;
  std::map<std::uint32_t, fleet::Liveness> liveness;
  std::map<std::uint64_t, Request> requests;
  std::uint64_t finished = 0, rejected = 0, cancelled = 0;

  bool may_take(EngineId id, const std::string& model) const {
    const auto at = engines.find(id.value());
    if (at == engines.end()) return false;
    const auto state = liveness.at(id.value());
    if (state == fleet::Liveness::kDown || state == fleet::Liveness::kDraining) return false;
    const auto& models = at->second.models;
    return models.empty() || std::find(models.begin(), models.end(), model) != models.end();
  }
};

class RandomInputs {
 public:
  RandomInputs(std::uint64_t seed, const schedule::Policy* tested)
      : random_(seed, "route-twin"), pool_(tested->name(), 0, {.seed = seed, .receipts_max = 16}) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      pool_.now = pool_.now + milliseconds(random_.below(200));
      one_step();
      compare();
      if (::testing::Test::HasFatalFailure()) return;
    }
    drain();
  }

 private:
  RequestId any_id() { return RequestId(random_.below(next_id_ + 2)); }
  EngineId any_engine() { return EngineId(static_cast<std::uint32_t>(random_.below(next_engine_ + 2))); }

  void one_step() {
    switch (random_.below(14)) {
      case 0: return add_engine();
      case 1: return change_engine();
      case 2: return sample();
      case 3: return publisher();
      case 4:
      case 5:
      case 6:
      case 7: return arrive();
      case 8:
      case 9: return first_byte();
      case 10: return finish(any_id());
      case 11:
      case 12: return fail();
      case 13: return leave(any_id());
    }
  }

  void add_engine() {
    if (twin_.engines.size() >= 6) return;
    fleet::EngineInfo info =
        engine(next_engine_, random_.below(2) == 0 ? std::vector<std::string>{} : std::vector<std::string>{"a"});
    if (random_.below(2) == 0) info.url = "http://shared:8000";
    twin_.engines[next_engine_] = info;
    twin_.liveness[next_engine_++] = fleet::Liveness::kUnknown;
    EXPECT_TRUE(pool_.step(EngineChanged{fleet::Added{info}}).empty());
  }
  void change_engine() {
    const EngineId id = any_engine();
    if (random_.below(3) == 0) {
      EXPECT_TRUE(pool_.step(EngineChanged{fleet::Removed{id}}).empty());
      twin_.engines.erase(id.value());
      return;
    }
    const auto state = static_cast<fleet::Liveness>(random_.below(4));
    EXPECT_TRUE(pool_.step(EngineChanged{fleet::LivenessChanged{id, state}}).empty());
    if (twin_.engines.contains(id.value())) twin_.liveness[id.value()] = state;
  }
  void sample() {
    fleet::Sample sample;
    sample.engine = any_engine();
    if (random_.below(2) == 0) sample.waiting = static_cast<std::uint32_t>(random_.next());
    if (random_.below(2) == 0) sample.kv_usage = random_.below(2) == 0 ? std::nan("") : random_.unit() * 3 - 1;
    EXPECT_TRUE(pool_.step(Sampled{sample}).empty());
  }
  void publisher() {
    EXPECT_TRUE(
        pool_.step(PublisherChanged{any_engine(), static_cast<blocks::PublisherState>(random_.below(4))}).empty());
    EXPECT_TRUE(pool_.step(TimerFired{}).empty());
  }

  void expect_forward(const Forward& forward, Twin::Request& request) {
    EXPECT_TRUE(twin_.may_take(forward.engine, request.model)) << forward.engine.value();
    EXPECT_TRUE(request.tried.insert(forward.engine).second) << "tried twice";
    EXPECT_EQ(forward.attempt, request.tried.size());
    EXPECT_LE(forward.attempt, 3u);
    request.engine = forward.engine;
  }

  void arrive() {
    if (twin_.requests.size() >= 30) return;
    const std::uint64_t id = next_id_++;
    Arrived arrived =
        pool_.request(id, ids_of(static_cast<std::uint32_t>(random_.below(3)) * 7'777, random_.below(300)));
    arrived.model = random_.below(2) == 0 ? "a" : "b";
    if (random_.below(3) == 0) arrived.chain.clear();
    if (random_.below(3) == 0) arrived.guessed_chain.clear();
    const auto effects = pool_.step(arrived);
    ASSERT_EQ(effects.size(), 1u);
    if (const auto* forward = std::get_if<Forward>(&effects[0])) {
      EXPECT_EQ(forward->id, arrived.id);
      Twin::Request& request = twin_.requests[id];
      request.model = arrived.model;
      expect_forward(*forward, request);
      return;
    }
    const auto* reject = std::get_if<Reject>(&effects[0]);
    ASSERT_NE(reject, nullptr);
    EXPECT_EQ(reject->id, arrived.id);
    ++twin_.rejected;
    for (const auto& [engine_id, info] : twin_.engines)
      EXPECT_FALSE(twin_.may_take(EngineId(engine_id), arrived.model));
  }
  void first_byte() {
    const RequestId id = any_id();
    EXPECT_TRUE((random_.below(2) == 0 ? pool_.step(FirstByte{id}) : pool_.step(Progress{id, 3})).empty());
    if (twin_.requests.contains(id.value())) twin_.requests[id.value()].first_byte = true;
  }
  void finish(RequestId id) {
    std::optional<Usage> usage;
    if (random_.below(2) == 0) usage = Usage{random_.next(), random_.next(), random_.next() >> 40};
    EXPECT_TRUE(pool_.step(Finished{id, usage}).empty());
    twin_.finished += twin_.requests.erase(id.value());
  }
  void fail() {
    const RequestId id = any_id();
    Failed input = failed(id.value(), any_engine(), static_cast<ErrorKind>(random_.below(16)));
    const auto at = twin_.requests.find(id.value());
    const bool known = at != twin_.requests.end();
    if (known && random_.below(4) != 0) input.engine = at->second.engine;
    if (random_.below(4) == 0) input.retry = Failed::Retry::kMayNot;
    if (random_.below(3) == 0) input.blame = Failed::Blame::kNone;
    const auto effects = pool_.step(input);
    if (!known || at->second.engine != input.engine) {
      EXPECT_TRUE(effects.empty());
      return;
    }
    ASSERT_EQ(effects.size(), 1u);
    if (const auto* forward = std::get_if<Forward>(&effects[0])) {
      EXPECT_EQ(forward->id, id);
      EXPECT_FALSE(at->second.first_byte);
      EXPECT_EQ(input.retry, Failed::Retry::kMay);
      expect_forward(*forward, at->second);
      return;
    }
    const auto* reject = std::get_if<Reject>(&effects[0]);
    ASSERT_NE(reject, nullptr);
    EXPECT_EQ(reject->id, id);
    ++twin_.rejected;
    twin_.requests.erase(at);
  }
  void leave(RequestId id) {
    const auto effects = pool_.step(ClientGone{id});
    const auto at = twin_.requests.find(id.value());
    if (at == twin_.requests.end()) {
      EXPECT_TRUE(effects.empty());
      return;
    }
    const Cancel cancel = Pool::only<Cancel>(effects);
    EXPECT_EQ(cancel.id, id);
    EXPECT_EQ(cancel.engine, at->second.engine);
    ++twin_.cancelled;
    twin_.requests.erase(at);
  }

  void compare() {
    const Snapshot picture = pool_.snapshot();
    ASSERT_EQ(picture.inflight, twin_.requests.size());
    ASSERT_EQ(picture.engines.size(), twin_.engines.size());
    ASSERT_EQ(picture.finished_total, twin_.finished);
    ASSERT_EQ(picture.rejected_total, twin_.rejected);
    ASSERT_EQ(picture.cancelled_total, twin_.cancelled);
    ASSERT_LE(picture.decisions.size(), 16u);
    ASSERT_LE(picture.proofs.size(), twin_.engines.size());
    for (const fleet::EngineView& view : picture.engines) {
      std::uint32_t inflight = 0;
      for (const auto& [id, request] : twin_.requests) inflight += request.engine == view.id ? 1 : 0;
      ASSERT_EQ(view.inflight_requests, inflight);
    }
  }

  void drain() {
    while (!twin_.requests.empty()) {
      const RequestId id(twin_.requests.begin()->first);
      random_.below(2) == 0 ? finish(id) : leave(id);
    }
    pool_.expect_empty_books();
  }

  RandomStream random_;
  Pool pool_;
  Twin twin_;
  std::uint64_t next_id_ = 0;
  std::uint32_t next_engine_ = 0;
};

class RandomInputsTest : public ::testing::TestWithParam<const schedule::Policy*> {};

TEST_P(RandomInputsTest, EveryRequestHasOneOutcomeAndTheBooksReturnToZero) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomInputs(seed, GetParam()).run(700);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, RandomInputsTest,
                         ::testing::ValuesIn(schedule::policies().begin(), schedule::policies().end()),
                         [](const auto& tested) {
                           std::string name(tested.param->name());
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace warmpath::route
