// Ways to read a chat's body, to be timed beside api::parse_request. Each reads what that reads of it: the model, whether
// it streams, and of each message where its role and its content are. On demand simdjson does not check what it skips, and
// compiles for the machine that the compiler was told of: x86-64 without AVX2. Its DOM parser chooses when it runs.
// They return a number that depends on all they read, so that nothing of it can be left out.
#pragma once

#include <cstddef>
#include <string>

namespace warmpath::bench {

// `body` has simdjson::SIMDJSON_PADDING bytes of capacity behind its end.
std::size_t read_on_demand(const std::string& body);
// The same, and every content unescaped.
std::size_t read_on_demand_unescaped(const std::string& body);
std::size_t read_dom(const std::string& body);
// With room behind it, as the above need it.
std::string padded(const std::string& body);

}  // namespace warmpath::bench
