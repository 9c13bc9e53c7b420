#include <algorithm>

#include "schedule/blended_policy.h"
#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

// What a block is worth that has to be fetched from a slower tier first (llm-d's weights; storage is ours).
constexpr double kCpuWorth = 0.8;
constexpr double kStorageWorth = 0.5;

// How far a match is believed. Partial: what is known is sound, but its evictions were seen from the middle on.
// Suspect: removals may be lost, so some of it may be gone. Lost: there is no map, a guess stands in.
double trust(blocks::PublisherState state) {
  switch (state) {
    case blocks::PublisherState::kExact: return 1.0;
    case blocks::PublisherState::kPartial: return 0.95;
    case blocks::PublisherState::kSuspect: return 0.7;
    case blocks::PublisherState::kLost: return 0.7;
  }
  return 0;
}

// The match in blocks of the chain, slower tiers at their worth. Depths are cumulative: tier t or a faster one.
double worth_blocks(const Candidate& candidate) {
  const double gpu = std::max(candidate.matched_blocks[0], candidate.recent_blocks);
  const double cpu = std::max<double>(gpu, candidate.matched_blocks[1]);
  const double storage = std::max<double>(cpu, candidate.matched_blocks[2]);
  return gpu + kCpuWorth * (cpu - gpu) + kStorageWorth * (storage - cpu);
}

class PrecisePolicy final : public BlendedPolicy {
 public:
  std::string_view name() const override { return "precise"; }
  std::string_view summary() const override {
    return "The engine that holds most of the prompt, known from its KV events, weighed against its load.";
  }
  std::string_view formula() const override {
    return "3*prefix + 2*queue + 2*kv, prefix = trust * matched blocks / blocks";
  }
  Needs needs() const override { return Needs::kExact; }

 private:
  double prefix_score(const View& view, const Candidate& candidate) const override {
    // Without an exact chain all candidates are guessed alike, so nothing is discounted.
    if (view.chain_blocks == 0) return guess_share(view, candidate);
    if (!matches_exactly(view, candidate)) return trust(candidate.publisher) * guess_share(view, candidate);
    return trust(candidate.publisher) * std::min(1.0, worth_blocks(candidate) / static_cast<double>(view.chain_blocks));
  }
};

}  // namespace

const Policy& precise_policy() {
  static const PrecisePolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
