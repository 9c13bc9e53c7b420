#include "workload/workload.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::workload {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

std::vector<TokenId> vocabulary() {
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < 5'000; ++id) ids.push_back(id * 3 + 100);
  return ids;
}

std::unique_ptr<Source> make(Options options) {
  auto source = Source::create(options, vocabulary());
  EXPECT_TRUE(source.ok()) << source.error().message;
  return std::move(source).value();
}

std::vector<TokenId> answer_of(const Request& request) {
  std::vector<TokenId> ids(request.output_tokens);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(900'000 + request.id * 7 + i);
  return ids;
}

// Plays the whole source; each answer takes `service`. Checks order, ids and that nothing is stuck.
std::vector<Request> play(Source& source, Duration service, std::size_t* outstanding_max = nullptr) {
  std::vector<Request> all;
  std::multimap<Instant, std::size_t> running;  // end -> index
  Instant now;
  while (!source.exhausted() || !running.empty()) {
    const auto at = source.next_at();
    if (at && (running.empty() || *at <= running.begin()->first)) {
      now = std::max(now, *at);
      std::vector<Request> due;
      source.due(now, due);
      EXPECT_FALSE(due.empty());
      for (Request& request : due) {
        EXPECT_EQ(request.id, all.size());
        EXPECT_LE(request.at, now);
        if (!all.empty()) EXPECT_GE(request.at, all.back().at);
        running.emplace(now + service, all.size());
        all.push_back(std::move(request));
      }
    } else if (!running.empty()) {
      now = running.begin()->first;
      const std::size_t index = running.begin()->second;
      running.erase(running.begin());
      source.finished(all[index].id, answer_of(all[index]), now);
    } else {
      ADD_FAILURE() << "stuck";
      break;
    }
    if (outstanding_max != nullptr) *outstanding_max = std::max(*outstanding_max, running.size());
  }
  EXPECT_EQ(source.next_at(), std::nullopt);
  return all;
}

TEST(SharedPrefixSource, AsksEachPromptOnceAndSharesWithinGroups) {
  const SharedPrefix shape{
      .groups = 4, .prompts_per_group = 3, .system_prompt_tokens = 50, .question_tokens = 20, .output_tokens = 7};
  auto source = make({.population = shape, .arrivals = Constant{.per_second = 100}, .requests_max = 0, .seed = 1});
  EXPECT_EQ(source->total(), 12u);
  const auto all = play(*source, milliseconds(1));
  ASSERT_EQ(all.size(), 12u);
  std::map<std::string, std::set<std::vector<TokenId>>> systems;
  std::set<std::vector<TokenId>> prompts;
  std::set<std::vector<TokenId>> all_systems;
  for (const Request& request : all) {
    ASSERT_EQ(request.messages.size(), 2u);
    EXPECT_EQ(request.messages[0].role, Role::kSystem);
    EXPECT_EQ(request.messages[0].ids.size(), 50u);
    EXPECT_EQ(request.messages[1].ids.size(), 20u);
    EXPECT_EQ(request.output_tokens, 7u);
    EXPECT_EQ(request.flat().size(), 70u);
    EXPECT_EQ(request.salt, "");
    systems[request.tenant].insert(request.messages[0].ids);
    all_systems.insert(request.messages[0].ids);
    prompts.insert(request.flat());
  }
  EXPECT_EQ(systems.size(), 4u);
  for (const auto& [group, texts] : systems) EXPECT_EQ(texts.size(), 1u) << group;
  EXPECT_EQ(all_systems.size(), 4u);
  EXPECT_EQ(prompts.size(), 12u);
  EXPECT_EQ(working_set_tokens({.population = shape}), 4u * (50 + 3 * 27));
}

TEST(SharedPrefixSource, CyclesTheShuffledList) {
  const SharedPrefix shape{
      .groups = 3, .prompts_per_group = 2, .system_prompt_tokens = 8, .question_tokens = 8, .output_tokens = 1};
  auto source = make({.population = shape, .arrivals = Constant{}, .requests_max = 15, .seed = 2});
  const auto all = play(*source, milliseconds(1));
  ASSERT_EQ(all.size(), 15u);
  for (std::size_t i = 6; i < 15; ++i) EXPECT_EQ(all[i].messages, all[i - 6].messages);
}

TEST(Source, WritesOnlyWithTheVocabulary) {
  const auto ids = vocabulary();
  auto source =
      make({.population = MultiTurn{.tenants = 2, .conversations_per_tenant = 2, .turns = 1}, .arrivals = Constant{}});
  std::set<TokenId> used;
  for (const Request& request : play(*source, milliseconds(1))) {
    for (const TokenId id : request.flat()) {
      EXPECT_TRUE(std::ranges::binary_search(ids, id));
      used.insert(id);
    }
  }
  EXPECT_GT(used.size(), 1'000u);
}

TEST(Source, TheSameSeedAsksTheSameWhateverTheTiming) {
  const Options options{
      .population = MultiTurn{.tenants = 3, .conversations_per_tenant = 4, .turns = 3, .think_seconds = 0.5},
      .arrivals = Poisson{.per_second = 5},
      .requests_max = 0,
      .seed = 77};
  const auto key = [](const std::vector<Request>& all) {
    std::map<std::vector<TokenId>, std::uint32_t> texts;  // last user message -> output length
    for (const Request& request : all) texts[request.messages.back().ids] = request.output_tokens;
    return texts;
  };
  const auto fast = play(*make(options), milliseconds(1));
  const auto again = play(*make(options), milliseconds(1));
  const auto slow = play(*make(options), seconds(3));
  ASSERT_EQ(fast.size(), 36u);
  for (std::size_t i = 0; i < fast.size(); ++i) {
    EXPECT_EQ(fast[i].messages, again[i].messages);
    EXPECT_EQ(fast[i].at, again[i].at);
  }
  EXPECT_EQ(key(fast), key(slow));
  Options other = options;
  other.seed = 78;
  EXPECT_NE(key(fast), key(play(*make(other), milliseconds(1))));
}

TEST(MultiTurnSource, TurnsGrowByTheEnginesAnswers) {
  const MultiTurn shape{.tenants = 3,
                        .conversations_per_tenant = 2,
                        .turns = 4,
                        .system_prompt_tokens = 40,
                        .user_tokens = 20,
                        .output_tokens = 10,
                        .think_seconds = 0,
                        .salt_per_tenant = true};
  auto source = make({.population = shape, .arrivals = Constant{.per_second = 1000}, .requests_max = 0, .seed = 3});
  EXPECT_EQ(source->total(), 24u);
  const auto all = play(*source, milliseconds(10));
  ASSERT_EQ(all.size(), 24u);
  std::map<std::vector<TokenId>, const Request*> by_first;  // conversation -> its turn before
  std::map<std::string, std::set<std::string>> salts;
  for (const Request& request : all) {
    ASSERT_EQ(request.messages.size(), 2 + 2 * std::size_t{request.turn});
    EXPECT_EQ(request.messages[0].role, Role::kSystem);
    EXPECT_EQ(request.messages.back().role, Role::kUser);
    EXPECT_GE(request.messages.back().ids.size(), 10u);
    EXPECT_LE(request.messages.back().ids.size(), 30u);
    EXPECT_GE(request.output_tokens, 5u);
    EXPECT_LE(request.output_tokens, 15u);
    salts[request.tenant].insert(request.salt);
    const Request*& before = by_first[request.messages[1].ids];
    if (request.turn > 0) {
      ASSERT_NE(before, nullptr);
      EXPECT_EQ(before->turn + 1, request.turn);
      std::vector<Message> expected = before->messages;
      expected.push_back({Role::kAssistant, answer_of(*before)});
      expected.push_back(request.messages.back());
      EXPECT_EQ(request.messages, expected);
      EXPECT_EQ(request.at, before->at + milliseconds(10));
    }
    before = &request;
  }
  EXPECT_EQ(by_first.size(), 6u);
  ASSERT_EQ(salts.size(), 3u);
  std::set<std::string> distinct;
  for (const auto& [tenant, own] : salts) {
    ASSERT_EQ(own.size(), 1u);
    distinct.insert(*own.begin());
  }
  EXPECT_EQ(distinct.size(), 3u);
  EXPECT_EQ(working_set_tokens({.population = shape}), 3u * (40 + 2 * 4 * 30));
}

TEST(MultiTurnSource, AFailureEndsItsConversation) {
  auto source = make({.population = MultiTurn{.tenants = 1, .conversations_per_tenant = 2, .turns = 3},
                      .arrivals = ClosedLoop{.users = 1}});
  std::vector<Request> due;
  source->due(Instant(), due);
  ASSERT_EQ(due.size(), 1u);
  const auto first = due[0].messages.back();
  source->finished(due[0].id, {}, Instant(seconds(1)));
  source->finished(due[0].id, std::vector<TokenId>{1}, Instant(seconds(1)));  // told twice: ignored
  source->finished(99, std::vector<TokenId>{1}, Instant(seconds(1)));
  due.clear();
  source->due(Instant(seconds(1)), due);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].turn, 0u);
  EXPECT_NE(due[0].messages.back(), first);
  EXPECT_FALSE(source->exhausted());
  source->finished(due[0].id, {}, Instant(seconds(2)));
  EXPECT_TRUE(source->exhausted());
}

