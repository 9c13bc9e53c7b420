// The scores that several policies share. Each returns one number in 0..1 per candidate, higher is better, whatever
// stands in the view (NaN, infinite, negative).
#pragma once

#include <vector>

#include "schedule/schedule.h"

namespace warmpath::schedule {

// llm-d's queue-scorer: (max - q) / (max - min), all equal: 1. q is the sampled queue plus what this router sent there
// since the sample, so that a burst between two scrapes spreads; a stale sample counts as an empty queue.
std::vector<double> queue_scores(const View& view);

// llm-d's kv-cache-utilization-scorer: 1 - KV use; 0.5 without a fresh sample.
std::vector<double> kv_scores(const View& view);

// Share of the guessed chain that the approximate table believes to be there.
double guess_share(const View& view, const Candidate& candidate);

// Share of the prompt that the candidate holds, by its KV events: slower tiers at their worth, doubtful maps
// discounted; by guess where there is no exact chain (undiscounted: all are guessed alike) or no events (discounted).
double exact_share(const View& view, const Candidate& candidate);

// A load sample is there and not too old to believe.
bool fresh(const Candidate& candidate);

// A score line per candidate.
void append(std::vector<std::vector<ScoreLine>>& lines, std::string_view scorer, double weight,
            const std::vector<double>& scores);

}  // namespace warmpath::schedule
