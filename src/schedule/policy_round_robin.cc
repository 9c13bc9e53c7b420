#include <algorithm>

#include "schedule/policy_list.h"

namespace warmpath::schedule {
namespace {

class RoundRobinPolicy final : public Policy {
 public:
  std::string_view name() const override { return "round-robin"; }
  std::string_view summary() const override { return "One engine after the other, by id."; }
  std::string_view formula() const override {
    return "turn = 1 for candidate (decisions mod candidates) by id, else 0";
  }
  Needs needs() const override { return Needs::kNothing; }

  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const override {
    std::vector<EngineId> ids;
    ids.reserve(lines.size());
    for (const Candidate& candidate : view.candidates) ids.push_back(candidate.engine.id);
    const auto turn = ids.begin() + static_cast<std::ptrdiff_t>(view.decisions % ids.size());
    std::nth_element(ids.begin(), turn, ids.end());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      lines[i].push_back({.scorer = "turn", .weight = 1, .score = view.candidates[i].engine.id == *turn ? 1.0 : 0.0});
    }
  }
};

}  // namespace

const Policy& round_robin_policy() {
  static const RoundRobinPolicy policy;
  return policy;
}

}  // namespace warmpath::schedule
