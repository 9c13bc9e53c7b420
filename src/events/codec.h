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
  // Events of an unknown type and events with a field of the wrong kind: skipped one by one. Unknown fields of known
  // events are skipped without a count. A batch with malformed events has lost content: the Follower treats it as a gap.
  std::uint32_t events_unknown = 0;
  std::uint32_t events_malformed = 0;
};

// Bounds on one payload, against hostile lengths: nothing is allocated by a claimed length.
struct DecodeLimits {
  std::size_t payload_bytes_max = 64u << 20;
  std::uint32_t depth_max = 16;
  // Memory of the decoded batch: small payloads of many tiny events unfold to about 30 times their size.
  std::size_t decoded_bytes_max = 256u << 20;
};

// Accepts [ts, events, rank?] with trailing fields ignored, tagged arrays and maps, integers of every width and sign,
// hashes as integers or bytes, token pairs of SGLang's EAGLE trees (the first of each), the map {ts, events,
// data_parallel_rank} of a vLLM development branch. Errors: kInvalid with the byte position when the batch itself is
// broken, kTooLarge beyond a limit. Cost: one pass, one copy of what is kept; about 1 GB/s of token ids.
Result<Batch> decode_batch(std::span<const std::uint8_t> payload, const DecodeLimits& limits = {});

// vLLM >= 0.24 sends maps with "type", older ones tagged arrays.
enum class Encoding : std::uint8_t { kMaps, kArrays };
// What the engine of that encoding would send: integers in their smallest form, optional fields omitted as it does.
// Arrays have no place for locality, ownership, session_id, cache_salt and lookahead_token_ids: they are left out.
std::vector<std::uint8_t> encode_batch(const Batch& batch, Encoding encoding);

}  // namespace warmpath::events
