#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

constexpr std::uint32_t kGuessBlockTokens = 64;
class PrecisePolicy final : public Policy {
 public:
  std::string_view name() const override { return "precise"; }
  std::string_view summary() const override {
    return "The engine that holds most of the prompt, known from its KV events, weighed against its load.";
  }
  std::string_view formula() const override {
    return "3*prefix + 2*queue + 2*kv, prefix = trust * matched blocks / blocks";
  }
  Needs needs() const override { return Needs::kExact; }
  std::uint32_t guess_block_bytes() const override { return kGuessBlockTokens * kBytesPerToken; }
  std::size_t guess_capacity(std::uint64_t kv_tokens) const override {
    return guess_blocks_of_kv(kv_tokens, kGuessBlockTokens);
  }
  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const override {
    for (std::size_t i = 0; i < lines.size(); ++i) {
      lines[i].reserve(3);
      lines[i].push_back({.scorer = "prefix", .weight = 3, .score = exact_share(view, view.candidates[i])});
    }
    append(lines, "queue", 2, queue_scores(view));
    append(lines, "kv", 2, kv_scores(view));
  }
};

}  // namespace

const Policy& precise_policy() {
  static const PrecisePolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
