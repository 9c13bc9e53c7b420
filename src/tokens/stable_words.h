// Ids that survive being text: what a simulated engine may generate so that a conversation's next turn, sent as text,
// encodes back to the generated ids.
#pragma once

#include <cstddef>
#include <vector>

#include "tokens/tokens.h"

namespace warmpath::tokens {

// Whole lower-case English words that are one token each.
//   rest   words with a leading space: any sequence of them decodes to a text that encodes to exactly that sequence.
//   first  words without one. `first` then any number of `rest` holds the same promise, and holds it as an assistant's
//          turn as well, also where the template trims the turn's text (Llama-3 does; a leading space is lost there).
// So: begin a chat turn with `first`; continue a completion's prompt with `rest` only (after "foo", "bar" would join).
// Deterministic; checked by encoding, id by id and in random sequences; ids that fail are left out, so there may be
// fewer than asked for, or none (a vocabulary without English words).
// Cost: one decode per id looked at and a few hundred encodes: 10 to 100 ms for 1,000 words.
struct StableWords {
  std::vector<TokenId> first;
  std::vector<TokenId> rest;
};
StableWords find_stable_words(const Tokenizer& tokenizer, std::size_t count);

// The `rest` alone.
std::vector<TokenId> stable_word_ids(const Tokenizer& tokenizer, std::size_t count);

}  // namespace warmpath::tokens
