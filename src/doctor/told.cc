#include "doctor/told.h"

#include <simdjson.h>

#include <algorithm>

namespace warmpath::doctor {
namespace {

namespace dom = simdjson::dom;

constexpr std::uint32_t kRanksMax = 1'024;
constexpr std::size_t kMessageBytesMax = 200;

Error not_json(std::string_view what) {
  return {ErrorKind::kUpstream, std::string(what) + " is not the JSON expected"};
}

std::string text_of(const dom::element& object, const char* key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

std::optional<std::uint64_t> number_of(const dom::element& object, const char* key) {
  std::uint64_t number = 0;
  if (object[key].get(number) != simdjson::SUCCESS) return std::nullopt;
  return number;
}

}  // namespace

std::string endpoint_for(std::string_view endpoint, std::uint32_t rank, const std::string& host) {
  if (!endpoint.starts_with("tcp://")) return {};
  const auto colon = endpoint.rfind(':');
  const auto port = parse_u64(endpoint.substr(colon + 1));
  if (colon < 6 || !port || *port == 0 || *port + rank > 65'535) return {};
  std::string told(endpoint.substr(6, colon - 6));
  if (told.empty() || told == "*" || told == "0.0.0.0" || told == "::" || told == "[::]") {
    told = host.find(':') == std::string::npos ? host : "[" + host + "]";
  }
  return "tcp://" + told + ":" + std::to_string(*port + rank);
}

Result<std::vector<SourceTold>> read_event_sources(std::string_view json, const std::string& host) {
  dom::parser parser;
  dom::object root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return not_json("/kv_event_sources");
  std::vector<SourceTold> all;
  for (const auto& [key, value] : root) {
    const auto rank = parse_u64(key);
    if (!rank || *rank >= kRanksMax || !value.is_object()) continue;
    SourceTold told;
    told.rank = static_cast<std::uint32_t>(*rank);
    bool enabled = false;
    told.publisher = printable(text_of(value, "publisher"));
    told.events = endpoint_for(text_of(value, "endpoint"), 0, host);
    told.replay = endpoint_for(text_of(value, "replay_endpoint"), 0, host);
    told.topic = printable(text_of(value, "topic"));
    told.enabled = value["enable_kv_cache_events"].get(enabled) == simdjson::SUCCESS && enabled &&
                   told.publisher == "zmq" && !told.events.empty();
    all.push_back(std::move(told));
  }
  std::ranges::sort(all, {}, &SourceTold::rank);
  return all;
}

Result<std::vector<SourceTold>> read_server_info(std::string_view json, const std::string& host) {
  dom::parser parser;
  dom::element root, told;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS || !root.is_object()) {
    return not_json("/server_info");
  }
  std::vector<SourceTold> all;
  if (root["kv_events"].get(told) != simdjson::SUCCESS || !told.is_object()) return all;
  const auto base = number_of(told, "endpoint_port_base");
  if (!base) return all;
  const std::string said = text_of(told, "endpoint_host");
  const auto replay = number_of(told, "replay_endpoint_port_base");
  const auto ranks = std::clamp<std::uint64_t>(number_of(told, "dp_size").value_or(1), 1, kRanksMax);
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    SourceTold one;
    one.rank = rank;
    one.publisher = printable(text_of(told, "publisher"));
    one.topic = printable(text_of(told, "topic"));
    one.events = endpoint_for("tcp://" + said + ":" + std::to_string(*base), rank, host);
    if (replay) one.replay = endpoint_for("tcp://" + said + ":" + std::to_string(*replay), rank, host);
    one.enabled = one.publisher == "zmq" && !one.events.empty();
    all.push_back(std::move(one));
  }
  return all;
}

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
