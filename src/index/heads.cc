#include "index/heads.h"

#include <cstring>

namespace warmpath::index {

Heads::Heads() : table_(fresh_table(kEntriesMin)) {}

// The other table of this size, emptied, or a new one. Readers that still look at its old content find out by the
// version, which changed when it was replaced.
Heads::Table* Heads::fresh_table(std::size_t entries) {
  const Table* const current = tables_.empty() ? nullptr : table_.load(std::memory_order_relaxed);
  for (const auto& table : tables_) {
    if (table.get() == current || table->mask + 1 != entries) continue;
    for (std::size_t i = 0; i < entries; ++i) poke(table->entries[i], kEmpty);
    return table.get();
  }
  auto table = std::make_unique<Table>();
  table->mask = entries - 1;
  table->memory = ZeroedBytes(entries * sizeof(std::uint64_t));
  table->entries = reinterpret_cast<std::uint64_t*>(table->memory.get());
  tables_.push_back(std::move(table));
  return tables_.back().get();
}

// The low half of an entry is the run and the high half 32 bits of the mixed key: its home needs the low bits, which
// the entry does not have. So homes are taken from the high half.
void Heads::rebuild() {
  const Table& old = *table_.load(std::memory_order_relaxed);
  std::size_t entries = old.mask + 1;
  while (live_ * 2 >= entries) entries *= 2;
  Table* const table = fresh_table(entries);
  for (std::size_t i = 0; i <= old.mask; ++i) {
    const std::uint64_t entry = old.entries[i];
    if (entry == kEmpty || entry == kGone) continue;
    std::size_t at = static_cast<std::size_t>(entry >> 32) & table->mask;
    while (table->entries[at] != kEmpty) at = (at + 1) & table->mask;
    poke(table->entries[at], entry);
  }
  used_ = live_;
  table_.store(table, std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
}

void Heads::insert(BlockKey key, RunId run) {
  if ((used_ + 1) * 4 > (table_.load(std::memory_order_relaxed)->mask + 1) * 3) rebuild();
  Table& table = *table_.load(std::memory_order_relaxed);
  const std::uint64_t mixed = mix(key);
  std::size_t at = static_cast<std::size_t>(mixed >> 32) & table.mask;
  while (table.entries[at] != kEmpty && table.entries[at] != kGone) at = (at + 1) & table.mask;
  if (table.entries[at] == kEmpty) ++used_;
  ++live_;
  poke(table.entries[at], entry_of(mixed, run), std::memory_order_release);
}

void Heads::erase(BlockKey key, RunId run) {
  Table& table = *table_.load(std::memory_order_relaxed);
  const std::uint64_t entry = entry_of(mix(key), run);
  std::size_t at = static_cast<std::size_t>(entry >> 32) & table.mask;
  while (table.entries[at] != entry) {
    WP_CHECK(table.entries[at] != kEmpty);
    at = (at + 1) & table.mask;
  }
  --live_;
  poke(table.entries[at], kGone);
}

std::size_t Heads::bytes_reserved() const {
  std::size_t bytes = 0;
  for (const auto& table : tables_) bytes += (table->mask + 1) * sizeof(std::uint64_t);
  return bytes;
}

}  // namespace warmpath::index
