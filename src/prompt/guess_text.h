// The bytes that a chat's guessed chain covers. Private to prompt.
#pragma once

#include <string>

#include "base/base.h"
#include "tokens/tokens.h"

namespace warmpath::prompt {

// kInvalid when messages is not an array of objects. Order of members within a message does not matter. Parts that are
// not text (images) go in by a hash of their JSON.
Result<std::string> guess_text(const tokens::ChatInput& chat);

}  // namespace warmpath::prompt
