#include "app/ask.h"

#include <simdjson.h>

#include <algorithm>
#include <optional>

#include "http/http.h"
#include "io/io.h"

namespace warmpath::app {
namespace {

constexpr Duration kResolveTimeout = std::chrono::seconds(5);
constexpr Duration kAnswerTimeout = std::chrono::seconds(30);
constexpr std::size_t kAnswerBytesMax = 64u << 20;

// The message of an error in OpenAI's form, else the beginning of what was said.
std::string message_of(const std::string& body) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  std::string_view message;
  if (parser.parse(body).get(root) == simdjson::SUCCESS && root["error"]["message"].get(message) == simdjson::SUCCESS) {
    return std::string(message);
  }
  constexpr std::size_t kShown = 200;
  return body.substr(0, kShown);
}

}  // namespace

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.' || c == '~';
    if (plain) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += {'%', "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
  }
  return out;
}

Result<std::string> ask(std::string_view url, std::string_view target, std::string_view body) {
  auto parsed = http::parse_url(url);
  if (!parsed.ok()) return Error{ErrorKind::kInvalid, parsed.error().message};
  if (parsed->tls) return Error{ErrorKind::kInvalid, std::string(url) + ": the admin listener speaks plain http"};
  io::Loop loop;
  const auto client = http::HttpClient::create(loop, {.whole_body_bytes_max = kAnswerBytesMax});
  std::optional<Result<http::HttpClient::Whole>> answer;
  std::unique_ptr<http::ClientCall> call;
  const auto resolving =
      io::resolve(loop, parsed->host, parsed->port, kResolveTimeout, [&](Result<std::vector<io::Address>> found) {
        if (!found.ok() || found->empty()) {
          answer.emplace(found.ok() ? Error{ErrorKind::kUnavailable, "the name has no address"} : found.error());
          return loop.stop();
        }
        http::ClientRequest request;
        request.method = body.empty() ? "GET" : "POST";
        request.target = parsed->path + std::string(target);
        if (!body.empty()) request.body = std::make_shared<const std::string>(body);
        if (!body.empty()) request.headers.add("content-type", "application/json");
        call = client->fetch({found->front(), parsed->host_header(), nullptr}, std::move(request), kAnswerTimeout,
                             [&](Result<http::HttpClient::Whole> got) {
                               answer.emplace(std::move(got));
                               loop.stop();
                             });
      });
  loop.run();
  const std::string where(url);
  if (!answer->ok()) {
    return Error{ErrorKind::kUnavailable, where + ": " + answer->error().message +
                                              "; is a gateway running there (warmpath serve, --admin-listen)?"};
  }
  http::HttpClient::Whole& whole = **answer;
  if (whole.head.status == 200) return std::move(whole.body);
  return Error{ErrorKind::kUpstream,
               where + " answers " + std::to_string(whole.head.status) + ": " + message_of(whole.body)};
}

}  // namespace warmpath::app
