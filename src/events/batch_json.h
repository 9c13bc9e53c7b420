// A decoded batch as JSON: what `warmpath events decode` prints.
#pragma once

#include "base/base.h"
#include "events/codec.h"

namespace warmpath::events {

// {"ts","rank","events":[{"type",…}]}: integer hashes as unsigned integers, byte hashes and other bytes as hex strings,
// an item among the extra keys as [identifier, offset], a block without extra keys as null. Of a stored event
// parent_block_hash and medium are always there (null when not sent), other optional fields only when sent. Behind the
// events `events_unknown` and `events_malformed` when not 0. Text that is not UTF-8 has U+FFFD in place of each bad byte.
void write_json(JsonWriter& out, const Batch& batch);

}  // namespace warmpath::events
