#include "fleet/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <set>

namespace warmpath::fleet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

Instant at_ms(std::int64_t ms) { return Instant(milliseconds(ms)); }

EngineInfo engine(std::uint32_t id, std::vector<std::string> models = {}) {
  return {.id = EngineId(id),
          .name = "engine-" + std::to_string(id),
          .url = {},
          .rank = {},
          .models = std::move(models),
          .block_tokens = 16,
          .kv_tokens = 4096,
          .has_events = true};
}

std::vector<std::uint32_t> candidate_ids(const Fleet& fleet, std::string_view model, Instant now) {
  std::vector<EngineView> views;
  fleet.candidates(model, now, views);
  std::vector<std::uint32_t> ids;
  for (const EngineView& view : views) ids.push_back(view.id.value());
  return ids;
}

EngineView view_of(const Fleet& fleet, std::uint32_t id, Instant now = at_ms(0)) {
  std::vector<EngineView> views;
  fleet.all(now, views);
  for (const EngineView& view : views) {
    if (view.id == EngineId(id)) return view;
  }
  ADD_FAILURE() << "no engine " << id;
  return {};
}

Fleet fleet_of(std::uint32_t engines, FleetOptions options = {}) {
  Fleet fleet(options);
  for (std::uint32_t id = 0; id < engines; ++id) fleet.apply(Added{engine(id)}, at_ms(0));
  return fleet;
}

TEST(FleetTest, CandidatesServeTheModelAndLiveSortedById) {
  Fleet fleet;
  fleet.apply(Added{engine(3, {"a"})}, at_ms(0));
  fleet.apply(Added{engine(1, {"a", "b"})}, at_ms(0));
  fleet.apply(Added{engine(2)}, at_ms(0));
  fleet.apply(Added{engine(0, {"b"})}, at_ms(0));
  EXPECT_THAT(candidate_ids(fleet, "a", at_ms(0)), ElementsAre(1, 2, 3));
  EXPECT_THAT(candidate_ids(fleet, "c", at_ms(0)), ElementsAre(2));
  fleet.apply(LivenessChanged{EngineId(1), Liveness::kDown}, at_ms(1));
  fleet.apply(LivenessChanged{EngineId(3), Liveness::kDraining}, at_ms(1));
  EXPECT_THAT(candidate_ids(fleet, "a", at_ms(1)), ElementsAre(2));
  fleet.apply(LivenessChanged{EngineId(1), Liveness::kUp}, at_ms(2));
  EXPECT_THAT(candidate_ids(fleet, "a", at_ms(2)), ElementsAre(1, 2));
  fleet.apply(Removed{EngineId(2)}, at_ms(3));
  fleet.apply(Removed{EngineId(2)}, at_ms(3));
  EXPECT_THAT(candidate_ids(fleet, "a", at_ms(3)), ElementsAre(1));
  EXPECT_EQ(fleet.info(EngineId(2)), nullptr);
  ASSERT_NE(fleet.info(EngineId(1)), nullptr);
  EXPECT_EQ(fleet.info(EngineId(1))->name, "engine-1");
}

TEST(FleetTest, ChangedFactsKeepBooksAndSample) {
  Fleet fleet = fleet_of(1);
  fleet.apply(Sample{.engine = EngineId(0), .running = 4, .waiting = 2, .kv_usage = 0.5}, at_ms(10));
  fleet.forwarded(EngineId(0), RequestId(1), 100, 40, at_ms(11));
  EngineInfo changed = engine(0, {"m"});
  changed.block_tokens = 64;
  fleet.apply(Added{changed}, at_ms(12));
  const EngineView view = view_of(fleet, 0, at_ms(20));
  EXPECT_EQ(view.block_tokens, 64u);
  EXPECT_EQ(view.inflight_requests, 1u);
  EXPECT_EQ(view.waiting, 2);
  EXPECT_EQ(view.sample_age, Duration(milliseconds(10)));
}

