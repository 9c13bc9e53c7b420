#include "blocks/engine_hashes.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "blocks/pickle.h"

namespace warmpath::blocks {
namespace {

constexpr std::array<std::string_view, 5> kSchemeNames{"vllm-sha256", "vllm-sha256-cbor", "vllm-xxhash",
                                                       "vllm-xxhash-cbor", "sglang"};
// vLLM since 2026-08: the root of the SHA-256 schemes when PYTHONHASHSEED is not set.
constexpr std::string_view kSeedUnset = "vllm-none-hash";
constexpr std::string_view kSglangSaltPrefix{"sglang-cache-salt-v1\0", 21};

constexpr std::string_view kTagLora = "lora";
constexpr std::string_view kTagMm = "mm";
constexpr std::string_view kTagSalt = "cache_salt";

static_assert(std::endian::native == std::endian::little, "SGLang hashes tokens as they lie in memory");

bool is_xxhash(Scheme scheme) { return scheme == Scheme::kVllmXxhash || scheme == Scheme::kVllmXxhashCbor; }
bool is_cbor(Scheme scheme) { return scheme == Scheme::kVllmSha256Cbor || scheme == Scheme::kVllmXxhashCbor; }

void append_text(std::vector<std::uint8_t>& out, std::string_view text) {
  out.insert(out.end(), text.begin(), text.end());
}

// One entry of vLLM's extra keys, in the engine's order: adapter, items by position, salt.
struct Entry {
  std::string_view tag;
  std::string_view text;
  std::string_view path;  // adapter only
  std::int64_t offset = 0;
};

struct CborWriter {
  std::vector<std::uint8_t>& out;

  void head(std::uint8_t major, std::uint64_t number) {
    const auto type = static_cast<std::uint8_t>(major << 5);
    int bytes = 0;
    if (number < 24) {
      out.push_back(static_cast<std::uint8_t>(type | number));
      return;
    }
    if (number <= 0xff) {
      out.push_back(type | 24);
      bytes = 1;
    } else if (number <= 0xffff) {
      out.push_back(type | 25);
      bytes = 2;
    } else if (number <= 0xffffffffu) {
      out.push_back(type | 26);
      bytes = 4;
    } else {
      out.push_back(type | 27);
      bytes = 8;
    }
    for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<std::uint8_t>(number >> (8 * i)));
  }
  void integer(std::int64_t number) {
    if (number >= 0) {
      head(0, static_cast<std::uint64_t>(number));
    } else {
      head(1, ~static_cast<std::uint64_t>(number));
    }
  }
  // As head(0, token) for each, without a check of the buffer's end for each byte.
  void tokens(std::span<const TokenId> ids) {
    constexpr std::size_t kLongest = 5;
    const std::size_t start = out.size();
    out.resize(start + ids.size() * kLongest);
    std::uint8_t* at = out.data() + start;
    for (const TokenId id : ids) {
      const int bytes = id < 24 ? 0 : id <= 0xff ? 1 : id <= 0xffff ? 2 : 4;
      *at++ = static_cast<std::uint8_t>(bytes == 0 ? id : bytes == 4 ? 26u : 23u + bytes);
      for (int i = bytes - 1; i >= 0; --i) *at++ = static_cast<std::uint8_t>(id >> (8 * i));
    }
    out.resize(static_cast<std::size_t>(at - out.data()));
  }
  void bytes(std::span<const std::uint8_t> data) {
    head(2, data.size());
    out.insert(out.end(), data.begin(), data.end());
  }
  void text(std::string_view utf8) {
    head(3, utf8.size());
    append_text(out, utf8);
  }
  void array(std::size_t items) { head(4, items); }
  void none() { out.push_back(0xf6); }
};

void write_cbor(CborWriter out, const Digest& parent, std::span<const TokenId> tokens, std::span<const Entry> extras,
                ExtraKeyForm form) {
  out.array(3);
  out.bytes(parent.view());
  out.array(tokens.size());
  out.tokens(tokens);
  if (extras.empty()) return out.none();
  out.array(extras.size());
  for (const Entry& entry : extras) {
    const bool tagged = form == ExtraKeyForm::kTagged;
    if (entry.tag == kTagMm) {
      out.array(tagged ? 3 : 2);
      if (tagged) out.text(entry.tag);
      out.text(entry.text);
      out.integer(entry.offset);
    } else if (!tagged) {
      out.text(entry.text);
    } else {
      out.array(entry.tag == kTagLora ? 3 : 2);
      out.text(entry.tag);
      out.text(entry.text);
      if (entry.tag == kTagLora) out.text(entry.path);
    }
  }
}

void write_pickle(std::vector<std::uint8_t>& buffer, const Digest& parent, std::span<const TokenId> tokens,
                  std::span<const Entry> extras, ExtraKeyForm form) {
  PickleWriter out(buffer);
  out.open_tuple(3);
  out.bytes(parent.view());
  out.open_tuple(tokens.size());
  out.integers(tokens);
  out.close_tuple(tokens.size());
  if (extras.empty()) {
    out.none();
  } else {
    // CPython keeps one object for a constant: the second "mm" of a block is a reference to the first.
    std::optional<PickleWriter::MemoIndex> mm_tag;
    out.open_tuple(extras.size());
    for (const Entry& entry : extras) {
      const bool tagged = form == ExtraKeyForm::kTagged;
      if (entry.tag == kTagMm) {
        const std::size_t items = tagged ? 3 : 2;
        out.open_tuple(items);
        if (tagged && mm_tag) out.again(*mm_tag);
        if (tagged && !mm_tag) mm_tag = out.text(entry.tag);
        out.text(entry.text);
        out.integer(entry.offset);
        out.close_tuple(items);
      } else if (!tagged) {
        out.text(entry.text);
      } else {
        const std::size_t items = entry.tag == kTagLora ? 3 : 2;
        out.open_tuple(items);
        out.text(entry.tag);
        out.text(entry.text);
        if (entry.tag == kTagLora) out.text(entry.path);
        out.close_tuple(items);
      }
    }
    out.close_tuple(extras.size());
  }
  out.close_tuple(3);
  out.finish();
}

}  // namespace

