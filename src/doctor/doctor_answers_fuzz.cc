// Whatever an engine answers to doctor.
#include <cstdint>
#include <string>

#include "base/base.h"
#include "doctor/told.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string refusal = doctor::read_refusal(400, text);
  WP_CHECK(refusal.starts_with("400") && refusal.size() < 300 && refusal.find('\n') == std::string::npos);
  WP_CHECK(doctor::read_version(text).size() <= 128 && doctor::printable(text).size() <= 128);
  return 0;
}
