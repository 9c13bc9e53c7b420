#include "route/route.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace warmpath::route {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kBlockTokens = 16;

Instant at_ms(std::int64_t ms) { return Instant(milliseconds(ms)); }

const schedule::Policy* policy(std::string_view name) {
  const auto found = schedule::find_policy(name);
  WP_CHECK(found.ok());
  return *found;
}

fleet::EngineInfo engine(std::uint32_t id, std::vector<std::string> models = {}) {
  return {.id = EngineId(id),
          .name = "engine-" + std::to_string(id),
          .url = "http://engine-" + std::to_string(id) + ":8000",
          .models = std::move(models),
          .block_tokens = kBlockTokens,
          .kv_tokens = 65'536,
          .has_events = true};
}

std::vector<TokenId> ids_of(std::uint32_t first, std::size_t count) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = first + static_cast<TokenId>(i);
  return ids;
}

// One pool with an index, driven by hand.
class Pool {
 public:
  explicit Pool(std::string_view policy_name, std::uint32_t engines = 3, CoreOptions options = {})
      : space_(42, "model", kBlockTokens), index_({.space = space_}), core_(with(std::move(options), policy_name), &index_) {
    for (std::uint32_t id = 0; id < engines; ++id) add(engine(id));
  }

  void add(fleet::EngineInfo info) {
    const EngineId id = info.id;
    step(EngineChanged{fleet::Added{std::move(info)}});
    set_state(id, blocks::PublisherState::kExact);
  }
  void set_state(EngineId id, blocks::PublisherState state) {
    index_.set_state(id, state);
    step(PublisherChanged{id, state});
  }

  std::vector<Effect> step(const Input& input) {
    std::vector<Effect> out;
    core_.step(input, now, out);
    return out;
  }

  Arrived request(std::uint64_t id, const std::vector<TokenId>& ids) const {
    Arrived arrived;
    arrived.id = RequestId(id);
    arrived.model = "model";
    arrived.chain = space_.chain(ids, {});
    if (core_.policy().guess_block_bytes() > 0) {
      arrived.guessed_chain = space_.id_guess_chain(ids, core_.policy().guess_block_bytes(), 0, {});
    }
    arrived.prompt_tokens = static_cast<std::uint32_t>(ids.size());
    return arrived;
  }
  std::vector<Effect> arrive(std::uint64_t id, const std::vector<TokenId>& ids) { return step(request(id, ids)); }
  Forward forwarded(std::uint64_t id, const std::vector<TokenId>& ids) { return only<Forward>(arrive(id, ids)); }

  template <class T>
  static T only(const std::vector<Effect>& effects) {
    EXPECT_EQ(effects.size(), 1u);
    const T* one = effects.empty() ? nullptr : std::get_if<T>(&effects[0]);
    EXPECT_NE(one, nullptr);
    return one == nullptr ? T{} : *one;
  }

  // The engine says that it stored all full blocks of the ids.
  void store(EngineId id, const std::vector<TokenId>& ids) {
    blocks::BlockStored stored;
    stored.block_size = kBlockTokens;
    const std::size_t blocks = ids.size() / kBlockTokens;
    for (std::size_t i = 0; i < blocks; ++i) {
      stored.block_hashes.push_back({EngineHash(stable_hash(std::to_string(ids[0]) + "/" + std::to_string(i))), {}});
    }
    stored.token_ids.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(blocks * kBlockTokens));
    const std::vector<blocks::KvEvent> events = {stored};
    ASSERT_EQ(index_.apply(id, events).blocks_stored, blocks);
  }

  Snapshot snapshot(std::size_t decisions = 100) const { return core_.snapshot(now, decisions); }
  Core& core() { return core_; }

  void expect_empty_books() const {
    const Snapshot picture = snapshot();
    EXPECT_EQ(picture.inflight, 0u);
    for (const fleet::EngineView& view : picture.engines) {
      EXPECT_EQ(view.inflight_requests, 0u);
      EXPECT_EQ(view.inflight_tokens, 0u);
      EXPECT_EQ(view.inflight_prefill_tokens, 0u);
      EXPECT_EQ(view.inflight_since_sample, 0u);
    }
  }

  Instant now = at_ms(1'000);

 private:
  static CoreOptions with(CoreOptions options, std::string_view policy_name) {
    options.policy = policy(policy_name);
    return options;
  }
  blocks::KeySpace space_;
  index::Index index_;
  Core core_;
};

Failed failed(std::uint64_t id, EngineId at, ErrorKind kind = ErrorKind::kUpstream) {
  return {.id = RequestId(id), .engine = at, .kind = kind};
}

