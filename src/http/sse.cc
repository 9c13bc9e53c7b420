#include "http/sse.h"

#include <utility>

namespace warmpath::http {

Result<void> SseParser::feed(std::string_view bytes, const std::function<void(std::string_view)>& event) {
  while (!bytes.empty()) {
    if (skip_lf_) {
      skip_lf_ = false;
      if (bytes.front() == '\n') {
        bytes.remove_prefix(1);
        continue;
      }
    }
    const auto end = bytes.find_first_of("\r\n");
    const std::string_view piece = bytes.substr(0, end);
    if (line_.size() + data_.size() + piece.size() > bytes_max_) {
      return Error{ErrorKind::kTooLarge, "a server-sent event is longer than " + std::to_string(bytes_max_) + " bytes"};
    }
    line_ += piece;
    if (end == std::string_view::npos) return {};
    skip_lf_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    line_done(event);
  }
  return {};
}

void SseParser::line_done(const std::function<void(std::string_view)>& event) {
  if (std::exchange(first_line_, false) && line_.starts_with("\xef\xbb\xbf")) line_.erase(0, 3);
  if (line_.empty()) {
    if (have_data_) {
      // The state is clean before the call: the event may end the stream.
      const std::string data = std::move(data_);
      data_.clear();
      have_data_ = false;
      event(data);
    }
    return;
  }
  const auto colon = line_.find(':');
  if (std::string_view(line_).substr(0, colon) == "data") {
    std::string_view value = colon == std::string::npos ? std::string_view{} : std::string_view(line_).substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (have_data_) data_ += '\n';
    data_ += value;
    have_data_ = true;
  }
  line_.clear();
}

std::string sse_event(std::string_view data) {
  std::string out;
  out.reserve(data.size() + 8);
  out.append("data: ").append(data).append("\n\n");
  return out;
}

}  // namespace warmpath::http
