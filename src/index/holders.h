// The map every reader walks: router key -> who holds it. Private to index.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <unordered_map>

#include "base/base.h"
#include "blocks/kv_event.h"

namespace warmpath::index {

// One KV group of one engine, dense, reused after the engine was forgotten.
using HolderId = StrongId<struct HolderIdTag, std::uint32_t>;

// A tier as a place in a row: 0 gpu, 1 cpu, 2 storage; kNowhere: not held.
using Rank = std::uint8_t;
inline constexpr Rank kNowhere = blocks::kTierCount;

// How often one holder holds one key, by tier *or a faster one*: covers[t] counts the runs of engine blocks that
// cover the key and stand wholly within tiers 0..t. Usually one run, so all are 0 or 1.
struct Holding {
  HolderId holder;
  std::array<std::uint32_t, blocks::kTierCount> covers{};
};

// Holdings of one key sorted by holder. One is kept inline: most keys have one holder.
class HoldingList {
 public:
  HoldingList() = default;
  HoldingList(HoldingList&& other) noexcept;
  HoldingList& operator=(HoldingList&& other) noexcept;
  HoldingList(const HoldingList&) = delete;
  HoldingList& operator=(const HoldingList&) = delete;
  ~HoldingList() { clear(); }

  std::span<const Holding> view() const { return {size_ <= 1 ? &one_ : many_, size_}; }
  std::size_t heap_bytes() const { return capacity_ * sizeof(Holding); }
  // The holder's entry, made with zero counts when missing.
  Holding& find_or_add(HolderId holder);
  Holding* find(HolderId holder);
  void erase(HolderId holder);

 private:
  Holding* data() { return size_ <= 1 ? &one_ : many_; }
  void clear();

  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;  // of many_; 0 while size_ <= 1
  union {
    Holding one_{};
    Holding* many_;
  };
};

// Thread rule: move from any thread, for one holder by one thread at a time; read from any thread. Cost: one lock of
// one of kShards shards, held for one map operation.
class Holders {
 public:
  // `bytes` receives the estimate of what is allocated here; it must outlive the object.
  explicit Holders(std::atomic<std::size_t>& bytes) : bytes_(bytes) {}

  // One run of engine blocks that covers `key` went from tier `from` to tier `to` at `holder`.
  // Returns +1 when the holder now holds the key for the first time, -1 when no longer, else 0.
  int move(BlockKey key, HolderId holder, Rank from, Rank to);

  // Calls use(span of holdings) under the shard's read lock; an empty span when nobody holds the key.
  template <class Use>
  void read(BlockKey key, Use&& use) const {
    const Shard& shard = shards_[shard_of(key)];
    const std::shared_lock lock(shard.mutex);
    const auto found = shard.keys.find(key);
    use(found == shard.keys.end() ? std::span<const Holding>{} : found->second.view());
  }

  std::uint64_t keys() const;

  // What one key costs besides its heap_bytes: map slot, list link and bucket.
  static constexpr std::size_t kKeyBytes = sizeof(BlockKey) + sizeof(HoldingList) + 3 * sizeof(void*);

 private:
  static constexpr std::size_t kShards = 64;
  static std::size_t shard_of(BlockKey key) { return key.value() >> 58; }  // the map itself uses the low bits
  static_assert(kShards == std::size_t{1} << (64 - 58));

  struct alignas(64) Shard {
    mutable std::shared_mutex mutex;
    std::unordered_map<BlockKey, HoldingList> keys;
  };
  std::array<Shard, kShards> shards_;
  std::atomic<std::size_t>& bytes_;
};

}  // namespace warmpath::index
