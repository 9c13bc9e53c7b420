// Private to ingest: what engines say of themselves.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "ingest/ingest.h"

namespace warmpath::ingest {

// Where one rank's events are: ZMQ addresses, hosts filled in.
struct RankSource {
  std::string events;
  std::string replay;  // empty: none
  std::string topic;   // empty: all
  EventSource::Side side = EventSource::Side::kConnect;
  friend bool operator==(const RankSource&, const RankSource&) = default;
};

// vLLM 0.32 GET /kv_event_sources. A rank whose events are off is left out; `host` replaces a wildcard.
Result<std::map<std::uint32_t, RankSource>> parse_event_sources(std::string_view json, const std::string& host);
// Where one rank pushes its load.
struct LoadSource {
  std::string endpoint;
  std::string topic;
  friend bool operator==(const LoadSource&, const LoadSource&) = default;
};

// SGLang GET /server_info -> kv_events: base ports plus rank; empty when it has none.
struct ServerInfo {
  std::map<std::uint32_t, RankSource> sources;
  std::map<std::uint32_t, LoadSource> loads;
  std::optional<std::uint32_t> block_tokens;
};
Result<ServerInfo> parse_server_info(std::string_view json, const std::string& host);
Result<std::vector<ServedModel>> parse_served_models(std::string_view json);

// "tcp://host:port" of rank 0 -> that of rank r; a wildcard host becomes `host` ("*" keeps it one). nullopt: not of
// that form, or no such port.
std::optional<std::string> rank_endpoint(std::string_view endpoint, std::uint32_t rank, const std::string& host);

}  // namespace warmpath::ingest
