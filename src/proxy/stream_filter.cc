#include "proxy/stream_filter.h"

#include <cstring>

namespace warmpath::proxy {
namespace {

constexpr std::string_view kUsageKey = R"("usage")";

bool holds_usage_key(std::string_view text) {
  return ::memmem(text.data(), text.size(), kUsageKey.data(), kUsageKey.size()) != nullptr;
}

// Length of the event boundary that ends at `end` in text: "\n\n" or "\n\r\n" (the blank line), else 0.
bool boundary_ends_at(std::string_view text, std::size_t end) {
  if (end < 2 || text[end - 1] != '\n') return false;
  return text[end - 2] == '\n' || (end >= 3 && text[end - 2] == '\r' && text[end - 3] == '\n');
}

// One past the last event boundary at or after `from`; 0 when there is none.
std::size_t last_boundary(std::string_view text, std::size_t from) {
  for (std::size_t end = text.size(); end > from; --end) {
    if (boundary_ends_at(text, end)) return end;
  }
  return 0;
}

// One past the first event boundary after `from`; text.size() when there is none.
std::size_t first_boundary(std::string_view text, std::size_t from) {
  for (std::size_t end = text.find('\n', from); end != std::string_view::npos; end = text.find('\n', end + 1)) {
    if (boundary_ends_at(text, end + 1)) return end + 1;
  }
  return text.size();
}

// The data of an event that has exactly one data line (as engines write them); empty otherwise.
std::string_view data_of(std::string_view event) {
  constexpr std::string_view kField = "data:";
  std::string_view data;
  for (std::string_view line : split(event, '\n')) {
    if (!line.starts_with(kField)) continue;
    if (!data.empty()) return {};
    data = trim(line.substr(kField.size()));
  }
  return data;
}

}  // namespace

std::string_view StreamFilter::feed(std::string_view bytes) {
  if (inside_) {  // the head of this event is with the client already: all we can do is find its end
    const std::size_t kept = tail_.size();
    tail_.append(bytes);
    const std::size_t end = last_boundary(tail_, 0);
    out_.assign(tail_, kept, std::string::npos);
    if (end == 0) {
      if (tail_.size() > 2) tail_.erase(0, tail_.size() - 2);
      return out_;
    }
    // From here on events are whole again: what follows the boundary was sent too, unless it is cut off here.
    const std::size_t after = tail_.size() - end;
    out_.resize(out_.size() - after);
    tail_.erase(0, end);
    inside_ = false;
    ++events_;
    return out_;
  }
  if (tail_.empty()) {
    const std::size_t end = last_boundary(bytes, 0);
    if (end != bytes.size()) tail_.assign(bytes.substr(end));
    if (end != 0) return pass(bytes.substr(0, end));
  } else {
    const std::size_t from = tail_.size() - 1;
    tail_.append(bytes);
    const std::size_t end = last_boundary(tail_, from);
    if (end != 0) {
      std::string whole = std::move(tail_);
      tail_ = whole.substr(end);
      whole.resize(end);
      const std::string_view passed = pass(whole);
      if (passed.data() == whole.data()) {
        out_ = std::move(whole);
        return out_;
      }
      return passed;
    }
  }
  if (tail_.size() <= event_bytes_max_) return {};
  inside_ = true;
  out_ = std::move(tail_);
  tail_ = out_.substr(out_.size() - 2);
  return out_;
}

std::string_view StreamFilter::pass(std::string_view whole_events) {
  if (!holds_usage_key(whole_events)) {
    ++events_;  // an estimate that is exact when events come one by one
    return whole_events;
  }
  bool stripped = false;
  std::string kept;
  for (std::size_t from = 0; from < whole_events.size();) {
    const std::size_t end = first_boundary(whole_events, from);
    const std::string_view event = whole_events.substr(from, end - from);
    bool strip = false;
    if (holds_usage_key(event)) note_event(event, strip);
    if (strip && !stripped) kept.assign(whole_events.substr(0, from));
    stripped = stripped || strip;
    if (stripped && !strip) kept.append(event);
    ++events_;
    from = end;
  }
  if (!stripped) return whole_events;
  out_ = std::move(kept);
  return out_;
}

void StreamFilter::note_event(std::string_view event, bool& strip) {
  const std::string_view data = data_of(event);
  if (data.empty()) return;
  const std::size_t key = data.rfind(kUsageKey);
  if (key == std::string_view::npos) return;
  const std::string_view after = trim(data.substr(key + kUsageKey.size()));
  if (!after.starts_with(':') || trim(after.substr(1)).starts_with("null")) return;
  usage_data_.assign(data);
  strip = usage_chunk_ == UsageChunk::kStrip && api::is_usage_only_chunk(data);
}

std::string_view StreamFilter::finish() {
  if (inside_) return {};  // all of it was passed on
  out_ = std::move(tail_);
  tail_.clear();
  return out_.empty() ? std::string_view() : pass(out_);
}

std::optional<api::Usage> StreamFilter::usage() const { return api::find_usage(usage_data_); }

}  // namespace warmpath::proxy
