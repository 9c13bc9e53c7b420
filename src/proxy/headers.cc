#include "proxy/headers.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace warmpath::proxy {
namespace {

constexpr std::array<std::string_view, 10> kRoutingPrefixes = {
    "x-data-parallel-", "x-prefiller-",   "x-gateway-destination-endpoint",
    "x-kv-cache-",      "x-kv-transfer-", "x-encoder-hosts-ports",
    "x-warmpath-",      "x-forwarded-",   "x-real-ip",
    "forwarded"};

bool is_framing(std::string_view name) {
  return equals_ignoring_case(name, "host") || equals_ignoring_case(name, "content-length") ||
         equals_ignoring_case(name, "transfer-encoding") || equals_ignoring_case(name, "expect");
}

bool is_request_id(std::string_view name) { return equals_ignoring_case(name, "x-request-id"); }

// The sets above are small; most names are ruled out by their first letter.
bool same_folded(char c, char lower) {
  if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (c == '_') c = '-';
  return c == lower;
}

bool has_folded_prefix(std::string_view name, std::string_view prefix) {
  return name.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), name.begin(), [](char want, char c) { return same_folded(c, want); });
}

}  // namespace

bool is_routing_header(std::string_view name) {
  // Asks the simulated engine for its own times; it steers nothing.
  if (equals_ignoring_case(name, "x-warmpath-timing")) return false;
  return std::any_of(kRoutingPrefixes.begin(), kRoutingPrefixes.end(),
                     [name](std::string_view prefix) { return has_folded_prefix(name, prefix); });
}

http::Headers to_engine(const http::Headers& client, std::string_view request_id, std::optional<std::uint32_t> rank) {
  http::Headers kept = client;
  http::remove_hop_by_hop(kept);
  http::Headers out;
  for (const http::Header& header : kept.all()) {
    if (is_framing(header.name) || is_request_id(header.name) || is_routing_header(header.name)) continue;
    if (equals_ignoring_case(header.name, "accept-encoding")) continue;
    out.add(header.name, header.value);
  }
  out.add("x-request-id", std::string(request_id));
  // vLLM 0.32: a rank out of range is a 400, so only ranks that the engine told are sent.
  if (rank) out.add("X-data-parallel-rank", std::to_string(*rank));
  return out;
}

http::Headers to_client(const http::Headers& engine, std::string_view request_id) {
  http::Headers kept = engine;
  http::remove_hop_by_hop(kept);
  http::Headers out;
  for (const http::Header& header : kept.all()) {
    if (is_framing(header.name) || is_request_id(header.name)) continue;
    out.add(header.name, header.value);
  }
  out.add("x-request-id", std::string(request_id));
  return out;
}

bool is_sane_request_id(std::string_view id) {
  constexpr std::size_t kLengthMax = 128;
  return !id.empty() && id.size() <= kLengthMax && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._:/+=@-").find(c) != std::string_view::npos;
  });
}

}  // namespace warmpath::proxy
