#include "schedule/policy_list.h"
#include "schedule/scores.h"

namespace warmpath::schedule {
namespace {

class LoadPolicy final : public Policy {
 public:
  std::string_view name() const override { return "load"; }
  std::string_view summary() const override {
    return "The engine with the shortest queue and the most free KV; knows nothing of caches.";
  }
  std::string_view formula() const override { return "1*queue + 1*kv"; }
  Needs needs() const override { return Needs::kNothing; }
  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const override {
    append(lines, "queue", 1, queue_scores(view));
    append(lines, "kv", 1, kv_scores(view));
  }
};

}  // namespace

const Policy& load_policy() {
  static const LoadPolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
