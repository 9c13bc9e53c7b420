#include "schedule/policy_list.h"

namespace warmpath::schedule {
namespace {

class RandomPolicy final : public Policy {
 public:
  std::string_view name() const override { return "random"; }
  std::string_view summary() const override { return "Any engine, evenly by chance: the baseline that knows nothing."; }
  std::string_view formula() const override { return "all equal; the seeded stream picks"; }
  Needs needs() const override { return Needs::kNothing; }
  void score(const View& /*view*/, std::vector<std::vector<ScoreLine>>& /*lines*/) const override {}
};

}  // namespace

const Policy& random_policy() {
  static const RandomPolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
