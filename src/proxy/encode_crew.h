// EncodeCrew: a few threads that turn long prompts into chains, so that no I/O thread stalls. Private to proxy.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace warmpath::proxy {

class EncodeCrew {
 public:
  EncodeCrew(std::uint32_t threads, std::size_t tasks_max);
  ~EncodeCrew();  // drops what waits, joins
  EncodeCrew(const EncodeCrew&) = delete;
  EncodeCrew& operator=(const EncodeCrew&) = delete;

  // Any thread. False: tasks_max are waiting.
  [[nodiscard]] bool submit(std::function<void()> task);

 private:
  void work();

  const std::size_t tasks_max_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace warmpath::proxy
