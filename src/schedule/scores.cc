#include "schedule/scores.h"

#include <algorithm>
#include <cmath>

namespace warmpath::schedule {
namespace {

// More than any queue there is; keeps sums finite.
constexpr double kQueueMax = 1e9;

bool fresh(const Candidate& candidate) {
  return candidate.engine.sample_age && *candidate.engine.sample_age <= kSampleStaleAfter;
}

double queue_of(const Candidate& candidate) {
  const double waiting = candidate.engine.waiting;
  // A queue that is not a number is no queue to trust: the engine counts as full rather than as empty.
  double sampled = 0;
  if (fresh(candidate)) sampled = std::isnan(waiting) ? kQueueMax : std::clamp(waiting, 0.0, kQueueMax);
  return sampled + static_cast<double>(candidate.engine.inflight_since_sample);
}

}  // namespace

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

void append(std::vector<std::vector<ScoreLine>>& lines, std::string_view scorer, double weight,
            const std::vector<double>& scores) {
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (lines[i].empty()) lines[i].reserve(3);
    lines[i].push_back({.scorer = scorer, .weight = weight, .score = scores[i]});
  }
}

}  // namespace warmpath::schedule
