#include "parsers.h"

#include <simdjson.h>

#include <string_view>

#include "base/base.h"

namespace warmpath::bench {
namespace {

namespace json = simdjson::ondemand;

template <class ReadContent>
std::size_t read_body(const std::string& body, ReadContent&& read_content) {
  json::parser parser;
  json::document document =
      parser.iterate(simdjson::padded_string_view(body.data(), body.size(), body.capacity())).value();
  json::object root = document.get_object().value();
  std::size_t sum = 0;
  for (auto member : root) {
    const std::string_view key = member.unescaped_key().value();
    json::value value = member.value().value();
    if (key == "model") {
      sum += value.get_string().value().size();
    } else if (key == "stream") {
      sum += value.get_bool().value() ? 1 : 0;
    } else if (key == "messages") {
      json::array messages = value.get_array().value();
      for (auto item : messages) {
        json::object message = item.get_object().value();
        for (auto part : message) {
          const std::string_view name = part.unescaped_key().value();
          json::value of_message = part.value().value();
          if (name == "role") sum += of_message.raw_json_token().size();
          if (name == "content") sum += read_content(of_message);
        }
      }
    }
  }
  return sum;
}

}  // namespace

std::size_t read_on_demand(const std::string& body) {
  return read_body(body, [](json::value& content) { return content.raw_json_token().size(); });
}

std::size_t read_on_demand_unescaped(const std::string& body) {
  return read_body(body, [](json::value& content) { return content.get_string().value().size(); });
}

std::size_t read_dom(const std::string& body) {
  simdjson::dom::parser parser;
  simdjson::dom::element root = parser.parse(body.data(), body.size(), false).value();
  std::size_t sum = std::string_view(root["model"]).size() + (bool(root["stream"]) ? 1 : 0);
  for (simdjson::dom::element message : simdjson::dom::array(root["messages"])) {
    sum += std::string_view(message["role"]).size() + std::string_view(message["content"]).size();
  }
  return sum;
}

std::string padded(const std::string& body) {
  std::string out;
  out.reserve(body.size() + simdjson::SIMDJSON_PADDING);
  out = body;
  WP_CHECK(out.capacity() >= body.size() + simdjson::SIMDJSON_PADDING);
  return out;
}

}  // namespace warmpath::bench
