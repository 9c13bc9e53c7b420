#include "base/result.h"

namespace warmpath {

std::string_view error_kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid: return "invalid";
    case ErrorKind::kUnauthorized: return "unauthorized";
    case ErrorKind::kForbidden: return "forbidden";
    case ErrorKind::kNotFound: return "not_found";
    case ErrorKind::kMethod: return "method_not_allowed";
    case ErrorKind::kTimeoutClient: return "client_timeout";
    case ErrorKind::kConflict: return "conflict";
    case ErrorKind::kTooLarge: return "too_large";
    case ErrorKind::kHeadTooLarge: return "head_too_large";
    case ErrorKind::kExhausted: return "exhausted";
    case ErrorKind::kCancelled: return "cancelled";
    case ErrorKind::kInternal: return "internal";
    case ErrorKind::kUnsupported: return "unsupported";
    case ErrorKind::kUpstream: return "upstream";
    case ErrorKind::kUnavailable: return "unavailable";
    case ErrorKind::kTimeoutEngine: return "engine_timeout";
  }
  return "internal";
}

}  // namespace warmpath