TEST(CoreTest, GoesToTheEngineThatHoldsThePrefix) {
  Pool pool("precise");
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(2), ids);
  const Forward forward = pool.forwarded(1, ids);
  EXPECT_EQ(forward.engine, EngineId(2));
  EXPECT_EQ(forward.attempt, 1u);
  EXPECT_EQ(forward.predicted_cached_tokens, 96u);
  ASSERT_NE(forward.receipt, nullptr);
  EXPECT_TRUE(forward.receipt->exact);
  EXPECT_EQ(forward.receipt->chain_blocks, 6u);
  const Snapshot picture = pool.snapshot();
  EXPECT_EQ(picture.engines[2].inflight_tokens, 100u);
  EXPECT_EQ(picture.engines[2].inflight_prefill_tokens, 4u);
  pool.step(FirstByte{RequestId(1)});
  EXPECT_TRUE(pool.step(Finished{RequestId(1), Usage{100, 5, 96}}).empty());
  pool.expect_empty_books();
}

TEST(CoreTest, PredictionsAndReportsMeetInTheProof) {
  Pool pool("precise", 1);
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(0), ids);
  pool.forwarded(1, ids);
  pool.step(Finished{RequestId(1), Usage{100, 5, 96}});
  pool.forwarded(2, ids);
  pool.step(Finished{RequestId(2), Usage{100, 5, 64}});
  pool.forwarded(3, ids);
  pool.step(Finished{RequestId(3), Usage{100, 5, std::nullopt}});  // the engine does not tell: no proof
  pool.forwarded(4, ids);
  pool.step(Finished{RequestId(4), std::nullopt});
  const Snapshot picture = pool.snapshot();
  ASSERT_EQ(picture.proofs.size(), 1u);
  const EngineProof& proof = picture.proofs[0];
  EXPECT_EQ(proof.requests, 2u);
  EXPECT_EQ(proof.requests_equal, 1u);
  EXPECT_EQ(proof.predicted_cached_tokens, 192u);
  EXPECT_EQ(proof.reported_cached_tokens, 160u);
  EXPECT_EQ(proof.prompt_tokens, 200u);
  EXPECT_DOUBLE_EQ(proof.absolute_error_tokens_recent, 16.0);
  ASSERT_EQ(picture.decisions.size(), 4u);
  EXPECT_EQ(picture.decisions[0].id, RequestId(4)) << "newest first";
  EXPECT_EQ(picture.decisions[0].reported_cached_tokens, std::nullopt);
  EXPECT_EQ(picture.decisions[2].reported_cached_tokens, 64u);
  EXPECT_EQ(picture.decisions[3].reported_cached_tokens, 96u);
  EXPECT_EQ(picture.finished_total, 4u);
  EXPECT_EQ(picture.decisions_total, 4u);
}

TEST(CoreTest, GuessesDoNotEnterTheProof) {
  Pool pool("precise", 1);
  pool.set_state(EngineId(0), blocks::PublisherState::kLost);
  const auto ids = ids_of(1, 200);
  pool.forwarded(1, ids);
  pool.step(Finished{RequestId(1), Usage{200, 5, 0}});
  const Forward second = pool.forwarded(2, ids);
  EXPECT_EQ(second.predicted_cached_tokens, 192u) << "guessed";
  EXPECT_FALSE(second.receipt->exact);
  pool.step(Finished{RequestId(2), Usage{200, 5, 192}});
  EXPECT_TRUE(pool.snapshot().proofs.empty());
}

TEST(CoreTest, RequestsJustRoutedDrawTheirLike) {
  Pool pool("precise", 8);
  const auto ids = ids_of(1, 160);
  const Forward first = pool.forwarded(1, ids);
  EXPECT_EQ(first.predicted_cached_tokens, 0u);
  pool.step(FirstByte{RequestId(1)});
  const Forward second = pool.forwarded(2, ids);
  EXPECT_EQ(second.engine, first.engine);
  EXPECT_EQ(second.predicted_cached_tokens, 144u);
  pool.step(FirstByte{RequestId(2)});
  pool.now = pool.now + seconds(3);  // the entries have expired and no event came
  EXPECT_EQ(pool.forwarded(3, ids).predicted_cached_tokens, 0u);
}

