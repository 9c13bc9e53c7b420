// The last decisions, for `decisions`: a ring that also finds a record again when its request ends.
#pragma once

#include <algorithm>
#include <deque>

#include "route/route.h"

namespace warmpath::route {

class ReceiptRing {
 public:
  explicit ReceiptRing(std::size_t records_max) : records_max_(records_max) {}

  // The number that finds the record later.
  std::uint64_t add(DecisionRecord record) {
    records_.push_back(std::move(record));
    if (records_.size() > records_max_) {
      records_.pop_front();
      ++first_;
    }
    return first_ + records_.size() - 1;
  }

  // nullptr when it was pushed out meanwhile.
  DecisionRecord* find(std::uint64_t number) {
    if (number < first_ || number - first_ >= records_.size()) return nullptr;
    return &records_[static_cast<std::size_t>(number - first_)];
  }

  std::vector<DecisionRecord> newest(std::size_t count) const {
    std::vector<DecisionRecord> out;
    out.reserve(std::min(count, records_.size()));
    for (auto at = records_.rbegin(); at != records_.rend() && out.size() < count; ++at) out.push_back(*at);
    return out;
  }

 private:
  std::size_t records_max_;
  std::uint64_t first_ = 0;  // number of the oldest kept
  std::deque<DecisionRecord> records_;
};

}  // namespace warmpath::route
