#include "http/client.h"

namespace warmpath::http {

std::string Url::host_header() const {
  const bool v6 = host.find(':') != std::string::npos;
  const bool usual = port == (tls ? 443 : 80);
  return (v6 ? "[" + host + "]" : host) + (usual ? "" : ":" + std::to_string(port));
}

std::string Url::text() const { return (tls ? "https://" : "http://") + host_header() + path; }

Result<Url> parse_url(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return Error{ErrorKind::kInvalid,
                 "'" + std::string(text) + "' is not a URL such as http://host:8000: " + std::string(why)};
  };
  Url url;
  std::string_view rest = text;
  if (rest.starts_with("https://")) {
    url.tls = true;
    url.port = 443;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return wrong("it has to begin with http:// or https://");
  }
  for (const char c : rest) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return wrong("white space or a control character");
  }
  const auto slash = rest.find('/');
  std::string_view authority = rest.substr(0, slash);
  if (slash != std::string_view::npos) url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  if (url.path.find_first_of("?#") != std::string::npos) return wrong("a query or fragment has no place here");
  if (authority.find('@') != std::string_view::npos) return wrong("credentials have no place here");
  std::string_view port;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return wrong("a [ without ]");
    url.host = authority.substr(1, close - 1);
    port = authority.substr(close + 1);
    if (!port.empty() && port[0] != ':') return wrong("after ] comes :port");
    if (!port.empty()) port.remove_prefix(1);
    if (url.host.find_first_not_of("0123456789abcdefABCDEF:.%") != std::string::npos) return wrong("not an IPv6 address");
  } else {
    const auto colon = authority.find(':');
    url.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) port = authority.substr(colon + 1);
    if (colon != std::string_view::npos && port.empty()) return wrong("no port after the colon");
    if (url.host.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_") != std::string::npos) {
      return wrong("the host has characters that are not allowed");
    }
  }
  if (url.host.empty()) return wrong("no host");
  if (!port.empty()) {
    const auto number = parse_u64(port);
    if (!number || *number == 0 || *number > 65'535) return wrong("the port is a number from 1 to 65535");
    url.port = static_cast<std::uint16_t>(*number);
  }
  return url;
}

}  // namespace warmpath::http
