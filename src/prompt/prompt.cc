#include "prompt/prompt.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "prompt/guess_text.h"
#include "prompt/reuse.h"

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

Result<Ids> keep_clients_errors(Error error) {
  switch (error.kind) {
    case ErrorKind::kUnsupported: return Ids{{}, kWhyNotNoTemplate};
    case ErrorKind::kInternal: return Ids{{}, kWhyNotTokenizerFailed};
    default: return error;
  }
}

Result<Ids> keep_clients_errors(Result<std::vector<TokenId>> encoded) {
  if (encoded.ok()) return Ids{std::move(*encoded), {}};
  return keep_clients_errors(std::move(encoded).error());
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

Encoder::Encoder(std::shared_ptr<const tokens::Tokenizer> tokenizer, blocks::KeySpace space, Guess guess,
                 ReuseLimits reuse)
    : tokenizer_(std::move(tokenizer)), space_(std::move(space)), guess_(guess) {
  if (tokenizer_ != nullptr && tokenizer_->encoder_facts().parts && reuse.bytes_max != 0) {
    reuse_ = std::make_shared<Reuse>(*tokenizer_, space_, reuse.bytes_max);
  }
}

ReuseCounters Encoder::reuse_counters() const { return reuse_ == nullptr ? ReuseCounters{} : reuse_->counters(); }

Result<bool> Encoder::encode_by_reuse(const Prompt& prompt, const Input& input, Encoded& encoded) const {
  // A cut prompt needs the ids themselves.
  if (reuse_ == nullptr || input.has_media || input.truncate_prompt_tokens || !input.context.items.empty())
    return false;
  tokens::RenderedText rendered;
  std::string_view text;
  auto special = tokens::SpecialTokens::kNone;
  if (const auto* given = std::get_if<TextPrompt>(&prompt)) {
    text = given->text;
    special = given->special;
  } else if (const auto* chat = std::get_if<tokens::ChatInput>(&prompt)) {
    auto made = tokenizer_->render_chat_text(*chat);
    if (!made.ok()) {
      auto why = keep_clients_errors(std::move(made).error());
      if (!why) return std::move(why).error();
      encoded.why_not = why->why_not;
      return true;
    }
    rendered = std::move(*made);
    text = rendered.text;
  } else {
    return false;
  }
  auto found = reuse_->encode(text, special, input.context);
  if (!found) {
    auto why = keep_clients_errors(std::move(found).error());
    if (!why) return std::move(why).error();
    encoded.why_not = why->why_not;
    return true;
  }
  encoded.exact = true;
  encoded.prompt_tokens = saturated(found->prompt_tokens);
  encoded.chain = std::move(found->chain);
  return true;
}

Result<Encoded> Encoder::encode_one(const Prompt& prompt, const Input& input) const {
  Encoded encoded;
  auto reused = encode_by_reuse(prompt, input, encoded);
  if (!reused) return std::move(reused).error();
  if (!*reused) {
    if (auto whole = encode_whole(prompt, input, encoded); !whole) return whole.error();
  }
  if (encoded.exact && guess_.block_bytes == 0) return encoded;
  if (auto guessed = add_guess(prompt, input, encoded); !guessed) return guessed.error();
  return encoded;
}

Result<void> Encoder::encode_whole(const Prompt& prompt, const Input& input, Encoded& encoded) const {
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
  }
  return {};
}

Result<void> Encoder::add_guess(const Prompt& prompt, const Input& input, Encoded& encoded) const {
  std::size_t bytes = 0;
  const auto guess_from = [&](std::string_view text) {
    bytes = text.size();
    if (guess_.block_bytes == 0) return;
    encoded.guessed_chain = space_.text_chain(text, guess_.block_bytes, guess_.blocks_max, input.context);
  };
  Result<void> made = std::visit(Visitor{[&](const TextPrompt& text) -> Result<void> {
                                           guess_from(text.text);
                                           return {};
                                         },
                                         [&](const IdsPrompt& ids) -> Result<void> {
                                           bytes = ids.ids.size() * kBytesPerToken;
                                           if (guess_.block_bytes == 0) return {};
                                           encoded.guessed_chain = space_.id_guess_chain(
                                               ids.ids, guess_.block_bytes, guess_.blocks_max, input.context);
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
  return {};
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
