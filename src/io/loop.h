// Loop: a single-threaded event loop. All objects made on a loop are used on its thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/base.h"

namespace warmpath::io {

// Cancelling, or destroying the last handle, prevents the call. Empty handles are fine.
class Timer {
 public:
  Timer() = default;
  void cancel();
  bool armed() const;

 private:
  friend class Loop;
  struct State;
  std::shared_ptr<State> state_;
};

class Loop final : public Clock {
 public:
  Loop();
  ~Loop() override;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(). Exceptions from callbacks are bugs and end the process.
  void run();
  void stop();                            // any thread
  void post(std::function<void()> task);  // any thread; runs on the loop's thread, in order
  bool on_this_thread() const;

  Instant now() const override;  // CLOCK_MONOTONIC; cheap
  [[nodiscard]] Timer after(Duration delay, std::function<void()> task);
  // Calls `task` on every one of `signals` (SIGINT, …) until the loop dies. Once a process for each signal.
  void on_signals(std::span<const int> signals, std::function<void(int)> task);

  struct Impl;  // for io's own files
  Impl& impl() { return *impl_; }

 private:
  std::shared_ptr<Impl> impl_;  // shared with what other threads post to it
};

// CPU and resident memory of this process, for metrics and reports.
struct ProcessUsage {
  double cpu_seconds = 0;
  std::uint64_t resident_bytes = 0;
};
ProcessUsage process_usage();
std::int64_t unix_time_ms();

}  // namespace warmpath::io
