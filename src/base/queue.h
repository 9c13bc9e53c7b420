// BoundedQueue: many producers, one consumer; full is an answer, not a wait.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace warmpath {

// Thread rule: push from any thread, drain from one. Cost: one uncontended lock per call.
template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t items_max) : items_max_(items_max) {}

  enum class Push : unsigned char { kFull, kQueued, kQueuedFirst };
  // kQueuedFirst: the queue was empty, so the consumer has to be woken.
  [[nodiscard]] Push push(T item) {
    const std::lock_guard lock(mutex_);
    if (items_.size() >= items_max_) return Push::kFull;
    items_.push_back(std::move(item));
    return items_.size() == 1 ? Push::kQueuedFirst : Push::kQueued;
  }

  // Moves everything queued to the end of `out`, oldest first.
  void drain(std::vector<T>& out) {
    std::deque<T> taken;
    {
      const std::lock_guard lock(mutex_);
      taken.swap(items_);
    }
    for (T& item : taken) out.push_back(std::move(item));
  }

  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  const std::size_t items_max_;
  mutable std::mutex mutex_;
  std::deque<T> items_;
};

}  // namespace warmpath
