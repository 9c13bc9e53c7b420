// A mutex that one who takes it again and again can leave to others. Private to index.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace warmpath::index {

// A plain mutex goes to who is running, not to who waits: a loop that unlocks and locks keeps a sleeper out for as long
// as it runs. Costs nothing where nobody waits.
class TurnMutex {
 public:
  void lock() {
    if (mutex_.try_lock()) return;
    waiting_.fetch_add(1, std::memory_order_relaxed);
    mutex_.lock();
    waiting_.fetch_sub(1, std::memory_order_relaxed);
  }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock() { mutex_.unlock(); }

  // Not by its holder: until those who wait have had it, or some milliseconds long.
  void let_others() const {
    for (int looks = 0; looks < kLooksMax && waiting_.load(std::memory_order_relaxed) > 0; ++looks) {
#if defined(__SSE2__)
      _mm_pause();
#endif
    }
  }

 private:
  static constexpr int kLooksMax = 100'000;
  std::mutex mutex_;
  std::atomic<std::uint32_t> waiting_{0};
};

}  // namespace warmpath::index
