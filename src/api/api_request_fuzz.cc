// Request bodies: any bytes in, a request or an error out. The scanner is compared with simdjson, and splices must
// parse again into what they promise.
#include <simdjson.h>

#include <string>

#include "api/api.h"
#include "api/json_scan.h"

namespace {

using warmpath::api::JsonScan;

// True when simdjson refuses the text for what our scanner rightly lets pass: numbers it cannot represent.
bool number_trouble(simdjson::error_code code) {
  return code == simdjson::NUMBER_ERROR || code == simdjson::NUMBER_OUT_OF_RANGE || code == simdjson::DEPTH_ERROR;
}

void compare_with_simdjson(std::string_view text) {
  if (text.empty() || warmpath::api::first_bad_utf8(text)) return;
  JsonScan scan(text, JsonScan::kDepthMax);
  scan.skip();
  scan.finish();
  simdjson::dom::parser parser;
  simdjson::dom::element element;
  const auto code = parser.parse(text.data(), text.size()).get(element);
  if (!scan.failed()) WP_CHECK(code == simdjson::SUCCESS || number_trouble(code));
  if (code == simdjson::SUCCESS && scan.failed()) {
    // simdjson 3.0 takes lone low surrogates; nesting has another bound there.
    const std::string_view why = scan.fault();
    WP_CHECK(why.starts_with("lone surrogate") || why == "nested too deeply");
  }
}

// What was made of another API's request is a chat like any other.
void check_converted(const warmpath::api::Request& request) {
  using namespace warmpath::api;
  if (request.converted == nullptr) return;
  std::string body = R"({"messages":)" + std::string(request.messages);
  if (!request.tools.empty()) body += R"(,"tools":)" + std::string(request.tools);
  body += '}';
  RequestLimits limits;
  limits.depth_max *= 2;  // an item not known stands deeper in a chat
  const auto chat = parse_request(Endpoint::kChatCompletions, body, limits);
  WP_CHECK(chat.ok());
  WP_CHECK(chat->messages == request.messages && chat->tools == request.tools);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace warmpath::api;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  compare_with_simdjson(text);
  for (const Endpoint endpoint : endpoints()) {
    const auto request = parse_request(endpoint, text);
    if (!request.ok()) {
      WP_CHECK(!request.error().message.empty());
      WP_CHECK(!first_bad_utf8(error_body(request.error(), {}, error_form_of(endpoint))));
      continue;
    }
    const bool options = takes_stream_options(endpoint);
    const auto usage = options ? UsageSplice::kAdd : UsageSplice::kKeep;
    const std::string out = spliced(text, *request, "some/\"model\"", usage);
    const auto again = parse_request(endpoint, out);
    WP_CHECK(again.ok() && again->model == "some/\"model\"" && again->include_usage == options);
    WP_CHECK(again->messages == request->messages && again->prompts == request->prompts);
    WP_CHECK(spliced(text, *request, std::nullopt, UsageSplice::kKeep) == text);
    check_converted(*request);
  }
  (void)find_usage(text);
  (void)is_usage_only_chunk(text);
  (void)text_of_chunk(text);
  (void)parse_models(text);
  (void)parse_token_ids(text);
  return 0;
}
