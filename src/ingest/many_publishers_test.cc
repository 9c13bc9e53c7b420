// 2,000 publishers on one loop: libzmq's defaults allow 1,023 sockets a context, and each feed has three.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "ingest/publisher_feed.h"
#include "ingest/test_engine.h"
#include "io/test_loop.h"

namespace warmpath::ingest {
namespace {

using testing::prompt_ids;
using testing::stored;
using testing::TestPublisher;

constexpr std::size_t kPublishers = 2'000;
// Of both sides: sockets' wake-ups, connections, listeners.
constexpr rlim_t kDescriptors = 8 * kPublishers + 200;

bool descriptors_suffice() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max < kDescriptors) return false;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

TEST(ManyPublishers, TwoThousandAreFollowedOnOneLoop) {
  if (!descriptors_suffice()) GTEST_SKIP() << "needs a limit of " << kDescriptors << " open files";
  constexpr Duration kPatience = std::chrono::seconds(120);
  io::Loop loop;
  index::Index index({.space = blocks::KeySpace(7, "qwen", testing::kBlockTokens)});
  observe::Registry registry;
  std::vector<std::unique_ptr<TestPublisher>> publishers;
  std::vector<std::unique_ptr<PublisherFeed>> feeds;
  std::size_t connected = 0;
  std::size_t exact = 0;
  for (std::size_t i = 0; i < kPublishers; ++i) {
    publishers.push_back(std::make_unique<TestPublisher>(loop, TestPublisher::Replay::kNone));
    RankSource source{publishers[i]->live_endpoint(), "", "", EventSource::Side::kConnect};
    PublisherFeed::Setup setup{EngineId(static_cast<std::uint32_t>(i)), "e" + std::to_string(i), source, "p", {}, i};
    feeds.push_back(
        std::make_unique<PublisherFeed>(loop, std::move(setup), index, registry, [&](blocks::PublisherState state) {
          connected += state == blocks::PublisherState::kPartial ? 1 : 0;
          exact += state == blocks::PublisherState::kExact ? 1 : 0;
        }));
    const auto opened = feeds.back()->open();
    ASSERT_TRUE(opened.ok()) << i << ": " << opened.error().message;
  }
  ASSERT_TRUE(io::RunUntil(loop, [&] { return connected == kPublishers; }, kPatience)) << connected;
  // A subscription may reach its publisher after the connection is told: what was missed is made good by a clear.
  const auto publish = [&](std::size_t i) { publishers[i]->publish({stored(1 + i % 7, 0, 1 + i % 3)}); };
  for (std::size_t i = 0; i < kPublishers; ++i) publish(i);
  io::RunUntil(loop, [&] { return exact == kPublishers; }, std::chrono::seconds(5));
  std::size_t late = 0;
  for (std::size_t i = 0; i < kPublishers; ++i) {
    if (feeds[i]->follower().state() == blocks::PublisherState::kExact) continue;
    ++late;
    publishers[i]->publish({blocks::AllBlocksCleared{}, stored(1 + i % 7, 0, 1 + i % 3)});
  }
  ASSERT_TRUE(io::RunUntil(loop, [&] { return exact == kPublishers; }, kPatience)) << exact;
  RecordProperty("late", static_cast<int>(late));
  for (std::uint64_t prompt = 1; prompt <= 7; ++prompt) {
    index::MatchTable table;
    index.match(index.space().chain(prompt_ids(prompt, 8), {}), table);
    std::size_t expected = 0;
    for (std::size_t i = 0; i < kPublishers; ++i) expected += 1 + i % 7 == prompt ? 1 : 0;
    ASSERT_EQ(table.rows.size(), expected);
    for (const index::MatchRow& row : table.rows) {
      ASSERT_EQ(row.depth(blocks::Tier::kGpu), 1 + row.engine.value() % 3) << row.engine.value();
    }
  }
}

}  // namespace
}  // namespace warmpath::ingest
