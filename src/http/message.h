// Heads of requests and responses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace warmpath::http {

struct Header {
  std::string name;  // as received; compared ignoring ASCII case
  std::string value;
};

class Headers {
 public:
  void add(std::string name, std::string value);
  void reserve(std::size_t count) { all_.reserve(count); }
  void set(std::string_view name, std::string value);  // replaces all of that name
  void remove(std::string_view name);
  const std::string* find(std::string_view name) const;  // first
  std::size_t count(std::string_view name) const;
  const std::vector<Header>& all() const { return all_; }

 private:
  std::vector<Header> all_;
};

struct RequestHead {
  std::string method;
  std::string target;  // as sent
  int minor = 1;       // HTTP/1.minor
  Headers headers;
  std::string_view path() const;   // target up to '?'
  std::string_view query() const;  // after '?'; empty without
};
// Percent-decoded value of `name` in a query string.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

struct ResponseHead {
  int status = 200;
  std::string reason;
  int minor = 1;
  Headers headers;
};
std::string_view reason_phrase(int status);

// Hop-by-hop headers (RFC 9110 §7.6.1) and those named by Connection: never forwarded.
bool is_hop_by_hop(std::string_view name);
void remove_hop_by_hop(Headers& headers);

struct Limits {
  std::size_t head_bytes_max = 32u << 10;
  std::size_t headers_max = 100;
  std::size_t body_bytes_max = 16u << 20;
  std::size_t connections_max = 10'000;              // a listener
  std::size_t requests_per_connection_max = 100'000;
  Duration head_timeout = std::chrono::seconds(10);  // whole head, not between bytes
  Duration body_timeout = std::chrono::seconds(60);  // whole body
  Duration keep_alive = std::chrono::seconds(75);    // idle between requests
  Duration write_stall = std::chrono::seconds(60);   // a client that reads nothing
};

}  // namespace warmpath::http
