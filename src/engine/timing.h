// How long one step takes by a Profile. Pure arithmetic; units in the names.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/engine.h"

namespace warmpath::engine {

// Work of one step, added up while scheduling.
struct StepWork {
  double prefill_us = 0;
  std::uint32_t prefill_tokens = 0;
  std::uint32_t decode_sequences = 0;
  std::uint64_t decode_context_tokens = 0;
};

// `tokens` new ones of a prompt, after `cached` that are computed or reused.
inline double prefill_us(const Profile& profile, std::uint64_t cached, std::uint64_t tokens) {
  const double n = static_cast<double>(tokens);
  const double c = static_cast<double>(cached);
  return profile.prefill_us_per_token * n + profile.prefill_ps_per_token2 * 1e-6 * (2 * c * n + n * n);
}

inline Duration step_duration(const Profile& profile, double speed, const StepWork& work) {
  double ms = work.prefill_us / 1e3;
  if (work.decode_sequences > 0) {
    ms += profile.step_base_ms + profile.step_ms_per_sequence * work.decode_sequences +
          profile.step_ms_per_kilotoken * static_cast<double>(work.decode_context_tokens) / 1e3;
  } else {
    ms = std::max(ms, profile.step_base_ms);
  }
  return std::max(from_seconds(ms / 1e3 / speed), Duration(1));
}

}  // namespace warmpath::engine
