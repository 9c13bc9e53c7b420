#include "schedule/scores.h"

#include <algorithm>
#include <cmath>

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

// More than any queue there is; keeps sums finite.
constexpr double kQueueMax = 1e9;

double queue_of(const Candidate& candidate) {
  const double waiting = candidate.engine.waiting;
  // A queue that is not a number is no queue to trust: the engine counts as full rather than as empty.
  double sampled = 0;
  if (fresh(candidate)) sampled = std::isnan(waiting) ? kQueueMax : std::clamp(waiting, 0.0, kQueueMax);
  return sampled + static_cast<double>(candidate.engine.inflight_since_sample);
}

}  // namespace

bool fresh(const Candidate& candidate) {
  return candidate.engine.sample_age && *candidate.engine.sample_age <= kSampleStaleAfter;
}

std::vector<double> queue_scores(const View& view) {
  std::vector<double> scores;
  scores.reserve(view.candidates.size());
  for (const Candidate& candidate : view.candidates) scores.push_back(queue_of(candidate));
  const auto [low, high] = std::minmax_element(scores.begin(), scores.end());
  const double least = *low;
  const double most = *high;
  for (double& score : scores) score = most > least ? (most - score) / (most - least) : 1.0;
  return scores;
}

std::vector<double> kv_scores(const View& view) {
  std::vector<double> scores;
  scores.reserve(view.candidates.size());
  for (const Candidate& candidate : view.candidates) {
    const double use = candidate.engine.kv_usage;
    const bool known = fresh(candidate) && !std::isnan(use);
    scores.push_back(known ? 1.0 - std::clamp(use, 0.0, 1.0) : 0.5);
  }
  return scores;
}

double guess_share(const View& view, const Candidate& candidate) {
  if (view.guessed_blocks == 0) return 0;
  return std::min(1.0, static_cast<double>(candidate.approximate_blocks) / static_cast<double>(view.guessed_blocks));
}

double exact_share(const View& view, const Candidate& candidate) {
  // Without an exact chain all candidates are guessed alike, so nothing is discounted.
  if (view.chain_blocks == 0) return guess_share(view, candidate);
  if (!matches_exactly(view, candidate)) return trust(candidate.publisher) * guess_share(view, candidate);
  return trust(candidate.publisher) * std::min(1.0, worth_blocks(candidate) / static_cast<double>(view.chain_blocks));
}

void append(std::vector<std::vector<ScoreLine>>& lines, std::string_view scorer, double weight,
            const std::vector<double>& scores) {
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (lines[i].empty()) lines[i].reserve(3);
    lines[i].push_back({.scorer = scorer, .weight = weight, .score = scores[i]});
  }
}

}  // namespace warmpath::schedule
