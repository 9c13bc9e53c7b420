// Key of a run's first block -> run: how a walk gets from one run to the next. Private to index.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/base.h"
#include "index/slots.h"

namespace warmpath::index {

// Open addressing. Readers need no lock: an entry is one word, a table that is replaced stays readable, and version()
// changes before its memory is written again. Two runs may have the same key only after a collision: `accept` decides.
// Thread rule: find() from any thread, the rest by one writer at a time.
class Heads {
 public:
  Heads();

  // Calls accept(run) for each run whose entry may be of `key`, until it says true. kNoRun: none.
  template <class Accept>
  RunId find(BlockKey key, Accept&& accept) const {
    const Table* const table = table_.load(std::memory_order_acquire);
    const std::uint64_t mixed = mix(key);
    std::size_t at = static_cast<std::size_t>(mixed >> 32) & table->mask;
    for (std::size_t tries = 0; tries <= table->mask; ++tries, at = (at + 1) & table->mask) {
      const std::uint64_t entry = peek(table->entries[at], std::memory_order_acquire);
      if (entry == kEmpty) return kNoRun;
      if (entry >> 32 == mixed >> 32 && entry != kGone && accept(run_of(entry))) return run_of(entry);
    }
    return kNoRun;
  }
  void prefetch(BlockKey key) const {
    const Table* const table = table_.load(std::memory_order_acquire);
    ask_for(&table->entries[static_cast<std::size_t>(mix(key) >> 32) & table->mask]);
  }
  // A find() between two equal versions saw one state of the table.
  std::uint64_t version(std::memory_order order) const { return version_.load(order); }

  void insert(BlockKey key, RunId run);
  void erase(BlockKey key, RunId run);  // precondition: there
  std::size_t bytes_reserved() const;

 private:
  static constexpr std::uint64_t kEmpty = 0;
  static constexpr std::uint64_t kGone = 1;  // never an entry: those have the low 32 bits >= 2
  static constexpr std::size_t kEntriesMin = 64;

  struct Table {
    std::size_t mask = 0;
    ZeroedBytes memory;
    std::uint64_t* entries = nullptr;
  };
  static std::uint64_t mix(BlockKey key) { return key.value() * 0x9E3779B97F4A7C15u ^ key.value() >> 32; }
  static RunId run_of(std::uint64_t entry) { return static_cast<RunId>(entry) - 2; }
  static std::uint64_t entry_of(std::uint64_t mixed, RunId run) {
    return (mixed >> 32 << 32) | (std::uint64_t{run} + 2);
  }
  Table* fresh_table(std::size_t entries);
  void rebuild();

  std::vector<std::unique_ptr<Table>> tables_;  // all that ever were: each size at most twice
  std::atomic<Table*> table_{nullptr};
  std::atomic<std::uint64_t> version_{0};
  std::size_t live_ = 0;
  std::size_t used_ = 0;  // live and gone
};

}  // namespace warmpath::index