TEST(MultiTurnSource, RequestsMaxCutsTheTurnsLeft) {
  auto source = make({.population = MultiTurn{.tenants = 2, .conversations_per_tenant = 5, .turns = 4},
                      .arrivals = Poisson{.per_second = 3},
                      .requests_max = 17});
  EXPECT_EQ(source->total(), 17u);
  EXPECT_EQ(play(*source, seconds(1)).size(), 17u);
}

TEST(Arrivals, ConstantIsEven) {
  auto source = make({.population = SharedPrefix{}, .arrivals = Constant{.per_second = 4}});
  const auto all = play(*source, seconds(100));
  ASSERT_EQ(all.size(), 50u);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].at, Instant(milliseconds(250) * i));
}

TEST(Arrivals, PoissonHasTheRateAndTheSpread) {
  auto source = make({.population = SharedPrefix{.system_prompt_tokens = 0, .question_tokens = 1},
                      .arrivals = Poisson{.per_second = 20},
                      .requests_max = 20'000,
                      .seed = 5});
  const auto all = play(*source, milliseconds(1));
  ASSERT_EQ(all.size(), 20'000u);
  double sum = 0;
  double squares = 0;
  Instant before;
  for (const Request& request : all) {
    const double gap = to_seconds(request.at - before);
    before = request.at;
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / 20'000;
  EXPECT_NEAR(mean, 0.05, 0.002);
  EXPECT_NEAR(std::sqrt(squares / 20'000 - mean * mean) / mean, 1.0, 0.05);  // exponential: as wide as its mean
}

TEST(Arrivals, ClosedLoopKeepsItsUsersBusy) {
  std::size_t outstanding = 0;
  auto source = make({.population = MultiTurn{.tenants = 4, .conversations_per_tenant = 6, .turns = 2},
                      .arrivals = ClosedLoop{.users = 5}});
  const auto all = play(*source, seconds(1), &outstanding);
  EXPECT_EQ(all.size(), 48u);
  EXPECT_EQ(outstanding, 5u);
  EXPECT_EQ(std::ranges::count(all, Instant(), &Request::at), 5);
  outstanding = 0;
  auto few =
      make({.population = SharedPrefix{.groups = 1, .prompts_per_group = 3}, .arrivals = ClosedLoop{.users = 50}});
  EXPECT_EQ(play(*few, seconds(1), &outstanding).size(), 3u);
  EXPECT_EQ(outstanding, 3u);
}

TEST(Arrivals, ThinkTimeIsExponentialAroundItsMean) {
  auto source =
      make({.population = MultiTurn{.tenants = 10, .conversations_per_tenant = 50, .turns = 6, .think_seconds = 2},
            .arrivals = ClosedLoop{.users = 1000}});
  std::map<std::vector<TokenId>, Instant> answered;
  double sum = 0;
  int count = 0;
  for (const Request& request : play(*source, seconds(1))) {
    Instant& end = answered[request.messages[1].ids];
    if (request.turn > 0) {
      sum += to_seconds(request.at - end);
      ++count;
    }
    end = request.at + seconds(1);
  }
  ASSERT_EQ(count, 2500);
  EXPECT_NEAR(sum / count, 2, 0.2);
}

std::vector<TraceRow> rows() {
  return {{.at_seconds = 0, .input_tokens = 1000, .output_tokens = 5, .hash_ids = {0, 1}},
          {.at_seconds = 0.5, .input_tokens = 1100, .output_tokens = 0, .hash_ids = {0, 1, 2}},
          {.at_seconds = 3, .input_tokens = 513, .output_tokens = 9, .hash_ids = {0, 3}}};
}

TEST(TraceSource, MakesPromptsFromBlockIds) {
  auto source = make({.population = Trace{.rows = rows(), .time_factor = 2}});
  const auto all = play(*source, milliseconds(1));
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[1].at, Instant(seconds(1)));
  EXPECT_EQ(all[2].at, Instant(seconds(6)));
  const auto a = all[0].flat();
  const auto b = all[1].flat();
  const auto c = all[2].flat();
  EXPECT_EQ(a.size(), 1000u);
  EXPECT_EQ(b.size(), 1100u);
  EXPECT_EQ(c.size(), 513u);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 512, c.begin()));
  EXPECT_NE(a[512], c[512]);
  EXPECT_EQ(all[0].output_tokens, 5u);
  EXPECT_EQ(all[1].output_tokens, 1u) << "an answer has a token";
  EXPECT_EQ(all[0].tenant, "");
  EXPECT_EQ(working_set_tokens({.population = Trace{.rows = rows()}}), 512u + 488 + 76 + 1 + 14);
}

TEST(TraceSource, ScalesLengthsAndKeepsTheSharing) {
  auto source = make({.population = Trace{.rows = rows(), .length_factor = 0.25}, .arrivals = ClosedLoop{.users = 1}});
  const auto all = play(*source, milliseconds(1));
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].flat().size(), 250u);
  EXPECT_EQ(all[2].flat().size(), 129u) << "a block keeps at least a token";
  const auto a = all[0].flat();
  const auto c = all[2].flat();
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 128, c.begin()));
  EXPECT_EQ(all[1].at, Instant(milliseconds(1))) << "a closed loop has no recorded times";
}