std::optional<Scheme> parse_scheme(std::string_view name) {
  for (std::size_t i = 0; i < kSchemeNames.size(); ++i) {
    if (kSchemeNames[i] == name) return static_cast<Scheme>(i);
  }
  return std::nullopt;
}

std::string_view scheme_name(Scheme scheme) { return kSchemeNames[static_cast<std::size_t>(scheme)]; }

std::span<const std::string_view> scheme_names() { return kSchemeNames; }

EngineHash event_hash(Scheme scheme, const Digest& digest) {
  WP_CHECK(digest.size >= 8);
  const std::size_t first = scheme == Scheme::kSglang ? 0 : digest.size - 8u;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value = value << 8 | digest.bytes[first + i];
  return EngineHash(value);
}

// The fetched algorithm and the context are kept: looking SHA-256 up again costs more than hashing a block.
struct EngineHasher::Scratch {
  std::vector<std::uint8_t> buffer;
  std::vector<Entry> entries;
  EVP_MD* sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  EVP_MD_CTX* context = EVP_MD_CTX_new();

  Scratch() { WP_CHECK(sha256 != nullptr && context != nullptr); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    EVP_MD_CTX_free(context);
    EVP_MD_free(sha256);
  }
};

EngineHasher::ScratchOwner::ScratchOwner() : scratch_(new Scratch) {}
EngineHasher::ScratchOwner::~ScratchOwner() { delete scratch_; }

Digest EngineHasher::digest() const {
  Scratch& scratch = *scratch_;
  Digest digest;
  if (is_xxhash(options_.scheme)) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(scratch.buffer.data(), scratch.buffer.size()));
    digest.size = sizeof canonical.digest;
    std::copy(std::begin(canonical.digest), std::end(canonical.digest), digest.bytes.begin());
    return digest;
  }
  unsigned size = 0;
  WP_CHECK(EVP_DigestInit_ex2(scratch.context, scratch.sha256, nullptr) == 1 &&
           EVP_DigestUpdate(scratch.context, scratch.buffer.data(), scratch.buffer.size()) == 1 &&
           EVP_DigestFinal_ex(scratch.context, digest.bytes.data(), &size) == 1);
  WP_CHECK(size == digest.bytes.size());
  digest.size = static_cast<std::uint8_t>(size);
  return digest;
}

