#include "engine_server/faults.h"

#include <algorithm>
#include <array>

namespace warmpath::engine_server {
namespace {

constexpr std::array<FaultText, static_cast<std::size_t>(Fault::kCount)> kTexts = {{
    {"chat-template", "chats are rendered by another template: a line more in front"},
    {"double-bos", "one more special token in front of every prompt"},
    {"rebuilt-tokenizer", "texts are split at other places, as by a tokenizer rebuilt from its class"},
    {"block-size", "the metrics page tells twice the block size of the events"},
    {"salt-ignored", "cache_salt takes no part in block hashes"},
    {"lora-ignored", "an adapter's blocks are stored and found as the base model's"},
    {"lora-renamed", "events name an adapter by another name"},
    {"no-prefix-caching", "nothing is reused"},
    {"draft-model", "the last matched block of every hit is computed again, as with a draft model up to vLLM 0.32"},
    {"no-events", "no KV events"},
    {"events-port", "the KV events' port that is told is not where they are"},
    {"events-topic", "KV events come under another topic than told"},
    {"no-cached-tokens", "usage does not tell cached tokens"},
}};

// What Llama 3.1's template, for one, writes and others' do not.
constexpr std::string_view kTemplateLine = "Cutting Knowledge Date: December 2023\n\n";

// The special tokens that the tokenizer puts in front of a text by itself, else its end token.
Result<std::vector<TokenId>> front_tokens(const tokens::Tokenizer& tokenizer) {
  auto with = tokenizer.encode("a", tokens::SpecialTokens::kAdd);
  if (!with) return with;
  auto without = tokenizer.encode("a", tokens::SpecialTokens::kNone);
  if (!without) return without;
  const auto at = std::ranges::search(*with, *without).begin();
  if (at != with->begin() && at != with->end()) return std::vector<TokenId>(with->begin(), at);
  const auto ends = tokenizer.end_ids();
  return std::vector<TokenId>{ends.empty() ? TokenId{0} : ends.front()};
}

// Word by word, each space an id of its own: the same text, other ids.
Result<std::vector<TokenId>> encode_apart(const tokens::Tokenizer& tokenizer, std::string_view text) {
  std::vector<TokenId> ids;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::size_t length = space == 0 ? 1 : std::min(space, text.size());
    auto piece = tokenizer.encode(text.substr(0, length), tokens::SpecialTokens::kNone);
    if (!piece) return piece;
    ids.insert(ids.end(), piece->begin(), piece->end());
    text.remove_prefix(length);
  }
  return ids;
}

}  // namespace

std::span<const FaultText> fault_texts() { return kTexts; }

std::optional<Fault> parse_fault(std::string_view name) {
  const auto it = std::ranges::find(kTexts, name, &FaultText::name);
  if (it == kTexts.end()) return std::nullopt;
  return static_cast<Fault>(it - kTexts.begin());
}

std::string rendered_with(const FaultSet& faults, std::string rendered) {
  if (faults.has(Fault::kChatTemplate)) rendered.insert(0, kTemplateLine);
  return rendered;
}

Result<std::vector<TokenId>> encoded_with(const FaultSet& faults, const tokens::Tokenizer& tokenizer,
                                          std::string_view text, tokens::SpecialTokens special) {
  auto ids = faults.has(Fault::kRebuiltTokenizer) ? encode_apart(tokenizer, text) : tokenizer.encode(text, special);
  if (!ids || !faults.has(Fault::kDoubleBos)) return ids;
  auto front = front_tokens(tokenizer);
  if (!front) return front;
  ids->insert(ids->begin(), front->begin(), front->end());
  return ids;
}

}  // namespace warmpath::engine_server
