// Plan: what the brain is told of a request's prompt; admin's question who holds a prompt goes the same way.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/api.h"
#include "prompt/prompt.h"
#include "route/route.h"

namespace warmpath::proxy {

struct Plan {
  std::vector<BlockKey> chain;  // empty: not exact
  std::vector<BlockKey> guessed_chain;
  std::vector<route::PromptPart> parts;  // of several prompts, as route::Arrived has them; empty: one
  std::uint32_t prompt_tokens = 0;
  std::string chain_kind = "exact";  // or why not: stable words for metrics
  bool exact() const { return chain_kind == "exact"; }
};

// What a plan depends on besides the request.
struct PlanContext {
  std::string_view adapter;
  std::int64_t now_unix_seconds = 0;
  std::uint32_t model_tokens_max = 0;  // prompt and answer, for truncate_prompt_tokens -1; 0: not known
};
// Runs on any thread. Never fails: a prompt that cannot be encoded is routed without a chain and the engine answers for
// it in its own words. What is only counted (count_tokens) is no prompt to anyone: it goes where there is room. Several
// prompts: the chains of all, one behind the other; exact only if each is.
Plan make_plan(const prompt::Encoder& encoder, const api::Request& request, const PlanContext& context);
// The plan with the ids that an engine told in place of ours; what was guessed stays.
Plan with_ids(Plan plan, const prompt::Encoder& encoder, const api::Request& request, std::string_view adapter,
              std::span<const TokenId> ids);
// Without encoding: only a size, from the body's length.
Plan plan_without_chain(std::size_t body_bytes, std::string_view why_not);

}  // namespace warmpath::proxy
