// Seeds of faults; every failure is printed as seed and schedule. WARMPATH_FAULT_SEEDS and WARMPATH_FAULT_FIRST say how
// many and from where (`./run test faults --seeds N --first SEED`).
#include <gtest/gtest.h>

#include <cstdlib>

#include "world.h"

namespace warmpath::faults {
namespace {

using blocks::PublisherState;

std::uint64_t asked(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : parse_u64(text).value_or(otherwise);
}

std::string shown(const Schedule& schedule, const Outcome& outcome) {
  std::string out = schedule.text();
  for (const std::string& fault : outcome.faults) out += "  -> " + fault + "\n";
  return out;
}

constexpr std::uint64_t kSeedsDefault = 300;
constexpr int kFailuresShown = 5;

TEST(Faults, TheIndexIsTheTruthWhenTheyStop) {
  const std::uint64_t first = asked("WARMPATH_FAULT_FIRST", 1);
  const std::uint64_t seeds = asked("WARMPATH_FAULT_SEEDS", kSeedsDefault);
  Outcome all;
  int failures = 0;
  for (std::uint64_t seed = first; seed < first + seeds && failures < kFailuresShown; ++seed) {
    const Schedule schedule = draw_schedule(seed);
    const Outcome one = World(schedule, Plant::kNone, seeds == 1 ? World::Trace::kYes : World::Trace::kNo).run();
    if (!one.faults.empty()) {
      ++failures;
      ADD_FAILURE() << shown(schedule, one);
    }
    for (const auto& [state, count] : one.ends) all.ends[state] += count;
    for (const auto& [kind, count] : one.happened) all.happened[kind] += count;
    all.totals.replays_failed += one.totals.replays_failed;
    all.totals.restarts += one.totals.restarts;
    all.totals.gaps += one.totals.gaps;
    all.totals.batches_dropped += one.totals.batches_dropped;
    all.totals.batches_malformed += one.totals.batches_malformed;
    all.totals.batches_applied += one.totals.batches_applied;
    all.blocks_true += one.blocks_true;
    all.curtailed += one.curtailed;
    all.replies_garbled += one.replies_garbled;
    all.blocks_restored += one.blocks_restored;
  }
  std::printf(
      "%llu seeds: %d exact, %d partial, %d suspect at the end; %llu batches, %llu gaps, %llu restarts, %llu failed "
      "replays, %llu dropped, %llu malformed, %llu curtailed\n",
      static_cast<unsigned long long>(seeds), all.ends[PublisherState::kExact], all.ends[PublisherState::kPartial],
      all.ends[PublisherState::kSuspect], static_cast<unsigned long long>(all.totals.batches_applied),
      static_cast<unsigned long long>(all.totals.gaps), static_cast<unsigned long long>(all.totals.restarts),
      static_cast<unsigned long long>(all.totals.replays_failed),
      static_cast<unsigned long long>(all.totals.batches_dropped),
      static_cast<unsigned long long>(all.totals.batches_malformed), static_cast<unsigned long long>(all.curtailed));
  if (failures > 0 || seeds < kSeedsDefault) return;
  // The runs went where they were meant to go.
  EXPECT_EQ(all.happened.size(), kKinds);
  EXPECT_GT(all.ends[PublisherState::kExact], 200);
  EXPECT_GT(all.ends[PublisherState::kPartial], 50);
  EXPECT_GT(all.totals.restarts, 100u);
  EXPECT_GT(all.totals.replays_failed, 200u);
  EXPECT_GT(all.totals.batches_dropped, 50u);
  EXPECT_GT(all.totals.batches_malformed, 500u);
  EXPECT_GT(all.curtailed, 100u);
  EXPECT_GT(all.replies_garbled, 10u);
  EXPECT_GT(all.blocks_restored, 1'000u);
  EXPECT_GT(all.blocks_true, 10'000u);
}

TEST(Faults, TheSameSeedIsTheSameRun) {
  const Schedule schedule = draw_schedule(7);
  const Outcome a = World(schedule, Plant::kNone).run();
  const Outcome b = World(schedule, Plant::kNone).run();
  EXPECT_EQ(a.totals.batches_applied, b.totals.batches_applied);
  EXPECT_EQ(a.totals.replays_asked, b.totals.replays_asked);
  EXPECT_EQ(a.blocks_true, b.blocks_true);
  EXPECT_EQ(draw_schedule(7).text(), schedule.text());
}

// The suite can fail: each planted bug is caught, and soon.
class Planted : public testing::TestWithParam<Plant> {};

TEST_P(Planted, IsCaught) {
  constexpr std::uint64_t kSeeds = 60;
  constexpr int kEnough = 3;
  int caught = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds && caught < kEnough; ++seed) {
    const Outcome one = World(draw_schedule(seed), GetParam()).run();
    if (one.faults.empty()) continue;
    if (++caught == 1) {
      std::printf("first caught at seed %llu: %s\n", static_cast<unsigned long long>(seed), one.faults[0].c_str());
    }
  }
  EXPECT_EQ(caught, kEnough) << "of " << kSeeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(Faults, Planted,
                         testing::Values(Plant::kLostRemoval, Plant::kReplayTwice, Plant::kRestartUnnoticed));

}  // namespace
}  // namespace warmpath::faults
