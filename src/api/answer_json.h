// What writers of answers share. Private to api.
#pragma once

#include <string>
#include <string_view>

#include "api/api.h"

namespace warmpath::api {

// OpenAI's `usage`, key and value.
void write_usage(JsonWriter& json, const Usage& usage);
// Closes the outermost object behind `extra`, a run of members without braces: "\"a\":1,\"b\":2".
std::string close_with(JsonWriter& json, std::string_view extra);

}  // namespace warmpath::api
