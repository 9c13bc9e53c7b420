#include "http/message.h"

#include <algorithm>
#include <array>

namespace warmpath::http {

void Headers::add(std::string name, std::string value) { all_.push_back({std::move(name), std::move(value)}); }

void Headers::set(std::string_view name, std::string value) {
  remove(name);
  all_.push_back({std::string(name), std::move(value)});
}

void Headers::remove(std::string_view name) {
  std::erase_if(all_, [&](const Header& header) { return equals_ignoring_case(header.name, name); });
}

const std::string* Headers::find(std::string_view name) const {
  for (const Header& header : all_) {
    if (equals_ignoring_case(header.name, name)) return &header.value;
  }
  return nullptr;
}

std::size_t Headers::count(std::string_view name) const {
  return static_cast<std::size_t>(std::count_if(
      all_.begin(), all_.end(), [&](const Header& header) { return equals_ignoring_case(header.name, name); }));
}

std::string_view RequestHead::path() const { return std::string_view(target).substr(0, target.find('?')); }

std::string_view RequestHead::query() const {
  const auto at = target.find('?');
  return at == std::string::npos ? std::string_view{} : std::string_view(target).substr(at + 1);
}

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  for (const std::string_view part : split(query, '&')) {
    const auto equals = part.find('=');
    if (part.substr(0, equals) != name) continue;
    const std::string_view raw = equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1);
    std::string value;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] == '%' && i + 2 < raw.size()) {
        if (const auto byte = from_hex(raw.substr(i + 1, 2))) {
          value += static_cast<char>((*byte)[0]);
          i += 2;
          continue;
        }
      }
      value += raw[i] == '+' ? ' ' : raw[i];
    }
    return value;
  }
  return std::nullopt;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100: return "Continue";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "";
  }
}

bool is_hop_by_hop(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kNames{"connection",          "keep-alive",         "proxy-connection",
                                                          "proxy-authenticate",  "proxy-authorization", "te",
                                                          "trailer",             "transfer-encoding",  "upgrade"};
  return std::any_of(kNames.begin(), kNames.end(), [&](std::string_view one) { return equals_ignoring_case(one, name); });
}

void remove_hop_by_hop(Headers& headers) {
  std::vector<std::string> named;
  for (const Header& header : headers.all()) {
    if (!equals_ignoring_case(header.name, "connection")) continue;
    for (const std::string_view token : split(header.value, ',')) named.emplace_back(trim(token));
  }
  std::vector<std::string> drop;
  for (const Header& header : headers.all()) {
    const bool by_connection =
        std::any_of(named.begin(), named.end(), [&](const std::string& n) { return equals_ignoring_case(n, header.name); });
    if (by_connection || is_hop_by_hop(header.name)) drop.push_back(header.name);
  }
  for (const std::string& name : drop) headers.remove(name);
}

}  // namespace warmpath::http
