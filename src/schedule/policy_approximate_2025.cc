#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

// The "estimated" arm of llm-d's 73 %-capacity benchmark (September 2025): 64-character blocks, the first 256 of them,
// an LRU of 31,250 blocks whatever the engine holds, equal weights.
class Approximate2025Policy final : public Policy {
 public:
  std::string_view name() const override { return "approximate-2025"; }
  std::string_view summary() const override {
    return "Guesses from where prompts went, as llm-d did in 2025: 64-character blocks, at most 256, a fixed LRU.";
  }
  std::string_view formula() const override { return "1*prefix + 1*queue + 1*kv, prefix = guessed blocks / blocks"; }
  Needs needs() const override { return Needs::kGuess; }
  std::uint32_t guess_block_bytes() const override { return 64; }
  std::uint32_t guess_blocks_max() const override { return 256; }
  std::size_t guess_capacity(std::uint64_t /*kv_tokens*/) const override { return kLlmdLruBlocks; }
  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const override {
    for (std::size_t i = 0; i < lines.size(); ++i) {
      lines[i].reserve(3);
      lines[i].push_back({.scorer = "prefix", .weight = 1, .score = guess_share(view, view.candidates[i])});
    }
    append(lines, "queue", 1, queue_scores(view));
    append(lines, "kv", 1, kv_scores(view));
  }
};

}  // namespace

const Policy& approximate_2025_policy() {
  static const Approximate2025Policy policy;
  return policy;
}

}  // namespace warmpath::schedule
