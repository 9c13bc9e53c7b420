// What policies have in common that weigh a prefix against load. Private to schedule.
#pragma once

#include "schedule/schedule.h"

namespace warmpath::schedule {

// Guesses are kept in 64-token blocks of text, in an LRU as large as the engine's KV.
class GuessingPolicy : public Policy {
 public:
  std::uint32_t guess_block_bytes() const final;
  std::size_t guess_capacity(std::uint64_t kv_tokens) const final;
};

// A prefix score weighed 3:2:2 against queue and KV use; approximate and precise differ in what they know of a prefix.
class BlendedPolicy : public GuessingPolicy {
 public:
  void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const final;

 private:
  // Share of the prompt that the candidate is believed to hold, 0..1.
  virtual double prefix_score(const View& view, const Candidate& candidate) const = 0;
};

}  // namespace warmpath::schedule
