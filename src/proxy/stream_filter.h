// StreamFilter: what passes from an engine's SSE stream to the client: whole events only, usage noted, the extra usage
// chunk taken out when the client did not ask for it. Private to proxy. Thread rule: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/api.h"

namespace warmpath::proxy {

class StreamFilter {
 public:
  enum class UsageChunk : std::uint8_t { kPass, kStrip };
  StreamFilter(UsageChunk usage_chunk, std::size_t event_bytes_max)
      : usage_chunk_(usage_chunk), event_bytes_max_(event_bytes_max) {}

  // What may go to the client now; valid until the next call, or as long as `bytes`. Cost: a look for `"usage"`; no
  // copy when `bytes` is whole events.
  std::string_view feed(std::string_view bytes);
  // The stream ended: what was kept back.
  std::string_view finish();
  // True while the client has whole events only: then an error event is safe. False in the middle of one that was
  // longer than event_bytes_max.
  bool at_boundary() const { return !inside_; }

  std::optional<api::Usage> usage() const;  // of the last event that told one
  std::uint64_t events() const { return events_; }

 private:
  std::string_view pass(std::string_view whole_events);
  void note_event(std::string_view event, bool& strip);

  UsageChunk usage_chunk_;
  std::size_t event_bytes_max_;
  bool inside_ = false;
  std::uint64_t events_ = 0;
  std::string tail_;        // an event not whole yet
  std::string out_;         // what feed() returns when it cannot be a part of `bytes`
  std::string usage_data_;  // data of the last event with a usage object
};

}  // namespace warmpath::proxy
