#include "ingest/engine_answers.h"

#include <simdjson.h>

#include <algorithm>
#include <map>

namespace warmpath::ingest {
namespace {

constexpr std::size_t kRanksMax = 1'024;
constexpr std::size_t kModelsMax = 4'096;
constexpr std::uint64_t kPortMax = 65'535;

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
  if (!port || *port == 0 || *port > kPortMax - rank) return std::nullopt;
  std::string_view told = rest.substr(0, colon);
  const bool v6_wildcard = told == "::" || told == "[::]";
  // To bind, "::" is more than "*": libzmq takes both families for it.
  if (is_wildcard(told)) return endpoint_text(host == "*" && v6_wildcard ? "::" : host, *port + rank);
  if (told.starts_with('[') && told.ends_with(']')) told = told.substr(1, told.size() - 2);
  return endpoint_text(std::string(told), *port + rank);
}

Result<std::vector<RankTold>> read_event_sources(std::string_view json, const std::string& host) {
  dom::parser parser;
  dom::object root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS) return not_json("/kv_event_sources");
  std::map<std::uint32_t, RankTold> ranks;  // of a rank named twice the first counts
  for (const auto& [key, value] : root) {
    const auto rank = parse_u64(key);
    if (!rank || *rank >= kRanksMax || !value.is_object()) continue;
    RankTold told;
    told.rank = static_cast<std::uint32_t>(*rank);
    told.publisher = text_of(value, "publisher");
    told.events = rank_endpoint(text_of(value, "endpoint"), 0, host).value_or("");
    told.replay = rank_endpoint(text_of(value, "replay_endpoint"), 0, host).value_or("");
    told.topic = text_of(value, "topic");
    bool enabled = false;
    told.enabled = value["enable_kv_cache_events"].get(enabled) == simdjson::SUCCESS && enabled &&
                   told.publisher == "zmq" && !told.events.empty();
    ranks.emplace(told.rank, std::move(told));
  }
  std::vector<RankTold> out;
  out.reserve(ranks.size());
  for (auto& [rank, told] : ranks) out.push_back(std::move(told));
  return out;
}

Result<ServerTold> read_server_info(std::string_view json, const std::string& host) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json.data(), json.size()).get(root) != simdjson::SUCCESS || !root.is_object()) {
    return not_json("/server_info");
  }
  ServerTold info;
  dom::element told;
  if (root["kv_events"].get(told) != simdjson::SUCCESS || !told.is_object()) return info;
  const std::string said = text_of(told, "endpoint_host");
  const std::string where = is_wildcard(said) ? host : said;
  const std::uint64_t ranks = std::clamp<std::uint64_t>(number_of(told, "dp_size").value_or(1), 1, kRanksMax);
  // A port of 0 is none; ranks whose port would lie beyond the last one have none.
  const auto port_of = [&](const char* base, std::uint64_t rank) -> std::optional<std::uint64_t> {
    const auto port = number_of(told, base);
    if (!port || *port == 0 || *port > kPortMax - rank) return std::nullopt;
    return *port + rank;
  };
  for (std::uint64_t rank = 0; rank < ranks; ++rank) {
    const auto id = static_cast<std::uint32_t>(rank);
    if (const auto port = port_of("load_endpoint_port_base", rank)) {
      info.loads[id] = {endpoint_text(where, *port), text_of(told, "load_topic")};
    }
    const auto events = port_of("endpoint_port_base", rank);
    if (!events) continue;
    RankTold one{.rank = id, .publisher = text_of(told, "publisher"), .events = endpoint_text(where, *events)};
    if (const auto replay = port_of("replay_endpoint_port_base", rank)) one.replay = endpoint_text(where, *replay);
    one.topic = text_of(told, "topic");
    one.enabled = one.publisher == "zmq";
    info.ranks.push_back(std::move(one));
  }
  if (const auto block = number_of(told, "block_size"); block && *block >= 1 && *block <= (1u << 20)) {
    info.block_tokens = static_cast<std::uint32_t>(*block);
  }
  return info;
}

Result<std::vector<ServedModel>> read_served_models(std::string_view json) {
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
