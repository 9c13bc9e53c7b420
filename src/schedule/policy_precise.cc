#include "schedule/blended_policy.h"
#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

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
    return exact_share(view, candidate);
  }
};

}  // namespace

const Policy& precise_policy() {
  static const PrecisePolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
