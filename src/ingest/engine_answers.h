// What engines say of themselves, as JSON over HTTP. Part of ingest's door.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace warmpath::ingest {

// Where one rank says that its KV events are: ZMQ addresses, hosts filled in.
struct RankTold {
  std::uint32_t rank = 0;
  bool enabled = false;  // on, over ZMQ and at an address that can be followed
  std::string publisher;
  std::string events;  // empty: not tcp://host:port
  std::string replay;  // empty: none
  std::string topic;   // empty: all
};

// Where one rank pushes its load.
struct LoadSource {
  std::string endpoint;
  std::string topic;
  friend bool operator==(const LoadSource&, const LoadSource&) = default;
};

// GET /kv_event_sources (vLLM 0.32 and newer), sorted by rank, those that are off included; `host` replaces a wildcard.
// Each rank tells its own ports. At most 1,024 ranks; others and what is no object are left out.
Result<std::vector<RankTold>> read_event_sources(std::string_view json, const std::string& host);

// GET /server_info (SGLang 0.5.23) -> kv_events: base ports plus rank; all empty when it has none.
struct ServerTold {
  std::vector<RankTold> ranks;
  std::map<std::uint32_t, LoadSource> loads;
  std::optional<std::uint32_t> block_tokens;
};
Result<ServerTold> read_server_info(std::string_view json, const std::string& host);

// A model name that an engine answers to.
struct ServedModel {
  std::string id;
  std::string root;
  std::optional<std::string> parent;  // an adapter's base model
  std::optional<std::uint64_t> max_model_len;
};
// GET /v1/models; at most 4,096, those without an id left out.
Result<std::vector<ServedModel>> read_served_models(std::string_view json);

// "tcp://host:port" of rank 0 -> that of rank r; a wildcard host becomes `host` ("*" keeps it one). nullopt: not of
// that form, or no such port.
std::optional<std::string> rank_endpoint(std::string_view endpoint, std::uint32_t rank, const std::string& host);

}  // namespace warmpath::ingest