TEST(CoreTest, AClientThatLeavesIsCancelledAndItsEntriesRolledBack) {
  Pool pool("precise", 8);
  const auto ids = ids_of(1, 160);
  const Forward first = pool.forwarded(1, ids);
  const Cancel cancel = Pool::only<Cancel>(pool.step(ClientGone{RequestId(1)}));
  EXPECT_EQ(cancel.id, RequestId(1));
  EXPECT_EQ(cancel.engine, first.engine);
  EXPECT_TRUE(pool.step(ClientGone{RequestId(1)}).empty());
  EXPECT_TRUE(pool.step(Finished{RequestId(1), Usage{1, 1, 1}}).empty()) << "late news";
  EXPECT_EQ(pool.forwarded(2, ids).predicted_cached_tokens, 0u);
  EXPECT_EQ(pool.snapshot().cancelled_total, 1u);
  pool.step(ClientGone{RequestId(2)});
  pool.expect_empty_books();
}

TEST(CoreTest, AFailureBeforeTheFirstByteIsTriedElsewhere) {
  Pool pool("precise");
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(1), ids);
  ASSERT_EQ(pool.forwarded(1, ids).engine, EngineId(1));
  const Forward second = Pool::only<Forward>(pool.step(failed(1, EngineId(1), ErrorKind::kUnavailable)));
  EXPECT_NE(second.engine, EngineId(1));
  EXPECT_EQ(second.attempt, 2u);
  EXPECT_EQ(second.predicted_cached_tokens, 0u);
  EXPECT_EQ(second.receipt->candidates.size(), 2u);
  EXPECT_TRUE(pool.step(failed(1, EngineId(1))).empty()) << "that engine no longer has the request";
  const Forward third = Pool::only<Forward>(pool.step(failed(1, second.engine, ErrorKind::kUnavailable)));
  EXPECT_EQ(third.attempt, 3u);
  EXPECT_NE(third.engine, EngineId(1));
  EXPECT_NE(third.engine, second.engine);
  const Reject reject = Pool::only<Reject>(pool.step(failed(1, third.engine, ErrorKind::kUnavailable)));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUnavailable);
  EXPECT_GT(reject.retry_after, Duration(0));
  EXPECT_EQ(pool.snapshot().retries_total, 2u);
  EXPECT_EQ(pool.snapshot().rejected_total, 1u);
  pool.expect_empty_books();
}

TEST(CoreTest, AttemptsAreBounded) {
  Pool pool("random", 8, {.attempts_max = 2});
  const Forward first = pool.forwarded(1, {});
  const Forward second = Pool::only<Forward>(pool.step(failed(1, first.engine, ErrorKind::kUnavailable)));
  const Reject reject = Pool::only<Reject>(pool.step(failed(1, second.engine, ErrorKind::kUnavailable)));
  EXPECT_THAT(reject.error.message, HasSubstr("2 engines"));
}

TEST(CoreTest, NoRetryOnceAByteCameOrWhenTheCallerForbidsIt) {
  Pool pool("random");
  Forward forward = pool.forwarded(1, {});
  pool.step(FirstByte{RequestId(1)});
  Reject reject = Pool::only<Reject>(pool.step(failed(1, forward.engine)));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUpstream);
  forward = pool.forwarded(2, {});
  pool.step(Progress{RequestId(2), 5});
  Pool::only<Reject>(pool.step(failed(2, forward.engine)));
  forward = pool.forwarded(3, {});
  Failed final = failed(3, forward.engine, ErrorKind::kTimeoutEngine);
  final.retry = Failed::Retry::kMayNot;
  reject = Pool::only<Reject>(pool.step(final));
  EXPECT_EQ(reject.error.kind, ErrorKind::kTimeoutEngine);
  pool.expect_empty_books();
}

TEST(CoreTest, ARequestThatBreaksEnginesIsGivenUp) {
  Pool pool("random", 8, {.attempts_max = 8});
  Forward forward = pool.forwarded(1, {});
  forward = Pool::only<Forward>(pool.step(failed(1, forward.engine, ErrorKind::kUnavailable)));  // unreached: no death
  forward = Pool::only<Forward>(pool.step(failed(1, forward.engine, ErrorKind::kUpstream)));
  Failed busy = failed(1, forward.engine, ErrorKind::kExhausted);
  busy.blame = Failed::Blame::kNone;  // a 429: no death either
  forward = Pool::only<Forward>(pool.step(busy));
  const Reject reject = Pool::only<Reject>(pool.step(failed(1, forward.engine, ErrorKind::kTimeoutEngine)));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUpstream);
  EXPECT_THAT(reject.error.message, HasSubstr("2 engines broke off"));
  EXPECT_EQ(pool.snapshot().poisoned_total, 1u);
}

