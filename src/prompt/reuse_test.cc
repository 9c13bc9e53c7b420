// Reuse against the `tokenizers` crate from scratch: random edits and appends, several threads, hostile input.
#include "prompt/reuse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "prompt/test_texts.h"
#include "tokens/test_models.h"

namespace warmpath::prompt {
namespace {

using blocks::KeySpace;
using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;
using ::testing::Lt;
using tokens::SpecialTokens;

constexpr std::uint64_t kSeed = 20261126;
// 100'000 in all with the seven real models. The thread sanitizer looks for other faults, and slows each case down.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WARMPATH_FEW_CASES
#endif
#endif
#ifdef WARMPATH_FEW_CASES
constexpr int kDemoCases = 1'000;
constexpr int kRealCases = 200;
#else
constexpr int kDemoCases = 30'000;
constexpr int kRealCases = 10'000;
#endif

const tokens::Tokenizer& demo() { return tokens::demo_model(); }

void check_cases(const tokens::Tokenizer& tokenizer, int cases, const char* name) {
  ASSERT_TRUE(tokenizer.encoder_facts().parts) << tokenizer.encoder_facts().why_no_parts;
  ReuseCheck check(tokenizer, kSeed);
  for (int i = 0; i < cases; ++i) {
    const auto fault = check.step();
    ASSERT_FALSE(fault) << name << ", seed " << kSeed << ", case " << i << ": " << *fault;
  }
  std::printf("%s: %d cases equal those of the reference\n", name, cases);
}

TEST(Reuse, DemoModelEqualsTheReference) { check_cases(demo(), kDemoCases, "demo_model"); }

class RealModels : public ::testing::TestWithParam<const char*> {};

TEST_P(RealModels, EqualTheReference) {
  const std::string folder = tokens::real_models_folder() + "/" + GetParam();
  if (!std::filesystem::exists(folder + "/tokenizer.json")) GTEST_SKIP() << "run tools/fetch_tokenizers.sh";
  auto tokenizer = tokens::Tokenizer::create(tokens::read_model_files(folder));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_TRUE((*tokenizer)->encoder_facts().fast) << (*tokenizer)->encoder_facts().why_not_fast;
  check_cases(**tokenizer, kRealCases, GetParam());
  EXPECT_EQ((*tokenizer)->given_up(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Reuse, RealModels,
                         ::testing::Values("qwen3", "qwen2_5", "llama3", "llama3_2", "deepseek_v3", "mistral_nemo",
                                           "gemma3"),
                         [](const auto& which) { return std::string(which.param); });

std::string words(std::size_t bytes, std::uint64_t seed) {
  RandomStream random(seed, "words");
  std::string out;
  while (out.size() < bytes) {
    for (std::uint64_t i = 1 + random.below(8); i > 0; --i) out.push_back(static_cast<char>('a' + random.below(26)));
    out.push_back(random.below(12) == 0 ? '\n' : ' ');
  }
  return out;
}

TEST(Reuse, ASecondTimeNothingIsEncoded) {
  const KeySpace space(1, "m", 4);
  Reuse reuse(demo(), space, 8u << 20);
  const std::string text = words(100'000, 1);
  const auto first = reuse.encode(text, SpecialTokens::kAdd, {}).value();
  EXPECT_EQ(reuse.counters().bytes_encoded, text.size());
  const auto second = reuse.encode(text, SpecialTokens::kAdd, {}).value();
  EXPECT_EQ(first.chain, second.chain);
  EXPECT_EQ(reuse.counters().bytes_encoded, text.size());
  EXPECT_EQ(reuse.counters().bytes_walked, text.size());
}

TEST(Reuse, WhatGrewIsEncodedFromItsLastCutOn) {
  const KeySpace space(1, "m", 4);
  Reuse reuse(demo(), space, 8u << 20);
  std::string text = words(100'000, 1);
  (void)reuse.encode(text, SpecialTokens::kNone, {});
  for (std::uint64_t turn = 2; turn < 20; ++turn) {
    const auto before = reuse.counters().bytes_encoded;
    const std::string more = words(1'000, turn);
    text += more;
    (void)reuse.encode(text, SpecialTokens::kNone, {});
    // The last word's end was not fixed.
    EXPECT_THAT(reuse.counters().bytes_encoded - before, AllOf(Ge(more.size()), Le(more.size() + 10)));
  }
}

TEST(Reuse, BehindAChangeEqualPiecesAreFoundAgain) {
  const KeySpace space(1, "m", 4);
  Reuse reuse(demo(), space, 8u << 20);
  const std::string text = words(200'000, 1);
  (void)reuse.encode(text, SpecialTokens::kNone, {});
  const auto before = reuse.counters().bytes_encoded;
  (void)reuse.encode("something new at the very beginning\n" + text, SpecialTokens::kNone, {});
  EXPECT_THAT(reuse.counters().bytes_encoded - before, Lt(40'000u));
  EXPECT_THAT(reuse.counters().bytes_known, Ge(160'000u));
}

TEST(Reuse, SaltsShareNothing) {
  const KeySpace space(1, "m", 4);
  Reuse reuse(demo(), space, 8u << 20);
  const std::string text = words(50'000, 1);
  (void)reuse.encode(text, SpecialTokens::kNone, {.lora = "", .salt = "a", .items = {}});
  (void)reuse.encode(text, SpecialTokens::kNone, {.lora = "", .salt = "b", .items = {}});
  EXPECT_EQ(reuse.counters().bytes_encoded, 2 * text.size());
}

TEST(Reuse, StaysBelowItsBoundWhateverComes) {
  const KeySpace space(1, "m", 16);
  constexpr std::size_t kBytesMax = 2u << 20;
  Reuse reuse(demo(), space, kBytesMax);
  std::string text;
  for (std::uint64_t i = 0; i < 300; ++i) {
    switch (i % 4) {
      case 0: text = words(30'000, i); break;          // always new
      case 1: text = std::string(70'000, 'x'); break;  // no cut, too long to be kept
      case 2:
        text = "same beginning of sixty-four bytes, and then something different each time " + std::to_string(i);
        break;
      default: text = std::to_string(i); break;  // many tiny entries
    }
    const auto found = reuse.encode(text, SpecialTokens::kNone, {});
    ASSERT_TRUE(found.ok());
    ASSERT_THAT(reuse.counters().bytes_held, Le(kBytesMax));
  }
  EXPECT_THAT(reuse.counters().entries_dropped, Ge(1u));
}

TEST(Reuse, NoBoundAtAllKeepsNothing) {
  const KeySpace space(1, "m", 4);
  Reuse reuse(demo(), space, 0);
  for (int i = 0; i < 2; ++i) (void)reuse.encode(words(5'000, 1), SpecialTokens::kNone, {});
  EXPECT_EQ(reuse.counters().bytes_held, 0u);
  EXPECT_EQ(reuse.counters().bytes_walked, 0u);
}

TEST(Reuse, WhatIsNotUtf8IsRefusedWhole) {
  const KeySpace space(1, "m", 4);
  Reuse reuse(demo(), space, 8u << 20);
  const std::string text = words(20'000, 1);
  (void)reuse.encode(text, SpecialTokens::kNone, {});
  for (const std::size_t at : {0u, 1u, 5'000u, 19'999u}) {
    std::string bad = text;
    bad[at] = static_cast<char>(0xE4);
    const auto found = reuse.encode(bad, SpecialTokens::kNone, {});
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.error().kind, ErrorKind::kInvalid);
  }
}

TEST(Reuse, ThreadsShareItAndStayExact) {
  const KeySpace space(3, "m", 3);
  Reuse reuse(demo(), space, 256u << 10, kSmallPieces);  // small: entries come and go
  std::atomic<int> faults{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      // Two by two the same texts, so that they meet in the same entries.
      const ReuseCheck check(demo(), t / 2);
      RandomStream random(t / 2, "texts");
      ChangingText text(random, 100);
      RandomStream choices(t, "choices");
      for (int i = 0; i < 1'000; ++i) {
        text.change();
        if (check.check(reuse, space, text.text(), choices)) faults.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(faults.load(), 0);
  EXPECT_THAT(reuse.counters().bytes_held, Le(256u << 10));
}

TEST(LastCut, IsTheLastOne) {
  EXPECT_EQ(last_cut("one two three", 0), 7u);
  EXPECT_EQ(last_cut("one two three", 6), 7u);
  EXPECT_EQ(last_cut("one two three", 7), 13u);
  EXPECT_EQ(last_cut("one two three\n", 0), 13u);
  EXPECT_EQ(last_cut("----", 0), 4u);
  EXPECT_EQ(last_cut("", 0), 0u);
}

TEST(PieceEnd, DependsOnTheBytesAroundItAlone) {
  const std::string text = words(60'000, 1);
  const PieceSizes sizes;
  std::size_t at = 0;
  std::vector<std::size_t> ends;
  while (at < text.size()) ends.push_back(at = piece_end(text, at, sizes));
  EXPECT_EQ(ends.back(), text.size());
  for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
    EXPECT_TRUE(tokens::is_cut(text, ends[i]));
    // Cutting off what is far behind changes nothing.
    EXPECT_EQ(piece_end(text.substr(0, ends[i] + 1), i == 0 ? 0 : ends[i - 1], sizes), ends[i]);
  }
}

}  // namespace
}  // namespace warmpath::prompt
