#include "schedule/blended_policy.h"

#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

constexpr std::uint32_t kGuessBlockTokens = 64;
constexpr double kPrefixWeight = 3;
constexpr double kQueueWeight = 2;
constexpr double kKvWeight = 2;

}  // namespace

std::uint32_t GuessingPolicy::guess_block_bytes() const { return kGuessBlockTokens * kBytesPerToken; }

std::size_t GuessingPolicy::guess_capacity(std::uint64_t kv_tokens) const {
  return guess_blocks_of_kv(kv_tokens, kGuessBlockTokens);
}

void BlendedPolicy::score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const {
  std::vector<double> prefixes;
  prefixes.reserve(view.candidates.size());
  for (const Candidate& candidate : view.candidates) prefixes.push_back(prefix_score(view, candidate));
  append(lines, "prefix", kPrefixWeight, prefixes);
  append(lines, "queue", kQueueWeight, queue_scores(view));
  append(lines, "kv", kKvWeight, kv_scores(view));
}

}  // namespace warmpath::schedule
