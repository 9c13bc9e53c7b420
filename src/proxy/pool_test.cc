// The brain handle: order, threads, bounds.
#include "proxy/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "proxy/effect_sink.h"
#include "proxy/test_engines.h"

namespace warmpath::proxy::testing {
namespace {

EngineAt engine_at(Pool& pool) {
  EngineAt at;
  at.info.id = pool.next_engine_id();
  at.info.name = "e" + std::to_string(at.info.id.value());
  at.info.models = {"m"};
  return at;
}

std::shared_ptr<const prompt::Encoder> encoder() {
  return std::make_shared<const prompt::Encoder>(nullptr, blocks::KeySpace(1, "m", 16), prompt::Guess{});
}

route::CoreOptions core_options(std::string_view policy = "round-robin") {
  route::CoreOptions core;
  core.policy = *schedule::find_policy(policy);
  return core;
}

PoolOptions pool_options() {
  PoolOptions options;
  options.name = "pool";
  options.model = "m";
  return options;
}

route::Arrived arrived(RequestId id) {
  return {.id = id, .model = "m", .chain = {}, .guessed_chain = {}, .prompt_tokens = 10};
}

// An I/O thread that runs requests one after another: each Forward is finished at once and leads to the next Arrived.
class Client final : public EffectSink {
 public:
  Client(Pool& pool, std::uint32_t thread, std::size_t requests) : pool_(pool), thread_(thread), left_(requests) {
    io_.run([this] { pool_.bind(thread_, &io_.loop(), this); });
  }
  ~Client() override {
    io_.run([this] { pool_.bind(thread_, nullptr, nullptr); });
  }
  void begin() {
    io_.loop().post([this] { next(); });
  }
  bool wait() { return done_.wait(); }
  std::size_t forwards() const { return forwards_; }

  void on_effect(route::Effect effect) override {
    EXPECT_TRUE(io_.loop().on_this_thread());
    const auto& forward = std::get<route::Forward>(effect);
    EXPECT_EQ(thread_of(forward.id), thread_);
    EXPECT_TRUE(seen_.insert(forward.id.value()).second);
    ++forwards_;
    EXPECT_TRUE(pool_.submit(route::FirstByte{forward.id}));
    EXPECT_TRUE(pool_.submit(route::Finished{forward.id}));
    next();
  }

 private:
  void next() {
    if (left_ == 0) {
      done_.set();
      return;
    }
    --left_;
    EXPECT_TRUE(pool_.submit(arrived(request_id_of(thread_, number_++))));
  }

