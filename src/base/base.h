// base: the words every room shares. Standard library only.
//
//   result.h    Result<T>, Error, ErrorKind
//   check.h     WP_CHECK: a bug in our code ends the process
//   ids.h       strong ids, TokenId, BlockKey
//   time.h      Instant, Duration, Clock, Timers
//   random.h    named, seeded random streams with our own distributions
//   queue.h     BoundedQueue: many producers, one consumer
//   text.h      hex, number parsing, splitting
//   json_writer.h  JSON output
//
// Thread rule: values are free; each class says its own.
#pragma once

#include "base/check.h"   // IWYU pragma: export
#include "base/ids.h"     // IWYU pragma: export
#include "base/json_writer.h"  // IWYU pragma: export
#include "base/queue.h"   // IWYU pragma: export
#include "base/random.h"  // IWYU pragma: export
#include "base/result.h"  // IWYU pragma: export
#include "base/text.h"    // IWYU pragma: export
#include "base/time.h"    // IWYU pragma: export
