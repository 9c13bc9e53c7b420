#include "proxy/plan.h"

#include <algorithm>
#include <limits>

namespace warmpath::proxy {
namespace {

// vLLM 0.32 keeps one token for the answer where its length is limited.
std::uint32_t truncation_tokens_max(const api::Request& request, std::uint32_t model_tokens_max) {
  const bool limited = request.max_tokens.value_or(0) != 0;
  return model_tokens_max > 0 && limited ? model_tokens_max - 1 : model_tokens_max;
}

prompt::Input input_of(const api::Request& request, const PlanContext& context) {
  prompt::Input input;
  input.context.lora = context.adapter;
  input.context.salt = request.cache_salt;
  input.has_media = request.has_media || request.has_own_template || !request.why_not_exact.empty();
  input.truncate_prompt_tokens = request.truncate_prompt_tokens;
  input.truncation_tokens_max = truncation_tokens_max(request, context.model_tokens_max);
  if (request.truncation_side) {
    const bool left = *request.truncation_side == api::TruncationSide::kLeft;
    input.truncation_side = left ? tokens::TruncationSide::kLeft : tokens::TruncationSide::kRight;
  }
  if (api::has_chat(request.endpoint)) {
    tokens::ChatInput chat;
    chat.messages = request.messages;
    chat.tools = request.tools;
    chat.documents = request.documents;
    chat.chat_template_kwargs = request.chat_template_kwargs;
    chat.reasoning_effort = request.reasoning_effort;
    chat.tool_choice = request.tool_choice;
    chat.add_generation_prompt = request.add_generation_prompt;
    chat.continue_final_message = request.continue_final_message;
    chat.now_unix_seconds = context.now_unix_seconds;
    input.prompts.emplace_back(chat);
    return input;
  }
  // Completions and embeddings add special tokens unless told not to (vLLM 0.32).
  const auto special =
      request.add_special_tokens.value_or(true) ? tokens::SpecialTokens::kAdd : tokens::SpecialTokens::kNone;
  for (const api::TextOrIds& one : request.prompts) {
    if (const auto* text = std::get_if<std::string>(&one)) {
      input.prompts.emplace_back(prompt::TextPrompt{*text, special});
    } else {
      input.prompts.emplace_back(prompt::IdsPrompt{std::get<std::vector<TokenId>>(one)});
    }
  }
  return input;
}

std::uint32_t saturated(std::uint64_t value) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(value, std::numeric_limits<std::uint32_t>::max()));
}

// Some exact and others not are not compared with each other: then all are guessed.
void add_parts(std::span<const prompt::Encoded> encoded, Plan& plan) {
  const bool exact = plan.exact();
  for (const prompt::Encoded& one : encoded) {
    route::PromptPart& part = plan.parts.emplace_back();
    part.prompt_tokens = one.prompt_tokens;
    part.guessed_blocks = static_cast<std::uint32_t>(one.guessed_chain.size());
    plan.guessed_chain.insert(plan.guessed_chain.end(), one.guessed_chain.begin(), one.guessed_chain.end());
    if (!exact) continue;
    part.chain_blocks = static_cast<std::uint32_t>(one.chain.size());
    plan.chain.insert(plan.chain.end(), one.chain.begin(), one.chain.end());
  }
}

}  // namespace

Plan plan_without_chain(std::size_t body_bytes, std::string_view why_not) {
  constexpr std::size_t kBytesPerToken = 4;
  Plan plan;
  plan.prompt_tokens = std::max(1u, saturated(body_bytes / kBytesPerToken));
  plan.chain_kind = why_not;
  return plan;
}

Plan make_plan(const prompt::Encoder& encoder, const api::Request& request, const PlanContext& context) {
  if (request.endpoint == api::Endpoint::kCountTokens) {  // nothing is computed, so nothing will be held
    Plan plan;
    plan.prompt_tokens = 1;
    plan.chain_kind = "counted_only";
    return plan;
  }
  const std::size_t text_bytes = request.messages.size();
  const prompt::Input input = input_of(request, context);
  if (input.prompts.empty()) {
    return plan_without_chain(text_bytes, request.why_not_exact.empty() ? "embeddings" : request.why_not_exact);
  }
  auto encoded = encoder.encode(input);
  if (!encoded.ok()) return plan_without_chain(text_bytes, "refused");
  Plan plan;
  std::uint64_t tokens = 0;
  for (prompt::Encoded& one : *encoded) {
    tokens += one.prompt_tokens;
    if (!one.exact) plan.chain_kind = one.why_not;
  }
  plan.prompt_tokens = saturated(tokens);
  if (encoded->size() == 1) {
    plan.chain = std::move(encoded->front().chain);
    plan.guessed_chain = std::move(encoded->front().guessed_chain);
  } else {
    add_parts(*encoded, plan);
  }
  if (request.has_own_template) plan.chain_kind = "own_template";
  if (!request.why_not_exact.empty()) plan.chain_kind = request.why_not_exact;
  return plan;
}

Plan with_ids(Plan plan, const prompt::Encoder& encoder, const api::Request& request, std::string_view adapter,
              std::span<const TokenId> ids) {
  prompt::Input input;
  input.prompts.emplace_back(prompt::IdsPrompt{ids});
  input.context.lora = adapter;
  input.context.salt = request.cache_salt;
  auto encoded = encoder.encode(input);
  if (!encoded.ok()) return plan;
  plan.chain = std::move(encoded->front().chain);
  plan.prompt_tokens = encoded->front().prompt_tokens;
  plan.chain_kind = "exact";
  return plan;
}

}  // namespace warmpath::proxy
