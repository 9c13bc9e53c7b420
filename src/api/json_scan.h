// JsonScan: a strict, bounded pull reader over JSON text (RFC 8259) that keeps byte offsets. Private to api.
//
//   JsonScan scan(text, 64);
//   scan.object([&](std::string_view key) { if (key == "model") model = scan.text(); else scan.skip(); });
//   scan.finish();
//   if (scan.failed()) ... scan.fault() ...
//
// Our own, beside simdjson, because the router needs exact slices of the original bytes, positions in errors, numbers
// of any size passed on unread, and refusal of lone surrogates, all in one pass (api_bench.cc compares the two). Faults
// latch: after the first one every call returns empty values and loops end. Does not check UTF-8: callers do that over
// the whole text first. Thread rule: one owner. Cost: strings are skipped 16 bytes at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/api.h"

namespace warmpath::api {

class JsonScan {
 public:
  static constexpr std::size_t kDepthMax = 256;

  // `depth_max` in 1..kDepthMax: objects and arrays open at once.
  JsonScan(std::string_view text, std::size_t depth_max);

  enum class Kind : std::uint8_t { kObject, kArray, kString, kNumber, kTrue, kFalse, kNull, kNone };
  Kind peek();  // of the value that comes next; kNone at the end or at a byte that starts no value

  // Calls member(key) for each member; it must consume the value by exactly one call below. `key` is valid until then.
  template <class F>
  void object(F&& member) {
    for (bool more = open('{', '}'); more; more = next('}')) {
      const std::string_view name = key();
      if (failed()) return;
      member(name);
      if (failed()) return;
    }
  }
  // Calls item() for each item; it must consume one value.
  template <class F>
  void array(F&& item) {
    for (bool more = open('[', ']'); more; more = next(']')) {
      item();
      if (failed()) return;
    }
  }
  Slice skip();          // any value: where it stands
  std::string string();  // a string value, unescaped
  Slice number();
  std::optional<bool> boolean();  // consumes true or false
  void finish();                  // nothing but white space may follow

  bool failed() const { return what_ != nullptr; }
  const char* fault() const { return what_; }
  std::size_t fault_offset() const { return fault_offset_; }
  void fail(const char* what) { fail_at(what, p_); }

  std::string_view text_of(Slice slice) const { return {begin_ + slice.offset, slice.length}; }
  std::size_t offset() const { return static_cast<std::size_t>(p_ - begin_); }
  std::size_t offset_of_next() {  // where the value that comes next begins
    white();
    return offset();
  }
  // Reads a part of this text again (of what text_of() gave): its faults have this text's offsets.
  JsonScan within(std::string_view part) const;
  void adopt(const JsonScan& inner);  // its fault, unless there is one already

 private:
  void fail_at(const char* what, const char* at);
  void white();
  bool open(char opening, char closing);  // true: a first item follows
  bool next(char closing);                // true: another item follows
  std::string_view key();
  // Moves past a string; `content` is what stands between the quotes. False on a fault.
  bool raw_string(std::string_view& content, bool& escaped);
  bool escape();
  void raw_number();
  void literal(std::string_view word);
  void scalar();

  const char* begin_;  // of the whole text, for offsets
  const char* p_;
  const char* end_;
  std::size_t depth_max_;
  std::size_t depth_ = 0;
  const char* what_ = nullptr;
  std::size_t fault_offset_ = 0;
  std::string key_scratch_;
};

// Content of a JSON string without its quotes, known to be valid, as text.
std::string unescape_json(std::string_view content);

// Byte offset of the first byte that is not UTF-8; nullopt when all of it is.
std::optional<std::size_t> first_bad_utf8(std::string_view text);

}  // namespace warmpath::api
