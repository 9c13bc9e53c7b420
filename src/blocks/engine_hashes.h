// The engines' own block hashes, bit for bit: for `warmpath blocks`, the engine model and doctor. Routing does not
// need them: the index learns an engine's hashes from its events.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/base.h"

namespace warmpath::blocks {

// Sources: vLLM 0.32 v1/core/kv_cache_utils (four algorithms), SGLang 0.5.23 radix cache (sha256 over u32 LE pages).
enum class Scheme : std::uint8_t { kVllmSha256, kVllmSha256Cbor, kVllmXxhash, kVllmXxhashCbor, kSglang };
std::optional<Scheme> parse_scheme(std::string_view name);  // "vllm-sha256", "vllm-sha256-cbor", "vllm-xxhash", ...
std::string_view scheme_name(Scheme scheme);
std::span<const std::string_view> scheme_names();

// 16 bytes (xxh3-128) or 32 (sha256).
struct Digest {
  std::array<std::uint8_t, 32> bytes{};
  std::uint8_t size = 0;
  std::span<const std::uint8_t> view() const { return {bytes.data(), size}; }
  friend bool operator==(const Digest&, const Digest&) = default;
};

// What an event carries for a digest: vLLM the last 8 bytes as big-endian u64; SGLang the first 8 (as i64, its bits).
EngineHash event_hash(Scheme scheme, const Digest& digest);

// vLLM before 0.32 put bare values into the extra keys; 0.32 tags them ("lora", name, path), ("mm", id, offset),
// ("cache_salt", salt), ("prompt_embeds", digest).
enum class ExtraKeyForm : std::uint8_t { kTagged, kBare };

struct HashMmItem {
  std::string identifier = {};
  std::uint64_t offset = 0;  // tokens from the prompt's start
  std::uint64_t length = 1;  // tokens
};

struct HashOptions {
  Scheme scheme = Scheme::kVllmSha256Cbor;
  std::uint32_t block_tokens = 16;
  // PYTHONHASHSEED's text; nullopt: unset. With the xxhash schemes unset means a random root per process: an error.
  std::optional<std::string> seed = {};
  ExtraKeyForm form = ExtraKeyForm::kTagged;
  std::string lora_name = {};  // empty: none
  std::string lora_path = {};  // tagged form only
  std::string salt = {};       // empty: none; block 0 only
  std::vector<HashMmItem> items = {};
};

// Incremental: the engine model adds a block at a time. One digest per full block.
// Thread rule: one owner (block() reuses a buffer and a hash context); copies are independent.
// Cost of block(): no allocation once warm; 16 tokens 0.1 us (xxhash-cbor) to 0.45 us (sha256 over a pickle).
// Limits: under kSglang seed, adapter and items take no part, as in the engine; a salt is the root's.
class EngineHasher {
 public:
  // Errors (kInvalid): block_tokens is 0; an xxhash scheme without a seed.
  static Result<EngineHasher> create(HashOptions options);
  const HashOptions& options() const { return options_; }
  // What block 0 chains from: vLLM's NONE_HASH; empty for SGLang.
  Digest root() const { return root_; }
  // Digest of block number `index` (0-based) whose predecessor has digest `parent` (root() for block 0).
  // Precondition: tokens.size() == options().block_tokens. Lora, salt and items may differ per request: see `Extras`.
  struct Extras {
    std::string_view lora_name = {};
    std::string_view lora_path = {};
    std::string_view salt = {};
    std::span<const HashMmItem> items = {};
  };
  Digest block(const Digest& parent, std::uint64_t index, std::span<const TokenId> tokens, const Extras& extras) const;
  // The whole chain with the options' own extras.
  std::vector<Digest> chain(std::span<const TokenId> tokens) const;

 private:
  // Buffer and hash context, made anew in a copy.
  struct Scratch;
  class ScratchOwner {
   public:
    ScratchOwner();
    ScratchOwner(const ScratchOwner&) : ScratchOwner() {}
    ScratchOwner(ScratchOwner&& other) noexcept : scratch_(std::exchange(other.scratch_, nullptr)) {}
    ScratchOwner& operator=(ScratchOwner other) noexcept {
      std::swap(scratch_, other.scratch_);
      return *this;
    }
    ~ScratchOwner();
    Scratch& operator*() const { return *scratch_; }

   private:
    Scratch* scratch_;
  };

  explicit EngineHasher(HashOptions options) : options_(std::move(options)) {}
  Digest digest() const;  // of what stands in the scratch buffer

  HashOptions options_;
  Digest root_;
  ScratchOwner scratch_;
};

}  // namespace warmpath::blocks
