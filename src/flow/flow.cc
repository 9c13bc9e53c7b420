#include "flow/flow.h"

namespace warmpath::flow {

Verdict Gate::admit(std::span<const fleet::EngineView> candidates, std::size_t inflight_requests) const {
  if (candidates.empty()) {
    return Refuse{{ErrorKind::kUnavailable, "no engine is available for this model at the moment; try again later"},
                  options_.retry_after};
  }
  if (inflight_requests >= options_.inflight_requests_max) {
    return Refuse{
        {ErrorKind::kUnavailable, "the router has its maximum of " + std::to_string(options_.inflight_requests_max) +
                                      " requests in flight; try again later"},
        options_.retry_after};
  }
  return Admit{};
}

}  // namespace warmpath::flow
