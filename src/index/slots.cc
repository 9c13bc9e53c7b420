#include "index/slots.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/base.h"

namespace warmpath::index {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::uint32_t kChunkBitsMin = 6;
constexpr std::uint32_t kChunkBitsMax = 16;
constexpr std::size_t kChunksAtCap = 16;  // a small index takes memory in small chunks
// Free memory beyond this part of all is used up in pieces before more is taken.
constexpr std::uint64_t kSlackPart = 10;
constexpr std::uint32_t kPieceQuantaMin = 8;
constexpr int kBinTries = 8;

}  // namespace

void ZeroedBytes::Free::operator()(void* p) const { std::free(p); }

ZeroedBytes::ZeroedBytes(std::size_t bytes) : owned_(std::calloc(bytes + kLine, 1)) {
  WP_CHECK(owned_ != nullptr);
  const auto address = reinterpret_cast<std::uintptr_t>(owned_.get());
  at_ = static_cast<std::byte*>(owned_.get()) + ((kLine - address % kLine) % kLine);
}

Slots::Slots(std::size_t bytes_max) {
  const std::size_t cells = bytes_max / kChunksAtCap / (sizeof(Cell) + 1);
  bits_ = std::clamp(static_cast<std::uint32_t>(std::bit_width(cells)), kChunkBitsMin + 1, kChunkBitsMax + 1) - 1;
  mask_ = (std::uint32_t{1} << bits_) - 1;
  const std::size_t slots_max = std::size_t{1} << 32;
  // Twice the cap: free memory counts as well.
  const std::size_t wanted = bytes_max / chunk_bytes() * 2 + 8;
  chunks_.resize(std::min(wanted, (slots_max >> bits_) - 1));
  chunk_ = chunks_.data();
  bins_.fill(kNoSlot);
}

std::uint32_t Slots::bin_of(std::uint32_t quanta) {
  if (quanta < kExactBins) return quanta;
  return kExactBins + static_cast<std::uint32_t>(std::bit_width(quanta)) - 6;
}

void Slots::link(Slot first, std::uint32_t quanta) {
  const std::uint32_t bin = bin_of(quanta);
  const Slot head = bins_[bin];
  cell(first).hash = head;
  cell(first + 1).hash = kNoSlot;
  if (head != kNoSlot) cell(head + 1).hash = first;
  bins_[bin] = first;
  filled_bins_ |= std::uint64_t{1} << bin;
  tag(first) = kFree | quanta;
  tag(first + (quanta - 1) * kQuantum) = kFree | quanta;
  free_quanta_ += quanta;
}

void Slots::unlink(Slot first, std::uint32_t quanta) {
  const std::uint32_t bin = bin_of(quanta);
  const auto next = static_cast<Slot>(cell(first).hash);
  const auto previous = static_cast<Slot>(cell(first + 1).hash);
  if (next != kNoSlot) cell(next + 1).hash = previous;
  if (previous != kNoSlot) {
    cell(previous).hash = next;
  } else {
    bins_[bin] = next;
    if (next == kNoSlot) filled_bins_ &= ~(std::uint64_t{1} << bin);
  }
  free_quanta_ -= quanta;
}

void Slots::add_chunk() {
  WP_CHECK(chunk_count_ < chunks_.size());
  Chunk& chunk = chunks_[chunk_count_];
  chunk.cell_memory = ZeroedBytes((std::size_t{mask_} + 1) * sizeof(Cell));
  chunk.owner_memory = ZeroedBytes(std::size_t{extent_quanta_max()} * sizeof(RunId));
  poke(chunk.cells, reinterpret_cast<Cell*>(chunk.cell_memory.get()));
  chunk.owners = reinterpret_cast<RunId*>(chunk.owner_memory.get());
  link(static_cast<Slot>(chunk_count_ << bits_), extent_quanta_max());
  ++chunk_count_;
}

Slot Slots::find_fit(std::uint32_t quanta) const {
  const std::uint32_t bin = bin_of(quanta);
  std::uint64_t bins = filled_bins_ >> bin << bin;
  if (bin >= kExactBins && (bins >> bin & 1) != 0) {
    Slot at = bins_[bin];
    for (int tries = 0; at != kNoSlot && tries < kBinTries; ++tries, at = static_cast<Slot>(cell(at).hash)) {
      if ((owner(at) & ~kFree) >= quanta) return at;
    }
    bins &= ~(std::uint64_t{1} << bin);
  }
  return bins == 0 ? kNoSlot : bins_[static_cast<std::size_t>(std::countr_zero(bins))];
}

// Makes the first `want` of a free extent of `have` quanta owned; the rest stays free.
void Slots::carve(Slot first, std::uint32_t have, std::uint32_t want, RunId owner) {
  unlink(first, have);
  if (want < have) link(first + want * kQuantum, have - want);
  for (std::uint32_t i = 0; i < want; ++i) tag(first + i * kQuantum) = owner;
}

Slots::Extent Slots::take(std::uint32_t quanta, RunId owner) {
  quanta = std::min(quanta, extent_quanta_max());
  Slot at = find_fit(quanta);
  if (at == kNoSlot) {
    const bool slack = free_quanta_ * kSlackPart > chunk_count_ * std::uint64_t{extent_quanta_max()};
    const bool full = chunk_count_ == chunks_.size();
    if ((slack || full) && filled_bins_ != 0) {
      at = bins_[static_cast<std::size_t>(std::bit_width(filled_bins_)) - 1];
      const std::uint32_t piece = tag(at) & ~kFree;
      if (!full && piece < std::min(quanta, kPieceQuantaMin)) at = kNoSlot;
    }
    if (at == kNoSlot) {
      add_chunk();
      at = find_fit(quanta);
    }
  }
  const std::uint32_t have = tag(at) & ~kFree;
  const std::uint32_t got = std::min(have, quanta);
  carve(at, have, got, owner);
  return {at, got};
}

std::uint32_t Slots::grow(Slot end, std::uint32_t quanta, RunId owner) {
  if ((end & mask_) == 0 || (tag(end) & kFree) == 0) return 0;
  const std::uint32_t have = tag(end) & ~kFree;
  const std::uint32_t got = std::min(have, quanta);
  carve(end, have, got, owner);
  return got;
}

void Slots::give(Slot first, std::uint32_t quanta) {
  const Slot end = first + quanta * kQuantum;
  if ((end & mask_) != 0 && (tag(end) & kFree) != 0) {
    const std::uint32_t more = tag(end) & ~kFree;
    unlink(end, more);
    quanta += more;
  }
  if ((first & mask_) != 0 && (tag(first - kQuantum) & kFree) != 0) {
    const std::uint32_t before = tag(first - kQuantum) & ~kFree;
    first -= before * kQuantum;
    unlink(first, before);
    quanta += before;
  }
  link(first, quanta);
}

}  // namespace warmpath::index
