// Where a text may be cut so that its parts, encoded alone, give the ids of the whole (if Tokenizer::parts() allows
// it). src/tokens/rust/src/cuts.rs says why that is so, and holds the same sets of characters.
#pragma once

#include <cstddef>
#include <string_view>

namespace warmpath::tokens {

// True when a letter or digit ends right before `at` and white space or a CJK stop begins there. False at both ends.
// Text that is not UTF-8 is cut only where both characters are whole, so a part that is not UTF-8 stays one.
bool is_cut(std::string_view text, std::size_t at);

// The characters that may stand left and right of a cut.
bool is_cut_left(char32_t c);
bool is_cut_right(char32_t c);

}  // namespace warmpath::tokens
