#include "doctor/told.h"

#include <simdjson.h>

#include <algorithm>

namespace warmpath::doctor {
namespace {

namespace dom = simdjson::dom;

constexpr std::size_t kMessageBytesMax = 200;

std::string text_of(const dom::element& object, const char* key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

}  // namespace

std::string read_refusal(int status, std::string_view json) {
  dom::parser parser;
  dom::element root;
  std::string text;
  if (parser.parse(json.data(), json.size()).get(root) == simdjson::SUCCESS && root.is_object()) {
    text = text_of(root, "detail");
    if (text.empty()) text = text_of(root, "message");
    dom::element error;
    if (root["error"].get(error) == simdjson::SUCCESS && error.is_object()) text = text_of(error, "message");
  }
  if (text.size() > kMessageBytesMax) {
    std::size_t end = kMessageBytesMax;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end) + "…";
  }
  std::ranges::replace_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return std::to_string(status) + (text.empty() ? "" : ": " + text);
}

std::string printable(std::string_view text) {
  constexpr std::size_t kShownMax = 128;
  std::string out(text.substr(0, kShownMax));
  std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return out;
}

std::string read_version(std::string_view json) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS || !root.is_object()) return {};
  return printable(text_of(root, "version"));
}

}  // namespace warmpath::doctor
