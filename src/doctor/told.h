// What an engine's answers say: JSON of the outside world into words of ours. Private to doctor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "doctor/evidence.h"

namespace warmpath::doctor {

// GET /kv_event_sources (vLLM 0.32 and newer), disabled ranks included; `host` stands for a wildcard.
Result<std::vector<SourceTold>> read_event_sources(std::string_view json, const std::string& host);
// GET /server_info (SGLang); empty without kv_events.
Result<std::vector<SourceTold>> read_server_info(std::string_view json, const std::string& host);
// "tcp://HOST:PORT" for rank r: the port plus r, the host in place of a wildcard; empty: not of that form.
std::string endpoint_for(std::string_view endpoint, std::uint32_t rank, const std::string& host);
// The message of an error answer, cut to a line; the status where there is none.
std::string read_refusal(int status, std::string_view json);
// An engine's own words as they may be shown: what is not printable ASCII becomes '?'; at most 128 characters.
std::string printable(std::string_view text);
std::string read_version(std::string_view json);

}  // namespace warmpath::doctor
