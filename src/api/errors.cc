// The one place where an ErrorKind becomes an HTTP status.
#include "api/api.h"
#include "api/json_scan.h"

namespace warmpath::api {
namespace {

struct Row {
  ErrorKind kind;
  int status;
  std::string_view type;
  bool retryable;
};

constexpr std::string_view kBadRequest = "invalid_request_error";
constexpr std::string_view kServer = "server_error";

constexpr Row kRows[] = {
    {ErrorKind::kInvalid, 400, kBadRequest, false},
    {ErrorKind::kUnauthorized, 401, "authentication_error", false},
    {ErrorKind::kForbidden, 403, "permission_error", false},
    {ErrorKind::kNotFound, 404, "not_found_error", false},
    {ErrorKind::kMethod, 405, kBadRequest, false},
    {ErrorKind::kTimeoutClient, 408, "timeout_error", true},
    {ErrorKind::kConflict, 409, "conflict_error", false},
    {ErrorKind::kTooLarge, 413, kBadRequest, false},
    {ErrorKind::kHeadTooLarge, 431, kBadRequest, false},
    {ErrorKind::kExhausted, 429, "rate_limit_error", true},
    {ErrorKind::kCancelled, 499, "cancelled_error", false},
    {ErrorKind::kInternal, 500, kServer, false},
    {ErrorKind::kUnsupported, 501, kBadRequest, false},
    {ErrorKind::kUpstream, 502, kServer, true},
    {ErrorKind::kUnavailable, 503, "service_unavailable_error", true},
    {ErrorKind::kTimeoutEngine, 504, "timeout_error", true},
};

// Messages may quote a client's bytes; JSON must stay UTF-8.
std::string clean(std::string_view text) {
  std::string out(text);
  while (const auto bad = first_bad_utf8(out)) out[*bad] = '?';
  return out;
}

void write_param(JsonWriter& json, std::string_view param) {
  json.key("param");
  if (param.empty()) {
    json.null();
  } else {
    json.value(param);
  }
}

// The names that its clients know.
std::string_view anthropic_type(const StatusRow& row) {
  if (row.status == 413) return "request_too_large";
  if (row.status == 503) return "overloaded_error";
  return row.type == kServer ? "api_error" : row.type;
}

}  // namespace

StatusRow status_of(ErrorKind kind) {
  for (const Row& row : kRows) {
    if (row.kind == kind) return {row.status, row.type, error_kind_name(kind), row.retryable};
  }
  return {500, kServer, error_kind_name(ErrorKind::kInternal), false};
}

std::string error_body(const Error& error, std::string_view param, ErrorForm form) {
  const StatusRow row = status_of(error.kind);
  JsonWriter json;
  if (form == ErrorForm::kAnthropic) {
    json.object().member("type", "error").key("error").object();
    json.member("type", anthropic_type(row)).member("message", clean(error.message)).end().end();
    return json.take();
  }
  json.object().key("error").object();
  json.member("message", clean(error.message)).member("type", row.type);
  write_param(json, param);
  json.member("code", row.code).end().end();
  return json.take();
}

std::string error_event(const Error& error, ErrorForm form, std::uint64_t events_before) {
  if (form == ErrorForm::kOpenAi) return "data: " + error_body(error) + "\n\n";
  if (form == ErrorForm::kAnthropic) return "event: error\ndata: " + error_body(error, {}, form) + "\n\n";
  JsonWriter json;
  json.object().member("type", "error").member("code", status_of(error.kind).code);
  json.member("message", clean(error.message));
  write_param(json, {});
  json.member("sequence_number", events_before).end();
  return "event: error\ndata: " + json.take() + "\n\n";
}

}  // namespace warmpath::api
