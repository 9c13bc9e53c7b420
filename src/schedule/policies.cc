#include <algorithm>
#include <array>

#include "schedule/policy_list.h"

namespace warmpath::schedule {

std::string_view needs_name(Needs needs) {
  switch (needs) {
    case Needs::kNothing: return "nothing";
    case Needs::kGuess: return "guess";
    case Needs::kExact: return "exact";
  }
  return "nothing";
}

std::size_t Policy::guess_capacity(std::uint64_t /*kv_tokens*/) const { return kLlmdLruBlocks; }

std::size_t Policy::pick(const View& view, std::span<const double> totals, RandomStream& random) const {
  const double best = *std::max_element(totals.begin(), totals.end());
  std::vector<std::size_t> ties;
  for (std::size_t i = 0; i < totals.size(); ++i) {
    if (totals[i] == best) ties.push_back(i);
  }
  // The n-th of the best by engine id, so that the order of candidates has no say.
  const std::uint64_t draw = ties.size() > 1 ? random.below(ties.size()) : 0;
  const auto nth = ties.begin() + static_cast<std::ptrdiff_t>(draw);
  std::nth_element(ties.begin(), nth, ties.end(), [&](std::size_t a, std::size_t b) {
    return view.candidates[a].engine.id < view.candidates[b].engine.id;
  });
  return *nth;
}

std::size_t guess_blocks_of_kv(std::uint64_t kv_tokens, std::uint32_t guess_block_tokens) {
  if (kv_tokens == 0) return kLlmdLruBlocks;
  return std::max<std::size_t>(1, static_cast<std::size_t>(kv_tokens / guess_block_tokens));
}

// The one list. A new policy: its file, its accessor, its line here, its test.
std::span<const Policy* const> policies() {
  static const std::array<const Policy*, 7> all = {&random_policy(),           &round_robin_policy(), &load_policy(),
                                                   &approximate_2025_policy(), &approximate_policy(), &precise_policy(),
                                                   &least_work_policy()};
  return all;
}

Result<const Policy*> find_policy(std::string_view name) {
  std::vector<std::string_view> names;
  std::string listed;
  for (const Policy* policy : policies()) {
    if (policy->name() == name) return policy;
    names.push_back(policy->name());
    listed += (listed.empty() ? "" : ", ") + std::string(policy->name());
  }
  std::string message = "there is no policy '" + std::string(name) + "'";
  if (const auto near = nearest_name(name, names)) message += "; did you mean '" + std::string(*near) + "'?";
  return Error{ErrorKind::kInvalid, message + " (policies: " + listed + ")"};
}

}  // namespace warmpath::schedule