TEST(CoreTest, AnswersOfBusyEnginesDoNotSetThemAside) {
  Pool pool("random", 1);
  for (std::uint64_t id = 1; id <= 10; ++id) {
    const Forward forward = pool.forwarded(id, {});
    Failed busy = failed(id, forward.engine, ErrorKind::kExhausted);
    busy.blame = Failed::Blame::kNone;
    EXPECT_EQ(Pool::only<Reject>(pool.step(busy)).error.kind, ErrorKind::kExhausted);
  }
  EXPECT_EQ(pool.snapshot().engines[0].liveness, fleet::Liveness::kUnknown);
}

TEST(CoreTest, HalfTheEnginesRefusingCostsNoRequest) {
  Pool pool("random", 8, {.attempts_max = 5});
  std::uint64_t connects_refused = 0;
  for (std::uint64_t id = 1; id <= 1'000; ++id) {
    std::vector<Effect> effects = pool.arrive(id, {});
    while (true) {
      ASSERT_EQ(effects.size(), 1u);
      ASSERT_TRUE(std::holds_alternative<Forward>(effects[0])) << "request " << id << " was refused";
      const Forward forward = std::get<Forward>(effects[0]);
      if (forward.engine.value() % 2 == 1) break;
      ++connects_refused;
      effects = pool.step(failed(id, forward.engine, ErrorKind::kUnavailable));
    }
    pool.step(FirstByte{RequestId(id)});
    pool.step(Finished{RequestId(id), {}});
    pool.now = pool.now + milliseconds(1);
  }
  EXPECT_LE(connects_refused, 12u) << "three each, then set aside";
  pool.expect_empty_books();
}

TEST(CoreTest, OtherRanksOfAnUnreachedProcessAreTriedLast) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Pool pool("random", 0, {.seed = seed, .attempts_max = 8});
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      fleet::EngineInfo info = engine(rank);
      info.url = "http://one:8000";
      info.rank = rank;
      pool.add(info);
    }
    pool.add(engine(4));
    const Forward first = pool.forwarded(1, {});
    const Forward second = Pool::only<Forward>(pool.step(failed(1, first.engine, ErrorKind::kUnavailable)));
    if (first.engine != EngineId(4)) {
      EXPECT_EQ(second.engine, EngineId(4));
    }
    // Where no other process is left its ranks are better than nothing.
    Pool::only<Forward>(pool.step(failed(1, second.engine, ErrorKind::kUnavailable)));
  }
}

TEST(CoreTest, ModelsAndLivenessFilter) {
  Pool pool("random", 0);
  pool.add(engine(0, {"model", "adapter"}));
  pool.add(engine(1, {"model"}));
  Arrived arrived;
  arrived.model = "adapter";
  for (std::uint64_t id = 1; id <= 10; ++id) {
    arrived.id = RequestId(id);
    EXPECT_EQ(Pool::only<Forward>(pool.step(arrived)).engine, EngineId(0));
  }
  pool.step(EngineChanged{fleet::LivenessChanged{EngineId(0), fleet::Liveness::kDraining}});
  arrived.id = RequestId(11);
  const Reject reject = Pool::only<Reject>(pool.step(arrived));
  EXPECT_EQ(reject.error.kind, ErrorKind::kUnavailable);
  EXPECT_GT(reject.retry_after, Duration(0));
  arrived.id = RequestId(12);
  arrived.model = "nobody's";
  Pool::only<Reject>(pool.step(arrived));
  EXPECT_EQ(pool.snapshot().rejected_total, 2u);
}

TEST(CoreTest, BoundOnRequestsInFlight) {
  Pool pool("random", 2, {.gate = {.inflight_requests_max = 2}});
  pool.forwarded(1, {});
  pool.forwarded(2, {});
  EXPECT_EQ(Pool::only<Reject>(pool.arrive(3, {})).error.kind, ErrorKind::kUnavailable);
  pool.step(Finished{RequestId(1), {}});
  pool.forwarded(4, {});
}

TEST(CoreTest, RequestsOfARemovedEngineRunOnOrAreRetried) {
  Pool pool("precise", 3);
  const auto ids = ids_of(1, 100);
  pool.store(EngineId(1), ids);
  ASSERT_EQ(pool.forwarded(1, ids).engine, EngineId(1));
  pool.step(FirstByte{RequestId(1)});
  ASSERT_EQ(pool.forwarded(2, ids).engine, EngineId(1));
  EXPECT_TRUE(pool.step(EngineChanged{fleet::Removed{EngineId(1)}}).empty());
  EXPECT_TRUE(pool.step(Finished{RequestId(1), Usage{100, 1, 96}}).empty());
  EXPECT_TRUE(pool.snapshot().proofs.empty()) << "no proof is kept of an engine that is gone";
  const Forward retry = Pool::only<Forward>(pool.step(failed(2, EngineId(1))));
  EXPECT_NE(retry.engine, EngineId(1));
  pool.step(PublisherChanged{EngineId(1), blocks::PublisherState::kExact});  // late news
  pool.step(Finished{RequestId(2), {}});
  pool.expect_empty_books();
}

