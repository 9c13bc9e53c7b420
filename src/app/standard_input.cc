#include "app/standard_input.h"

#include <unistd.h>

#include <cerrno>

namespace warmpath::app {

Result<std::string> read_standard_input(std::size_t bytes_max) {
  std::string text;
  char buffer[65'536];
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{ErrorKind::kInternal, "standard input cannot be read"};
    if (got == 0) return text;
    if (text.size() + static_cast<std::size_t>(got) > bytes_max) {
      return Error{ErrorKind::kTooLarge,
                   "standard input is above the limit of " + std::to_string(bytes_max) + " bytes"};
    }
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

}  // namespace warmpath::app
