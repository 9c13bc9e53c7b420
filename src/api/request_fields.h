// Which members of a request's body are read, and at which endpoint. Private to api.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "api/api.h"

namespace warmpath::api {

// Top-level members that the router reads; a body that has one of them twice is refused.
enum class Field : std::uint8_t {
  kModel,
  kStream,
  kStreamOptions,
  kMaxTokens,
  kMaxCompletionTokens,
  kN,
  kIgnoreEos,
  kCacheSalt,
  kUser,
  kMessages,
  kTools,
  kDocuments,
  kChatTemplate,
  kChatTemplateKwargs,
  kReasoningEffort,
  kToolChoice,
  kAddGenerationPrompt,
  kContinueFinalMessage,
  kAddSpecialTokens,
  kTruncatePromptTokens,
  kTruncationSide,
  kPrompt,
  kPromptEmbeds,
  kInput,
  kPadding,
  kTokenIds,
  kSamplingParams,
  kFeatures,
  kContentParts,
  kMaxOutputTokens,
  kInstructions,
  kReasoning,
  kTruncation,
  kPreviousResponseId,
  kConversation,
  kBackground,
  kPreviousInputMessages,
  kSystem,
  kThinking,
  kOutputConfig,
  kMetadata,
  kCount,
};
// In the order of Field.
inline constexpr auto kFieldNames = std::to_array<std::string_view>({
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "ignore_eos",
    "cache_salt",
    "user",
    "messages",
    "tools",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "reasoning_effort",
    "tool_choice",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "truncate_prompt_tokens",
    "truncation_side",
    "prompt",
    "prompt_embeds",
    "input",
    "padding",
    "token_ids",
    "sampling_params",
    "features",
    "content_parts",
    "max_output_tokens",
    "instructions",
    "reasoning",
    "truncation",
    "previous_response_id",
    "conversation",
    "background",
    "previous_input_messages",
    "system",
    "thinking",
    "output_config",
    "metadata",
});
static_assert(kFieldNames.size() == static_cast<std::size_t>(Field::kCount));

constexpr std::uint64_t bit_of(Field field) { return std::uint64_t{1} << static_cast<std::size_t>(field); }
template <class... Fields>
constexpr std::uint64_t bits_of(Fields... fields) {
  return (bit_of(fields) | ...);
}

inline constexpr std::uint64_t kAnthropicFields =
    bits_of(Field::kModel, Field::kCacheSalt, Field::kChatTemplateKwargs, Field::kMessages, Field::kTools,
            Field::kSystem, Field::kThinking, Field::kOutputConfig, Field::kMetadata);

// What is read at each endpoint; other members pass through unread.
constexpr std::uint64_t fields_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::kChatCompletions:
    case Endpoint::kCompletions: return bit_of(Field::kInput) - 1;  // all before it
    case Endpoint::kResponses:
      return bits_of(Field::kModel, Field::kStream, Field::kCacheSalt, Field::kUser, Field::kIgnoreEos, Field::kTools,
                     Field::kChatTemplateKwargs, Field::kInput, Field::kPrompt, Field::kMaxOutputTokens,
                     Field::kInstructions, Field::kReasoning, Field::kTruncation, Field::kPreviousResponseId,
                     Field::kConversation, Field::kBackground, Field::kPreviousInputMessages);
    case Endpoint::kMessages: return kAnthropicFields | bits_of(Field::kStream, Field::kMaxTokens);
    case Endpoint::kCountTokens: return kAnthropicFields;
    case Endpoint::kEmbeddings:
      return bits_of(Field::kModel, Field::kUser, Field::kCacheSalt, Field::kMessages, Field::kInput, Field::kPadding,
                     Field::kAddSpecialTokens, Field::kTruncatePromptTokens, Field::kTruncationSide);
    case Endpoint::kGenerate:
      return bits_of(Field::kModel, Field::kStream, Field::kStreamOptions, Field::kCacheSalt, Field::kTokenIds,
                     Field::kSamplingParams, Field::kFeatures, Field::kContentParts);
  }
  return 0;
}

}  // namespace warmpath::api
