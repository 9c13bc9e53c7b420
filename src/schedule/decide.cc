#include <algorithm>
#include <cmath>

#include "schedule/schedule.h"

namespace warmpath::schedule {
namespace {

double total_of(const std::vector<ScoreLine>& lines) {
  double total = 0;
  for (const ScoreLine& line : lines) total += line.weight * line.score;
  return total;
}

void clamp_scores(std::vector<ScoreLine>& lines) {
  for (ScoreLine& line : lines) line.score = std::isnan(line.score) ? 0.0 : std::clamp(line.score, 0.0, 1.0);
}

CandidateReceipt receipt_of(const View& view, const Candidate& candidate, double total, std::vector<ScoreLine> lines) {
  return {.engine = candidate.engine.id,
          .total = total,
          .lines = std::move(lines),
          .matched_tokens = predicted_cached_tokens(view, candidate),
          .waiting = candidate.engine.waiting,
          .running = candidate.engine.running,
          .kv_usage = candidate.engine.kv_usage,
          .inflight_requests = candidate.engine.inflight_requests};
}

// Places of the candidates whose receipts are kept: all, or the best by total and the chosen one; by engine id.
std::vector<std::size_t> kept_candidates(const View& view, std::span<const double> totals, std::size_t chosen) {
  std::vector<std::size_t> kept(totals.size());
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = i;
  const auto by_id = [&](std::size_t a, std::size_t b) {
    return view.candidates[a].engine.id < view.candidates[b].engine.id;
  };
  if (kept.size() > kReceiptCandidatesMax) {
    const auto better = [&](std::size_t a, std::size_t b) {
      if ((a == chosen) != (b == chosen)) return a == chosen;
      if (totals[a] != totals[b]) return totals[a] > totals[b];
      return by_id(a, b);
    };
    std::nth_element(kept.begin(), kept.begin() + kReceiptCandidatesMax, kept.end(), better);
    kept.resize(kReceiptCandidatesMax);
  }
  std::sort(kept.begin(), kept.end(), by_id);
  return kept;
}

}  // namespace

bool matches_exactly(const View& view, const Candidate& candidate) {
  return view.chain_blocks > 0 && candidate.publisher != blocks::PublisherState::kLost;
}

std::uint32_t predicted_cached_tokens(const View& view, const Candidate& candidate) {
  if (view.prompt_tokens == 0) return 0;
  std::uint64_t tokens = 0;
  if (matches_exactly(view, candidate)) {
    const std::uint32_t gpu = candidate.matched_blocks[static_cast<std::size_t>(blocks::Tier::kGpu)];
    tokens = std::uint64_t{std::max(gpu, candidate.recent_blocks)} * view.block_tokens;
  } else {
    tokens = std::uint64_t{candidate.approximate_blocks} * view.guess_block_tokens;
  }
  tokens = std::min<std::uint64_t>(tokens, view.prompt_tokens - 1);
  const std::uint32_t engine_block =
      candidate.engine.block_tokens != 0 ? candidate.engine.block_tokens : std::max(view.block_tokens, 1u);
  return static_cast<std::uint32_t>(tokens - tokens % engine_block);
}

Decision decide(const Policy& policy, const View& view, RandomStream& random) {
  const std::size_t count = view.candidates.size();
  WP_CHECK(count > 0);
  std::vector<std::vector<ScoreLine>> lines(count);
  policy.score(view, lines);
  WP_CHECK(lines.size() == count);
  std::vector<double> totals(count);
  for (std::size_t i = 0; i < count; ++i) {
    clamp_scores(lines[i]);
    totals[i] = total_of(lines[i]);
  }
  const std::size_t chosen = policy.pick(view, totals, random);
  WP_CHECK(chosen < count);

  const Candidate& candidate = view.candidates[chosen];
  auto receipt = std::make_shared<Receipt>();
  receipt->policy = policy.name();
  receipt->prompt_tokens = view.prompt_tokens;
  receipt->chain_blocks = view.chain_blocks;
  receipt->guessed_blocks = view.guessed_blocks;
  receipt->exact = matches_exactly(view, candidate);
  receipt->candidates_total = count;
  receipt->chosen = candidate.engine.id;
  receipt->ties = static_cast<std::uint32_t>(std::count(totals.begin(), totals.end(), totals[chosen]));
  const std::vector<std::size_t> kept = kept_candidates(view, totals, chosen);
  receipt->candidates.reserve(kept.size());
  for (const std::size_t i : kept) {
    receipt->candidates.push_back(receipt_of(view, view.candidates[i], totals[i], std::move(lines[i])));
  }
  Decision decision;
  decision.engine = candidate.engine.id;
  decision.candidate = chosen;
  decision.predicted_cached_tokens = predicted_cached_tokens(view, candidate);
  decision.exact = receipt->exact;
  decision.receipt = std::move(receipt);
  return decision;
}

}  // namespace warmpath::schedule
