#include "doctor/compare.h"

#include <algorithm>
#include <optional>
#include <vector>

namespace warmpath::doctor {
namespace {

constexpr std::size_t kShownIds = 6;
constexpr std::size_t kShownBytes = 40;
constexpr std::size_t kSpecialMost = 4;  // that a tokenizer puts around a text

std::optional<std::string> text_of(std::span<const TokenId> ids, const tokens::Tokenizer& tokenizer,
                                   tokens::SpecialText special) {
  auto text = tokenizer.decode(ids, special);
  if (!text.ok()) return std::nullopt;
  return *std::move(text);
}

bool all_special(std::span<const TokenId> ids, const tokens::Tokenizer& tokenizer) {
  const auto text = text_of(ids, tokenizer, tokens::SpecialText::kSkip);
  return text && text->empty();
}

// What is left of the longer list around the shorter one, when that is a part of it.
struct Around {
  std::span<const TokenId> front, back;
};
std::optional<Around> around(std::span<const TokenId> longer, std::span<const TokenId> shorter) {
  const std::size_t more = longer.size() - shorter.size();
  for (std::size_t front = 0; front <= std::min(more, kSpecialMost); ++front) {
    if (!std::ranges::equal(longer.subspan(front, shorter.size()), shorter)) continue;
    return Around{longer.first(front), longer.subspan(front + shorter.size())};
  }
  return std::nullopt;
}

std::string more_text(std::span<const TokenId> ids, std::string_view where, const tokens::Tokenizer& tokenizer) {
  if (ids.empty()) return {};
  return std::to_string(ids.size()) + " more " + std::string(where) + " (" + shown(ids, tokenizer) + ")";
}

std::optional<std::string> special_difference(std::span<const TokenId> ours, std::span<const TokenId> theirs,
                                              const tokens::Tokenizer& tokenizer) {
  const bool engine_has_more = theirs.size() > ours.size();
  if (theirs.size() == ours.size()) return std::nullopt;
  const auto rest = engine_has_more ? around(theirs, ours) : around(ours, theirs);
  if (!rest || rest->front.size() + rest->back.size() > kSpecialMost) return std::nullopt;
  if (!all_special(rest->front, tokenizer) || !all_special(rest->back, tokenizer)) return std::nullopt;
  std::string text = engine_has_more ? "the engine has " : "we have ";
  text += more_text(rest->front, "in front", tokenizer);
  if (!rest->front.empty() && !rest->back.empty()) text += " and ";
  return text + more_text(rest->back, "at the end", tokenizer);
}

}  // namespace

std::string shown(std::span<const TokenId> ids, const tokens::Tokenizer& tokenizer) {
  if (ids.empty()) return "nothing";
  std::string out;
  for (std::size_t i = 0; i < std::min(ids.size(), kShownIds); ++i) out += (i == 0 ? "" : " ") + std::to_string(ids[i]);
  if (ids.size() > kShownIds) out += " …";
  const auto text = text_of(ids.first(std::min(ids.size(), kShownIds)), tokenizer, tokens::SpecialText::kKeep);
  if (!text) return out + ", not in our vocabulary";
  std::string cut = text->substr(0, kShownBytes);
  // Not within a character: a broken one would show as rubbish.
  while (cut.size() < text->size() && !cut.empty() &&
         (static_cast<unsigned char>((*text)[cut.size()]) & 0xC0) == 0x80) {
    cut.pop_back();
  }
  JsonWriter quoted;
  quoted.value(cut);
  return out + " = " + quoted.take();
}

Comparison compare(std::span<const TokenId> ours, std::span<const TokenId> theirs, const tokens::Tokenizer& tokenizer) {
  Comparison result;
  const auto [mine, other] = std::ranges::mismatch(ours, theirs);
  result.at = static_cast<std::size_t>(mine - ours.begin());
  if (mine == ours.end() && other == theirs.end()) return result;
  if (auto special = special_difference(ours, theirs, tokenizer)) {
    result.difference = Difference::kSpecialTokens;
    result.detail = *std::move(special);
    return result;
  }
  const auto our_text = text_of(ours, tokenizer, tokens::SpecialText::kKeep);
  const auto their_text = text_of(theirs, tokenizer, tokens::SpecialText::kKeep);
  result.difference = our_text && their_text && *our_text == *their_text ? Difference::kSplit : Difference::kText;
  result.detail = "from id " + std::to_string(result.at) + " on: ours " + shown(ours.subspan(result.at), tokenizer) +
                  ", the engine's " + shown(theirs.subspan(result.at), tokenizer);
  return result;
}

}  // namespace warmpath::doctor
