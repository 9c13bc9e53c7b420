#include "index/guesses.h"

#include <algorithm>
#include <iterator>

namespace warmpath::index {

void ApproximateTable::set_capacity(EngineId engine, std::size_t capacity_blocks) {
  Lru& lru = engines_[engine];
  lru.capacity = capacity_blocks;
  trim(lru);
}

void ApproximateTable::routed(EngineId engine, std::span<const BlockKey> chain) {
  Lru& lru = engines_[engine];
  // Heads last: they end up most recent, so that a chain loses its tail first.
  for (std::size_t i = chain.size(); i-- > 0;) {
    const auto found = lru.at.find(chain[i]);
    if (found != lru.at.end()) {
      lru.order.splice(lru.order.begin(), lru.order, found->second);
    } else {
      lru.order.push_front(chain[i]);
      lru.at.emplace(chain[i], lru.order.begin());
      trim(lru);
    }
  }
}

void ApproximateTable::trim(Lru& lru) {
  while (lru.order.size() > lru.capacity) {
    lru.at.erase(lru.order.back());
    lru.order.pop_back();
  }
}

std::uint32_t ApproximateTable::depth(EngineId engine, std::span<const BlockKey> chain) const {
  const auto found = engines_.find(engine);
  if (found == engines_.end()) return 0;
  std::uint32_t depth = 0;
  while (depth < chain.size() && found->second.at.contains(chain[depth])) ++depth;
  return depth;
}

void ApproximateTable::forget(EngineId engine) {
  const auto found = engines_.find(engine);
  if (found == engines_.end()) return;
  found->second.order.clear();
  found->second.at.clear();
}

std::size_t ApproximateTable::size(EngineId engine) const {
  const auto found = engines_.find(engine);
  return found == engines_.end() ? 0 : found->second.order.size();
}

RecentTable::RecentTable(Duration ttl, Duration answered_ttl, std::size_t entries_max, std::size_t blocks_max)
    : ttl_(ttl), answered_ttl_(answered_ttl), entries_max_(entries_max), blocks_max_(blocks_max) {}

void RecentTable::routed(RequestId request, EngineId engine, std::span<const BlockKey> chain, Instant now) {
  expire(now);
  rolled_back(request);  // routed anew
  if (entries_max_ == 0 || chain.empty()) return;
  const std::size_t blocks = std::min(chain.size(), blocks_max_);
  while (!at_.empty() && (at_.size() >= entries_max_ || blocks_ + blocks > blocks_max_)) {
    drop(answered_.empty() ? waiting_.begin() : answered_.begin());
  }
  waiting_.push_back({.request = request,
                      .engine = engine,
                      .chain = {chain.begin(), chain.begin() + static_cast<std::ptrdiff_t>(blocks)},
                      .until = now + ttl_});
  at_[request] = std::prev(waiting_.end());
  blocks_ += blocks;
  auto& counts = counts_[engine];
  for (const BlockKey key : waiting_.back().chain) ++counts[key];
}

void RecentTable::answered(RequestId request, Instant now) {
  expire(now);
  const auto found = at_.find(request);
  if (found == at_.end() || found->second->answered) return;
  found->second->answered = true;
  found->second->until = now + answered_ttl_;
  answered_.splice(answered_.end(), waiting_, found->second);
}

void RecentTable::rolled_back(RequestId request) {
  if (const auto found = at_.find(request); found != at_.end()) drop(found->second);
}

void RecentTable::forget(EngineId engine) {
  for (Entries* entries : {&waiting_, &answered_}) {
    for (auto entry = entries->begin(); entry != entries->end();) {
      const auto here = entry++;
      if (here->engine == engine) drop(here);
    }
  }
}

std::uint32_t RecentTable::depth(EngineId engine, std::span<const BlockKey> chain, Instant now) {
  expire(now);
  const auto found = counts_.find(engine);
  if (found == counts_.end()) return 0;
  std::uint32_t depth = 0;
  while (depth < chain.size() && found->second.contains(chain[depth])) ++depth;
  return depth;
}

void RecentTable::expire(Instant now) {
  for (Entries* entries : {&waiting_, &answered_}) {
    while (!entries->empty() && entries->front().until <= now) drop(entries->begin());
  }
}

void RecentTable::drop(Entries::iterator entry) {
  blocks_ -= entry->chain.size();
  const auto counts = counts_.find(entry->engine);
  for (const BlockKey key : entry->chain) {
    const auto at = counts->second.find(key);
    if (--at->second == 0) counts->second.erase(at);
  }
  if (counts->second.empty()) counts_.erase(counts);
  at_.erase(entry->request);
  (entry->answered ? answered_ : waiting_).erase(entry);
}

}  // namespace warmpath::index
