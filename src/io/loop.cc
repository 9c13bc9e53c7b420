#include "io/loop.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "io/reactor.h"

namespace warmpath::io {
namespace {

constexpr int kEventsATurn = 256;
constexpr std::uint64_t kWakeToken = ~std::uint64_t{0};

int signal_pipe[2] = {-1, -1};

void note_signal(int number) {
  const int saved = errno;
  const auto byte = static_cast<unsigned char>(number);
  [[maybe_unused]] const auto written = ::write(signal_pipe[1], &byte, 1);
  errno = saved;
}

class SignalSource final : public Source {
 public:
  explicit SignalSource(Loop::Impl& impl) : impl_(impl) {}
  void on_events(std::uint32_t) override {
    unsigned char numbers[16];
    for (;;) {
      const auto got = ::read(signal_pipe[0], numbers, sizeof numbers);
      if (got <= 0) return;
      for (ssize_t i = 0; i < got; ++i) {
        if (impl_.signal_task) impl_.signal_task(numbers[i]);
      }
    }
  }

 private:
  Loop::Impl& impl_;
};

}  // namespace

Instant monotonic_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return Instant(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

std::string system_message(std::string_view what, int code) {
  char buffer[128];
  return std::string(what) + ": " + ::strerror_r(code, buffer, sizeof buffer);
}

Loop::Impl::Impl() : read_buffer(kReadBytes, '\0') {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to its socket without MSG_NOSIGNAL
  epoll_fd = ::epoll_create1(EPOLL_CLOEXEC);
  wake_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  WP_CHECK(epoll_fd >= 0 && wake_fd >= 0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeToken;
  WP_CHECK(::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) == 0);
}

Loop::Impl::~Impl() {
  for (auto& [key, state] : timers) state->owner = nullptr;
  signal_source.reset();
  ::close(wake_fd);
  ::close(epoll_fd);
}

SourceId Loop::Impl::add(int fd, std::uint32_t events, Source* source) {
  SourceId id;
  if (free_slots.empty()) {
    id.slot = static_cast<std::uint32_t>(slots.size());
    slots.emplace_back();
  } else {
    id.slot = free_slots.back();
    free_slots.pop_back();
  }
  slots[id.slot].source = source;
  id.generation = slots[id.slot].generation;
  epoll_event event{};
  event.events = events;
  event.data.u64 = (std::uint64_t{id.generation} << 32) | id.slot;
  WP_CHECK(::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
  return id;
}

void Loop::Impl::modify(int fd, SourceId id, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = (std::uint64_t{id.generation} << 32) | id.slot;
  WP_CHECK(::epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0);
}

void Loop::Impl::remove(int fd, SourceId id) {
  ::epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, nullptr);
  slots[id.slot].source = nullptr;
  ++slots[id.slot].generation;
  free_slots.push_back(id.slot);
}

void Loop::Impl::post(std::function<void()> task) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex);
    posted.push_back(std::move(task));
    // On the loop's own thread the turn looks at `posted` before it sleeps.
    wake = !woken && thread.load(std::memory_order_relaxed) != std::this_thread::get_id();
    if (wake) woken = true;
  }
  if (!wake) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd, &one, sizeof one);
}

void Loop::Impl::run_posted() {
  {
    const std::lock_guard lock(mutex);
    running.swap(posted);
  }
  for (auto& task : running) {
    task();
    task = nullptr;
  }
  running.clear();
}

void Loop::Impl::fire_timers() {
  if (timers.empty()) return;
  // Only what is due now: a timer that arms another one with no delay does not starve the rest.
  const Instant now = monotonic_now();
  const std::uint64_t number_max = timer_number;
  for (auto it = timers.begin(); it != timers.end() && it->first.first <= now;) {
    if (it->first.second > number_max) {
      ++it;
      continue;
    }
    Timer::State* state = it->second;
    timers.erase(it);
    state->owner = nullptr;
    const std::function<void()> task = std::move(state->task);
    task();
    it = timers.begin();
  }
}