TEST(CoreTest, ApproximateFollowsItsOwnDecisions) {
  for (const std::string_view name : {"approximate", "approximate-2025"}) {
    SCOPED_TRACE(name);
    Pool pool(name, 8);
    const auto ids = ids_of(1, 640);
    const EngineId first = pool.forwarded(1, ids).engine;
    pool.step(FirstByte{RequestId(1)});
    pool.step(Finished{RequestId(1), {}});
    for (std::uint64_t id = 2; id <= 20; ++id) {
      pool.now = pool.now + seconds(10);  // no expiry: an LRU
      EXPECT_EQ(pool.forwarded(id, ids).engine, first);
      pool.step(FirstByte{RequestId(id)});
      pool.step(Finished{RequestId(id), {}});
    }
    pool.step(EngineChanged{fleet::Removed{first}});
    EXPECT_NE(pool.forwarded(21, ids).engine, first);
  }
}

TEST(CoreTest, GuessedChainsAreCutAtThePolicysCap) {
  Pool pool("approximate-2025", 1);
  const Forward forward = pool.forwarded(1, ids_of(1, 16 * 300));
  EXPECT_EQ(forward.receipt->guessed_blocks, 256u);
}

TEST(CoreTest, ReceiptsAreARing) {
  Pool pool("random", 2, {.receipts_max = 3});
  for (std::uint64_t id = 1; id <= 5; ++id) pool.forwarded(id, {});
  pool.step(Finished{RequestId(1), Usage{1, 1, 0}});  // its record is gone: nothing to fill in
  pool.step(Finished{RequestId(4), Usage{1, 1, 0}});
  const Snapshot picture = pool.snapshot();
  std::vector<std::uint64_t> ids;
  for (const DecisionRecord& record : picture.decisions) ids.push_back(record.id.value());
  EXPECT_THAT(ids, ElementsAre(5, 4, 3));
  EXPECT_EQ(picture.decisions[1].reported_cached_tokens, 0u);
  EXPECT_EQ(pool.snapshot(1).decisions.size(), 1u);
}

TEST(CoreTest, WorksWithoutAnIndex) {
  CoreOptions options;
  options.policy = policy("precise");
  Core core(options, nullptr);
  std::vector<Effect> out;
  core.step(EngineChanged{fleet::Added{engine(0)}}, at_ms(0), out);
  Arrived arrived;
  arrived.id = RequestId(1);
  arrived.chain = {BlockKey(1), BlockKey(2)};
  arrived.prompt_tokens = 128;
  core.step(arrived, at_ms(0), out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<Forward>(out[0]));
  EXPECT_EQ(core.snapshot(at_ms(0), 1).policy, "precise");
}

TEST(CoreDeathTest, AnIdInFlightTwiceIsABug) {
  Pool pool("random", 1);
  pool.forwarded(1, {});
  EXPECT_DEATH(pool.arrive(1, {}), "requests.contains");
}

TEST(CoreTest, SameSeedSameDecisions) {
  for (const schedule::Policy* one : schedule::policies()) {
    std::vector<std::uint32_t> runs[3];
    for (int run = 0; run < 3; ++run) {
      Pool pool(one->name(), 8, {.seed = run == 2 ? 8u : 7u});
      for (std::uint64_t id = 1; id <= 64; ++id) {
        runs[run].push_back(pool.forwarded(id, ids_of(static_cast<std::uint32_t>(id % 5) * 1'000, 100)).engine.value());
      }
    }
    EXPECT_EQ(runs[0], runs[1]) << one->name();
    if (one->name() != "round-robin") {
      EXPECT_NE(runs[0], runs[2]) << one->name();
    }
  }
}

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
    fleet::EngineInfo info = engine(next_engine_, random_.below(2) == 0 ? std::vector<std::string>{} : std::vector<std::string>{"a"});
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
    EXPECT_TRUE(pool_.step(PublisherChanged{any_engine(), static_cast<blocks::PublisherState>(random_.below(4))}).empty());
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
    Arrived arrived = pool_.request(id, ids_of(static_cast<std::uint32_t>(random_.below(3)) * 7'777, random_.below(300)));
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
    for (const auto& [engine_id, info] : twin_.engines) EXPECT_FALSE(twin_.may_take(EngineId(engine_id), arrived.model));
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
