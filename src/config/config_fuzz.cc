// Any bytes as a configuration file and as an --engine: faults or a checked configuration, never a crash.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "config/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  config::GatewayConfig out;
  const auto faults = config::read_gateway_yaml(text, "fuzz.yaml", {}, out);
  WP_CHECK(faults.size() <= config::kFaultsMax + 1);
  if (faults.empty()) {
    WP_CHECK(!out.pools.empty());
    for (const auto& pool : out.pools) {
      WP_CHECK(!pool.engines.empty());
      for (const auto& engine : pool.engines) WP_CHECK(engine.url.starts_with("http"));
    }
  }
  for (const auto& fault : faults) WP_CHECK(!fault.message.empty());
  if (const auto engine = config::parse_engine(text); engine.ok()) {
    WP_CHECK(!engine->url.empty());
  } else {
    WP_CHECK(!engine.error().message.empty());
  }
  return 0;
}
