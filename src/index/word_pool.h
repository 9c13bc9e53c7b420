// Arrays of 64-bit words that readers look at without a lock: memory that stays mapped and stays words. Private to
// index.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "index/slots.h"

namespace warmpath::index {

// Thread rule: one writer at a time; words by peek() from any thread.
class WordPool {
 public:
  explicit WordPool(std::size_t bytes_max);
  // An array of at least `words` (>= 1).
  std::uint64_t* take(std::size_t words);
  void give(std::uint64_t* array, std::size_t words);
  static std::size_t bytes_of(std::size_t words) { return capacity(class_of(words)) * sizeof(std::uint64_t); }
  std::size_t bytes_reserved() const { return reserved_; }

 private:
  static constexpr std::size_t kClasses = 32;  // 2, 3, 4, 6, 8, 12, ...
  static std::size_t class_of(std::size_t words);
  static std::size_t capacity(std::size_t size_class) { return (size_class % 2 == 0 ? 2u : 3u) << size_class / 2; }

  std::size_t slab_words_;
  std::vector<ZeroedBytes> slabs_;
  std::uint64_t* fresh_ = nullptr;
  std::size_t fresh_words_ = 0;
  std::array<std::vector<std::uint64_t*>, kClasses> free_;
  std::size_t reserved_ = 0;
};

}  // namespace warmpath::index
