#include <algorithm>
#include <cmath>

#include "schedule/blended_policy.h"
#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

// What a token of the prompt that has to be computed weighs against a token queued there already: the request itself
// waits for it, those behind it do, and its block takes the place of one that somebody will ask for again. At 1
// (waiting alone) warm requests flee from every cold one ahead of them; from 2 on hits are alike in simulation, but a
// queue is easily overrated: a whole answer tells of its first byte only at its end, and counts as queued until then.
// The more, the longer a queue grows before a prefix is copied to a second engine.
constexpr double kComputeWeight = 3;
// A running request slows every step a little: as much as so many queued tokens.
constexpr double kRunningTokens = 16;
// Decides where nothing else does, above all for prompts that nobody holds: the cache that was rewritten least of late.
constexpr double kRewriteWeight = 0.25;
// Above this KV use requests begin to wait for blocks.
constexpr double kKvFull = 0.8;
constexpr double kKvWeight = 1;
// More than any queue there is; keeps sums finite.
constexpr double kTokensMax = 1e12;

double number(double value, double least, double most, double otherwise) {
  return std::isnan(value) ? otherwise : std::clamp(value, least, most);
}

// Tokens that are computed there before this prompt's turn. Those of other routers are known only as requests: each is
// taken for a prompt like this one.
double queued_tokens(const Candidate& candidate, double prompt_tokens) {
  const fleet::EngineView& engine = candidate.engine;
  const double own = static_cast<double>(engine.inflight_requests);
  double busy = own;
  double foreign = 0;
  if (fresh(candidate)) {
    // A load that is not a number is none to trust: the engine counts as full rather than as idle.
    const double waiting = number(engine.waiting, 0, kTokensMax, kTokensMax);
    foreign = std::max(0.0, waiting - own);
    busy = std::max(own, waiting + number(engine.running, 0, kTokensMax, kTokensMax));
  }
  const double tokens =
      static_cast<double>(engine.inflight_prefill_tokens) + foreign * prompt_tokens + busy * kRunningTokens;
  return std::min(tokens, kTokensMax);
}

double kv_left(const Candidate& candidate) {
  if (!fresh(candidate)) return 1;
  const double use = number(candidate.engine.kv_usage, 0, 1, 1);
  return std::min(1.0, (1 - use) / (1 - kKvFull));
}

// All lines are tokens over one scale, so that the weighted sum is the negative work in tokens, whatever the scale.
class LeastWorkPolicy final : public GuessingPolicy {
 public:
  std::string_view name() const override { return "least-work"; }
  std::string_view summary() const override {
    return "The engine where the prompt adds the least work: what it does not hold, and what is queued there already.";
  }
  std::string_view formula() const override {
    return "3*prefix + 1*queue + 1*kv + 0.25*rewrite, in tokens over the larger of the prompt and the longest queue";
  }
  Needs needs() const override { return Needs::kExact; }
  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const override {
    const double prompt = std::max(1.0, static_cast<double>(view.prompt_tokens));
    double scale = prompt;
    double rewritten_most = 0;
    std::vector<double> queues;
    queues.reserve(lines.size());
    for (const Candidate& candidate : view.candidates) {
      queues.push_back(queued_tokens(candidate, prompt));
      scale = std::max(scale, queues.back());
      rewritten_most = std::max(rewritten_most, number(candidate.engine.prefill_tokens_recent, 0, kTokensMax, 0));
    }
    const double unit = prompt / scale;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const Candidate& candidate = view.candidates[i];
      const double rewritten = number(candidate.engine.prefill_tokens_recent, 0, kTokensMax, 0);
      lines[i].reserve(4);
      lines[i].push_back({.scorer = "prefix", .weight = kComputeWeight, .score = unit * exact_share(view, candidate)});
      lines[i].push_back({.scorer = "queue", .weight = 1, .score = 1 - queues[i] / scale});
      lines[i].push_back({.scorer = "kv", .weight = kKvWeight, .score = unit * kv_left(candidate)});
      lines[i].push_back({.scorer = "rewrite",
                          .weight = kRewriteWeight,
                          .score = unit * (rewritten_most > 0 ? 1 - rewritten / rewritten_most : 1.0)});
    }
  }
};

}  // namespace

const Policy& least_work_policy() {
  static const LeastWorkPolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
