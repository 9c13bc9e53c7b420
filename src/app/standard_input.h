// Standard input, read whole under a limit.
#pragma once

#include <cstddef>
#include <string>

#include "base/base.h"

namespace warmpath::app {

// Errors: kTooLarge beyond `bytes_max`, kInternal when reading fails.
Result<std::string> read_standard_input(std::size_t bytes_max);

}  // namespace warmpath::app
