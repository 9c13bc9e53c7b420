// For tests of every room: runs a loop until something is true, instead of sleeping.
#pragma once

#include <chrono>
#include <thread>
#include <utility>

#include "io/loop.h"
#include "io/reactor.h"

namespace warmpath::io {

// Turns `loop` on this thread until `predicate()` (asked once a turn) or until `patience` is over; returns what it last said.
//   ASSERT_TRUE(io::RunUntil(loop, [&] { return got == "pong"; }));
template <class Predicate>
bool RunUntil(Loop& loop, Predicate&& predicate, Duration patience = std::chrono::seconds(20)) {
  bool expired = false;
  const Timer guard = loop.after(patience, [&expired] { expired = true; });
  Loop::Impl& impl = loop.impl();
  const auto before = impl.thread.exchange(std::this_thread::get_id());
  bool holds = false;
  while (!(holds = predicate()) && !expired) impl.turn();
  impl.thread.store(before);
  return holds;
}

// Turns the loop until nothing has been posted or is ready any more: what was going to happen at once has happened.
inline void Settle(Loop& loop) {
  for (int i = 0; i < 3; ++i) {
    bool passed = false;
    const Timer next = loop.after(Duration{0}, [&passed] { passed = true; });
    RunUntil(loop, [&passed] { return passed; });
  }
}

}  // namespace warmpath::io
