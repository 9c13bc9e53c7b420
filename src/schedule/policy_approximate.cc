#include "schedule/blended_policy.h"
#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

class ApproximatePolicy final : public BlendedPolicy {
 public:
  std::string_view name() const override { return "approximate"; }
  std::string_view summary() const override {
    return "Guesses from where prompts went: 64-token blocks of text, an LRU as large as the engine's KV; needs no "
           "events.";
  }
  std::string_view formula() const override { return "3*prefix + 2*queue + 2*kv, prefix = guessed blocks / blocks"; }
  Needs needs() const override { return Needs::kGuess; }

 private:
  double prefix_score(const View& view, const Candidate& candidate) const override {
    return guess_share(view, candidate);
  }
};

}  // namespace

const Policy& approximate_policy() {
  static const ApproximatePolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
