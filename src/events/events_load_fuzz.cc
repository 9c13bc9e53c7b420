// Any bytes as a load gauge: what is taken says the same when read again, nothing else happens.
#include <cstddef>
#include <cstdint>

#include "events/events.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto stat = warmpath::events::decode_load({data, size});
  if (!stat.ok()) return 0;
  const auto again = warmpath::events::decode_load({data, size});
  WP_CHECK(again.ok() && *again == *stat);
  return 0;
}
