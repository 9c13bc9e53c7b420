#include "ingest/discovery.h"

#include <simdjson.h>

namespace warmpath::ingest {
namespace {

constexpr std::size_t kRanksMax = 1'024;
constexpr std::size_t kModelsMax = 4'096;

namespace dom = simdjson::dom;

std::string text_of(const dom::element& object, const char* key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS ? std::string(text) : std::string();
}

std::optional<std::uint64_t> number_of(const dom::element& object, const char* key) {
  std::uint64_t number = 0;
  if (object[key].get(number) != simdjson::SUCCESS) return std::nullopt;
  return number;
}

Error not_json(std::string_view what) {
  return {ErrorKind::kUpstream, std::string(what) + " is not the JSON expected"};
}

std::string endpoint_text(const std::string& host, std::uint64_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return "tcp://" + (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool is_wildcard(std::string_view host) {
  return host.empty() || host == "*" || host == "0.0.0.0" || host == "::" || host == "[::]";
}

}  // namespace

std::optional<std::string> rank_endpoint(std::string_view endpoint, std::uint32_t rank, const std::string& host) {
  if (!endpoint.starts_with("tcp://")) return std::nullopt;
  const std::string_view rest = endpoint.substr(6);
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = parse_u64(rest.substr(colon + 1));
  if (!port || *port == 0 || *port + rank > 65'535) return std::nullopt;
  std::string_view told = rest.substr(0, colon);
  const bool v6_wildcard = told == "::" || told == "[::]";
  // To bind, "::" is more than "*": libzmq takes both families for it.
  if (is_wildcard(told)) return endpoint_text(host == "*" && v6_wildcard ? "::" : host, *port + rank);
  if (told.starts_with('[') && told.ends_with(']')) told = told.substr(1, told.size() - 2);
  return endpoint_text(std::string(told), *port + rank);
}

Result<std::map<std::uint32_t, RankSource>> parse_event_sources(std::string_view json, const std::string& host) {
  dom::parser parser;
  dom::object root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return not_json("/kv_event_sources");
  std::map<std::uint32_t, RankSource> sources;
  for (const auto& [key, value] : root) {
    const auto rank = parse_u64(key);
    if (!rank || *rank >= kRanksMax || !value.is_object()) continue;
    bool enabled = false;
    if (value["enable_kv_cache_events"].get(enabled) != simdjson::SUCCESS || !enabled) continue;
    if (text_of(value, "publisher") != "zmq") continue;
    // Each rank tells its own ports: nothing is added to them.
    const auto events = rank_endpoint(text_of(value, "endpoint"), 0, host);
    if (!events) continue;
    RankSource source;
    source.events = *events;
    source.replay = rank_endpoint(text_of(value, "replay_endpoint"), 0, host).value_or("");
    source.topic = text_of(value, "topic");
    sources.emplace(static_cast<std::uint32_t>(*rank), std::move(source));
  }
  return sources;
}

Result<ServerInfo> parse_server_info(std::string_view json, const std::string& host) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS || !root.is_object()) {
    return not_json("/server_info");
  }
  ServerInfo info;
  dom::element told;
  if (root["kv_events"].get(told) != simdjson::SUCCESS || !told.is_object()) return info;
  const std::string said = text_of(told, "endpoint_host");
  const std::string where = is_wildcard(said) ? host : said;
  const std::uint64_t ranks = std::min<std::uint64_t>(number_of(told, "dp_size").value_or(1), kRanksMax);
  if (const auto load = number_of(told, "load_endpoint_port_base"); load && *load != 0) {
    const std::string topic = text_of(told, "load_topic");
    for (std::uint64_t rank = 0; rank < std::max<std::uint64_t>(ranks, 1) && *load + rank <= 65'535; ++rank) {
      info.loads[static_cast<std::uint32_t>(rank)] = {endpoint_text(where, *load + rank), topic};
    }
  }
  const auto base = number_of(told, "endpoint_port_base");
  if (!base || *base == 0 || text_of(told, "publisher") != "zmq") return info;
  const auto replay = number_of(told, "replay_endpoint_port_base");
  for (std::uint64_t rank = 0; rank < std::max<std::uint64_t>(ranks, 1) && *base + rank <= 65'535; ++rank) {
    RankSource source;
    source.events = endpoint_text(where, *base + rank);
    if (replay && *replay != 0 && *replay + rank <= 65'535) source.replay = endpoint_text(where, *replay + rank);
    source.topic = text_of(told, "topic");
    info.sources.emplace(static_cast<std::uint32_t>(rank), std::move(source));
  }
  if (const auto block = number_of(told, "block_size"); block && *block >= 1 && *block <= (1u << 20)) {
    info.block_tokens = static_cast<std::uint32_t>(*block);
  }
  return info;
}

Result<std::vector<ServedModel>> parse_served_models(std::string_view json) {
  dom::parser parser;
  dom::element root;
  dom::array list;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS ||
      root["data"].get(list) != simdjson::SUCCESS) {
    return not_json("/v1/models");
  }
  std::vector<ServedModel> models;
  for (const dom::element one : list) {
    if (!one.is_object() || models.size() >= kModelsMax) continue;
    ServedModel model;
    model.id = text_of(one, "id");
    model.root = text_of(one, "root");
    if (const std::string parent = text_of(one, "parent"); !parent.empty()) model.parent = parent;
    model.max_model_len = number_of(one, "max_model_len");
    if (!model.id.empty()) models.push_back(std::move(model));
  }
  return models;
}

}  // namespace warmpath::ingest
