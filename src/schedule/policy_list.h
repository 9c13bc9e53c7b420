// One accessor per policy file: what policies.cc lists.
#pragma once

#include "schedule/schedule.h"

namespace warmpath::schedule {

const Policy& random_policy();
const Policy& round_robin_policy();
const Policy& load_policy();
const Policy& approximate_2025_policy();
const Policy& approximate_policy();
const Policy& precise_policy();
const Policy& least_work_policy();

// Capacity of an LRU that mirrors an engine's KV: one guess block of `guess_block_tokens` tokens each.
std::size_t guess_blocks_of_kv(std::uint64_t kv_tokens, std::uint32_t guess_block_tokens);

// llm-d's lruCapacityPerServer: the capacity where nothing better is known.
inline constexpr std::size_t kLlmdLruBlocks = 31'250;
// One token stands for 4 bytes of text wherever text has to stand in for tokens.
inline constexpr std::uint32_t kBytesPerToken = 4;

}  // namespace warmpath::schedule
