// Each check over evidence made by hand: what it says, and that no other check blames something else.
#include "doctor/checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor/test_evidence.h"

namespace warmpath::doctor {
namespace {

using ::testing::ElementsAre;
using testing::evidence_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kBlock;
using testing::Knobs;

std::vector<Finding> judged(const Evidence& evidence) { return judge(evidence, tokens::demo_model()); }

// "cause" of every fault, then "(cause)" of every warning.
std::vector<std::string> causes(const Evidence& evidence) {
  std::vector<std::string> out;
  for (const Finding& finding : judged(evidence)) {
    if (finding.outcome == Outcome::kFault) out.push_back(finding.cause);
  }
  for (const Finding& finding : judged(evidence)) {
    if (finding.outcome == Outcome::kWarning) out.push_back("(" + finding.cause + ")");
  }
  return out;
}

Finding finding(const Evidence& evidence, std::string_view check) {
  for (const Finding& one : judged(evidence)) {
    if (one.check == check) return one;
  }
  ADD_FAILURE() << "no check " << check;
  return {};
}

TEST(Checks, AHealthyEngineIsCleanThroughout) {
  const Evidence evidence = evidence_of();
  for (const Finding& one : judged(evidence)) {
    EXPECT_EQ(one.outcome, Outcome::kOk) << one.check << ": " << one.detail;
    EXPECT_FALSE(one.detail.empty()) << one.check;
    EXPECT_TRUE(one.cause.empty()) << one.check;
  }
  EXPECT_EQ(judged(evidence).size(), checks().size());
}

TEST(Checks, FaultsAndWarningsAlwaysNameCauseAndRemedy) {
  for (const Finding& one : judged(evidence_of({.caches = false}))) {
    if (one.outcome == Outcome::kOk || one.outcome == Outcome::kNotTested) continue;
    EXPECT_FALSE(one.cause.empty()) << one.check;
    EXPECT_FALSE(one.remedy.empty()) << one.check;
  }
}

// ---- ids ----

std::vector<TokenId> with_line_in_front(std::vector<TokenId> ids) {
  const auto more = tokens::demo_model().encode("Knowledge ends somewhere.\n", tokens::SpecialTokens::kNone);
  ids.insert(ids.begin(), more->begin(), more->end());
  return ids;
}
std::vector<TokenId> with_end_in_front(std::vector<TokenId> ids) {
  ids.insert(ids.begin(), tokens::demo_model().end_ids().front());
  return ids;
}

TEST(Checks, AnotherTemplateIsNamed) {
  const Evidence evidence = evidence_of({.mistake = with_line_in_front});
  EXPECT_THAT(causes(evidence), ElementsAre("chat_template"));
  EXPECT_THAT(finding(evidence, "chat template").detail, HasSubstr("chat: from id 0 on"));
}

TEST(Checks, AnotherTemplateIsNamedByEventsAlone) {
  const Evidence evidence = evidence_of({.tells_ids = false, .mistake = with_line_in_front});
  EXPECT_THAT(causes(evidence), ElementsAre("chat_template"));
  EXPECT_THAT(finding(evidence, "chat template").detail, HasSubstr("by its events"));
  EXPECT_EQ(finding(evidence, "blocks").outcome, Outcome::kNotTested);
  EXPECT_EQ(finding(evidence, "tokenizer").outcome, Outcome::kNotTested);
}

TEST(Checks, OneSpecialTokenMoreIsDoubleBos) {
  const Evidence evidence = evidence_of({.mistake = with_end_in_front});
  EXPECT_THAT(causes(evidence), ElementsAre("special_tokens"));
  EXPECT_THAT(finding(evidence, "special tokens").detail, HasSubstr("the engine has 1 more in front"));
  EXPECT_THAT(causes(evidence_of({.tells_ids = false, .mistake = with_end_in_front})), ElementsAre("special_tokens"));
}

TEST(Checks, OneSpecialTokenLessIsSeenToo) {
  Evidence evidence = evidence_of();
  for (IdsProbe& probe : evidence.ids) probe.ours = with_end_in_front(probe.ours);
  EXPECT_THAT(finding(evidence, "special tokens").detail, HasSubstr("we have 1 more in front"));
}

TEST(Checks, TheSameTextInOtherIdsIsARebuiltTokenizer) {
  Evidence evidence = evidence_of();
  const tokens::Tokenizer& tokenizer = tokens::demo_model();
  // "hello world" with the space apart.
  auto apart = *tokenizer.encode("hello", tokens::SpecialTokens::kNone);
  for (const char* piece : {" ", "world"}) {
    const auto more = *tokenizer.encode(piece, tokens::SpecialTokens::kNone);
    apart.insert(apart.end(), more.begin(), more.end());
  }
  ASSERT_NE(apart, evidence.ids[0].ours);
  evidence.ids[0].theirs = apart;
  EXPECT_THAT(causes(evidence), ElementsAre("tokenizer"));
  EXPECT_THAT(finding(evidence, "tokenizer").remedy, HasSubstr("rebuilds the tokenizer from its class"));
}

TEST(Checks, AnotherTextInIdsIsAnotherVocabulary) {
  Evidence evidence = evidence_of();
  evidence.ids[0].theirs = {1, 2, 3};
  evidence.ids[1].theirs = {4'000'000'000u};
  EXPECT_THAT(causes(evidence), ElementsAre("tokenizer"));
  EXPECT_THAT(finding(evidence, "tokenizer").detail, HasSubstr("another tokenizer"));
  EXPECT_EQ(finding(evidence, "chat template").outcome, Outcome::kNotTested);
}

TEST(Checks, ARefusalOfOneSideIsAnotherTemplate) {
  Evidence evidence = evidence_of();
  IdsProbe& probe = evidence.ids.back();
  probe.theirs.clear();
  probe.theirs_refused = "400: no parts, please";
  EXPECT_THAT(causes(evidence), ElementsAre("chat_template"));
  EXPECT_THAT(finding(evidence, "chat template").detail, HasSubstr("no parts, please"));
  evidence.ids.back().ours.clear();
  evidence.ids.back().ours_refused = "no parts";
  EXPECT_THAT(causes(evidence), IsEmpty()) << "both refuse";
}

TEST(Checks, ADoubtAboutTheTokenizerIsSettledByTheEnginesIds) {
  Evidence evidence = evidence_of();
  evidence.tokenizer_doubt = "transformers may rebuild it";
  EXPECT_THAT(finding(evidence, "tokenizer").detail, HasSubstr("settles the doubt that transformers may rebuild it"));
}

TEST(Checks, APromptOfAnotherSizeThanToldIsAFault) {
  Evidence evidence = evidence_of();
  *evidence.answers.back().prompt_tokens += 1;
  EXPECT_THAT(causes(evidence), ElementsAre("special_tokens"));
  *evidence.answers.back().prompt_tokens += 7;
  EXPECT_THAT(causes(evidence), ElementsAre("prompt"));
}

// ---- events ----

TEST(Checks, EventsSwitchedOff) {
  Evidence evidence = evidence_of({.sends_events = false});
  evidence.sources.clear();
  evidence.told.front().enabled = false;
  EXPECT_THAT(causes(evidence), ElementsAre("events_disabled"));
  evidence.told.clear();
  EXPECT_THAT(causes(evidence), ElementsAre("events_disabled")) << "{}";
  evidence.told = {{.rank = 0, .publisher = "kafka"}};
  EXPECT_THAT(finding(evidence, "KV events").detail, HasSubstr("kafka"));
  evidence.sources_status = 404;
  evidence.told.clear();
  EXPECT_THAT(causes(evidence), ElementsAre("events_unknown"));
}

TEST(Checks, EventsWhereNobodyAnswers) {
  Evidence evidence = evidence_of({.sends_events = false});
  evidence.sources.front().connected = false;
  evidence.sources.front().topics.clear();
  EXPECT_THAT(causes(evidence), ElementsAre("events_address"));
  EXPECT_THAT(finding(evidence, "event stream").detail, HasSubstr("nothing answers at tcp://h:5557"));
  evidence.sources_given = true;
  evidence.sources.front().events = "tcp://h:6000";
  EXPECT_THAT(finding(evidence, "event stream").detail, HasSubstr("; the engine says tcp://h:5557"));
  evidence.sources.front().unusable = "not an address";
  EXPECT_THAT(finding(evidence, "event stream").detail, HasSubstr("not an address"));
}

TEST(Checks, EventsOfAnotherEngine) {
  Evidence evidence = evidence_of({.sends_events = false});
  EXPECT_THAT(causes(evidence), ElementsAre("events_address"));
  EXPECT_THAT(finding(evidence, "event stream").detail, HasSubstr("another engine's publisher"));
  evidence.sources.front().batches = 0;
  EXPECT_THAT(finding(evidence, "event stream").detail, HasSubstr("sends nothing"));
  evidence.sources.front().unreadable = 3;
  EXPECT_THAT(causes(evidence), ElementsAre("events_unreadable"));
}

TEST(Checks, OtherTrafficIsToldApart) {
  Evidence evidence = evidence_of();
  blocks::BlockStored other;
  other.block_size = kBlock;
  other.block_hashes = {{EngineHash(7), {}}, {EngineHash(8), {}}};
  for (TokenId id = 0; id < 2 * kBlock; ++id) other.token_ids.push_back(300 + id);
  for (std::size_t i = 0; i < 3; ++i) evidence.heard.insert(evidence.heard.begin(), {0, other});
  for (Answered& answer : evidence.answers) answer.heard_until += 3;
  EXPECT_THAT(causes(evidence), IsEmpty());
  const Reading reading(evidence, tokens::demo_model());
  EXPECT_FALSE(reading.own.all().contains(EngineHash(7)));
}

TEST(Checks, AnotherTopicIsAWarning) {
  Evidence evidence = evidence_of();
  evidence.sources.front().topics = {"kv@h:8000@demo"};
  EXPECT_THAT(causes(evidence), ElementsAre("(events_topic)"));
}

TEST(Checks, NoReplayIsAWarning) {
  Evidence evidence = evidence_of();
  evidence.sources.front().replays = SourceSeen::Replay::kSilent;
  EXPECT_THAT(causes(evidence), ElementsAre("(replay)"));
  evidence.sources.front().replays = SourceSeen::Replay::kNone;
  EXPECT_THAT(causes(evidence), ElementsAre("(replay)"));
}

TEST(Checks, AProbeAtAnotherRankIsAFault) {
  Evidence evidence = evidence_of();
  evidence.ranks = 2;
  evidence.sources.push_back(evidence.sources.front());
  evidence.sources.back().rank = 1;
  EXPECT_THAT(causes(evidence), IsEmpty());
  for (Heard& heard : evidence.heard) heard.rank = 1;
  EXPECT_THAT(causes(evidence), ElementsAre("ranks"));
}

// ---- blocks and hits ----

TEST(Checks, PrefixCachingOff) {
  Evidence evidence = evidence_of({.caches = false});
  evidence.prefix_caching_told = false;
  EXPECT_THAT(causes(evidence), ElementsAre("prefix_caching"));
  evidence.prefix_caching_told.reset();
  EXPECT_THAT(causes(evidence), ElementsAre("prefix_caching")) << "by what it did";
}

TEST(Checks, ABlockSizeOtherThanTold) {
  EXPECT_THAT(causes(evidence_of({.block = 8})), ElementsAre("block_size"));
  Evidence evidence = evidence_of({.block = 8});
  evidence.block_tokens_told.reset();
  EXPECT_THAT(causes(evidence), IsEmpty());
}

TEST(Checks, SaltsIgnored) {
  EXPECT_THAT(causes(evidence_of({.ignores_salt = true})), ElementsAre("salt"));
  EXPECT_THAT(causes(evidence_of({.ignores_salt = true, .sends_events = true})), ElementsAre("salt"));
}

TEST(Checks, SaltsKeptButNotTold) {
  const Evidence evidence = evidence_of({.tells_salt = false});
  EXPECT_THAT(causes(evidence), ElementsAre("salt"));
  EXPECT_THAT(finding(evidence, "cache salt").detail, HasSubstr("do not tell"));
}

TEST(Checks, AdaptersIgnored) { EXPECT_THAT(causes(evidence_of({.ignores_adapter = true})), ElementsAre("lora")); }

TEST(Checks, AdaptersUnderAnotherName) {
  const Evidence evidence = evidence_of({.adapter_in_events = "adapter-x-v2"});
  EXPECT_THAT(causes(evidence), ElementsAre("lora"));
  EXPECT_THAT(finding(evidence, "adapters").detail, HasSubstr("'adapter-x-v2', requests 'adapter-x'"));
}

TEST(Checks, EveryHitOneBlockShortIsADraftModel) {
  EXPECT_THAT(causes(evidence_of({.drops_last = true})), ElementsAre("(draft_model)"));
}

TEST(Checks, AHitThatDiffersOtherwiseIsAFault) {
  Evidence evidence = evidence_of();
  evidence.answers[1].cached_tokens = 0;
  EXPECT_THAT(causes(evidence), ElementsAre("prediction"));
  EXPECT_THAT(finding(evidence, "predicted hits").detail, HasSubstr("the same prompt again: predicted"));
}

TEST(Checks, UsageDetailsOff) {
  const Evidence evidence = evidence_of({.tells_usage = false});
  EXPECT_THAT(causes(evidence), ElementsAre("(usage_details)"));
  EXPECT_EQ(finding(evidence, "predicted hits").outcome, Outcome::kNotTested);
}

TEST(Checks, BlocksThatHoldOtherTokensThanThePrompt) {
  Evidence evidence = evidence_of();
  std::get<blocks::BlockStored>(evidence.heard.front().event).token_ids.back() += 1;
  EXPECT_THAT(causes(evidence), ElementsAre("blocks"));
}

TEST(Checks, EvictedProbesAreAWarning) {
  Evidence evidence = evidence_of();
  const auto first = std::get<blocks::BlockStored>(evidence.heard.front().event);
  blocks::BlockRemoved removed;
  removed.block_hashes = first.block_hashes;
  evidence.heard.insert(evidence.heard.begin() + 1, {0, removed});
  for (Answered& answer : evidence.answers) ++answer.heard_until;
  EXPECT_EQ(finding(evidence, "blocks").cause, "evicted");
}

TEST(Checks, WithoutAnswersNothingIsClaimed) {
  Evidence evidence = evidence_of();
  evidence.answers.resize(1);
  evidence.answers.front().error = "the engine answered 500: oh";
  evidence.heard.clear();
  EXPECT_THAT(causes(evidence), ElementsAre("answers"));
  EXPECT_EQ(finding(evidence, "cache salt").outcome, Outcome::kNotTested);
  evidence.answers.clear();
  evidence.ids.clear();
  evidence.out_of_time = true;
  EXPECT_THAT(causes(evidence), IsEmpty());
  EXPECT_THAT(finding(evidence, "answers").detail, HasSubstr("no time"));
}

TEST(Checks, EvidenceOfNothingIsNoCrash) {
  const Evidence nothing;
  for (const Finding& one : judged(nothing)) EXPECT_FALSE(one.detail.empty()) << one.check;
}

TEST(Checks, HashesThatGoRoundInACircleEnd) {
  Evidence evidence = evidence_of();
  blocks::BlockStored ring;
  ring.block_size = 1;
  ring.block_hashes = {{EngineHash(1), {}}, {EngineHash(2), {}}};
  ring.parent_block_hash = blocks::WireHash{EngineHash(2), {}};
  ring.token_ids = {5, 6};
  ring.extra_keys = {{{blocks::ExtraText{evidence.nonce}}, {}}};
  evidence.heard.push_back({0, ring});
  EXPECT_THAT(finding(evidence, "block size").cause, "block_size");
}

}  // namespace
}  // namespace warmpath::doctor
