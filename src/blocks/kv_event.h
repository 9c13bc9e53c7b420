// KvEvent: what an engine says about its KV cache, decoded. Source: vLLM 0.10 to 0.33 kv_events, SGLang 0.5.23.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/base.h"

namespace warmpath::blocks {

enum class Tier : std::uint8_t { kGpu = 0, kCpu = 1, kStorage = 2 };
inline constexpr std::size_t kTierCount = 3;
std::string_view tier_name(Tier tier);  // "gpu", "cpu", "storage"
// An engine's `medium` text, any case: "GPU", "CPU", "CPU_PINNED", "CPU_TIER1", "DISK", "STORAGE", "FS", "OBJ",
// "EXTERNAL" and nil (-> gpu); nullopt for a text not known.
std::optional<Tier> tier_of_medium(std::optional<std::string_view> medium);

// How far the map of one publisher can be trusted.
enum class PublisherState : std::uint8_t {
  kExact,    // every batch since the engine's start (or its last clear) was applied
  kPartial,  // joined late: what is known is sound, some blocks are missing
  kSuspect,  // a hole that could not be filled: removals may be lost
  kLost,     // no stream
};
std::string_view publisher_state_name(PublisherState state);  // "exact", "partial", "suspect", "lost"

// A KV group's attention kind (vLLM kv_cache_spec_kind). Only full, mla and sink groups are matched.
enum class SpecKind : std::uint8_t { kUnset, kFull, kMla, kSinkFull, kOther };
SpecKind spec_kind_of(std::string_view name);

// One entry of a block's extra keys, as events carry them: bare text (LoRA name, salt, old multimodal id), an item
// with its offset relative to the block, or raw bytes (prompt embeddings). A key of an unknown shape is kept as the
// bytes it was encoded in: a block under a key that nobody understands must equal no other.
struct ExtraText {
  std::string text;
  friend bool operator==(const ExtraText&, const ExtraText&) = default;
};
struct ExtraItem {
  std::string identifier;
  std::int64_t offset = 0;
  friend bool operator==(const ExtraItem&, const ExtraItem&) = default;
};
struct ExtraBytes {
  std::string bytes;
  friend bool operator==(const ExtraBytes&, const ExtraBytes&) = default;
};
using ExtraKey = std::variant<ExtraText, ExtraItem, ExtraBytes>;

// A hash as it came: an integer (a signed one as its 64 bits: SGLang), or bytes whose last 8, big-endian, are `value`
// (vLLM's own rule for turning a digest into an integer).
struct WireHash {
  EngineHash value;
  std::string bytes;  // empty when it came as an integer
  friend bool operator==(const WireHash&, const WireHash&) = default;
};

// Which optional fields came as an explicit nil rather than not at all: for showing a frame as it was sent. Means
// nothing otherwise and takes no part in equality.
struct SentAsNil {
  enum Field : std::uint16_t {
    kLoraId = 1,
    kMedium = 2,
    kLoraName = 4,
    kCacheSalt = 8,
    kExtraKeys = 16,
    kGroupIdx = 32,
    kSpecKind = 64,
    kSlidingWindow = 128,
    kLocality = 256,
    kOwnership = 512,
    kSessionId = 1024,
    kLookahead = 2048,
  };
  std::uint16_t bits = 0;
  bool has(Field field) const { return (bits & field) != 0; }
  friend bool operator==(SentAsNil, SentAsNil) { return true; }
};

struct BlockStored {
  std::vector<WireHash> block_hashes;
  std::optional<WireHash> parent_block_hash;
  std::vector<TokenId> token_ids;  // those of block_hashes only; empty for an offload placeholder
  std::uint32_t block_size = 0;    // tokens
  std::optional<std::int64_t> lora_id;
  std::optional<std::string> medium;  // as sent; nullopt means gpu
  std::optional<std::string> lora_name;
  std::optional<std::string> cache_salt;  // SGLang sends it so
  // One list per hash (possibly empty), or nullopt when the field was absent or nil.
  std::optional<std::vector<std::vector<ExtraKey>>> extra_keys;
  std::optional<std::uint32_t> group_idx;
  std::optional<std::string> kv_cache_spec_kind;
  std::optional<std::uint32_t> kv_cache_spec_sliding_window;
  std::optional<std::string> locality;
  std::optional<std::string> ownership;
  std::optional<std::string> session_id;
  // vLLM 0.33 with a draft model: the tokens after each block that its hash also covers.
  std::optional<std::vector<std::vector<TokenId>>> lookahead_token_ids;
  SentAsNil sent_as_nil;
  friend bool operator==(const BlockStored&, const BlockStored&) = default;
};

struct BlockRemoved {
  std::vector<WireHash> block_hashes;
  std::optional<std::string> medium;
  std::optional<std::uint32_t> group_idx;
  std::optional<std::string> locality;
  std::optional<std::string> ownership;
  SentAsNil sent_as_nil;
  friend bool operator==(const BlockRemoved&, const BlockRemoved&) = default;
};

struct AllBlocksCleared {
  friend bool operator==(const AllBlocksCleared&, const AllBlocksCleared&) = default;
};

using KvEvent = std::variant<BlockStored, BlockRemoved, AllBlocksCleared>;

}  // namespace warmpath::blocks
