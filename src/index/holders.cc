#include "index/holders.h"

#include <algorithm>
#include <mutex>
#include <utility>

namespace warmpath::index {

HoldingList::HoldingList(HoldingList&& other) noexcept : size_(other.size_), capacity_(other.capacity_) {
  if (size_ <= 1) {
    one_ = other.one_;
  } else {
    many_ = other.many_;
  }
  other.size_ = 0;
  other.capacity_ = 0;
}

HoldingList& HoldingList::operator=(HoldingList&& other) noexcept {
  if (this == &other) return *this;
  clear();
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  if (size_ <= 1) {
    one_ = other.one_;
  } else {
    many_ = other.many_;
  }
  return *this;
}

void HoldingList::clear() {
  if (capacity_ > 0) delete[] many_;
  size_ = 0;
  capacity_ = 0;
}

Holding* HoldingList::find(HolderId holder) {
  Holding* const first = data();
  Holding* const last = first + size_;
  Holding* const at = std::lower_bound(first, last, holder, [](const Holding& a, HolderId b) { return a.holder < b; });
  return at != last && at->holder == holder ? at : nullptr;
}

Holding& HoldingList::find_or_add(HolderId holder) {
  if (Holding* const found = find(holder)) return *found;
  if (size_ == 0) {
    one_ = {.holder = holder};
    size_ = 1;
    return one_;
  }
  if (size_ == 1 || size_ == capacity_) {
    const std::uint32_t capacity = size_ == 1 ? 2 : capacity_ * 2;
    auto* const grown = new Holding[capacity];
    std::copy_n(data(), size_, grown);
    if (capacity_ > 0) delete[] many_;
    many_ = grown;
    capacity_ = capacity;
  }
  Holding* const end = many_ + size_;
  Holding* const at = std::lower_bound(many_, end, holder, [](const Holding& a, HolderId b) { return a.holder < b; });
  std::move_backward(at, end, end + 1);
  *at = {.holder = holder};
  ++size_;
  return *at;
}

void HoldingList::erase(HolderId holder) {
  Holding* const at = find(holder);
  WP_CHECK(at != nullptr);
  if (size_ == 1) {
    size_ = 0;
    return;
  }
  std::move(at + 1, many_ + size_, at);
  --size_;
  if (size_ == 1) {
    const Holding last = many_[0];
    delete[] many_;
    capacity_ = 0;
    one_ = last;
  }
}

int Holders::move(BlockKey key, HolderId holder, Rank from, Rank to) {
  if (from == to) return 0;
  Shard& shard = shards_[shard_of(key)];
  const std::lock_guard lock(shard.mutex);
  const auto [at, added] = shard.keys.try_emplace(key);
  HoldingList& list = at->second;
  const std::size_t heap_before = list.heap_bytes();
  Holding& holding = list.find_or_add(holder);
  const bool held_before = holding.covers.back() > 0;
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    WP_CHECK(!(from <= tier) || holding.covers[tier] > 0);
    holding.covers[tier] += static_cast<std::uint32_t>(to <= tier) - static_cast<std::uint32_t>(from <= tier);
  }
  const bool held_after = holding.covers.back() > 0;
  if (!held_after) list.erase(holder);
  const std::size_t heap_after = list.heap_bytes();
  bytes_ += heap_after - heap_before;  // wraps to a subtraction
  if (added) bytes_ += kKeyBytes;
  if (list.view().empty()) {
    shard.keys.erase(at);
    bytes_ -= kKeyBytes;
  }
  return static_cast<int>(held_after) - static_cast<int>(held_before);
}

std::uint64_t Holders::keys() const {
  std::uint64_t total = 0;
  for (const Shard& shard : shards_) {
    const std::shared_lock lock(shard.mutex);
    total += shard.keys.size();
  }
  return total;
}

}  // namespace warmpath::index
