#include "engine/kv_pool.h"

#include <algorithm>

namespace warmpath::engine {

KvPool::KvPool(std::uint32_t blocks) : blocks_(blocks) {
  WP_CHECK(blocks >= 2);
  by_hash_.reserve(blocks);
  for (BlockIndex block = 1; block < blocks; ++block) push_free(block);
}

std::optional<BlockIndex> KvPool::find(EngineHash hash) const {
  const auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return std::nullopt;
  return it->second.first;
}

void KvPool::reference(BlockIndex block) {
  WP_CHECK(block != kNone && block < blocks_.size());
  if (blocks_[block].ref == 0) unlink_free(block);
  ++blocks_[block].ref;
}

void KvPool::allocate(std::uint32_t count, std::vector<BlockIndex>& out, std::vector<EvictedBlock>& evicted) {
  WP_CHECK(count <= free_count_);
  for (std::uint32_t i = 0; i < count; ++i) {
    const BlockIndex block = free_first_;
    unlink_free(block);
    Block& taken = blocks_[block];
    if (taken.cached) {
      evicted.push_back({taken.hash, taken.digest});
      forget_hash(block);
    }
    taken.ref = 1;
    out.push_back(block);
  }
}

void KvPool::store(BlockIndex block, EngineHash hash, const blocks::Digest& digest) {
  Block& stored = blocks_[block];
  WP_CHECK(block != kNone && stored.ref > 0 && !stored.cached);
  stored.cached = true;
  stored.hash = hash;
  stored.digest = digest;
  ++cached_count_;
  Same& same = by_hash_[hash];
  stored.same_previous = same.last;
  stored.same_next = kNone;
  if (same.last != kNone) blocks_[same.last].same_next = block;
  if (same.first == kNone) same.first = block;
  same.last = block;
}

void KvPool::release(std::span<const BlockIndex> chain) {
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
    WP_CHECK(blocks_[*it].ref > 0);
    if (--blocks_[*it].ref > 0) continue;
    if (blocks_[*it].cached) {
      push_free(*it);
    } else {
      push_free_first(*it);
    }
  }
}

bool KvPool::clear() {
  if (used_blocks() != 0) return false;
  for (Block& block : blocks_) {
    block.cached = false;
    block.same_previous = block.same_next = kNone;
  }
  by_hash_.clear();
  cached_count_ = 0;
  return true;
}

std::vector<EngineHash> KvPool::hashes() const {
  std::vector<EngineHash> out;
  out.reserve(by_hash_.size());
  for (const auto& entry : by_hash_) out.push_back(entry.first);
  std::sort(out.begin(), out.end());
  return out;
}

void KvPool::push_free(BlockIndex block) {
  Block& freed = blocks_[block];
  freed.free_previous = free_last_;
  freed.free_next = kNone;
  if (free_last_ != kNone) blocks_[free_last_].free_next = block;
  if (free_first_ == kNone) free_first_ = block;
  free_last_ = block;
  ++free_count_;
}

void KvPool::push_free_first(BlockIndex block) {
  Block& freed = blocks_[block];
  freed.free_previous = kNone;
  freed.free_next = free_first_;
  if (free_first_ != kNone) blocks_[free_first_].free_previous = block;
  if (free_last_ == kNone) free_last_ = block;
  free_first_ = block;
  ++free_count_;
}

void KvPool::unlink_free(BlockIndex block) {
  Block& taken = blocks_[block];
  (taken.free_previous != kNone ? blocks_[taken.free_previous].free_next : free_first_) = taken.free_next;
  (taken.free_next != kNone ? blocks_[taken.free_next].free_previous : free_last_) = taken.free_previous;
  taken.free_previous = taken.free_next = kNone;
  --free_count_;
}

void KvPool::forget_hash(BlockIndex block) {
  Block& gone = blocks_[block];
  const auto it = by_hash_.find(gone.hash);
  WP_CHECK(gone.cached && it != by_hash_.end());
  (gone.same_previous != kNone ? blocks_[gone.same_previous].same_next : it->second.first) = gone.same_next;
  (gone.same_next != kNone ? blocks_[gone.same_next].same_previous : it->second.last) = gone.same_previous;
  if (it->second.first == kNone) by_hash_.erase(it);
  gone.same_previous = gone.same_next = kNone;
  gone.cached = false;
  --cached_count_;
}

std::string KvPool::fault() const {
  std::uint32_t queued = 0;
  BlockIndex previous = kNone;
  for (BlockIndex block = free_first_; block != kNone; block = blocks_[block].free_next) {
    if (blocks_[block].ref != 0) return "a referenced block is in the free queue";
    if (blocks_[block].free_previous != previous) return "free queue links disagree";
    if (++queued > usable()) return "the free queue has a loop";
    previous = block;
  }
  if (queued != free_count_ || previous != free_last_) return "the free queue's count or tail is wrong";
  std::uint32_t unreferenced = 0;
  std::uint64_t cached = 0;
  for (BlockIndex block = 1; block < blocks_.size(); ++block) {
    if (blocks_[block].ref == 0) ++unreferenced;
    if (blocks_[block].cached) ++cached;
  }
  if (unreferenced != free_count_) return "a block is neither free nor used";
  if (cached != cached_count_) return "the count of cached blocks is wrong";
  std::uint64_t listed = 0;
  for (const auto& [hash, same] : by_hash_) {
    BlockIndex before = kNone;
    for (BlockIndex block = same.first; block != kNone; block = blocks_[block].same_next) {
      if (!blocks_[block].cached || blocks_[block].hash != hash) return "a listed block lacks its hash";
      if (blocks_[block].same_previous != before) return "links of equal hashes disagree";
      if (++listed > cached) return "a list of equal hashes has a loop";
      before = block;
    }
    if (before != same.last || before == kNone) return "a list of equal hashes has the wrong tail";
  }
  if (listed != cached) return "a cached block is not listed";
  return "";
}

}  // namespace warmpath::engine
