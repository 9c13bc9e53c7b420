// Random texts that grow, shrink and change, and what reuse must make of them: the reference is the `tokenizers` crate
// encoding each whole text from scratch.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "prompt/reuse.h"

namespace warmpath::prompt {

// Made of fragments, so that every text is UTF-8.
class ChangingText {
 public:
  ChangingText(RandomStream& random, std::size_t fragments_max) : random_(random), fragments_max_(fragments_max) {}

  std::string text() const {
    std::string out;
    for (const std::string& one : fragments_) out += one;
    return out;
  }

  // Appends mostly, as prompts do; sometimes edits, drops, doubles or starts anew.
  void change() {
    if (fragments_.size() > fragments_max_) fragments_.resize(random_.below(fragments_max_));
    const std::uint64_t kind = random_.below(16);
    if (fragments_.empty() || kind < 8) return insert(fragments_.size(), 1 + random_.below(24));
    const std::size_t at = random_.below(fragments_.size());
    const auto begin = fragments_.begin() + static_cast<std::ptrdiff_t>(at);
    if (kind < 10) return insert(at, 1 + random_.below(3));
    if (kind == 10) {
      fragments_.erase(begin, begin + static_cast<std::ptrdiff_t>(1 + random_.below(fragments_.size() - at)));
    } else if (kind == 11) {
      fragments_.erase(begin);
    } else if (kind == 12) {
      const std::vector<std::string> again(begin, fragments_.end());
      fragments_.insert(fragments_.end(), again.begin(), again.end());
    } else if (kind == 13) {
      fragments_.erase(fragments_.begin(), begin);
    } else if (kind == 14) {
      fragments_[at] = fragment();
    } else {
      fragments_.clear();
    }
  }

 private:
  void insert(std::size_t at, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      fragments_.insert(fragments_.begin() + static_cast<std::ptrdiff_t>(at), fragment());
    }
  }

  std::string fragment() {
    static constexpr auto kOdd = std::to_array<std::string_view>({"\n",
                                                                  "\n\n",
                                                                  " ",
                                                                  "  ",
                                                                  "\t",
                                                                  "\r\n",
                                                                  "\r",
                                                                  " \n ",
                                                                  "   \n\n  ",
                                                                  "\u00a0",
                                                                  "\u3000",
                                                                  "\u2028",
                                                                  "\u200b",
                                                                  "\u0085",
                                                                  "'s",
                                                                  "'LL",
                                                                  "'",
                                                                  "don't",
                                                                  "'\u017f",
                                                                  ".",
                                                                  ",",
                                                                  "...",
                                                                  "!?",
                                                                  "(",
                                                                  ")",
                                                                  "{}",
                                                                  "//",
                                                                  "/\n",
                                                                  "=>",
                                                                  "--",
                                                                  "\"",
                                                                  "_",
                                                                  "\\",
                                                                  "0",
                                                                  "12",
                                                                  "1234567",
                                                                  "3.14",
                                                                  "\u0663\u0664",
                                                                  "\u00bd",
                                                                  "\u2167",
                                                                  "\uff11\uff12",
                                                                  "\u4eca\u5929",
                                                                  "\u5929\u6c14\u5f88\u597d",
                                                                  "\u3002",
                                                                  "\uff0c",
                                                                  "\u3001",
                                                                  "\u300c\u9f8d\u300d",
                                                                  "\u3400",
                                                                  "\u3053\u308c\u306f",
                                                                  "\u30ab\u30bf",
                                                                  "\u30fc",
                                                                  "\u3099",
                                                                  "\uc548\ub155",
                                                                  "\u1112\u1161\u11ab",
                                                                  "\u0441\u043b\u043e\u0432\u043e",
                                                                  "\u0439",
                                                                  "\u0438\u0306",
                                                                  "\u00e9",
                                                                  "e\u0301",
                                                                  "\u0301",
                                                                  "\u0323",
                                                                  "\u00c5",
                                                                  "\u212b",
                                                                  "\u0e20\u0e32\u0e29\u0e32",
                                                                  "\u0928\u092e\u0938\u094d\u0924\u0947",
                                                                  "\u0645\u0631\u062d\u0628\u0627",
                                                                  "\u05e9\u05dc\u05d5\u05dd",
                                                                  "\U0001F642",
                                                                  "\U0001F468\u200d\U0001F469\u200d\U0001F467",
                                                                  "\U0001F44D\U0001F3FD",
                                                                  "\ufe0f",
                                                                  "\U00020000",
                                                                  "\u2581",
                                                                  "\ufffd",
                                                                  "\ue000",
                                                                  "<|im_start|>",
                                                                  "<|im_end|>",
                                                                  "<|im_",
                                                                  "_end|>",
                                                                  "<|endoftext|>",
                                                                  "<|begin_of_text|>",
                                                                  "<|eot_id|>",
                                                                  "<think>",
                                                                  "</think>",
                                                                  "<tool_call>",
                                                                  "<\uff5cUser\uff5c>",
                                                                  "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
                                                                  "[INST]",
                                                                  "[/INST]",
                                                                  "<s>",
                                                                  "</s>",
                                                                  "<bos>",
                                                                  "<eos>",
                                                                  "<start_of_turn>",
                                                                  "<end_of_turn>",
                                                                  "<pad>",
                                                                  "<unk>",
                                                                  "<0x0A>",
                                                                  "|>",
                                                                  "<",
                                                                  "[",
                                                                  "\U0001d518"});
    static constexpr auto kWords = std::to_array<std::string_view>(
        {"the",       "The",    "a",   "of",   "harbor",   "Gateway", "HTTP", "iPhone", "snake_case",
         "camelCase", "return", "int", "x",    "engine",   "keeps",   "map",  "which",  "internationalization",
         "S",         "t",      "ll",  "user", "assistant"});
    const std::uint64_t kind = random_.below(8);
    if (kind < 3) return " " + std::string(kWords[random_.below(kWords.size())]);
    if (kind == 3) return std::string(kWords[random_.below(kWords.size())]);
    if (kind == 4 && random_.below(8) == 0) {  // runs
      const auto& one = kOdd[random_.below(kOdd.size())];
      std::string run;
      for (std::uint64_t i = 2 + random_.below(20); i > 0; --i) run += one;
      return run;
    }
    return std::string(kOdd[random_.below(kOdd.size())]);
  }