Result<EngineHasher> EngineHasher::create(HashOptions options) {
  if (options.block_tokens == 0) return Error{ErrorKind::kInvalid, "block size is 0 tokens: it must be at least 1"};
  if (is_xxhash(options.scheme) && !options.seed) {
    return Error{ErrorKind::kInvalid, "scheme " + std::string(scheme_name(options.scheme)) +
                                          " without a seed has a random root in every engine process: give the text "
                                          "of PYTHONHASHSEED"};
  }
  EngineHasher hasher(std::move(options));
  if (hasher.options_.scheme == Scheme::kSglang) return hasher;
  const std::string_view seed = hasher.options_.seed ? std::string_view(*hasher.options_.seed) : kSeedUnset;
  std::vector<std::uint8_t>& buffer = (*hasher.scratch_).buffer;
  if (is_cbor(hasher.options_.scheme)) {
    CborWriter{buffer}.text(seed);
  } else {
    PickleWriter out(buffer);
    out.text(seed);
    out.finish();
  }
  hasher.root_ = hasher.digest();
  return hasher;
}

Digest EngineHasher::block(const Digest& parent, std::uint64_t index, std::span<const TokenId> tokens,
                           const Extras& extras) const {
  WP_CHECK(tokens.size() == options_.block_tokens);
  Scratch& scratch = *scratch_;
  scratch.buffer.clear();
  if (options_.scheme == Scheme::kSglang) {
    Digest prior = parent;
    if (index == 0 && !extras.salt.empty()) {
      append_text(scratch.buffer, kSglangSaltPrefix);
      append_text(scratch.buffer, extras.salt);
      prior = digest();
      scratch.buffer.clear();
    }
    scratch.buffer.insert(scratch.buffer.end(), prior.view().begin(), prior.view().end());
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(tokens.data());
    scratch.buffer.insert(scratch.buffer.end(), bytes, bytes + tokens.size_bytes());
    return digest();
  }

  scratch.entries.clear();
  if (!extras.lora_name.empty()) scratch.entries.push_back({kTagLora, extras.lora_name, extras.lora_path});
  const auto items_begin = static_cast<std::ptrdiff_t>(scratch.entries.size());
  const std::uint64_t begin = index * options_.block_tokens;
  const std::uint64_t end = begin + options_.block_tokens;
  for (const HashMmItem& item : extras.items) {
    const std::uint64_t room = std::numeric_limits<std::uint64_t>::max() - item.offset;
    if (item.offset >= end || item.offset + std::min(item.length, room) <= begin) continue;
    const Entry entry{kTagMm, item.identifier, {}, static_cast<std::int64_t>(item.offset - begin)};
    // By position; those of one position as given.
    const auto place = std::upper_bound(scratch.entries.begin() + items_begin, scratch.entries.end(), entry,
                                        [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
    scratch.entries.insert(place, entry);
  }
  if (index == 0 && !extras.salt.empty()) scratch.entries.push_back({kTagSalt, extras.salt, {}});

  if (is_cbor(options_.scheme)) {
    write_cbor(CborWriter{scratch.buffer}, parent, tokens, scratch.entries, options_.form);
  } else {
    write_pickle(scratch.buffer, parent, tokens, scratch.entries, options_.form);
  }
  return digest();
}

std::vector<Digest> EngineHasher::chain(std::span<const TokenId> tokens) const {
  std::vector<Digest> digests;
  const std::size_t blocks = tokens.size() / options_.block_tokens;
  digests.reserve(blocks);
  const Extras extras{options_.lora_name, options_.lora_path, options_.salt, options_.items};
  for (std::size_t i = 0; i < blocks; ++i) {
    digests.push_back(block(digests.empty() ? root_ : digests.back(), i,
                            tokens.subspan(i * options_.block_tokens, options_.block_tokens), extras));
  }
  return digests;
}

}  // namespace warmpath::blocks