// Sleeps first: whoever turns the loop sees everything that was called before it sleeps again.
void Loop::Impl::turn() {
  bool idle = true;
  {
    const std::lock_guard lock(mutex);
    idle = posted.empty();
  }
  Duration wait = std::chrono::hours(1);
  if (!idle || stopping.load(std::memory_order_acquire)) {
    wait = Duration{0};
  } else if (!timers.empty()) {
    wait = std::clamp(timers.begin()->first.first - monotonic_now(), Duration{0}, wait);
  }
  epoll_event events[kEventsATurn];
  int count = -1;
  if (pwait2) {
    timespec span{};
    span.tv_sec = wait.count() / 1'000'000'000;
    span.tv_nsec = wait.count() % 1'000'000'000;
    count = ::epoll_pwait2(epoll_fd, events, kEventsATurn, &span, nullptr);
    // Linux before 5.11 knows whole milliseconds only.
    if (count < 0 && (errno == ENOSYS || errno == EPERM)) pwait2 = false;
  }
  if (!pwait2) {
    const auto ms = static_cast<int>((wait.count() + 999'999) / 1'000'000);
    count = ::epoll_wait(epoll_fd, events, kEventsATurn, ms);
  }
  for (int i = 0; i < count; ++i) {
    const std::uint64_t token = events[i].data.u64;
    if (token == kWakeToken) {
      std::uint64_t value = 0;
      const std::lock_guard lock(mutex);
      [[maybe_unused]] const auto got = ::read(wake_fd, &value, sizeof value);
      woken = false;
      continue;
    }
    const Slot& slot = slots[static_cast<std::uint32_t>(token)];
    if (slot.source != nullptr && slot.generation == static_cast<std::uint32_t>(token >> 32)) {
      slot.source->on_events(events[i].events);
    }
  }
  run_posted();
  fire_timers();
}

void Loop::Impl::run() {
  thread.store(std::this_thread::get_id());
  while (!stopping.load(std::memory_order_acquire)) turn();
  stopping.store(false);
  thread.store({});
}

void Timer::cancel() { state_.reset(); }

bool Timer::armed() const { return state_ != nullptr && state_->owner != nullptr; }

Loop::Loop() : impl_(std::make_shared<Impl>()) {}

Loop::~Loop() {
  // What was posted may hold objects of this loop: it goes while the loop still stands.
  std::vector<std::function<void()>> left;
  const std::lock_guard lock(impl_->mutex);
  left.swap(impl_->posted);
}

void Loop::run() { impl_->run(); }

void Loop::stop() {
  impl_->stopping.store(true, std::memory_order_release);
  impl_->post([] {});
}

void Loop::post(std::function<void()> task) { impl_->post(std::move(task)); }

bool Loop::on_this_thread() const { return impl_->thread.load() == std::this_thread::get_id(); }

Instant Loop::now() const { return monotonic_now(); }

Timer Loop::after(Duration delay, std::function<void()> task) {
  Timer timer;
  timer.state_ = std::make_shared<Timer::State>();
  timer.state_->owner = impl_.get();
  timer.state_->key = {monotonic_now() + std::max(delay, Duration{0}), ++impl_->timer_number};
  timer.state_->task = std::move(task);
  impl_->timers.emplace(timer.state_->key, timer.state_.get());
  return timer;
}

void Loop::on_signals(std::span<const int> signals, std::function<void(int)> task) {
  WP_CHECK(!impl_->signal_source);
  if (signal_pipe[0] < 0) WP_CHECK(::pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) == 0);
  impl_->signal_task = std::move(task);
  impl_->signal_source = std::make_unique<SignalSource>(*impl_);
  impl_->add(signal_pipe[0], EPOLLIN, impl_->signal_source.get());
  for (const int number : signals) {
    struct sigaction action {};
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(number, &action, nullptr);
  }
}

ProcessUsage process_usage() {
  ProcessUsage usage;
  rusage self{};
  ::getrusage(RUSAGE_SELF, &self);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  usage.cpu_seconds = seconds(self.ru_utime) + seconds(self.ru_stime);
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    unsigned long total = 0;
    unsigned long resident = 0;
    if (std::fscanf(file, "%lu %lu", &total, &resident) == 2) {
      usage.resident_bytes = std::uint64_t{resident} * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    }
    std::fclose(file);
  }
  return usage;
}

std::int64_t unix_time_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace warmpath::io
