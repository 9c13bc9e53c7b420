// Server-sent events: the same events whole and in pieces, and never more kept than the bound.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/sse.h"

namespace {

struct Outcome {
  std::vector<std::string> events;
  bool refused = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run(std::string_view bytes, std::uint64_t pieces) {
  constexpr std::size_t kMax = 512;
  warmpath::http::SseParser parser(kMax);
  Outcome outcome;
  while (!bytes.empty() && !outcome.refused) {
    const std::size_t size = pieces == 0 ? bytes.size() : 1 + (pieces & 15);
    pieces = (pieces >> 4) | (pieces << 60);
    const auto fed = parser.feed(bytes.substr(0, size), [&](std::string_view data) {
      WP_CHECK(data.size() <= kMax);
      outcome.events.emplace_back(data);
    });
    outcome.refused = !fed.ok();
    bytes.remove_prefix(std::min(size, bytes.size()));
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 8) return 0;
  std::uint64_t pieces = 0;
  for (int i = 0; i < 8; ++i) pieces = pieces << 8 | data[i];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 8, size - 8);
  WP_CHECK(run(bytes, 0) == run(bytes, pieces | 1));
  return 0;
}
