#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "engine/engine.h"
#include "engine/test_driver.h"
#include "engine/timing.h"

namespace warmpath::engine {
namespace {

using ::testing::HasSubstr;

std::vector<Profile> shipped() {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/data/profiles.json");
  std::stringstream text;
  text << file.rdbuf();
  auto profiles = parse_profiles(text.str());
  WP_CHECK(profiles.ok());
  return *profiles;
}

Profile named(std::string_view name) {
  for (const Profile& profile : shipped()) {
    if (profile.name == name) return profile;
  }
  WP_CHECK(false);
}

double prefill_seconds(const Profile& profile, std::uint64_t cached, std::uint64_t tokens) {
  StepWork work;
  work.prefill_us = prefill_us(profile, cached, tokens);
  return to_seconds(step_duration(profile, 1, work));
}

// The curve that llm-d published for cold prefill of Qwen3-32B on 2 x H100, and its own fit.
TEST(Profiles, PrefillFollowsThePublishedCurve) {
  const Profile profile = named("qwen3-32b-2xh100");
  const std::pair<std::uint64_t, double> fit[] = {{1'200, .052}, {1'585, .068}, {7'200, .329},
                                                  {7'585, .348}, {8'192, .378}, {10'000, .469}};
  for (const auto& [tokens, seconds] : fit) EXPECT_NEAR(prefill_seconds(profile, 0, tokens), seconds, .0006) << tokens;
  const std::pair<std::uint64_t, double> points[] = {{8'192, .40},   {16'384, .82},   {24'576, 1.35},
                                                     {32'768, 1.87}, {40'960, 2.5},   {65'536, 4.7},
                                                     {98'304, 8.4},  {131'072, 13.2}, {155'648, 17.5}};
  for (const auto& [tokens, seconds] : points) {
    EXPECT_NEAR(prefill_seconds(profile, 0, tokens) / seconds, 1, .08) << tokens;
  }
  EXPECT_NEAR(prefill_seconds(profile, 6'000, 1'585), .077, .001);
}

TEST(Profiles, ChunksAddUpToTheWhole) {
  const Profile profile = named("qwen3-32b-2xh100");
  double sum = 0;
  for (std::uint64_t done = 0; done < 40'960; done += 8'192) sum += prefill_us(profile, done, 8'192);
  EXPECT_NEAR(sum, prefill_us(profile, 0, 40'960), 1e-3);
}

// Decode step against running requests of about 8k tokens of context.
TEST(Profiles, DecodeFollowsBothCalibrations) {
  const auto step_ms = [](const Profile& profile, std::uint32_t requests) {
    StepWork work;
    work.decode_sequences = requests;
    work.decode_context_tokens = std::uint64_t{requests} * 7'750;
    return to_ms(step_duration(profile, 1, work));
  };
  const Profile now = named("qwen3-32b-2xh100");
  for (const auto& [requests, low, high] :
       {std::tuple{5u, 12.0, 14.5}, {20u, 16.5, 19.5}, {35u, 21.0, 23.0}, {65u, 27.0, 31.0}, {185u, 62.0, 69.0}}) {
    EXPECT_GE(step_ms(now, requests), low) << requests;
    EXPECT_LE(step_ms(now, requests), high) << requests;
  }
  const Profile then = named("qwen3-32b-2xh100-2025");
  for (const auto& [requests, low, high] :
       {std::tuple{6u, 20.0, 23.0}, {24u, 26.0, 30.0}, {38u, 29.0, 32.0}, {94u, 42.0, 50.0}, {128u, 53.0, 66.0}}) {
    EXPECT_GE(step_ms(then, requests), low) << requests;
    EXPECT_LE(step_ms(then, requests), high) << requests;
  }
}

TEST(Profiles, AMixedStepAddsBothAndAPrefillStepIsNeverBelowTheBase) {
  const Profile profile = named("qwen3-32b-2xh100");
  StepWork work;
  work.prefill_us = prefill_us(profile, 0, 4'000);
  const double prefill = to_ms(step_duration(profile, 1, work));
  work.decode_sequences = 10;
  work.decode_context_tokens = 80'000;
  EXPECT_NEAR(to_ms(step_duration(profile, 1, work)), prefill + 12 + 2.88, 1e-6);
  EXPECT_NEAR(to_ms(step_duration(profile, 4, work)), (prefill + 14.88) / 4, 1e-6);
  StepWork small;
  small.prefill_us = prefill_us(profile, 7'500, 64);
  EXPECT_EQ(to_ms(step_duration(profile, 1, small)), 12);
}

// The model books what the formulas say: one cold 8k prompt takes .378 s, at speed 10 a tenth of it.
TEST(Profiles, TheModelTakesTheseTimes) {
  for (const double speed : {1.0, 10.0}) {
    ModelOptions options;
    options.profile = named("qwen3-32b-2xh100");
    options.speed = speed;
    testing::Driver driver(options);
    driver.add(1, testing::range(1, 8'192), testing::range(1, 3));
    ASSERT_TRUE(driver.step());
    EXPECT_NEAR(to_seconds(driver.plan.duration), .3779 / speed, .001 / speed);
    ASSERT_TRUE(driver.step());
    EXPECT_NEAR(to_ms(driver.plan.duration), (12 + .036 * 8.193) / speed, 1e-3);
    driver.run();
    driver.add(2, testing::range(1, 8'192), testing::range(1, 1));
    ASSERT_TRUE(driver.step());
    EXPECT_NEAR(to_ms(driver.plan.duration), 12 / speed, 1e-3) << "64 tokens after 8,128 cached";
  }
}

TEST(Profiles, ShippedOnesAreThoseOfTheFile) {
  const auto& built_in = shipped_profiles();
  const auto file = shipped();
  ASSERT_EQ(built_in.size(), file.size());
  for (std::size_t i = 0; i < file.size(); ++i) {
    EXPECT_EQ(built_in[i].name, file[i].name);
    EXPECT_EQ(built_in[i].kv_blocks, file[i].kv_blocks);
  }
  EXPECT_EQ(built_in[0].name, "qwen3-32b-2xh100");
  EXPECT_EQ(find_profile(built_in, "demo")->block_tokens, 16u);
  const auto missing = find_profile(built_in, "dmo");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(missing.error().message,
              HasSubstr("there are: qwen3-32b-2xh100, qwen3-32b-2xh100-2025, demo; did you mean 'demo'?"));
}

TEST(Profiles, FaultsNameProfileAndField) {
  const auto fault = [](std::string_view json) {
    const auto profiles = parse_profiles(json);
    return profiles.ok() ? std::string() : profiles.error().message;
  };
  EXPECT_EQ(fault(R"([{"name":"a","source":"x"}])"), "");
  EXPECT_THAT(fault("{"), HasSubstr("not JSON"));
  EXPECT_THAT(fault("{}"), HasSubstr("an array"));
  EXPECT_THAT(fault("[]"), HasSubstr("empty"));
  EXPECT_THAT(fault("[1]"), HasSubstr("entry #0 is not an object"));
  EXPECT_THAT(fault(R"([{"source":"x"}])"), HasSubstr("'#0', field 'name'"));
  EXPECT_THAT(fault(R"([{"name":"a"}])"), HasSubstr("'a', field 'source'"));
  EXPECT_THAT(fault(R"([{"name":"a","source":"x","kv_blocks":0}])"),
              HasSubstr("'a', field 'kv_blocks': a whole number"));
  EXPECT_THAT(fault(R"([{"name":"a","source":"x","kv_blocks":1.5}])"), HasSubstr("kv_blocks"));
  EXPECT_THAT(fault(R"([{"name":"a","source":"x","step_base_ms":-1}])"), HasSubstr("step_base_ms"));
  EXPECT_THAT(fault(R"([{"name":"a","source":"x","step_base_ms":"1"}])"), HasSubstr("step_base_ms"));
  EXPECT_THAT(fault(R"([{"name":"a","source":"x","speed":1}])"), HasSubstr("'speed': no such field"));
  EXPECT_THAT(fault(R"([{"name":"a","source":"x"},{"name":"a","source":"y"}])"), HasSubstr("taken"));
}

}  // namespace
}  // namespace warmpath::engine
