#include "index/extras.h"

#include <algorithm>

namespace warmpath::index {
namespace {

// NUL cannot stand in an identifier that a prompt carries.
BegunItem opaque(std::string_view kind, std::string_view content) {
  std::string name(1, '\0');
  name.append(kind).append(1, '\0').append(content);
  return {.identifier = std::move(name), .offset = 0};
}

// Order on the wire (vLLM 0.32): adapter, items, salt, embeddings. The salt is a bare text, and so was an item's
// identifier before vLLM had offsets (until 2026-03): the last text of block 0 is taken for the salt.
std::vector<BegunItem> classify_block(const std::vector<blocks::ExtraKey>& keys, const blocks::BlockStored& event,
                                      std::string* salt) {
  std::vector<BegunItem> items;
  bool lora_seen = false;
  std::optional<std::string> last_text;
  for (const blocks::ExtraKey& key : keys) {
    if (const auto* text = std::get_if<blocks::ExtraText>(&key)) {
      if (!lora_seen && event.lora_name && text->text == *event.lora_name) {
        lora_seen = true;
        continue;
      }
      if (event.cache_salt && text->text == *event.cache_salt) continue;
      if (last_text) items.push_back(opaque("text", *last_text));
      last_text = text->text;
    } else if (const auto* item = std::get_if<blocks::ExtraItem>(&key)) {
      if (item->offset >= 0 && item->offset < static_cast<std::int64_t>(event.block_size)) {
        items.push_back({item->identifier, static_cast<std::uint32_t>(item->offset)});
      } else if (item->offset >= 0 || salt != nullptr) {
        items.push_back(opaque("place", item->identifier));  // beyond its block, or before token 0
      }
    } else {
      items.push_back(opaque("bytes", std::get<blocks::ExtraBytes>(key).bytes));
    }
  }
  if (last_text) {
    if (salt != nullptr && salt->empty()) {
      *salt = *last_text;
    } else {
      items.push_back(opaque("text", *last_text));
    }
  }
  std::ranges::stable_sort(items, {}, &BegunItem::offset);
  return items;
}

}  // namespace

StoredExtras classify_extras(const blocks::BlockStored& event) {
  StoredExtras extras;
  const bool from_root = !event.parent_block_hash.has_value();
  if (event.lora_name && !event.lora_name->empty()) {
    extras.lora = *event.lora_name;
  } else if (event.lora_id) {
    // vLLM before lora_name (2025-10): the adapter's name is not told, so nothing may match it.
    extras.lora = std::string(1, '\0') + "lora_id " + std::to_string(*event.lora_id);
  }
  if (event.cache_salt) extras.salt = *event.cache_salt;
  if (!event.extra_keys) return extras;
  bool any = false;
  extras.items.resize(event.extra_keys->size());
  for (std::size_t i = 0; i < extras.items.size(); ++i) {
    extras.items[i] = classify_block((*event.extra_keys)[i], event, from_root && i == 0 ? &extras.salt : nullptr);
    any = any || !extras.items[i].empty();
  }
  if (!any) extras.items.clear();
  return extras;
}

}  // namespace warmpath::index
