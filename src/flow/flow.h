// flow: admission. For now: admit when an engine can take the request, else refuse with when to come back. Queues,
// fairness and deadlines have this door to grow behind.
//
//   Gate gate({.inflight_requests_max = 10'000});
//   Verdict verdict = gate.admit(candidates, fleet.inflight_total());
//
// Thread rule: one owner (the brain); admit is const and pure. Cost: O(1), no allocation when it admits.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "base/base.h"
#include "fleet/fleet.h"

namespace warmpath::flow {

struct Admit {};
struct Refuse {
  Error error;  // kUnavailable; kNotFound is api's business
  Duration retry_after{0};
};
using Verdict = std::variant<Admit, Refuse>;

struct GateOptions {
  Duration retry_after = std::chrono::seconds(1);
  std::uint32_t inflight_requests_max = 100'000;  // of the pool: bounds the brain's memory
};

class Gate {
 public:
  explicit Gate(GateOptions options) : options_(options) {}
  // Refuse with kUnavailable: no candidate, or inflight_requests_max reached. Both say when to come back.
  Verdict admit(std::span<const fleet::EngineView> candidates, std::size_t inflight_requests) const;

 private:
  GateOptions options_;
};

}  // namespace warmpath::flow
