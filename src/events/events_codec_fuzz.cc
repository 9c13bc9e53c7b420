// Any bytes: decoding never crashes and stays within its limits; what it keeps survives being encoded and decoded.
#include <cstddef>
#include <cstdint>

#include "events/events.h"

using warmpath::events::Batch;
using warmpath::events::Encoding;

namespace {

// Arrays have no place for these.
void drop_map_only_fields(Batch& batch) {
  for (auto& event : batch.events) {
    if (auto* stored = std::get_if<warmpath::blocks::BlockStored>(&event)) {
      stored->locality.reset();
      stored->ownership.reset();
      stored->session_id.reset();
      stored->cache_salt.reset();
      stored->lookahead_token_ids.reset();
    } else if (auto* removed = std::get_if<warmpath::blocks::BlockRemoved>(&event)) {
      removed->locality.reset();
      removed->ownership.reset();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto first = warmpath::events::decode_batch({data, size}, {.decoded_bytes_max = 16u << 20});
  if (!first.ok()) return 0;
  Batch batch = *first;
  WP_CHECK(batch.events.size() + batch.events_unknown + batch.events_malformed <= size);
  warmpath::JsonWriter json;
  warmpath::events::write_json(json, batch);
  for (const Encoding encoding : {Encoding::kMaps, Encoding::kArrays}) {
    if (encoding == Encoding::kArrays) drop_map_only_fields(batch);
    const auto again = warmpath::events::decode_batch(warmpath::events::encode_batch(batch, encoding));
    WP_CHECK(again.ok());
    WP_CHECK(again->events == batch.events && again->rank == batch.rank);
    WP_CHECK(again->events_malformed == 0 && again->events_unknown == 0);
  }
  return 0;
}
