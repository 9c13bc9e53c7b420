#include "events/batch_json.h"

namespace warmpath::events {
namespace {

using blocks::BlockRemoved;
using blocks::BlockStored;
using blocks::SentAsNil;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// Length of the valid UTF-8 sequence at the front of `text`; 0 if there is none.
std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) >= 0xc2 && byte(0) < 0xe0   ? 2
                             : byte(0) >= 0xe0 && byte(0) < 0xf0 ? 3
                             : byte(0) >= 0xf0 && byte(0) < 0xf5 ? 4
                                                                 : 0;
  if (length == 0 || text.size() < length) return 0;
  std::uint32_t point = byte(0) & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    point = point << 6 | (byte(i) & 0x3fu);
  }
  static constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xd800 && point < 0xe000;
  return point < kLeast[length] || point > 0x10ffff || surrogate ? 0 : length;
}

std::string as_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_sequence(text);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return out;
}

void write(JsonWriter& out, const blocks::WireHash& hash) {
  if (hash.bytes.empty()) {
    out.value(hash.value.value());
  } else {
    out.value(to_hex(bytes_of(hash.bytes)));
  }
}
void write(JsonWriter& out, const std::string& text) { out.value(as_utf8(text)); }
void write(JsonWriter& out, std::uint32_t number) { out.value(number); }
void write(JsonWriter& out, std::int64_t number) { out.value(number); }
void write(JsonWriter& out, const blocks::ExtraKey& key) {
  if (const auto* text = std::get_if<blocks::ExtraText>(&key)) {
    write(out, text->text);
  } else if (const auto* item = std::get_if<blocks::ExtraItem>(&key)) {
    out.array().value(as_utf8(item->identifier)).value(item->offset).end();
  } else {
    out.value(to_hex(bytes_of(std::get<blocks::ExtraBytes>(key).bytes)));
  }
}
template <class T>
void write(JsonWriter& out, const std::vector<T>& list) {
  out.array();
  for (const T& item : list) write(out, item);
  out.end();
}
void write(JsonWriter& out, const std::vector<std::vector<blocks::ExtraKey>>& lists) {
  out.array();
  for (const auto& list : lists) {
    if (list.empty()) {
      out.null();
    } else {
      write(out, list);
    }
  }
  out.end();
}

enum class Absent : bool { kNull, kOmit };

template <class T>
void optional(JsonWriter& out, std::string_view name, const std::optional<T>& value, Absent absent) {
  if (!value && absent == Absent::kOmit) return;
  out.key(name);
  if (value) {
    write(out, *value);
  } else {
    out.null();
  }
}

Absent when(SentAsNil nils, SentAsNil::Field field) { return nils.has(field) ? Absent::kNull : Absent::kOmit; }

void write_event(JsonWriter& out, const BlockStored& event) {
  const SentAsNil nils = event.sent_as_nil;
  out.object().member("type", "BlockStored").key("block_hashes");
  write(out, event.block_hashes);
  optional(out, "parent_block_hash", event.parent_block_hash, Absent::kNull);
  out.key("token_ids");
  write(out, event.token_ids);
  out.member("block_size", event.block_size);
  optional(out, "lora_id", event.lora_id, when(nils, SentAsNil::kLoraId));
  optional(out, "medium", event.medium, Absent::kNull);
  optional(out, "lora_name", event.lora_name, when(nils, SentAsNil::kLoraName));
  optional(out, "extra_keys", event.extra_keys, when(nils, SentAsNil::kExtraKeys));
  optional(out, "group_idx", event.group_idx, when(nils, SentAsNil::kGroupIdx));
  optional(out, "kv_cache_spec_kind", event.kv_cache_spec_kind, when(nils, SentAsNil::kSpecKind));
  optional(out, "kv_cache_spec_sliding_window", event.kv_cache_spec_sliding_window,
           when(nils, SentAsNil::kSlidingWindow));
  optional(out, "locality", event.locality, when(nils, SentAsNil::kLocality));
  optional(out, "ownership", event.ownership, when(nils, SentAsNil::kOwnership));
  optional(out, "session_id", event.session_id, when(nils, SentAsNil::kSessionId));
  optional(out, "cache_salt", event.cache_salt, when(nils, SentAsNil::kCacheSalt));
  optional(out, "lookahead_token_ids", event.lookahead_token_ids, when(nils, SentAsNil::kLookahead));
  out.end();
}

void write_event(JsonWriter& out, const BlockRemoved& event) {
  const SentAsNil nils = event.sent_as_nil;
  out.object().member("type", "BlockRemoved").key("block_hashes");
  write(out, event.block_hashes);
  optional(out, "medium", event.medium, Absent::kNull);
  optional(out, "group_idx", event.group_idx, when(nils, SentAsNil::kGroupIdx));
  optional(out, "locality", event.locality, when(nils, SentAsNil::kLocality));
  optional(out, "ownership", event.ownership, when(nils, SentAsNil::kOwnership));
  out.end();
}

void write_event(JsonWriter& out, const blocks::AllBlocksCleared&) {
  out.object().member("type", "AllBlocksCleared").end();
}

}  // namespace

void write_json(JsonWriter& out, const Batch& batch) {
  out.object().member("ts", batch.ts);
  optional(out, "rank", batch.rank, Absent::kNull);
  out.key("events").array();
  for (const blocks::KvEvent& event : batch.events) {
    std::visit([&](const auto& kind) { write_event(out, kind); }, event);
  }
  out.end();
  if (batch.events_unknown != 0) out.member("events_unknown", batch.events_unknown);
  if (batch.events_malformed != 0) out.member("events_malformed", batch.events_malformed);
  out.end();
}

}  // namespace warmpath::events
