// Which headers pass, in both directions. Private to proxy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/http.h"

namespace warmpath::proxy {

// True for headers that steer routing here or in engines, which a client may not set: data-parallel rank, prefill and
// encode addresses, KV transfer, destination overrides, our own, and forwarding claims that nobody here can prove.
// '_' counts as '-': some servers take the one for the other.
bool is_routing_header(std::string_view name);

// What the engine sees: the client's headers without hop-by-hop, framing, routing and Accept-Encoding (answers are read
// on their way); x-request-id and, when set, the rank.
http::Headers to_engine(const http::Headers& client, std::string_view request_id, std::optional<std::uint32_t> rank);
// What the client sees: the engine's headers without hop-by-hop and framing, with x-request-id.
http::Headers to_client(const http::Headers& engine, std::string_view request_id);

// A client's x-request-id is taken when it is 1 to 128 characters of [A-Za-z0-9._:/+=@-]; it goes into logs.
bool is_sane_request_id(std::string_view id);

}  // namespace warmpath::proxy
