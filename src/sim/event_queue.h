// What happens when: items by (time, sequence), so that equal times keep the order in which they were pushed.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "base/base.h"

namespace warmpath::sim {

template <class Item>
class EventQueue {
 public:
  void push(Instant at, Item item) {
    entries_.push_back({at, next_++, std::move(item)});
    std::push_heap(entries_.begin(), entries_.end(), Later{});
  }
  bool empty() const { return entries_.empty(); }
  Instant next_at() const {
    WP_CHECK(!entries_.empty());
    return entries_.front().at;
  }
  Item pop() {
    WP_CHECK(!entries_.empty());
    std::pop_heap(entries_.begin(), entries_.end(), Later{});
    Item item = std::move(entries_.back().item);
    entries_.pop_back();
    return item;
  }

 private:
  struct Entry {
    Instant at;
    std::uint64_t sequence = 0;
    Item item;
  };
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.at != b.at ? a.at > b.at : a.sequence > b.sequence;
    }
  };
  std::vector<Entry> entries_;
  std::uint64_t next_ = 0;
};

}  // namespace warmpath::sim
