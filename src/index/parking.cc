#include "index/parking.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace warmpath::index {
namespace {

std::size_t footprint(const blocks::BlockStored& event) {
  constexpr std::size_t kPlace = sizeof(NodeId) + sizeof(std::vector<int>) + 6 * sizeof(void*);
  std::size_t bytes = sizeof(Parked) + 4 * sizeof(void*) + kPlace;
  bytes += event.token_ids.size() * sizeof(TokenId);
  for (const blocks::WireHash& hash : event.block_hashes) bytes += sizeof(hash) + hash.bytes.size() + kPlace;
  if (event.extra_keys) {
    for (const auto& keys : *event.extra_keys) {
      bytes += sizeof(keys);
      for (const blocks::ExtraKey& key : keys) {
        bytes += sizeof(key);
        if (const auto* text = std::get_if<blocks::ExtraText>(&key)) bytes += text->text.size();
        if (const auto* item = std::get_if<blocks::ExtraItem>(&key)) bytes += item->identifier.size();
        if (const auto* raw = std::get_if<blocks::ExtraBytes>(&key)) bytes += raw->bytes.size();
      }
    }
  }
  return bytes;
}

// What the store needs when its parent comes; the rest of the event is not kept.
blocks::BlockStored essentials(const blocks::BlockStored& event) {
  blocks::BlockStored kept;
  kept.block_hashes = event.block_hashes;
  for (blocks::WireHash& hash : kept.block_hashes) hash.bytes.clear();
  kept.parent_block_hash = event.parent_block_hash;
  kept.parent_block_hash->bytes.clear();
  kept.token_ids = event.token_ids;
  kept.block_size = event.block_size;
  kept.lora_name = event.lora_name;
  kept.extra_keys = event.extra_keys;
  return kept;
}

}  // namespace

std::uint32_t Parking::park(std::uint32_t group, blocks::Tier tier, const blocks::BlockStored& event) {
  WP_CHECK(event.parent_block_hash.has_value());
  const std::size_t bytes = footprint(event);
  if (bytes > bytes_max_ || events_max_ == 0) return 1;
  std::uint32_t dropped = 0;
  while (items_.size() >= events_max_ || bytes_ + bytes > bytes_max_) {
    extract(items_.begin());
    ++dropped;
  }
  bytes_ += bytes;
  items_.push_back({.group = group,
                    .tier = tier,
                    .event = essentials(event),
                    .removed = std::vector<bool>(event.block_hashes.size(), false),
                    .bytes = bytes});
  const Item item = std::prev(items_.end());
  by_parent_[{group, event.parent_block_hash->value}].push_back(item);
  for (const blocks::WireHash& hash : event.block_hashes) by_hash_[{group, hash.value}].push_back(item);
  return dropped;
}

std::vector<Parked> Parking::take(const NodeId& parent) {
  std::vector<Parked> out;
  const auto found = by_parent_.find(parent);
  if (found == by_parent_.end()) return out;
  const std::vector<Item> items = found->second;  // extract edits the original
  for (const Item item : items) out.push_back(extract(item));
  return out;
}

bool Parking::remove(const NodeId& id, blocks::Tier tier) {
  const auto found = by_hash_.find(id);
  if (found == by_hash_.end()) return false;
  for (const Item item : found->second) {
    if (item->tier != tier) continue;
    const auto& hashes = item->event.block_hashes;
    for (std::size_t i = 0; i < hashes.size(); ++i) {
      if (hashes[i].value != id.hash || item->removed[i]) continue;
      item->removed[i] = true;
      return true;
    }
  }
  return false;
}

void Parking::drop_tier(blocks::Tier tier) {
  for (auto item = items_.begin(); item != items_.end();) {
    const auto next = std::next(item);
    if (item->tier == tier) extract(item);
    item = next;
  }
}

void Parking::drop_group(std::uint32_t group) {
  for (auto item = items_.begin(); item != items_.end();) {
    const auto next = std::next(item);
    if (item->group == group) extract(item);
    item = next;
  }
}

void Parking::clear() {
  items_.clear();
  by_parent_.clear();
  by_hash_.clear();
  bytes_ = 0;
}

void Parking::forget_place(Places& places, const NodeId& id, Item item) {
  const auto found = places.find(id);
  WP_CHECK(found != places.end());
  const auto at = std::find(found->second.begin(), found->second.end(), item);
  WP_CHECK(at != found->second.end());
  found->second.erase(at);
  if (found->second.empty()) places.erase(found);
}

Parked Parking::extract(Item item) {
  forget_place(by_parent_, {item->group, item->event.parent_block_hash->value}, item);
  for (const blocks::WireHash& hash : item->event.block_hashes) {
    forget_place(by_hash_, {item->group, hash.value}, item);
  }
  bytes_ -= item->bytes;
  Parked out = std::move(*item);
  items_.erase(item);
  return out;
}

}  // namespace warmpath::index
