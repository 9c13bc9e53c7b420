#include <algorithm>
#include <limits>

#include "events/codec.h"
#include "events/msgpack.h"

namespace warmpath::events {
namespace {

using blocks::BlockRemoved;
using blocks::BlockStored;
using blocks::ExtraKey;
using blocks::SentAsNil;
using blocks::WireHash;
using msgpack::Kind;
using msgpack::Reader;

// A field's answer: false when its value is of the wrong kind (or the payload is broken: the reader knows).
class Decoder {
 public:
  Decoder(std::span<const std::uint8_t> payload, const DecodeLimits& limits)
      : reader_(payload, limits.depth_max), bytes_left_(limits.decoded_bytes_max) {}

  Result<Batch> batch();

 private:
  enum class Field : std::uint8_t {
    kUnknown,
    kType,
    kHashes,
    kParent,
    kTokens,
    kBlockSize,
    kLoraId,
    kMedium,
    kLoraName,
    kExtraKeys,
    kGroup,
    kSpecKind,
    kSlidingWindow,
    kLocality,
    kOwnership,
    kSessionId,
    kCacheSalt,
    kLookahead,
  };
  // Ordered as vLLM 0.32 sends them.
  static constexpr std::pair<std::string_view, Field> kFields[] = {
      {"type", Field::kType},
      {"block_hashes", Field::kHashes},
      {"parent_block_hash", Field::kParent},
      {"token_ids", Field::kTokens},
      {"block_size", Field::kBlockSize},
      {"lora_id", Field::kLoraId},
      {"medium", Field::kMedium},
      {"lora_name", Field::kLoraName},
      {"extra_keys", Field::kExtraKeys},
      {"group_idx", Field::kGroup},
      {"kv_cache_spec_kind", Field::kSpecKind},
      {"kv_cache_spec_sliding_window", Field::kSlidingWindow},
      {"locality", Field::kLocality},
      {"ownership", Field::kOwnership},
      {"session_id", Field::kSessionId},
      {"cache_salt", Field::kCacheSalt},
      {"lookahead_token_ids", Field::kLookahead},
  };
  Field field_of(std::string_view name);

  enum class Outcome : std::uint8_t { kKept, kUnknown, kMalformed };

  Error error(const char* what, std::size_t position) const {
    return {ErrorKind::kInvalid, "event batch " + std::string(what) + " (byte " + std::to_string(position) + ")"};
  }
  Error fault() const {
    if (too_large_) {
      return {ErrorKind::kTooLarge, "event batch unfolds to more than the limit of decoded bytes (byte " +
                                        std::to_string(reader_.position()) + ")"};
    }
    return error(reader_.fault(), reader_.fault_position());
  }
  bool stopped() const { return too_large_ || reader_.broken(); }
  // Books memory that is about to be used; false ends the batch.
  bool charge(std::size_t bytes) {
    if (bytes > bytes_left_) {
      too_large_ = true;
      return false;
    }
    bytes_left_ -= bytes;
    return true;
  }

  void take_rank(Batch& batch);
  bool take_events(Batch& batch);
  Outcome event(Batch& batch);
  Outcome array_event(Batch& batch);
  Outcome map_event(Batch& batch);
  std::optional<std::string_view> type_of_map(std::uint32_t pairs);

  bool stored_field(Field field, BlockStored& event);
  bool removed_field(Field field, BlockRemoved& event);

  bool take_hash(WireHash& out);
  bool take_hashes(std::vector<WireHash>& out);
  bool take_parent(std::optional<WireHash>& out);
  bool take_token(TokenId& out);
  bool take_tokens(std::vector<TokenId>& out);
  bool take_u32(std::uint32_t& out);
  bool take_optional(std::optional<std::uint32_t>& out, SentAsNil& nils, SentAsNil::Field nil);
  bool take_optional(std::optional<std::int64_t>& out, SentAsNil& nils, SentAsNil::Field nil);
  bool take_optional(std::optional<std::string>& out, SentAsNil& nils, SentAsNil::Field nil);
  bool take_extra_key(ExtraKey& out);
  bool take_extra_keys(BlockStored& event);
  bool take_lookahead(BlockStored& event);
  bool take_interim_map(BlockStored& event);

