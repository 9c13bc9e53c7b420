// parse_trace on any bytes: an error or rows that make requests.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "workload/workload.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto rows = warmpath::workload::parse_trace({reinterpret_cast<const char*>(bytes), size});
  if (rows.ok()) {
    for (const auto& row : *rows) WP_CHECK(!row.hash_ids.empty());
  }
  return 0;
}
