// Predicted against reported cached tokens, per engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>

#include "route/route.h"

namespace warmpath::route {

class Proofs {
 public:
  void add(EngineId engine, std::uint64_t predicted, std::uint64_t reported, std::uint64_t prompt_tokens) {
    EngineProof& proof = proofs_[engine];
    proof.engine = engine;
    ++proof.requests;
    proof.predicted_cached_tokens += predicted;
    proof.reported_cached_tokens += reported;
    proof.prompt_tokens += prompt_tokens;
    if (predicted == reported) ++proof.requests_equal;
    const double error = std::abs(static_cast<double>(predicted) - static_cast<double>(reported));
    // A plain mean until the window is full, so that the first request is not remembered for long.
    const double weight = 1.0 / static_cast<double>(std::min<std::uint64_t>(proof.requests, kWindowRequests));
    proof.absolute_error_tokens_recent += weight * (error - proof.absolute_error_tokens_recent);
  }
  void forget(EngineId engine) { proofs_.erase(engine); }

  std::vector<EngineProof> list() const {
    std::vector<EngineProof> out;
    out.reserve(proofs_.size());
    for (const auto& [engine, proof] : proofs_) out.push_back(proof);
    return out;
  }

 private:
  static constexpr std::uint64_t kWindowRequests = 50;
  std::map<EngineId, EngineProof> proofs_;  // by id: snapshots are in order
};

}  // namespace warmpath::route
