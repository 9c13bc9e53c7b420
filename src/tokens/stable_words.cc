#include "tokens/stable_words.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

namespace warmpath::tokens {
namespace {

// Candidates per id wanted: the checks drop a few.
constexpr std::size_t kSpare = 2;
constexpr std::size_t kSequenceIds = 64;
constexpr std::size_t kRoundsFactor = 32;

bool is_lower_word(std::string_view text) {
  return text.size() >= 2 && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

bool encodes_to(const Tokenizer& tokenizer, std::string_view text, std::span<const TokenId> ids) {
  const auto again = tokenizer.encode(text, SpecialTokens::kNone);
  return again.ok() && std::ranges::equal(*again, ids);
}

std::string text_of(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  auto text = tokenizer.decode(ids, SpecialText::kSkip);
  return text.ok() ? std::move(*text) : std::string();
}

struct Candidates {
  std::vector<TokenId> first;
  std::vector<TokenId> rest;
};

// Lower ids first: they are the frequent words. A decoder may drop a leading space, so a word is decoded after itself.
Candidates find_candidates(const Tokenizer& tokenizer, std::size_t count) {
  Candidates found;
  const std::size_t wanted = count * kSpare;
  for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
    if (found.first.size() >= wanted && found.rest.size() >= wanted) break;
    const TokenId ids[] = {id, id};
    const std::string once = text_of(tokenizer, std::span(ids, 1));
    const std::string twice = text_of(tokenizer, ids);
    if (once.empty() || twice.size() < 2 * once.size()) continue;
    std::string_view word = std::string_view(twice).substr(once.size());
    const bool spaced = word.front() == ' ';
    if (spaced) word.remove_prefix(1);
    if (!is_lower_word(word)) continue;
    if (spaced) {
      if (found.rest.size() < wanted && encodes_to(tokenizer, twice, ids)) found.rest.push_back(id);
    } else if (found.first.size() < wanted && encodes_to(tokenizer, word, std::span(ids, 1))) {
      found.first.push_back(id);
    }
  }
  return found;
}

// Drops what breaks: the ids around the first place where text and ids differ.
bool drop_broken(const Tokenizer& tokenizer, const std::vector<TokenId>& sequence, std::vector<TokenId>& pool) {
  auto again = tokenizer.encode(text_of(tokenizer, sequence), SpecialTokens::kNone);
  std::size_t at = 0;
  if (again.ok()) {
    at = static_cast<std::size_t>(
        std::mismatch(sequence.begin(), sequence.end(), again->begin(), again->end()).first - sequence.begin());
    if (at == sequence.size() && again->size() == sequence.size()) return false;
  }
  at = std::min(at, sequence.size() - 1);
  std::unordered_set<TokenId> broken{sequence[at]};
  if (at > 0) broken.insert(sequence[at - 1]);
  std::erase_if(pool, [&](TokenId id) { return broken.contains(id); });
  return true;
}

void keep_stable_sequences(const Tokenizer& tokenizer, std::vector<TokenId>& pool) {
  RandomStream random(0, "stable words");
  std::size_t clean = 0;
  // Every id is met about 8 times in sequences that hold before the pool is believed.
  const std::size_t clean_wanted = std::max<std::size_t>(8, pool.size() * 8 / kSequenceIds);
  for (std::size_t round = 0; round < kRoundsFactor * clean_wanted && clean < clean_wanted && pool.size() > 1; ++round) {
    std::vector<TokenId> sequence(kSequenceIds);
    for (TokenId& id : sequence) id = pool[random.below(pool.size())];
    clean = drop_broken(tokenizer, sequence, pool) ? 0 : clean + 1;
  }
  if (clean < clean_wanted) pool.clear();
}

// A conversation with `ids` as the assistant's turn holds exactly these ids in a row.
bool survives_chat(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  JsonWriter messages;
  messages.array();
  messages.object().member("role", "user").member("content", "hello").end();
  messages.object().member("role", "assistant").member("content", text_of(tokenizer, ids)).end();
  messages.object().member("role", "user").member("content", "again").end();
  messages.end();
  ChatInput chat;
  chat.messages = messages.text();
  auto all = tokenizer.encode_chat(chat);
  return all.ok() && std::search(all->begin(), all->end(), ids.begin(), ids.end()) != all->end();
}

void keep_chat_starters(const Tokenizer& tokenizer, std::vector<TokenId>& first, const std::vector<TokenId>& rest) {
  if (!tokenizer.has_chat_template() || rest.empty()) return;
  std::size_t next = 0;
  std::erase_if(first, [&](TokenId id) {
    const TokenId turn[] = {id, rest[next++ % rest.size()], rest[next++ % rest.size()]};
    return !survives_chat(tokenizer, turn);
  });
}

}  // namespace

StableWords find_stable_words(const Tokenizer& tokenizer, std::size_t count) {
  if (count == 0) return {};
  Candidates found = find_candidates(tokenizer, count);
  keep_stable_sequences(tokenizer, found.rest);
  if (found.rest.size() > count) found.rest.resize(count);
  // A first word is followed by any of the rest: it must not join with it.
  RandomStream random(0, "stable first words");
  std::erase_if(found.first, [&](TokenId id) {
    if (found.rest.empty()) return true;
    const TokenId pair[] = {id, found.rest[random.below(found.rest.size())]};
    return !encodes_to(tokenizer, text_of(tokenizer, pair), pair);
  });
  keep_chat_starters(tokenizer, found.first, found.rest);
  if (found.first.size() > count) found.first.resize(count);
  return {std::move(found.first), std::move(found.rest)};
}

std::vector<TokenId> stable_word_ids(const Tokenizer& tokenizer, std::size_t count) {
  return find_stable_words(tokenizer, count).rest;
}

}  // namespace warmpath::tokens
