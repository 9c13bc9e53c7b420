// Private to io: the inside of a Loop.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "io/loop.h"

namespace warmpath::io {

// Something with a file descriptor on a loop.
class Source {
 public:
  virtual ~Source() = default;
  virtual void on_events(std::uint32_t events) = 0;  // EPOLL* bits
};

// A place in the loop's table. The generation makes an event for a closed descriptor recognisable when it was already
// fetched in the same batch.
struct SourceId {
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
};

struct Loop::Impl : std::enable_shared_from_this<Loop::Impl> {
  Impl();
  ~Impl();

  SourceId add(int fd, std::uint32_t events, Source* source);
  void modify(int fd, SourceId id, std::uint32_t events);
  void remove(int fd, SourceId id);

  void post(std::function<void()> task);
  void run();
  void turn();
  void fire_timers();
  void run_posted();

  static constexpr std::size_t kReadBytes = 64u << 10;

  int epoll_fd = -1;
  int wake_fd = -1;
  std::atomic<bool> stopping{false};
  std::atomic<std::thread::id> thread{};
  struct Slot {
    Source* source = nullptr;
    std::uint32_t generation = 0;
  };
  std::vector<Slot> slots;
  std::vector<std::uint32_t> free_slots;

  using TimerKey = std::pair<Instant, std::uint64_t>;
  std::map<TimerKey, Timer::State*> timers;
  std::uint64_t timer_number = 0;

  std::mutex mutex;
  std::vector<std::function<void()>> posted;  // guarded by mutex
  bool woken = false;                         // guarded by mutex: wake_fd was written and not yet read

  std::vector<std::function<void()>> running;
  std::string read_buffer;  // one for all streams of the loop: an idle connection holds none
  bool pwait2 = true;

  std::unique_ptr<Source> signal_source;
  std::function<void(int)> signal_task;
};

struct Timer::State {
  ~State() {
    if (owner != nullptr) owner->timers.erase(key);
  }
  Loop::Impl* owner = nullptr;  // null: not armed
  Loop::Impl::TimerKey key;
  std::function<void()> task;
};

Instant monotonic_now();
// "what: strerror(code)"
std::string system_message(std::string_view what, int code);

}  // namespace warmpath::io
