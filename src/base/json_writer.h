// JsonWriter: appends JSON to a string. Commas and escapes are its business; structure is checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace warmpath {

// One line, no spaces. Strings must be UTF-8 (bytes >= 0x80 pass unchanged). Doubles print shortest-round-trip;
// NaN and infinities print null. Thread rule: one owner.
//   JsonWriter w; w.object().key("ids").array().value(1u).end().end(); w.text() == R"({"ids":[1]})"
class JsonWriter {
 public:
  JsonWriter& object();
  JsonWriter& array();
  JsonWriter& end();  // closes the innermost object or array
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(double number);
  JsonWriter& value(bool truth);
  JsonWriter& value(std::int64_t number);
  JsonWriter& value(std::uint64_t number);
  JsonWriter& value(int number) { return value(static_cast<std::int64_t>(number)); }
  JsonWriter& value(unsigned number) { return value(static_cast<std::uint64_t>(number)); }
  JsonWriter& null();
  JsonWriter& raw(std::string_view json);  // a complete JSON value, unchecked
  template <class T>
  JsonWriter& member(std::string_view name, const T& item) {
    return key(name).value(item);
  }

  const std::string& text() const { return text_; }
  std::string take();

 private:
  void before_value();
  std::string text_;
  std::vector<char> open_;  // '{' or '['
  bool need_comma_ = false;
  bool after_key_ = false;
};

// Appends `text` as a JSON string with quotes.
void append_json_string(std::string& out, std::string_view text);

}  // namespace warmpath
