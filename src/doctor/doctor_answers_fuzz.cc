// Whatever an engine answers to doctor.
#include <cstdint>
#include <string>

#include "doctor/told.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto sane = [](const std::vector<doctor::SourceTold>& all) {
    for (const doctor::SourceTold& one : all) WP_CHECK(!one.enabled || one.events.starts_with("tcp://"));
  };
  if (const auto told = doctor::read_event_sources(text, "fd00::7"); told.ok()) sane(*told);
  if (const auto told = doctor::read_server_info(text, "10.0.0.7"); told.ok()) sane(*told);
  const std::string refusal = doctor::read_refusal(400, text);
  WP_CHECK(refusal.starts_with("400") && refusal.size() < 300 && refusal.find('\n') == std::string::npos);
  WP_CHECK(doctor::read_version(text).size() <= 128 && doctor::printable(text).size() <= 128);
  (void)doctor::endpoint_for(text, 3, "h");
  return 0;
}
