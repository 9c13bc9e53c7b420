// One msgpack payload <-> one batch of KV events.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/base.h"
#include "blocks/kv_event.h"

namespace warmpath::events {

// One payload. `rank` is the data-parallel rank as sent.
struct Batch {
  double ts = 0;  // the engine's unix seconds: informative only
  std::vector<blocks::KvEvent> events;
  std::optional<std::uint32_t> rank;
  // Events of an unknown type or with a field of the wrong kind: skipped one by one, and unknown fields inside known
  // events. A batch with malformed events has lost content: the Follower treats it as a gap.
  std::uint32_t events_unknown = 0;
  std::uint32_t events_malformed = 0;
};

// Bounds on one payload, against hostile lengths: nothing is allocated by a claimed length.
struct DecodeLimits {
  std::size_t payload_bytes_max = 64u << 20;
  std::uint32_t depth_max = 16;
};

// Accepts [ts, events, rank?] with trailing fields ignored, tagged arrays and maps, integers of every width and sign,
// hashes as integers or bytes. Error kInvalid with the byte position when the batch itself is broken.
// Cost: one pass, one copy of what is kept.
Result<Batch> decode_batch(std::span<const std::uint8_t> payload, const DecodeLimits& limits = {});

// vLLM >= 0.24 sends maps with "type", older ones tagged arrays.
enum class Encoding : std::uint8_t { kMaps, kArrays };
// What the engine of that encoding would send: integers in their smallest form, optional fields omitted as it does.
std::vector<std::uint8_t> encode_batch(const Batch& batch, Encoding encoding);

}  // namespace warmpath::events