  Reader reader_;
  std::size_t bytes_left_;
  bool too_large_ = false;
  std::uint32_t required_ = 0;   // fields of the event at hand that were there
  std::size_t field_place_ = 0;  // in kFields: where the last one known was found, and one further
};

Decoder::Field Decoder::field_of(std::string_view name) {
  // Engines send them in one order: the next one is nearly always a little behind the last.
  for (std::size_t i = 0; i < std::size(kFields); ++i) {
    const std::size_t place = field_place_;
    field_place_ = place + 1 == std::size(kFields) ? 0 : place + 1;
    if (kFields[place].first == name) return kFields[place].second;
  }
  return Field::kUnknown;
}

bool Decoder::take_u32(std::uint32_t& out) {
  const auto integer = reader_.take_integer();
  if (!integer || integer->negative || integer->bits > std::numeric_limits<std::uint32_t>::max()) return false;
  out = static_cast<std::uint32_t>(integer->bits);
  return true;
}

bool Decoder::take_optional(std::optional<std::uint32_t>& out, SentAsNil& nils, SentAsNil::Field nil) {
  out.reset();
  if (reader_.take_nil()) {
    nils.bits |= nil;
    return true;
  }
  return take_u32(out.emplace());
}

bool Decoder::take_optional(std::optional<std::int64_t>& out, SentAsNil& nils, SentAsNil::Field nil) {
  out.reset();
  if (reader_.take_nil()) {
    nils.bits |= nil;
    return true;
  }
  const auto integer = reader_.take_integer();
  if (!integer || (!integer->negative && integer->bits > std::numeric_limits<std::int64_t>::max())) return false;
  out = static_cast<std::int64_t>(integer->bits);
  return true;
}

bool Decoder::take_optional(std::optional<std::string>& out, SentAsNil& nils, SentAsNil::Field nil) {
  out.reset();
  if (reader_.take_nil()) {
    nils.bits |= nil;
    return true;
  }
  const auto text = reader_.take_text();
  if (!text || !charge(text->size())) return false;
  out.emplace(*text);
  return true;
}

bool Decoder::take_hash(WireHash& out) {
  if (const auto wide = reader_.take_wide()) {
    out.value = EngineHash(*wide);
    out.bytes.clear();
    return true;
  }
  if (const auto integer = reader_.take_integer()) {
    out.value = EngineHash(integer->bits);
    out.bytes.clear();
    return true;
  }
  const auto bytes = reader_.take_bytes();
  if (!bytes || bytes->empty() || !charge(bytes->size())) return false;
  out.bytes.assign(bytes->begin(), bytes->end());
  std::uint64_t value = 0;
  for (const std::uint8_t byte : bytes->last(std::min<std::size_t>(8, bytes->size()))) value = value << 8 | byte;
  out.value = EngineHash(value);
  return true;
}

bool Decoder::take_hashes(std::vector<WireHash>& out) {
  out.clear();
  const auto count = reader_.take_array();
  if (!count || !charge(*count * sizeof(WireHash))) return false;
  // A hash is 9 bytes or more; hostile one-byte ones pay for the growing.
  out.reserve(std::min<std::size_t>(*count, reader_.left() / 9 + 1));
  for (std::uint32_t i = 0; i < *count; ++i) {
    if (!take_hash(out.emplace_back())) return false;
  }
  return true;
}

bool Decoder::take_parent(std::optional<WireHash>& out) {
  out.reset();
  return reader_.take_nil() || take_hash(out.emplace());
}

bool Decoder::take_token(TokenId& out) {
  if (take_u32(out)) return true;
  // SGLang's EAGLE trees index bigrams: [token, next token]. The first is the block's own.
  const auto count = reader_.take_array();
  if (!count || *count == 0 || !take_u32(out)) return false;
  for (std::uint32_t i = 1; i < *count; ++i) {
    if (!reader_.skip()) return false;
  }
  return true;
}

bool Decoder::take_tokens(std::vector<TokenId>& out) {
  out.clear();
  const auto count = reader_.take_array();
  if (!count || !charge(*count * sizeof(TokenId))) return false;
  out.resize(*count);
  for (std::size_t i = reader_.take_small(out.data(), *count); i < *count; ++i) {
    if (!take_token(out[i])) return false;
  }
  return true;
}

bool Decoder::take_extra_key(ExtraKey& out) {
  const std::size_t start = reader_.position();
  if (const auto text = reader_.take_text()) {
    out = blocks::ExtraText{std::string(*text)};
    return charge(text->size());
  }
  if (const auto bytes = reader_.take_bytes()) {
    out = blocks::ExtraBytes{std::string(bytes->begin(), bytes->end())};
    return charge(bytes->size());
  }
  if (reader_.peek() == Kind::kArray && reader_.take_array() == 2u) {
    const auto identifier = reader_.take_text();
    const auto offset = identifier ? reader_.take_integer() : std::nullopt;
    if (offset && (offset->negative || offset->bits <= std::numeric_limits<std::int64_t>::max())) {
      out = blocks::ExtraItem{std::string(*identifier), static_cast<std::int64_t>(offset->bits)};
      return charge(identifier->size());
    }
  }
  reader_.seek(start);
  if (!reader_.skip()) return false;
  const auto raw = reader_.between(start, reader_.position());
  out = blocks::ExtraBytes{std::string(raw.begin(), raw.end())};
  return charge(raw.size());
}

bool Decoder::take_extra_keys(BlockStored& event) {
  event.extra_keys.reset();
  if (reader_.take_nil()) {
    event.sent_as_nil.bits |= SentAsNil::kExtraKeys;
    return true;
  }
  const auto count = reader_.take_array();
  if (!count || !charge(*count * sizeof(std::vector<ExtraKey>))) return false;
  auto& lists = event.extra_keys.emplace(*count);
  for (std::vector<ExtraKey>& list : lists) {
    if (reader_.take_nil()) continue;
    const auto keys = reader_.take_array();
    if (!keys || !charge(*keys * sizeof(ExtraKey))) return false;
    list.resize(*keys);
    for (ExtraKey& key : list) {
      if (!take_extra_key(key)) return false;
    }
  }
  return true;
}

bool Decoder::take_lookahead(BlockStored& event) {
  event.lookahead_token_ids.reset();
  if (reader_.take_nil()) {
    event.sent_as_nil.bits |= SentAsNil::kLookahead;
    return true;
  }
  const auto count = reader_.take_array();
  if (!count || !charge(*count * sizeof(std::vector<TokenId>))) return false;
  auto& lists = event.lookahead_token_ids.emplace(*count);
  return std::all_of(lists.begin(), lists.end(),
                     [this](std::vector<TokenId>& list) { return reader_.take_nil() || take_tokens(list); });
}

// An SGLang build between the two encodings sent arrays with a map of the newer fields at position 7.
bool Decoder::take_interim_map(BlockStored& event) {
  const auto pairs = reader_.take_map();
  if (!pairs) return false;
  for (std::uint32_t i = 0; i < *pairs; ++i) {
    const auto name = reader_.take_text();
    if (!name) return false;
    const Field field = field_of(*name);
    const bool known = field == Field::kCacheSalt || field == Field::kSessionId || field == Field::kLoraName;
    if (known ? !stored_field(field, event) : !reader_.skip()) return false;
  }
  return true;
}

bool Decoder::stored_field(Field field, BlockStored& event) {
  required_ |= 1u << static_cast<unsigned>(field);
  SentAsNil& nils = event.sent_as_nil;
  switch (field) {
    case Field::kHashes: return take_hashes(event.block_hashes);
    case Field::kParent: return take_parent(event.parent_block_hash);
    case Field::kTokens: return take_tokens(event.token_ids);
    case Field::kBlockSize: return take_u32(event.block_size);
    case Field::kLoraId: return take_optional(event.lora_id, nils, SentAsNil::kLoraId);
    case Field::kMedium: return take_optional(event.medium, nils, SentAsNil::kMedium);
    case Field::kLoraName: return take_optional(event.lora_name, nils, SentAsNil::kLoraName);
    case Field::kExtraKeys: return take_extra_keys(event);
    case Field::kGroup: return take_optional(event.group_idx, nils, SentAsNil::kGroupIdx);
    case Field::kSpecKind: return take_optional(event.kv_cache_spec_kind, nils, SentAsNil::kSpecKind);
    case Field::kSlidingWindow:
      return take_optional(event.kv_cache_spec_sliding_window, nils, SentAsNil::kSlidingWindow);
    case Field::kLocality: return take_optional(event.locality, nils, SentAsNil::kLocality);
    case Field::kOwnership: return take_optional(event.ownership, nils, SentAsNil::kOwnership);
    case Field::kSessionId: return take_optional(event.session_id, nils, SentAsNil::kSessionId);
    case Field::kCacheSalt: return take_optional(event.cache_salt, nils, SentAsNil::kCacheSalt);
    case Field::kLookahead: return take_lookahead(event);
    case Field::kType:
    case Field::kUnknown: return reader_.skip();
  }
  return false;
}

bool Decoder::removed_field(Field field, BlockRemoved& event) {
  required_ |= 1u << static_cast<unsigned>(field);
  SentAsNil& nils = event.sent_as_nil;
  switch (field) {
    case Field::kHashes: return take_hashes(event.block_hashes);
    case Field::kMedium: return take_optional(event.medium, nils, SentAsNil::kMedium);
    case Field::kGroup: return take_optional(event.group_idx, nils, SentAsNil::kGroupIdx);
    case Field::kLocality: return take_optional(event.locality, nils, SentAsNil::kLocality);
    case Field::kOwnership: return take_optional(event.ownership, nils, SentAsNil::kOwnership);
    default: return reader_.skip();
  }
}

Decoder::Outcome Decoder::array_event(Batch& batch) {
  static constexpr Field kStoredFields[] = {
      Field::kType,   Field::kHashes,   Field::kParent,    Field::kTokens, Field::kBlockSize, Field::kLoraId,
      Field::kMedium, Field::kLoraName, Field::kExtraKeys, Field::kGroup,  Field::kSpecKind,  Field::kSlidingWindow,
  };
  static constexpr Field kRemovedFields[] = {Field::kType, Field::kHashes, Field::kMedium, Field::kGroup};

  const auto count = reader_.take_array();
  if (!count || *count == 0) return Outcome::kMalformed;
  const auto type = reader_.take_text();
  if (!type) return Outcome::kMalformed;
  if (*type == "BlockStored") {
    auto& event = std::get<BlockStored>(batch.events.emplace_back(std::in_place_type<BlockStored>));
    if (*count < 5) return Outcome::kMalformed;
    for (std::uint32_t i = 1; i < *count; ++i) {
      const Field field = i < std::size(kStoredFields) ? kStoredFields[i] : Field::kUnknown;
      const bool interim = field == Field::kLoraName && reader_.peek() == Kind::kMap;
      if (interim ? !take_interim_map(event) : !stored_field(field, event)) return Outcome::kMalformed;
    }
    return Outcome::kKept;
  }
  if (*type == "BlockRemoved") {
    auto& event = std::get<BlockRemoved>(batch.events.emplace_back(std::in_place_type<BlockRemoved>));
    if (*count < 2) return Outcome::kMalformed;
    for (std::uint32_t i = 1; i < *count; ++i) {
      if (!removed_field(i < std::size(kRemovedFields) ? kRemovedFields[i] : Field::kUnknown, event)) {
        return Outcome::kMalformed;
      }
    }
    return Outcome::kKept;
  }
  const bool cleared = *type == "AllBlocksCleared";
  for (std::uint32_t i = 1; i < *count; ++i) {
    if (!reader_.skip()) return Outcome::kMalformed;
  }
  if (!cleared) return Outcome::kUnknown;
  batch.events.emplace_back(blocks::AllBlocksCleared{});
  return Outcome::kKept;
}

// The cursor stands behind the map's head and is put back there.
std::optional<std::string_view> Decoder::type_of_map(std::uint32_t pairs) {
  const std::size_t start = reader_.position();
  std::optional<std::string_view> type;
  for (std::uint32_t i = 0; i < pairs && !type; ++i) {
    const auto name = reader_.take_text();
    if (name && *name == "type") {
      type = reader_.take_text();
      if (!type) break;
    } else if ((!name && !reader_.skip()) || !reader_.skip()) {
      break;
    }
  }
  reader_.seek(start);
  return type;
}

Decoder::Outcome Decoder::map_event(Batch& batch) {
  const auto pairs = reader_.take_map();
  if (!pairs) return Outcome::kMalformed;
  const auto type = type_of_map(*pairs);
  if (!type) return Outcome::kMalformed;

  constexpr auto bit = [](Field field) { return 1u << static_cast<unsigned>(field); };
  BlockStored* stored = nullptr;
  BlockRemoved* removed = nullptr;
  std::uint32_t needed = 0;
  if (*type == "BlockStored") {
    stored = &std::get<BlockStored>(batch.events.emplace_back(std::in_place_type<BlockStored>));
    needed = bit(Field::kHashes) | bit(Field::kParent) | bit(Field::kTokens) | bit(Field::kBlockSize);
  } else if (*type == "BlockRemoved") {
    removed = &std::get<BlockRemoved>(batch.events.emplace_back(std::in_place_type<BlockRemoved>));
    needed = bit(Field::kHashes);
  } else if (*type == "AllBlocksCleared") {
    batch.events.emplace_back(blocks::AllBlocksCleared{});
  }
  const bool known = stored != nullptr || removed != nullptr || *type == "AllBlocksCleared";
  required_ = 0;
  for (std::uint32_t i = 0; i < *pairs; ++i) {
    const auto name = reader_.take_text();
    if (!name && !reader_.skip()) return Outcome::kMalformed;  // a key of another kind names nothing
    const Field field = name ? field_of(*name) : Field::kUnknown;
    const bool read = stored != nullptr    ? stored_field(field, *stored)
                      : removed != nullptr ? removed_field(field, *removed)
                                           : reader_.skip();
    if (!read) return Outcome::kMalformed;
  }
  if (!known) return Outcome::kUnknown;
  return (required_ & needed) == needed ? Outcome::kKept : Outcome::kMalformed;
}

// Leaves the cursor behind the event whatever it is, unless the payload itself is broken.
Decoder::Outcome Decoder::event(Batch& batch) {
  const std::size_t start = reader_.position();
  const std::size_t events = batch.events.size();
  const Kind kind = reader_.peek();
  Outcome outcome = Outcome::kMalformed;
  if (kind == Kind::kArray) outcome = array_event(batch);
  if (kind == Kind::kMap) outcome = map_event(batch);
  if (outcome != Outcome::kMalformed) return outcome;
  batch.events.resize(events);
  if (!stopped()) {
    reader_.seek(start);
    reader_.skip();
  }
  return outcome;
}

bool Decoder::take_events(Batch& batch) {
  const auto count = reader_.take_array();
  if (!count) return false;
  for (std::uint32_t i = 0; i < *count; ++i) {
    if (!charge(sizeof(blocks::KvEvent))) return false;
    switch (event(batch)) {
      case Outcome::kKept: break;
      case Outcome::kUnknown: ++batch.events_unknown; break;
      case Outcome::kMalformed: ++batch.events_malformed; break;
    }
    if (stopped()) return false;
  }
  return true;
}

// A rank that is no small number is as good as none: it decides nothing here.
void Decoder::take_rank(Batch& batch) {
  std::uint32_t rank = 0;
  const std::size_t start = reader_.position();
  if (take_u32(rank)) {
    batch.rank = rank;
    return;
  }
  if (reader_.broken()) return;
  reader_.seek(start);
  reader_.skip();
}

Result<Batch> Decoder::batch() {
  Batch batch;
  const auto take_ts = [&] {
    const auto ts = reader_.take_number();
    if (ts) batch.ts = *ts;
    return ts.has_value() || (!reader_.broken() && reader_.skip());
  };
  if (reader_.peek() == Kind::kMap) {
    const auto pairs = reader_.take_map();
    bool events = false;
    for (std::uint32_t i = 0; pairs && i < *pairs && !stopped(); ++i) {
      const auto name = reader_.take_text();
      const std::size_t at = reader_.position();
      if (name == "ts") {
        take_ts();
      } else if (name == "events") {
        batch.events.clear();
        events = take_events(batch);
        if (!events && !stopped()) return error("has events that are no array", at);
      } else if (name == "data_parallel_rank") {
        take_rank(batch);
      } else if (name || reader_.skip()) {
        reader_.skip();
      }
    }
    if (stopped()) return fault();
    if (!events) return error("has no events", 0);
  } else {
    const auto count = reader_.take_array();
    if (reader_.broken()) return fault();
    if (!count) return error("is neither an array nor a map", 0);
    if (*count < 2) return error("has fewer than the 2 elements [ts, events]", 0);
    if (!take_ts()) return fault();
    const std::size_t at = reader_.position();
    if (!take_events(batch)) return stopped() ? fault() : error("has events that are no array", at);
    if (*count > 2) take_rank(batch);
    for (std::uint32_t i = 3; i < *count && !stopped(); ++i) reader_.skip();
    if (stopped()) return fault();
  }
  if (reader_.left() != 0) return error("has bytes behind its end", reader_.position());
  return batch;
}

}  // namespace

Result<Batch> decode_batch(std::span<const std::uint8_t> payload, const DecodeLimits& limits) {
  if (payload.size() > limits.payload_bytes_max) {
    return Error{ErrorKind::kTooLarge, "event batch of " + std::to_string(payload.size()) +
                                           " bytes is above the limit of " + std::to_string(limits.payload_bytes_max)};
  }
  return Decoder(payload, limits).batch();
}

}  // namespace warmpath::events
