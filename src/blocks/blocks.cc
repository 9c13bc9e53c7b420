#include "blocks/blocks.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace warmpath::blocks {

static_assert(std::endian::native == std::endian::little, "keys hash tokens as they lie in memory");

// The tag at a fixed place of every hashed input: inputs of different kinds never have the same bytes.
enum class KeySpace::Kind : std::uint32_t { kRoot = 1, kBlock = 2, kTextRoot = 3, kTextBlock = 4 };

namespace {

constexpr std::size_t kStackBytes = 1024;  // blocks of up to 250 tokens are hashed without an allocation
constexpr std::uint64_t kBytesPerToken = 4;
constexpr std::size_t kSha256Bytes = 32;

template <class Int>
void append(std::vector<std::uint8_t>& out, Int number) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&number);
  out.insert(out.end(), bytes, bytes + sizeof number);
}

void append_sized(std::vector<std::uint8_t>& out, std::string_view text) {
  append(out, static_cast<std::uint64_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

// Gives each block the items that begin in it, block after block: one pass.
class ItemCursor {
 public:
  explicit ItemCursor(const std::vector<MmItem>& items) {
    for (const MmItem& item : items) items_.push_back(&item);
    std::sort(items_.begin(), items_.end(), [](const MmItem* a, const MmItem* b) {
      return a->offset != b->offset ? a->offset < b->offset : a < b;  // one position: as given
    });
  }

  std::span<const MmKey> beginning(std::uint64_t begin, std::uint64_t end) {
    keys_.clear();
    while (first_ < items_.size() && items_[first_]->offset < begin) ++first_;
    for (std::size_t i = first_; i < items_.size() && items_[i]->offset < end; ++i) {
      keys_.push_back({items_[i]->identifier, static_cast<std::int64_t>(items_[i]->offset - begin)});
    }
    return keys_;
  }

 private:
  std::vector<const MmItem*> items_;
  std::vector<MmKey> keys_;
  std::size_t first_ = 0;
};

std::span<const std::uint8_t> bytes_of(std::span<const TokenId> ids) {
  return {reinterpret_cast<const std::uint8_t*>(ids.data()), ids.size_bytes()};
}

}  // namespace

KeySpace::KeySpace(std::uint64_t secret, std::string_view model, std::uint32_t block_tokens)
    : block_tokens_(block_tokens) {
  WP_CHECK(block_tokens >= 1);
  static_assert(kSecretBytes >= XXH3_SECRET_SIZE_MIN);
  static_assert(kSecretBytes % kSha256Bytes == 0);
  std::vector<std::uint8_t> input;
  for (std::size_t at = 0; at < kSecretBytes; at += kSha256Bytes) {
    input.clear();
    append(input, static_cast<std::uint64_t>(at));
    append(input, secret);
    append_sized(input, model);
    unsigned size = 0;
    WP_CHECK(EVP_Digest(input.data(), input.size(), secret_.data() + at, &size, EVP_sha256(), nullptr) == 1 &&
             size == kSha256Bytes);
  }
}

BlockKey KeySpace::hash_root(Kind kind, std::string_view lora, std::string_view salt) const {
  std::vector<std::uint8_t> input;
  append(input, std::uint64_t{0});
  append(input, kind);
  append_sized(input, lora);
  append_sized(input, salt);
  return BlockKey(XXH3_64bits_withSecret(input.data(), input.size(), secret_.data(), secret_.size()));
}

// Layout: parent u64, kind u32, number of items u32, content, then of each item offset i64, length u64, identifier.
// The content's length is the same for all blocks of one kind and pool, so where it ends is never in doubt.
BlockKey KeySpace::hash_block(Kind kind, BlockKey parent, std::span<const std::uint8_t> content,
                              std::span<const MmKey> items, std::vector<std::uint8_t>& scratch) const {
  struct Head {
    std::uint64_t parent;
    Kind kind;
    std::uint32_t items;
  };
  static_assert(sizeof(Head) == 16);
  const Head head{parent.value(), kind, static_cast<std::uint32_t>(items.size())};
  if (items.empty() && sizeof head + content.size() <= kStackBytes) {
    std::array<std::uint8_t, kStackBytes> input;
    std::memcpy(input.data(), &head, sizeof head);
    std::memcpy(input.data() + sizeof head, content.data(), content.size());
    return BlockKey(
        XXH3_64bits_withSecret(input.data(), sizeof head + content.size(), secret_.data(), secret_.size()));
  }
  scratch.clear();
  append(scratch, head);
  scratch.insert(scratch.end(), content.begin(), content.end());
  for (const MmKey& item : items) {
    append(scratch, item.offset);
    append_sized(scratch, item.identifier);
  }
  return BlockKey(XXH3_64bits_withSecret(scratch.data(), scratch.size(), secret_.data(), secret_.size()));
}

std::vector<BlockKey> KeySpace::hash_chain(Kind root, Kind block, std::span<const std::uint8_t> content,
                                           std::uint64_t block_bytes, std::uint64_t blocks_max,
                                           const ChainContext& context) const {
  const std::uint64_t blocks = std::min<std::uint64_t>(content.size() / block_bytes, blocks_max);
  std::vector<BlockKey> chain;
  chain.reserve(blocks);
  std::vector<std::uint8_t> scratch;
  ItemCursor items(context.items);
  BlockKey parent = hash_root(root, context.lora, context.salt);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t begin = i * block_bytes;
    // Text blocks need not end on a token: the item's first token decides by where it starts.
    const std::uint64_t first_token = begin / kBytesPerToken;
    const std::uint64_t end_token = (begin + block_bytes + kBytesPerToken - 1) / kBytesPerToken;
    parent = hash_block(block, parent, content.subspan(begin, block_bytes), items.beginning(first_token, end_token),
                        scratch);
    chain.push_back(parent);
  }
  return chain;
}