  Pool& pool_;
  const std::uint32_t thread_;
  std::size_t left_;
  std::size_t forwards_ = 0;
  std::uint64_t number_ = 0;
  std::set<std::uint64_t> seen_;
  Flag done_;
  LoopThread io_;
};

TEST(Pool, ManyThreadsGetEachOfTheirEffectsOnceAndOnTheirOwnThread) {
  observe::Registry registry;
  LoopThread control;
  Pool pool(pool_options(), registry, control.loop());
  for (int i = 0; i < 3; ++i) pool.engine_added(engine_at(pool));
  pool.start(core_options(), nullptr, encoder());
  constexpr std::size_t kRequests = 3'000;
  {
    std::vector<std::unique_ptr<Client>> clients;
    for (std::uint32_t thread = 0; thread < 4; ++thread) {
      clients.push_back(std::make_unique<Client>(pool, thread, kRequests));
    }
    for (auto& client : clients) client->begin();
    for (int i = 0; i < 200; ++i) {  // news and views from another thread meanwhile
      fleet::Sample sample;
      sample.engine = EngineId(0);
      sample.waiting = 1;
      pool.sampled(sample);
      (void)pool.snapshot(5);
    }
    for (auto& client : clients) {
      ASSERT_TRUE(client->wait());
      EXPECT_EQ(client->forwards(), kRequests);
    }
  }
  const route::Snapshot after = pool.snapshot(0);
  EXPECT_EQ(after.inflight, 0u);
  EXPECT_EQ(after.decisions_total, 4 * kRequests);
  EXPECT_EQ(pool.inbox_depth(), 0u);
}

TEST(Pool, NewsBeforeTheStartIsKept) {
  observe::Registry registry;
  LoopThread control;
  Pool pool(pool_options(), registry, control.loop());
  const EngineAt first = engine_at(pool);
  const EngineAt second = engine_at(pool);
  const EngineAt third = engine_at(pool);
  for (const EngineAt& at : {first, second, third}) pool.engine_added(at);
  pool.changed(fleet::LivenessChanged{first.info.id, fleet::Liveness::kUp});
  pool.changed(fleet::LivenessChanged{first.info.id, fleet::Liveness::kDown});
  pool.changed(fleet::Removed{second.info.id});
  pool.publisher_changed(third.info.id, blocks::PublisherState::kExact);
  EXPECT_FALSE(pool.started());
  pool.start(core_options(), nullptr, encoder());
  const route::Snapshot snapshot = pool.snapshot(0);
  ASSERT_EQ(snapshot.engines.size(), 2u);
  EXPECT_EQ(snapshot.engines[0].liveness, fleet::Liveness::kDown);
  EXPECT_EQ(snapshot.infos[1].name, "e2");
  EXPECT_EQ(pool.engine(second.info.id), nullptr);
  EXPECT_EQ(pool.engines().size(), 2u);
  EXPECT_EQ(pool.engines_removed(), 1u);
}

// Holds the brain's lock until it is let go.
class BlockingPolicy final : public schedule::Policy {
 public:
  std::string_view name() const override { return "blocking"; }
  std::string_view summary() const override { return ""; }
  std::string_view formula() const override { return ""; }
  schedule::Needs needs() const override { return schedule::Needs::kNothing; }
  void score(const schedule::View&, std::vector<std::vector<schedule::ScoreLine>>&) const override {
    inside.set();
    EXPECT_TRUE(go.wait());
  }
  mutable Flag inside, go;
};

class Counter final : public EffectSink {
 public:
  void on_effect(route::Effect effect) override {
    if (std::holds_alternative<route::Forward>(effect)) ++forwards;
    if (forwards == 3) all.set();
  }
  std::size_t forwards = 0;
  Flag all;
};

TEST(Pool, NobodyWaitsForABusyBrainAndArrivalsAreBounded) {
  observe::Registry registry;
  LoopThread control;
  BlockingPolicy policy;
  PoolOptions options = pool_options();
  options.arrivals_max = 2;
  Pool pool(options, registry, control.loop());
  pool.engine_added(engine_at(pool));
  route::CoreOptions core = core_options();
  core.policy = &policy;
  pool.start(core, nullptr, encoder());
  LoopThread busy, other;
  Counter sink;
  other.run([&] { pool.bind(1, &other.loop(), &sink); });
  busy.loop().post([&] { EXPECT_TRUE(pool.submit(arrived(request_id_of(1, 1)))); });
  ASSERT_TRUE(policy.inside.wait());
  other.run([&] {  // returns although the brain is held
    EXPECT_TRUE(pool.submit(arrived(request_id_of(1, 2))));
    EXPECT_TRUE(pool.submit(arrived(request_id_of(1, 3))));
    EXPECT_FALSE(pool.submit(arrived(request_id_of(1, 4))));  // full
    fleet::Sample sample;
    sample.engine = EngineId(0);
    pool.sampled(sample);                                              // dropped
    EXPECT_TRUE(pool.submit(route::ClientGone{request_id_of(1, 9)}));  // never refused
  });
  EXPECT_EQ(pool.inbox_depth(), 3u);
  policy.go.set();
  ASSERT_TRUE(sink.all.wait());  // the holder stepped what was left to it, effects came home
  pool.refresh_metrics();
  EXPECT_NE(registry.expose().find(R"(warmpath_samples_dropped_total{pool="pool"} 1)"), std::string::npos);
  other.run([&] { pool.bind(1, nullptr, nullptr); });
}

TEST(Pool, RequestIdsCarryTheirThread) {
  const RequestId id = request_id_of(63, 123'456'789);
  EXPECT_EQ(thread_of(id), 63u);
  EXPECT_NE(request_id_of(0, 1), request_id_of(1, 1));
}

}  // namespace
}  // namespace warmpath::proxy::testing
