// Strong ids: two kinds of number never mix, not even across doors.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace warmpath {

template <class Tag, class Int>
class StrongId {
 public:
  using Value = Int;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Int value) : value_(value) {}
  constexpr Int value() const { return value_; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  Int value_{};
};

// One engine: a vLLM or SGLang process, or one data-parallel rank of it. Every rank has an id of its own, given by
// the fleet, dense from 0 in a pool and never reused while the process lives.
using EngineId = StrongId<struct EngineIdTag, std::uint32_t>;
// One request inside this router, unique while the process lives.
using RequestId = StrongId<struct RequestIdTag, std::uint64_t>;
// The router's own key of a block: covers the block and all before it (see blocks).
using BlockKey = StrongId<struct BlockKeyTag, std::uint64_t>;
// An engine's own hash of a block as its events carry it: opaque, 64 bits.
using EngineHash = StrongId<struct EngineHashTag, std::uint64_t>;
// Sequence number of one batch in a publisher's stream; starts at 0 with each engine process.
using PublisherSeq = StrongId<struct PublisherSeqTag, std::uint64_t>;

using TokenId = std::uint32_t;

}  // namespace warmpath

template <class Tag, class Int>
struct std::hash<warmpath::StrongId<Tag, Int>> {
  std::size_t operator()(warmpath::StrongId<Tag, Int> id) const noexcept { return std::hash<Int>{}(id.value()); }
};
