// blocks: token ids or text bytes -> chain of block keys; the engines' own hash schemes; the words of KV events.
//
// A chain is one BlockKey per full block; key i covers tokens [0, (i+1)*block_tokens). Two prompts share key i only
// when pool secret, model, adapter, salt, multimodal items and all tokens up to there are equal (up to a 64-bit
// collision). A partial last block has no key.
//
//   KeySpace space(secret, "qwen3-32b", 64);
//   std::vector<BlockKey> chain = space.chain(ids, {.lora = "", .salt = "tenant-a", .items = {}});
//
// Thread rule: KeySpace and the functions are values or const; an EngineHasher has one owner. No I/O, no globals.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/base.h"
#include "blocks/engine_hashes.h"  // IWYU pragma: export
#include "blocks/kv_event.h"       // IWYU pragma: export

namespace warmpath::blocks {

// One multimodal item of a prompt: `offset` and `length` in tokens from the prompt's start. An item takes part in the
// key of the block in which it begins, and through the chain in all later ones: engines' events tell where an item
// begins for every pair of block sizes, but not how long it is. The identifier names the content, so its length too.
struct MmItem {
  std::string identifier = {};
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// What besides the tokens decides a chain.
struct ChainContext {
  std::string lora = {};  // adapter name; empty: the base model
  std::string salt = {};  // cache salt; empty: none
  std::vector<MmItem> items = {};
};

// One item that begins in a block: `offset` is the item's first token minus the block's first token.
struct MmKey {
  std::string_view identifier;
  std::int64_t offset = 0;
};

// The router's keys of one pool: XXH3-64 under a 192-byte secret expanded from the pool secret and the model name, so
// that clients can neither predict nor collide keys. It never leaves the process. Every variable part is hashed behind
// its length and every kind of input behind a tag of its own: no two different inputs hash the same bytes.
class KeySpace {
 public:
  // block_tokens >= 1.
  KeySpace(std::uint64_t secret, std::string_view model, std::uint32_t block_tokens);

  std::uint32_t block_tokens() const { return block_tokens_; }

  // The key "before block 0" for an adapter and salt. Cost: one hash.
  BlockKey root(std::string_view lora, std::string_view salt) const;
  // The key of the block that follows `parent`: exactly block_tokens ids. Cost: one hash of 4*block_tokens bytes.
  // `items` are those that begin in the block, in the order of their offsets.
  BlockKey next(BlockKey parent, std::span<const TokenId> tokens, std::span<const MmKey> items = {}) const;

  // floor(ids.size() / block_tokens) keys.
  std::vector<BlockKey> chain(std::span<const TokenId> ids, const ChainContext& context) const;

  // A guessed chain over raw text bytes: one key per full `block_bytes` (>= 1), at most `blocks_max` keys (0: no cap).
  // Never equal to a key of chain(): its roots differ. An item at token t stands at byte 4*t.
  std::vector<BlockKey> text_chain(std::string_view text, std::uint32_t block_bytes, std::uint32_t blocks_max,
                                   const ChainContext& context) const;
  // The same guess where there are only ids: one id stands for 4 bytes, so block_bytes / 4 ids (>= 1) a block. Equal to
  // text_chain over the ids' little-endian bytes.
  std::vector<BlockKey> id_guess_chain(std::span<const TokenId> ids, std::uint32_t block_bytes,
                                       std::uint32_t blocks_max, const ChainContext& context) const;

 private:
  static constexpr std::size_t kSecretBytes = 192;
  enum class Kind : std::uint32_t;

  BlockKey hash_root(Kind kind, std::string_view lora, std::string_view salt) const;
  BlockKey hash_block(Kind kind, BlockKey parent, std::span<const std::uint8_t> content, std::span<const MmKey> items,
                      std::vector<std::uint8_t>& scratch) const;
  // One key per `block_bytes` of content; `unit_bytes` is what one step of an item's offset stands for.
  std::vector<BlockKey> hash_chain(Kind root, Kind block, std::span<const std::uint8_t> content,
                                   std::uint64_t block_bytes, std::uint64_t blocks_max,
                                   const ChainContext& context) const;

  std::array<std::uint8_t, kSecretBytes> secret_{};
  std::uint32_t block_tokens_ = 0;
};

}  // namespace warmpath::blocks
