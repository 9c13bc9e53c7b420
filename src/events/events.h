// events: frame bytes <-> KvEvent batches, and the life of one publisher's stream.
//
//   codec.h     decode_batch, encode_batch: one msgpack payload; both encodings of vLLM and SGLang
//   batch_json.h  a decoded batch as JSON, for people and scripts
//   frames.h    live messages [topic, seq, payload]; replay requests and both reply forms
//   load_stat.h  decode_load: SGLang's pushed load
//   follower.h  Follower::step(input, now): sequence, gap, replay, restart, deadlines, back-off, parking
//
// Thread rule: functions are pure; a Follower has one owner. No I/O.
#pragma once

#include "events/batch_json.h"  // IWYU pragma: export
#include "events/codec.h"       // IWYU pragma: export
#include "events/follower.h"    // IWYU pragma: export
#include "events/frames.h"      // IWYU pragma: export
#include "events/load_stat.h"   // IWYU pragma: export
