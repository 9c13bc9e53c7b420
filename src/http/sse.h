// Server-sent events.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/base.h"

namespace warmpath::http {

// Splits a byte stream into events. CR, LF and CRLF line ends; several data lines joined with '\n'; comments and
// other fields ignored, a byte order mark at the start too. An event above bytes_max is an error: kTooLarge.
class SseParser {
 public:
  explicit SseParser(std::size_t bytes_max = 4u << 20) : bytes_max_(bytes_max) {}
  // Calls `event` with each event's data.
  Result<void> feed(std::string_view bytes, const std::function<void(std::string_view)>& event);

 private:
  void line_done(const std::function<void(std::string_view)>& event);
  std::size_t bytes_max_;
  std::string line_;
  std::string data_;
  bool have_data_ = false;
  bool skip_lf_ = false;
  bool first_line_ = true;
};

// "data: …\n\n"
std::string sse_event(std::string_view data);

}  // namespace warmpath::http