  RandomStream& random_;
  std::size_t fragments_max_;
  std::vector<std::string> fragments_;
};

// Pieces of a few words, so that small texts have many.
inline constexpr PieceSizes kSmallPieces{8, 64, 512, 16};

class ReuseCheck {
 public:
  ReuseCheck(const tokens::Tokenizer& tokenizer, std::uint64_t seed)
      : tokenizer_(tokenizer), random_(seed, "reuse.check"), text_(random_, 60), other_(random_, 60) {}

  // One text through `reuse` (made anew now and then) and by reference; what differs, if anything does.
  std::optional<std::string> step() {
    if (reuse_ == nullptr || random_.below(2'000) == 0) {
      // From next to nothing, where everything is dropped at once, to everything.
      const std::size_t bytes_max = std::size_t{1} << (15 + random_.below(10));
      space_ = std::make_unique<blocks::KeySpace>(random_.next(), "check", 1 + random_.below(5));
      reuse_ = std::make_unique<Reuse>(tokenizer_, *space_, bytes_max, kSmallPieces);
    }
    ChangingText& changing = random_.below(8) == 0 ? other_ : text_;
    changing.change();
    return check(*reuse_, *space_, changing.text(), random_);
  }

  std::optional<std::string> check(Reuse& reuse, const blocks::KeySpace& space, const std::string& text,
                                   RandomStream& random) const {
    const auto special = random.below(2) == 0 ? tokens::SpecialTokens::kNone : tokens::SpecialTokens::kAdd;
    blocks::ChainContext context;
    context.salt = random.below(4) == 0 ? "tenant" : "";
    context.lora = random.below(8) == 0 ? "adapter" : "";
    auto found = reuse.encode(text, special, context);
    auto ids = tokenizer_.encode_by_reference(text, special);
    if (found.ok() != ids.ok()) return "one of the two refuses: " + text;
    if (!found.ok()) return std::nullopt;
    if (found->prompt_tokens != ids->size()) return "another number of tokens: " + text;
    if (found->chain != space.chain(*ids, context)) return "other ids: " + text;
    if (random.below(4) == 0) return check_cut(text, random);
    return std::nullopt;
  }

  const Reuse* reuse() const { return reuse_.get(); }

 private:
  // What the cuts promise, by the reference alone.
  std::optional<std::string> check_cut(const std::string& text, RandomStream& random) const {
    if (text.empty()) return std::nullopt;
    std::size_t at = random.below(text.size());
    while (at < text.size() && !tokens::is_cut(text, at)) ++at;
    if (at == text.size()) return std::nullopt;
    const auto none = tokens::SpecialTokens::kNone;
    auto ids = tokenizer_.encode_by_reference(text.substr(0, at), none).value();
    const auto right = tokenizer_.encode_by_reference(text.substr(at), none).value();
    ids.insert(ids.end(), right.begin(), right.end());
    if (ids != tokenizer_.encode_by_reference(text, none).value()) return "a cut changes ids: " + text;
    return std::nullopt;
  }

  const tokens::Tokenizer& tokenizer_;
  RandomStream random_;
  ChangingText text_, other_;
  std::unique_ptr<blocks::KeySpace> space_;
  std::unique_ptr<Reuse> reuse_;
};

}  // namespace warmpath::prompt
