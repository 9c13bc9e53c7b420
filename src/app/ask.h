// One question to one URL over HTTP, for commands that talk to a running gateway.
#pragma once

#include <string>
#include <string_view>

#include "base/base.h"

namespace warmpath::app {

// The body of a 200. `url` is "http://host:port"; `target` begins with '/'; an empty `body` is a GET, else a POST.
// Errors: kInvalid for the URL; kUnavailable when nobody answers; kUpstream for another status, with what was answered.
Result<std::string> ask(std::string_view url, std::string_view target, std::string_view body);

// For a query string.
std::string percent_encoded(std::string_view text);

}  // namespace warmpath::app
