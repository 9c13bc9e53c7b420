#include "app/standard_input.h"

#include <cstdio>

namespace warmpath::app {

Result<std::string> read_standard_input(std::size_t bytes_max) {
  std::string text;
  char buffer[65'536];
  while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, stdin)) {
    if (text.size() + got > bytes_max) {
      return Error{ErrorKind::kTooLarge, "standard input is above the limit of " + std::to_string(bytes_max) + " bytes"};
    }
    text.append(buffer, got);
  }
  if (std::ferror(stdin) != 0) return Error{ErrorKind::kInternal, "standard input cannot be read"};
  return text;
}

}  // namespace warmpath::app
