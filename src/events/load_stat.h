// SGLang's pushed load: one gauge of one rank, beside its KV events (SGLang 0.5.23, --load-publish-endpoint).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/base.h"

namespace warmpath::events {

// Sent when it changes, else every second. The live message is that of KV events: [topic "load", sequence, payload]
// (parse_live), the payload ["LoadStat", …] in this order; later versions may append.
struct LoadStat {
  std::uint64_t running = 0;  // requests
  std::uint64_t waiting = 0;
  std::uint64_t kv_tokens_used = 0;
  std::uint64_t kv_tokens_max = 0;    // 0: not known
  std::optional<std::uint32_t> rank;  // data-parallel
  // What follows an older engine may leave out: 0 then.
  std::uint64_t waiting_uncached_tokens = 0;  // of prompts that wait
  std::uint64_t total_tokens = 0;             // queued ones included
  std::uint64_t running_max = 0;
  // Cumulative: the differences of two samples give the engine's prefill speed.
  std::uint64_t uncached_prefill_tokens = 0;
  std::uint64_t prefill_busy_us = 0;
  friend bool operator==(const LoadStat&, const LoadStat&) = default;
};

// kInvalid: not such an array, another tag, one of the first four fields missing, or a field that is no number of at
// least 0. Nothing is allocated.
Result<LoadStat> decode_load(std::span<const std::uint8_t> payload);

}  // namespace warmpath::events
