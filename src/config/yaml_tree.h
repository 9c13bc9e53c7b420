// A YAML text as a plain tree with line numbers, private to config.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "config/faults.h"

namespace warmpath::config {

struct YamlItem {
  enum class Kind : unsigned char { kNull, kText, kList, kMap };
  Kind kind = Kind::kNull;
  std::size_t line = 0;
  std::string text;             // kText
  std::string key;              // inside a map
  std::vector<YamlItem> items;  // kList, kMap
};

// The text's one document. Limits and refusals (aliases, several documents, keys that are no text, doubled keys) become
// faults; with any fault of syntax or size the tree is not to be used. Catches yaml-cpp's exceptions.
YamlItem read_yaml(std::string_view text, std::string_view file, std::vector<Fault>& faults);

std::string_view kind_name(YamlItem::Kind kind);  // "a list"

}  // namespace warmpath::config