BlockKey KeySpace::root(std::string_view lora, std::string_view salt) const {
  return hash_root(Kind::kRoot, lora, salt);
}

BlockKey KeySpace::next(BlockKey parent, std::span<const TokenId> tokens, std::span<const MmKey> items) const {
  WP_CHECK(tokens.size() == block_tokens_);
  std::vector<std::uint8_t> scratch;
  return hash_block(Kind::kBlock, parent, bytes_of(tokens), items, scratch);
}

std::vector<BlockKey> KeySpace::chain(std::span<const TokenId> ids, const ChainContext& context) const {
  return hash_chain(Kind::kRoot, Kind::kBlock, bytes_of(ids), std::uint64_t{block_tokens_} * kBytesPerToken,
                    std::numeric_limits<std::uint64_t>::max(), context);
}

std::vector<BlockKey> KeySpace::text_chain(std::string_view text, std::uint32_t block_bytes, std::uint32_t blocks_max,
                                           const ChainContext& context) const {
  WP_CHECK(block_bytes >= 1);
  const std::uint64_t cap = blocks_max == 0 ? std::numeric_limits<std::uint64_t>::max() : blocks_max;
  return hash_chain(Kind::kTextRoot, Kind::kTextBlock,
                    {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, block_bytes, cap, context);
}

std::vector<BlockKey> KeySpace::id_guess_chain(std::span<const TokenId> ids, std::uint32_t block_bytes,
                                               std::uint32_t blocks_max, const ChainContext& context) const {
  WP_CHECK(block_bytes >= kBytesPerToken);
  const std::uint64_t cap = blocks_max == 0 ? std::numeric_limits<std::uint64_t>::max() : blocks_max;
  return hash_chain(Kind::kTextRoot, Kind::kTextBlock, bytes_of(ids),
                    block_bytes / kBytesPerToken * kBytesPerToken, cap, context);
}

}  // namespace warmpath::blocks