TEST(FleetTest, BooksFollowOneRequest) {
  Fleet fleet = fleet_of(2);
  fleet.forwarded(EngineId(1), RequestId(7), 1'000, 400, at_ms(0));
  EXPECT_EQ(fleet.engine_of(RequestId(7)), EngineId(1));
  EXPECT_EQ(fleet.inflight_total(), 1u);
  EngineView view = view_of(fleet, 1);
  EXPECT_EQ(view.inflight_requests, 1u);
  EXPECT_EQ(view.inflight_tokens, 1'000u);
  EXPECT_EQ(view.inflight_prefill_tokens, 400u);
  EXPECT_EQ(view.inflight_since_sample, 1u);
  fleet.first_byte(RequestId(7), at_ms(20));
  fleet.first_byte(RequestId(7), at_ms(30));
  view = view_of(fleet, 1);
  EXPECT_EQ(view.inflight_prefill_tokens, 0u);
  EXPECT_EQ(view.inflight_since_sample, 0u);
  EXPECT_EQ(view.inflight_tokens, 1'000u);
  fleet.released(RequestId(7), at_ms(40));
  fleet.released(RequestId(7), at_ms(40));
  view = view_of(fleet, 1);
  EXPECT_EQ(view.inflight_requests, 0u);
  EXPECT_EQ(view.inflight_tokens, 0u);
  EXPECT_EQ(fleet.inflight_total(), 0u);
  EXPECT_EQ(fleet.engine_of(RequestId(7)), std::nullopt);
}

TEST(FleetTest, SinceSampleForgetsAtEachSampleOfTheQueue) {
  Fleet fleet = fleet_of(1);
  fleet.forwarded(EngineId(0), RequestId(1), 10, 10, at_ms(0));
  fleet.forwarded(EngineId(0), RequestId(2), 10, 10, at_ms(1));
  EXPECT_EQ(view_of(fleet, 0).inflight_since_sample, 2u);
  fleet.apply(Sample{.engine = EngineId(0), .kv_usage = 0.1}, at_ms(2));  // says nothing of the queue
  EXPECT_EQ(view_of(fleet, 0).inflight_since_sample, 2u);
  fleet.apply(Sample{.engine = EngineId(0), .waiting = 2}, at_ms(3));
  EXPECT_EQ(view_of(fleet, 0).inflight_since_sample, 0u);
  fleet.forwarded(EngineId(0), RequestId(3), 10, 10, at_ms(4));
  fleet.first_byte(RequestId(1), at_ms(5));  // was in the sample: nothing to take off
  fleet.released(RequestId(2), at_ms(5));
  EXPECT_EQ(view_of(fleet, 0).inflight_since_sample, 1u);
  fleet.released(RequestId(3), at_ms(6));
  EXPECT_EQ(view_of(fleet, 0).inflight_since_sample, 0u);
}

TEST(FleetTest, HostileSamplesLeaveTheLastGoodValue) {
  Fleet fleet = fleet_of(1);
  fleet.apply(Sample{.engine = EngineId(0), .kv_usage = 0.25}, at_ms(1));
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1.0}) {
    fleet.apply(Sample{.engine = EngineId(0), .kv_usage = bad}, at_ms(9));
    EXPECT_EQ(view_of(fleet, 0).kv_usage, 0.25) << bad;
    EXPECT_EQ(view_of(fleet, 0, at_ms(9)).sample_age, Duration(milliseconds(8))) << "a bad sample is no sample";
  }
  fleet.apply(Sample{.engine = EngineId(0), .kv_usage = 7.0}, at_ms(10));
  EXPECT_EQ(view_of(fleet, 0).kv_usage, 1.0);
  fleet.apply(Sample{.engine = EngineId(99), .waiting = 5}, at_ms(10));  // unknown: ignored
  EXPECT_EQ(view_of(fleet, 0).waiting, 0);
}

TEST(FleetTest, NoSampleYetHasNoAge) {
  const Fleet fleet = fleet_of(1);
  EXPECT_EQ(view_of(fleet, 0, at_ms(5)).sample_age, std::nullopt);
}

TEST(FleetTest, LearnsPrefillSpeedIncludingTheWorkAhead) {
  Fleet fleet = fleet_of(1);
  // 0.05 ms a token; the second request waits for the first.
  fleet.forwarded(EngineId(0), RequestId(1), 2'000, 1'000, at_ms(0));
  fleet.forwarded(EngineId(0), RequestId(2), 2'000, 1'000, at_ms(0));
  fleet.first_byte(RequestId(1), at_ms(50));
  EXPECT_DOUBLE_EQ(view_of(fleet, 0).ttft_ms_per_prefill_token, 0.05);
  fleet.first_byte(RequestId(2), at_ms(100));
  EXPECT_DOUBLE_EQ(view_of(fleet, 0).ttft_ms_per_prefill_token, 0.05);
  // A short request teaches nothing.
  fleet.forwarded(EngineId(0), RequestId(3), 10, 10, at_ms(200));
  fleet.first_byte(RequestId(3), at_ms(300));
  EXPECT_DOUBLE_EQ(view_of(fleet, 0).ttft_ms_per_prefill_token, 0.05);
  // A slower one moves the average by a tenth.
  fleet.forwarded(EngineId(0), RequestId(4), 1'000, 1'000, at_ms(400));
  fleet.first_byte(RequestId(4), at_ms(550));
  EXPECT_NEAR(view_of(fleet, 0).ttft_ms_per_prefill_token, 0.06, 1e-12);
}

TEST(FleetTest, LocalFailuresSetAnEngineAsideForAWhile) {
  Fleet fleet = fleet_of(4, {.failures_before_down = 3, .aside_for = seconds(10)});
  fleet.failed(EngineId(2), at_ms(0));
  fleet.failed(EngineId(2), at_ms(1));
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(1)), ElementsAre(0, 1, 2, 3));
  fleet.succeeded(EngineId(2), at_ms(2));  // in a row, or not at all
  fleet.failed(EngineId(2), at_ms(3));
  fleet.failed(EngineId(2), at_ms(3));
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(3)), ElementsAre(0, 1, 2, 3));
  fleet.failed(EngineId(2), at_ms(4));
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(5)), ElementsAre(0, 1, 3));
  EXPECT_EQ(view_of(fleet, 2, at_ms(5)).liveness, Liveness::kDown);
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(10'003)), ElementsAre(0, 1, 3));
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(10'004)), ElementsAre(0, 1, 2, 3));
  fleet.failed(EngineId(2), at_ms(10'005));  // on probation: one is enough
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(10'006)), ElementsAre(0, 1, 3));
  fleet.apply(LivenessChanged{EngineId(2), Liveness::kUp}, at_ms(10'007));
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(10'007)), ElementsAre(0, 1, 2, 3));
  fleet.failed(EngineId(77), at_ms(1));  // unknown: ignored
}

TEST(FleetTest, SettingAsideIsIgnoredWhenTooFewWouldStand) {
  Fleet fleet = fleet_of(8, {.failures_before_down = 1, .standing_share_min = 0.25});
  for (std::uint32_t id = 0; id < 6; ++id) fleet.failed(EngineId(id), at_ms(0));
  EXPECT_THAT(candidate_ids(fleet, "m", at_ms(1)), ElementsAre(6, 7));
  fleet.failed(EngineId(6), at_ms(1));
  EXPECT_EQ(candidate_ids(fleet, "m", at_ms(2)).size(), 8u);
  // What a health check called down stays down all the same.
  fleet.apply(LivenessChanged{EngineId(0), Liveness::kDown}, at_ms(3));
  EXPECT_EQ(candidate_ids(fleet, "m", at_ms(3)).size(), 7u);
  // All engines of one model aside: better a try than none.
  Fleet pair = fleet_of(2, {.failures_before_down = 1, .standing_share_min = 0});
  pair.failed(EngineId(0), at_ms(0));
  EXPECT_THAT(candidate_ids(pair, "m", at_ms(1)), ElementsAre(1));
  pair.failed(EngineId(1), at_ms(0));
  EXPECT_THAT(candidate_ids(pair, "m", at_ms(1)), ElementsAre(0, 1));
}

TEST(FleetTest, RequestsOfARemovedEngineStayBookedUntilReleased) {
  Fleet fleet = fleet_of(2);
  fleet.forwarded(EngineId(0), RequestId(1), 100, 100, at_ms(0));
  fleet.forwarded(EngineId(0), RequestId(2), 100, 100, at_ms(0));
  fleet.apply(Removed{EngineId(0)}, at_ms(1));
  EXPECT_EQ(fleet.inflight_total(), 2u);
  fleet.first_byte(RequestId(1), at_ms(2));
  fleet.released(RequestId(1), at_ms(3));
  fleet.released(RequestId(2), at_ms(3));
  EXPECT_EQ(fleet.inflight_total(), 0u);
}

TEST(FleetDeathTest, BookingTwiceOrOnNobodyIsABug) {
  Fleet fleet = fleet_of(1);
  fleet.forwarded(EngineId(0), RequestId(1), 1, 1, at_ms(0));
  EXPECT_DEATH(fleet.forwarded(EngineId(0), RequestId(1), 1, 1, at_ms(0)), "inserted");
  EXPECT_DEATH(fleet.forwarded(EngineId(5), RequestId(2), 1, 1, at_ms(0)), "entry");
}

// Against a naive twin: bookings as a plain list, sums made anew each time.
TEST(FleetTest, RandomOperationsAgreeWithANaiveTwin) {
  struct Twin {
    EngineId engine;
    std::uint64_t prompt = 0, uncached = 0, order = 0;
    bool first_byte = false;
  };
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomStream random(seed, "fleet-twin");
    Fleet fleet;
    std::set<std::uint32_t> engines;
    std::map<std::uint64_t, Twin> booked;
    std::map<std::uint32_t, std::uint64_t> sampled;  // engine -> order of its last sample
    std::uint32_t next_engine = 0;
    for (std::uint64_t order = 1; order <= 600; ++order) {
      const Instant now = at_ms(static_cast<std::int64_t>(order));
      const RequestId request(random.below(40));
      switch (random.below(7)) {
        case 0:
          if (engines.size() < 6) {
            fleet.apply(Added{engine(next_engine)}, now);
            engines.insert(next_engine++);
          }
          break;
        case 1:
          if (!engines.empty() && random.below(8) == 0) {
            const std::uint32_t id = *engines.begin();
            fleet.apply(Removed{EngineId(id)}, now);
            engines.erase(id);
          }
          break;
        case 2:
        case 3:
          if (!engines.empty() && !booked.contains(request.value())) {
            auto it = engines.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random.below(engines.size())));
            const std::uint64_t prompt = random.below(1'000);
            const std::uint64_t uncached = random.below(1'200);
            fleet.forwarded(EngineId(*it), request, prompt, uncached, now);
            booked[request.value()] = {EngineId(*it), prompt, std::min(uncached, prompt), order, false};
          }
          break;
        case 4:
          fleet.first_byte(request, now);
          if (booked.contains(request.value())) booked[request.value()].first_byte = true;
          break;
        case 5:
          fleet.released(request, now);
          booked.erase(request.value());
          break;
        case 6:
          if (!engines.empty()) {
            fleet.apply(Sample{.engine = EngineId(*engines.rbegin()), .waiting = 1}, now);
            sampled[*engines.rbegin()] = order;
          }
          break;
      }
      ASSERT_EQ(fleet.inflight_total(), booked.size());
      std::vector<EngineView> views;
      fleet.all(now, views);
      ASSERT_EQ(views.size(), engines.size());
      for (const EngineView& view : views) {
        EngineView expected;
        for (const auto& [id, twin] : booked) {
          if (twin.engine != view.id) continue;
          ++expected.inflight_requests;
          expected.inflight_tokens += twin.prompt;
          if (twin.first_byte) continue;
          expected.inflight_prefill_tokens += twin.uncached;
          if (twin.order > sampled[view.id.value()]) ++expected.inflight_since_sample;
        }
        ASSERT_EQ(view.inflight_requests, expected.inflight_requests);
        ASSERT_EQ(view.inflight_tokens, expected.inflight_tokens);
        ASSERT_EQ(view.inflight_prefill_tokens, expected.inflight_prefill_tokens);
        ASSERT_EQ(view.inflight_since_sample, expected.inflight_since_sample);
      }
    }
  }
}

TEST(FleetTest, WhatWasComputedOfLateFades) {
  Fleet fleet = fleet_of(2, {.recent_half_life = seconds(10)});
  EXPECT_EQ(view_of(fleet, 0).prefill_tokens_recent, 0);
  fleet.forwarded(EngineId(0), RequestId(1), 1'000, 800, at_ms(0));
  fleet.released(RequestId(1), at_ms(0));  // what was computed stays computed
  EXPECT_DOUBLE_EQ(view_of(fleet, 0, at_ms(0)).prefill_tokens_recent, 800);
  EXPECT_NEAR(view_of(fleet, 0, at_ms(10'000)).prefill_tokens_recent, 400, 1e-6);
  fleet.forwarded(EngineId(0), RequestId(2), 1'000, 100, at_ms(10'000));
  EXPECT_NEAR(view_of(fleet, 0, at_ms(10'000)).prefill_tokens_recent, 500, 1e-6);
  EXPECT_NEAR(view_of(fleet, 0, at_ms(30'000)).prefill_tokens_recent, 125, 1e-6);
  EXPECT_EQ(view_of(fleet, 1, at_ms(30'000)).prefill_tokens_recent, 0);
}

}  // namespace
}  // namespace warmpath::fleet
