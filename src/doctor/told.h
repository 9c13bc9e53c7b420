// What an engine's answers say, as it may be shown. Private to doctor.
#pragma once

#include <string>
#include <string_view>

namespace warmpath::doctor {

// The message of an error answer, cut to a line; the status where there is none.
std::string read_refusal(int status, std::string_view json);
// An engine's own words as they may be shown: what is not printable ASCII becomes '?'; at most 128 characters.
std::string printable(std::string_view text);
std::string read_version(std::string_view json);

}  // namespace warmpath::doctor