TEST(Options, AllFaultsAtOnce) {
  const auto error = [](Options options, std::vector<TokenId> ids = vocabulary()) {
    auto source = Source::create(options, ids);
    EXPECT_FALSE(source.ok());
    EXPECT_EQ(source.ok() ? ErrorKind::kInternal : source.error().kind, ErrorKind::kInvalid);
    return source.ok() ? std::string() : source.error().message;
  };
  const std::string text = error(
      {.population = MultiTurn{.tenants = 0, .turns = 0, .think_seconds = -1}, .arrivals = Poisson{.per_second = NAN}},
      {1, 2, 3});
  for (const char* part :
       {"tenants is 0", "turns is 0", "think_seconds", "rate per second", "the vocabulary has 3 ids"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(error({.population = SharedPrefix{.groups = 4'000'000'000, .prompts_per_group = 4'000'000'000}}),
              HasSubstr("groups"));
  EXPECT_THAT(error({.population = SharedPrefix{.question_tokens = 0}}), HasSubstr("question_tokens is 0"));
  EXPECT_THAT(error({.population = MultiTurn{.turns = 10'000, .user_tokens = 100'000}}), HasSubstr("can grow"));
  EXPECT_THAT(error({.population = Trace{}}), HasSubstr("no rows"));
  EXPECT_THAT(error({.population = Trace{.rows = rows(), .time_factor = 0}}), HasSubstr("time_factor"));
  EXPECT_THAT(error({.population = Trace{.rows = rows(), .length_factor = INFINITY}}), HasSubstr("length_factor"));
  auto bad = rows();
  bad[1].hash_ids.pop_back();
  EXPECT_THAT(error({.population = Trace{.rows = bad}}), HasSubstr("row 1"));
  bad = rows();
  bad[2].at_seconds = 0.1;
  EXPECT_THAT(error({.population = Trace{.rows = bad}}), HasSubstr("row 2"));
  EXPECT_THAT(error({.arrivals = ClosedLoop{.users = 0}}), HasSubstr("users is 0"));
  EXPECT_THAT(error({.arrivals = Constant{.per_second = 0}}), HasSubstr("rate"));
}

}  // namespace
}  // namespace warmpath::workload
