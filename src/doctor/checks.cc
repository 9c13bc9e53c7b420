#include "doctor/checks.h"

#include <algorithm>
#include <array>
#include <utility>

#include "doctor/compare.h"

namespace warmpath::doctor {
namespace {

constexpr std::size_t kShiftMost = 4;  // special tokens in front, as compare() knows them

// Our ids cut to what whole blocks can show of theirs, shifted by tokens that only one side has in front.
std::vector<TokenId> cut_to(const std::vector<TokenId>& ours, const std::vector<TokenId>& theirs) {
  const std::span<const TokenId> mine(ours), other(theirs);
  const auto begins = [](std::span<const TokenId> whole, std::span<const TokenId> part) {
    return part.size() <= whole.size() && std::ranges::equal(whole.first(part.size()), part);
  };
  for (std::size_t shift = 0; shift <= std::min(kShiftMost, other.size()); ++shift) {
    if (begins(mine, other.subspan(shift))) return {ours.begin(), ours.begin() + (other.size() - shift)};
    if (shift <= mine.size() && begins(mine.subspan(shift), other)) {
      return {ours.begin(), ours.begin() + (other.size() + shift)};
    }
  }
  return {ours.begin(), ours.begin() + std::min(ours.size(), theirs.size())};
}

bool is(const IdsProbe& probe, Of of) { return (probe.kind == IdsProbe::Kind::kChat) == (of == Of::kChats); }

std::vector<IdsProbe> all_ids(const Evidence& evidence, const tokens::Tokenizer& tokenizer) {
  std::vector<IdsProbe> all = evidence.ids;
  bool chats = false;
  for (const IdsProbe& probe : all) chats = chats || (probe.kind == IdsProbe::Kind::kChat && !probe.theirs.empty());
  for (const Answered& answer : evidence.answers) {
    if (answer.role != Answered::Role::kFirst || !answer.error.empty()) continue;
    IdsProbe probe{.name = "the probe's own prompt", .kind = IdsProbe::Kind::kChat, .ours = answer.ours};
    if (answer.theirs) {
      probe.theirs = *answer.theirs;
    } else if (!chats) {
      // The engine tells no ids by itself; its events do, as far as blocks are full.
      const OwnBlocks own(evidence, tokenizer, answer.heard_until);
      for (const OwnBlock* block : own.longest()) {
        probe.theirs.insert(probe.theirs.end(), block->tokens.begin(), block->tokens.end());
      }
      probe.ours = cut_to(probe.ours, probe.theirs);
      probe.name += ", by its events";
    }
    if (!probe.theirs.empty()) all.push_back(std::move(probe));
  }
  return all;
}

}  // namespace

Reading::Reading(const Evidence& evidence_in, const tokens::Tokenizer& tokenizer_in)
    : evidence(evidence_in),
      tokenizer(tokenizer_in),
      own(evidence_in, tokenizer_in, evidence_in.heard.size()),
      probes_(all_ids(evidence_in, tokenizer_in)) {
  for (const IdsProbe& probe : probes_) {
    if (probe.theirs.empty() && probe.theirs_refused.empty()) continue;
    Compared one{.probe = &probe};
    if (probe.ours_refused.empty() != probe.theirs_refused.empty()) {
      one.one_side_refuses = true;
      one.detail = probe.ours_refused.empty() ? "the engine refuses it: " + probe.theirs_refused
                                              : "we refuse it: " + probe.ours_refused;
    } else if (probe.ours_refused.empty()) {
      auto comparison = compare(probe.ours, probe.theirs, tokenizer);
      one.difference = comparison.difference;
      one.detail = std::move(comparison.detail);
    }
    compared_.push_back(std::move(one));
  }
}

const Answered* Reading::answer(Answered::Role role) const {
  const Answered* found = nullptr;
  for (const Answered& answer : evidence.answers) {
    if (answer.role == role && answer.error.empty()) found = &answer;
  }
  return found;
}

std::size_t Reading::count(Of of) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(compared_, [&](const Compared& one) { return is(*one.probe, of); }));
}

const Compared* Reading::find(Of of, Difference difference) const {
  const auto it = std::ranges::find_if(compared_, [&](const Compared& one) {
    return is(*one.probe, of) && !one.one_side_refuses && one.difference == difference;
  });
  return it == compared_.end() ? nullptr : &*it;
}

const Compared* Reading::refused_by_one() const {
  const auto it = std::ranges::find_if(compared_, &Compared::one_side_refuses);
  return it == compared_.end() ? nullptr : &*it;
}

const Compared* Reading::tokenizer_differs() const {
  for (const Difference difference : {Difference::kText, Difference::kSplit}) {
    if (const Compared* one = find(Of::kTexts, difference)) return one;
  }
  return find(Of::kChats, Difference::kSplit);
}

bool Reading::caching_off() const {
  if (evidence.prefix_caching_told) return !*evidence.prefix_caching_told;
  const Answered* again = answer(Answered::Role::kAgain);
  const bool listened = std::ranges::any_of(evidence.sources, &SourceSeen::connected);
  return again != nullptr && again->cached_tokens == 0u && listened && own.empty();
}

std::vector<NamedCheck> checks() {
  return {
      {"tokenizer", check_tokenizer},
      {"special tokens", check_special_tokens},
      {"chat template", check_template},
      {"answers", check_answers},
      {"prompt size", check_prompt_sizes},
      {"prefix caching", check_prefix_caching},
      {"KV events", check_events},
      {"event stream", check_stream},
      {"event topic", check_topic},
      {"replay", check_replay},
      {"ranks", check_ranks},
      {"block size", check_block_size},
      {"blocks", check_blocks},
      {"cache salt", check_salt},
      {"adapters", check_adapter},
      {"cached tokens", check_usage},
      {"predicted hits", check_prediction},
  };
}

std::vector<Finding> judge(const Evidence& evidence, const tokens::Tokenizer& tokenizer) {
  const Reading reading(evidence, tokenizer);
  std::vector<Finding> findings;
  for (const NamedCheck& one : checks()) {
    findings.push_back(one.check(reading));
    findings.back().check = one.name;
  }
  return findings;
}

Finding ok(std::string detail) { return {.outcome = Outcome::kOk, .detail = std::move(detail)}; }
Finding warning(std::string cause, std::string detail, std::string remedy) {
  return {.outcome = Outcome::kWarning,
          .cause = std::move(cause),
          .detail = std::move(detail),
          .remedy = std::move(remedy)};
}
Finding fault(std::string cause, std::string detail, std::string remedy) {
  return {
      .outcome = Outcome::kFault, .cause = std::move(cause), .detail = std::move(detail), .remedy = std::move(remedy)};
}
Finding not_tested(std::string why) { return {.outcome = Outcome::kNotTested, .detail = std::move(why)}; }

}  // namespace warmpath::doctor
