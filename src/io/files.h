// Files: read whole under a limit, replace atomically, append under a limit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace warmpath::io {

// kNotFound, kForbidden, kTooLarge (above bytes_max) or kInvalid (a folder), each with path and remedy.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);
bool file_exists(const std::string& path);
// Writes beside and renames: readers see the old or the new content, never half.
Result<void> replace_file(const std::string& path, std::string_view content);

}  // namespace warmpath::io
