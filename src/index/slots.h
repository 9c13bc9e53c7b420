// Where the blocks of all runs lie: one 16-byte cell a router block, handed out in quanta of four (one cache line).
// Private to index.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace warmpath::index {

using Slot = std::uint32_t;  // of one cell
inline constexpr Slot kNoSlot = ~Slot{0};
using RunId = std::uint32_t;
inline constexpr RunId kNoRun = ~RunId{0};

// Fields that readers look at while writers change them.
template <class T>
T peek(const T& field, std::memory_order order = std::memory_order_relaxed) {
  return std::atomic_ref<T>(const_cast<T&>(field)).load(order);
}
template <class T>
void poke(T& field, T value, std::memory_order order = std::memory_order_relaxed) {
  std::atomic_ref<T>(field).store(value, order);
}

// Asks for a cache line early. The empty statement is an effect: GCC 12 finds none in a prefetch, takes functions that
// do nothing else for pure ones, and drops their calls.
inline void ask_for(const void* address) {
  __builtin_prefetch(address);
  asm volatile("");
}

struct Cell {
  std::uint64_t key = 0;   // peeked at by readers
  std::uint64_t hash = 0;  // the engine hash of the block that ends here, as its first engine named it; 0 none
};

// Memory that is zero and not touched before its first use, aligned to a cache line.
class ZeroedBytes {
 public:
  ZeroedBytes() = default;
  explicit ZeroedBytes(std::size_t bytes);
  std::byte* get() const { return at_; }

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> owned_;
  std::byte* at_ = nullptr;
};

// Boundary-tag allocation with neighbours merged. Memory is never given back while the object lives: readers may look
// at a cell that was freed a moment ago (they find out afterwards).
// Thread rule: cell() and key() from any thread, the rest by one writer at a time.
class Slots {
 public:
  static constexpr std::uint32_t kQuantum = 4;
  explicit Slots(std::size_t bytes_max);

  struct Extent {
    Slot first = kNoSlot;
    std::uint32_t quanta = 0;
  };
  // Up to `quanta` (>= 1) in one piece: fewer where free memory lies in small pieces and there is much of it.
  Extent take(std::uint32_t quanta, RunId owner);
  // Further quanta right behind an extent that ends before `end`, as far as they are free. Returns how many.
  std::uint32_t grow(Slot end, std::uint32_t quanta, RunId owner);
  void give(Slot first, std::uint32_t quanta);

  Cell& cell(Slot slot) { return chunk_[slot >> bits_].cells[slot & mask_]; }
  const Cell& cell(Slot slot) const { return chunk_[slot >> bits_].cells[slot & mask_]; }
  std::uint64_t key(Slot slot) const { return peek(peek(chunk_[slot >> bits_].cells)[slot & mask_].key); }
  // Says early that readers come.
  void foresee() const { ask_for(chunk_); }
  // The cells from `slot` to the end of its extent lie one behind the other.
  const Cell* reader_cells(Slot slot) const { return peek(chunk_[slot >> bits_].cells) + (slot & mask_); }
  void prefetch_owner(Slot slot) const { ask_for(&chunk_[slot >> bits_].owners[(slot & mask_) / kQuantum]); }
  RunId owner(Slot slot) const { return chunk_[slot >> bits_].owners[(slot & mask_) / kQuantum]; }

  std::uint32_t extent_quanta_max() const { return (mask_ + 1) / kQuantum; }
  std::size_t bytes_reserved() const { return chunk_count_ * chunk_bytes(); }
  static constexpr std::size_t kQuantumBytes = kQuantum * sizeof(Cell) + sizeof(RunId);

 private:
  struct Chunk {
    Cell* cells = nullptr;
    RunId* owners = nullptr;
    ZeroedBytes cell_memory;
    ZeroedBytes owner_memory;
  };
  static constexpr std::uint32_t kFree = std::uint32_t{1} << 31;  // in owners: first and last quantum of a free extent
  static constexpr std::uint32_t kExactBins = 32;
  static constexpr std::uint32_t kBins = 56;

  static std::uint32_t bin_of(std::uint32_t quanta);
  std::uint32_t& tag(Slot slot) { return chunk_[slot >> bits_].owners[(slot & mask_) / kQuantum]; }
  std::size_t chunk_bytes() const { return std::size_t{extent_quanta_max()} * kQuantumBytes; }
  void add_chunk();
  void link(Slot first, std::uint32_t quanta);
  void unlink(Slot first, std::uint32_t quanta);
  Slot find_fit(std::uint32_t quanta) const;
  void carve(Slot first, std::uint32_t have, std::uint32_t want, RunId owner);

  std::uint32_t bits_ = 0;
  std::uint32_t mask_ = 0;
  std::vector<Chunk> chunks_;  // never grows
  Chunk* chunk_ = nullptr;     // its first one
  std::size_t chunk_count_ = 0;
  std::array<Slot, kBins> bins_{};
  std::uint64_t filled_bins_ = 0;
  std::uint64_t free_quanta_ = 0;
};

}  // namespace warmpath::index
