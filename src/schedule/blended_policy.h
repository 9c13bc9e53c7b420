// What approximate and precise have in common: a prefix score weighed 3:2:2 against queue and KV use, and guesses kept
// in 64-token blocks in an LRU as large as the engine's KV. They differ in what they know of a prefix. Private to
// schedule.
#pragma once

#include "schedule/schedule.h"

namespace warmpath::schedule {

class BlendedPolicy : public Policy {
 public:
  std::uint32_t guess_block_bytes() const final;
  std::size_t guess_capacity(std::uint64_t kv_tokens) const final;
  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const final;

 private:
  // Share of the prompt that the candidate is believed to hold, 0..1.
  virtual double prefix_score(const View& view, const Candidate& candidate) const = 0;
};

}  // namespace warmpath::schedule
