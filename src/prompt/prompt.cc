#include "prompt/prompt.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "prompt/guess_text.h"

namespace warmpath::prompt {
namespace {

constexpr std::size_t kBytesPerToken = 4;

template <class... Cases>
struct Visitor : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Visitor(Cases...) -> Visitor<Cases...>;

std::uint32_t saturated(std::size_t value) {
  return static_cast<std::uint32_t>(std::min<std::size_t>(value, std::numeric_limits<std::uint32_t>::max()));
}

bool adds_none(const tokens::Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode("", tokens::SpecialTokens::kAdd);
  return ids.ok() && ids->empty();
}

// What is kept of `ids`; false where the engine keeps something that a plain cut cannot give.
bool truncate(std::vector<TokenId>& ids, const Input& input, const tokens::Tokenizer* tokenizer, bool added_special) {
  if (!input.truncate_prompt_tokens) return true;
  const std::int64_t asked = *input.truncate_prompt_tokens;
  if (asked < 0 && input.truncation_tokens_max == 0) return true;
  const std::size_t keep = asked < 0 ? input.truncation_tokens_max : static_cast<std::size_t>(asked);
  if (ids.size() <= keep) return true;
  // vLLM 0.32 sets its tokenizers to cut on the left, whatever their files say.
  if (input.truncation_side.value_or(tokens::TruncationSide::kLeft) == tokens::TruncationSide::kRight) {
    ids.resize(keep);
    return true;
  }
  ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(keep));
  // Cutting unasked, transformers keeps the special tokens in front; by a request's side, vLLM 0.32 cuts all.
  return input.truncation_side.has_value() || !added_special || adds_none(*tokenizer);
}

// Ids, or why there are none; an Error is the client's.
struct Ids {
  std::vector<TokenId> ids;
  std::string_view why_not;
};

Result<Ids> keep_clients_errors(Result<std::vector<TokenId>> encoded) {
  if (encoded.ok()) return Ids{std::move(*encoded), {}};
  switch (encoded.error().kind) {
    case ErrorKind::kUnsupported: return Ids{{}, kWhyNotNoTemplate};
    case ErrorKind::kInternal: return Ids{{}, kWhyNotTokenizerFailed};
    default: return std::move(encoded).error();
  }
}

Result<Ids> find_ids(const Prompt& prompt, const tokens::Tokenizer* tokenizer) {
  if (const auto* given = std::get_if<IdsPrompt>(&prompt)) return Ids{{given->ids.begin(), given->ids.end()}, {}};
  if (tokenizer == nullptr) return Ids{{}, kWhyNotNoTokenizer};
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    return keep_clients_errors(tokenizer->encode(text->text, text->special));
  }
  return keep_clients_errors(tokenizer->encode_chat(std::get<tokens::ChatInput>(prompt)));
}

}  // namespace

Encoder::Encoder(std::shared_ptr<const tokens::Tokenizer> tokenizer, blocks::KeySpace space, Guess guess)
    : tokenizer_(std::move(tokenizer)), space_(std::move(space)), guess_(guess) {}

Result<Encoded> Encoder::encode_one(const Prompt& prompt, const Input& input) const {
  Encoded encoded;
  Ids found{{}, kWhyNotMedia};
  if (!input.has_media) {
    auto ids = find_ids(prompt, tokenizer_.get());
    if (!ids) return std::move(ids).error();
    found = std::move(*ids);
  }
  if (found.why_not.empty()) {
    const auto* text = std::get_if<TextPrompt>(&prompt);
    const bool added_special = text != nullptr && text->special == tokens::SpecialTokens::kAdd;
    if (!truncate(found.ids, input, tokenizer_.get(), added_special)) found.why_not = kWhyNotTruncation;
  }
  encoded.exact = found.why_not.empty();
  encoded.why_not = found.why_not;
  if (encoded.exact) {
    encoded.prompt_tokens = saturated(found.ids.size());
    encoded.chain = space_.chain(found.ids, input.context);
    if (guess_.block_bytes == 0) return encoded;
  }
  std::size_t bytes = 0;
  const auto guess_from = [&](std::string_view text) {
    bytes = text.size();
    if (guess_.block_bytes == 0) return;
    encoded.guessed_chain = space_.text_chain(text, guess_.block_bytes, guess_.blocks_max, input.context);
  };
  Result<void> made = std::visit(
      Visitor{[&](const TextPrompt& text) -> Result<void> {
                guess_from(text.text);
                return {};
              },
              [&](const IdsPrompt& ids) -> Result<void> {
                bytes = ids.ids.size() * kBytesPerToken;
                if (guess_.block_bytes == 0) return {};
                encoded.guessed_chain =
                    space_.id_guess_chain(ids.ids, guess_.block_bytes, guess_.blocks_max, input.context);
                return {};
              },
              [&](const tokens::ChatInput& chat) -> Result<void> {
                auto text = guess_text(chat);
                if (!text) return std::move(text).error();
                guess_from(*text);
                return {};
              }},
      prompt);
  if (!made) return made.error();
  if (!encoded.exact) encoded.prompt_tokens = saturated(bytes / kBytesPerToken);
  return encoded;
}

Result<std::vector<Encoded>> Encoder::encode(const Input& input) const {
  WP_CHECK(!input.prompts.empty());
  std::vector<Encoded> all;
  all.reserve(input.prompts.size());
  for (const Prompt& prompt : input.prompts) {
    auto one = encode_one(prompt, input);
    if (!one) return std::move(one).error();
    all.push_back(std::move(*one));
  }
  return all;
}

}  // namespace warmpath::prompt
