#include "index/word_pool.h"

#include <algorithm>
#include <bit>

namespace warmpath::index {
namespace {

constexpr std::size_t kSlabWordsMin = 256;
constexpr std::size_t kSlabWordsMax = 32'768;

}  // namespace

WordPool::WordPool(std::size_t bytes_max)
    : slab_words_(std::clamp(bytes_max / 64 / sizeof(std::uint64_t), kSlabWordsMin, kSlabWordsMax)) {}

std::size_t WordPool::class_of(std::size_t words) {
  if (words <= 2) return 0;
  const auto width = static_cast<std::size_t>(std::bit_width(words - 1));  // words <= 2^width
  return words <= std::size_t{3} << (width - 2) ? 2 * (width - 2) + 1 : 2 * (width - 1);
}

std::uint64_t* WordPool::take(std::size_t words) {
  const std::size_t size_class = class_of(words);
  std::vector<std::uint64_t*>& free = free_[size_class];
  if (!free.empty()) {
    std::uint64_t* const array = free.back();
    free.pop_back();
    return array;
  }
  const std::size_t wanted = capacity(size_class);
  if (fresh_words_ < wanted) {
    // What is left of a slab serves smaller arrays.
    for (std::size_t c = kClasses; c-- > 0;) {
      while (fresh_words_ >= capacity(c) && capacity(c) < wanted) {
        free_[c].push_back(fresh_);
        fresh_ += capacity(c);
        fresh_words_ -= capacity(c);
      }
    }
    const std::size_t slab = std::max(slab_words_, wanted);
    slabs_.emplace_back(slab * sizeof(std::uint64_t));
    reserved_ += slab * sizeof(std::uint64_t);
    fresh_ = reinterpret_cast<std::uint64_t*>(slabs_.back().get());
    fresh_words_ = slab;
  }
  std::uint64_t* const array = fresh_;
  fresh_ += wanted;
  fresh_words_ -= wanted;
  return array;
}

void WordPool::give(std::uint64_t* array, std::size_t words) { free_[class_of(words)].push_back(array); }

}  // namespace warmpath::index
