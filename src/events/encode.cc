#include "events/codec.h"
#include "events/msgpack.h"

namespace warmpath::events {
namespace {

using blocks::BlockRemoved;
using blocks::BlockStored;
using blocks::ExtraKey;
using blocks::WireHash;
using msgpack::Writer;

void write(Writer& out, const WireHash& hash) {
  if (hash.bytes.empty()) {
    out.integer(hash.value.value());
  } else {
    out.bytes(hash.bytes);
  }
}

void write(Writer& out, const std::string& text) { out.text(text); }
void write(Writer& out, std::uint32_t number) { out.integer(number); }
void write(Writer& out, std::int64_t number) { out.signed_integer(number); }

void write(Writer& out, const ExtraKey& key) {
  if (const auto* text = std::get_if<blocks::ExtraText>(&key)) {
    out.text(text->text);
  } else if (const auto* item = std::get_if<blocks::ExtraItem>(&key)) {
    out.array(2);
    out.text(item->identifier);
    out.signed_integer(item->offset);
  } else {
    out.bytes(std::get<blocks::ExtraBytes>(key).bytes);
  }
}

template <class T>
void write(Writer& out, const std::vector<T>& list) {
  out.array(list.size());
  for (const T& item : list) write(out, item);
}

// vLLM sends nil for a block without extra keys, not an empty list.
void write(Writer& out, const std::vector<std::vector<ExtraKey>>& lists) {
  out.array(lists.size());
  for (const std::vector<ExtraKey>& list : lists) {
    if (list.empty()) {
      out.nil();
    } else {
      write(out, list);
    }
  }
}

template <class T>
void write(Writer& out, const std::optional<T>& value) {
  if (value) {
    write(out, *value);
  } else {
    out.nil();
  }
}

// Fields without a default are always there, nil when unset; those with one only when set.
template <class T>
void member(Writer& out, std::string_view name, const T& value) {
  out.text(name);
  write(out, value);
}
template <class T>
void optional_member(Writer& out, std::string_view name, const std::optional<T>& value) {
  if (value) member(out, name, *value);
}

void write_map(Writer& out, const BlockStored& event) {
  const std::size_t optional = std::size_t{event.extra_keys.has_value()} + event.group_idx.has_value() +
                               event.kv_cache_spec_kind.has_value() + event.kv_cache_spec_sliding_window.has_value() +
                               event.locality.has_value() + event.ownership.has_value() +
                               event.session_id.has_value() + event.cache_salt.has_value() +
                               event.lookahead_token_ids.has_value();
  out.map(8 + optional);
  member(out, "type", std::string("BlockStored"));
  member(out, "block_hashes", event.block_hashes);
  member(out, "parent_block_hash", event.parent_block_hash);
  member(out, "token_ids", event.token_ids);
  member(out, "block_size", event.block_size);
  member(out, "lora_id", event.lora_id);
  member(out, "medium", event.medium);
  member(out, "lora_name", event.lora_name);
  optional_member(out, "extra_keys", event.extra_keys);
  optional_member(out, "group_idx", event.group_idx);
  optional_member(out, "kv_cache_spec_kind", event.kv_cache_spec_kind);
  optional_member(out, "kv_cache_spec_sliding_window", event.kv_cache_spec_sliding_window);
  optional_member(out, "locality", event.locality);
  optional_member(out, "ownership", event.ownership);
  optional_member(out, "session_id", event.session_id);
  optional_member(out, "cache_salt", event.cache_salt);
  optional_member(out, "lookahead_token_ids", event.lookahead_token_ids);
}

void write_map(Writer& out, const BlockRemoved& event) {
  out.map(3 + std::size_t{event.group_idx.has_value()} + event.locality.has_value() + event.ownership.has_value());
  member(out, "type", std::string("BlockRemoved"));
  member(out, "block_hashes", event.block_hashes);
  member(out, "medium", event.medium);
  optional_member(out, "group_idx", event.group_idx);
  optional_member(out, "locality", event.locality);
  optional_member(out, "ownership", event.ownership);
}

void write_map(Writer& out, const blocks::AllBlocksCleared&) {
  out.map(1);
  member(out, "type", std::string("AllBlocksCleared"));
}

// Fields by position; unset ones at the end are left out.
void write_array(Writer& out, const BlockStored& event) {
  const std::size_t count = event.kv_cache_spec_sliding_window ? 12
                            : event.kv_cache_spec_kind         ? 11
                            : event.group_idx                  ? 10
                            : event.extra_keys                 ? 9
                                                               : 8;
  out.array(count);
  out.text("BlockStored");
  write(out, event.block_hashes);
  write(out, event.parent_block_hash);
  write(out, event.token_ids);
  write(out, event.block_size);
  write(out, event.lora_id);
  write(out, event.medium);
  write(out, event.lora_name);
  if (count > 8) write(out, event.extra_keys);
  if (count > 9) write(out, event.group_idx);
  if (count > 10) write(out, event.kv_cache_spec_kind);
  if (count > 11) write(out, event.kv_cache_spec_sliding_window);
}

void write_array(Writer& out, const BlockRemoved& event) {
  out.array(event.group_idx ? 4 : 3);
  out.text("BlockRemoved");
  write(out, event.block_hashes);
  write(out, event.medium);
  if (event.group_idx) write(out, event.group_idx);
}

void write_array(Writer& out, const blocks::AllBlocksCleared&) {
  out.array(1);
  out.text("AllBlocksCleared");
}

}  // namespace

std::vector<std::uint8_t> encode_batch(const Batch& batch, Encoding encoding) {
  Writer out;
  out.array(batch.rank ? 3 : 2);
  out.number(batch.ts);
  out.array(batch.events.size());
  for (const blocks::KvEvent& event : batch.events) {
    std::visit(
        [&](const auto& kind) {
          if (encoding == Encoding::kMaps) {
            write_map(out, kind);
          } else {
            write_array(out, kind);
          }
        },
        event);
  }
  if (batch.rank) out.integer(*batch.rank);
  return out.take();
}

}  // namespace warmpath::events
