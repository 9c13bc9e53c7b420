// For this room's tests only: a small tokenizer of words and bytes, and a loop that runs until something holds.
#pragma once

#include <gtest/gtest.h>
#include <simdjson.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/io.h"
#include "tokens/tokens.h"

namespace warmpath::engine_server::testing {

// Ids: 0-255 bytes, 256 and 257 the turn's marks, then 1,000 words without and with a leading space. A run of letters
// is one token if it is a word, bytes otherwise.
class WordTokenizer final : public tokens::Tokenizer {
 public:
  static constexpr TokenId kStart = 256;
  static constexpr TokenId kEnd = 257;
  static constexpr TokenId kWords = 258;

  WordTokenizer() {
    const std::string consonants = "bdfgklmnprst";
    const std::string vowels = "aeiou";
    for (char a : consonants) {
      for (char b : vowels) {
        for (char c : consonants) {
          if (words_.size() == 2'000) break;
          const std::string word = {a, b, c, 'o'};
          add(word);
          add(" " + word);
        }
      }
    }
  }

  Result<std::vector<TokenId>> encode(std::string_view text, tokens::SpecialTokens) const override {
    std::vector<TokenId> ids;
    for (std::size_t i = 0; i < text.size();) {
      if (text.substr(i).starts_with("<|start|>")) {
        ids.push_back(kStart);
        i += 9;
        continue;
      }
      if (text.substr(i).starts_with("<|end|>")) {
        ids.push_back(kEnd);
        i += 7;
        continue;
      }
      std::size_t end = i + (text[i] == ' ' ? 1 : 0);
      while (end < text.size() && text[end] >= 'a' && text[end] <= 'z') ++end;
      const auto word = ids_.find(std::string(text.substr(i, end - i)));
      if (word != ids_.end()) {
        ids.push_back(word->second);
        i = end;
        continue;
      }
      end = std::max(end, i + 1);
      for (; i < end; ++i) ids.push_back(static_cast<unsigned char>(text[i]));
    }
    return ids;
  }
  Result<std::string> decode(std::span<const TokenId> ids, tokens::SpecialText special) const override {
    std::string text;
    for (const TokenId id : ids) {
      if (id >= vocabulary_size()) return Error{ErrorKind::kInvalid, "id out of range"};
      if (id < 256) {
        text += static_cast<char>(id);
      } else if (id < kWords) {
        if (special == tokens::SpecialText::kKeep) text += id == kStart ? "<|start|>" : "<|end|>";
      } else {
        text += words_[id - kWords];
      }
    }
    return text;
  }
  Result<std::string> render_chat(const tokens::ChatInput& chat) const override {
    std::string text;
    simdjson::dom::parser parser;
    for (const auto message : parser.parse(std::string(chat.messages)).get_array()) {
      std::string_view content;
      if (message["content"].get_string().get(content) != simdjson::SUCCESS) {
        return Error{ErrorKind::kInvalid, "content must be text"};
      }
      text += "<|start|>" + std::string(std::string_view(message["role"])) + "\n" + std::string(content) + "<|end|>\n";
    }
    if (chat.add_generation_prompt) text += "<|start|>assistant\n";
    return text;
  }
  Result<std::vector<TokenId>> encode_chat(const tokens::ChatInput& chat) const override {
    auto text = render_chat(chat);
    if (!text) return text.error();
    return encode(*text, tokens::SpecialTokens::kNone);
  }
  bool has_chat_template() const override { return true; }
  std::uint32_t vocabulary_size() const override { return kWords + static_cast<std::uint32_t>(words_.size()); }
  std::vector<TokenId> end_ids() const override { return {kEnd}; }
  const tokens::Exactness& exactness() const override { return exactness_; }

 private:
  void add(std::string word) {
    ids_.emplace(word, kWords + static_cast<TokenId>(words_.size()));
    words_.push_back(std::move(word));
  }
  std::vector<std::string> words_;
  std::unordered_map<std::string, TokenId> ids_;
  tokens::Exactness exactness_{true, ""};
};

// Runs the loop until stop() is called; fails the test, and ends, after a guard far beyond what is needed.
inline void run_guarded(io::Loop& loop, const char* what) {
  bool timed_out = false;
  io::Timer guard = loop.after(std::chrono::seconds(30), [&] {
    timed_out = true;
    loop.stop();
  });
  loop.run();
  guard.cancel();
  ASSERT_FALSE(timed_out) << what;
}

// Runs the loop until `done` holds, looked at every millisecond.
inline void run_until(io::Loop& loop, const char* what, std::function<bool()> done) {
  io::Timer tick;
  std::function<void()> look = [&] {
    if (done()) {
      loop.stop();
    } else {
      tick = loop.after(std::chrono::milliseconds(1), look);
    }
  };
  tick = loop.after(Duration(0), look);
  run_guarded(loop, what);
}

}  // namespace warmpath::engine_server::testing
