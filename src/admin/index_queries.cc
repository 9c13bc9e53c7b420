#include "admin/index_queries.h"

#include <algorithm>
#include <charconv>

namespace warmpath::admin {
namespace {

std::string hex(EngineHash hash) {
  std::string out(16, '0');
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = "0123456789abcdef"[hash.value() >> (60 - 4 * i) & 15];
  return out;
}

std::string place_of(const index::HeldBlock& block) { return std::to_string(block.group) + ":" + hex(block.hash); }

std::optional<std::pair<std::uint32_t, EngineHash>> parse_place(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto group = parse_u64(text.substr(0, colon));
  const std::string_view digits = text.substr(colon + 1);
  std::uint64_t hash = 0;
  const auto [end, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), hash, 16);
  if (!group || *group > UINT32_MAX || digits.size() != 16 || wrong != std::errc() ||
      end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return std::pair(static_cast<std::uint32_t>(*group), EngineHash(hash));
}

void write_engine(JsonWriter& json, const IndexEngine& engine) {
  json.object().member("engine", engine.name).member("events", engine.events);
  json.member("has_events", engine.has_events);
  json.member("publisher", blocks::publisher_state_name(engine.publisher));
  json.member("blocks_held", engine.blocks_held).member("router_blocks_held", engine.router_blocks_held);
  json.member("block_tokens", engine.block_tokens).member("stores_parked", engine.stores_parked);
  json.member("lag_batches", engine.lag_batches).member("batches", engine.batches).member("gaps", engine.gaps);
  json.member("replays", engine.replays).member("replays_failed", engine.replays_failed);
  json.member("restarts", engine.restarts).end();
}

}  // namespace

std::string index_body(const std::vector<IndexPool>& pools) {
  JsonWriter json;
  json.object().key("pools").array();
  for (const IndexPool& pool : pools) {
    json.object().member("pool", pool.name).member("model", pool.model).member("why_none", pool.why_none);
    json.member("block_tokens", pool.block_tokens).member("keys", pool.keys).member("bytes", pool.bytes);
    json.member("bytes_max", pool.bytes_max).member("blocks_restored", pool.blocks_restored).key("engines").array();
    for (const IndexEngine& engine : pool.engines) write_engine(json, engine);
    json.end().end();
  }
  json.end().end();
  return json.take();
}

Result<std::string> dump_body(const IndexDump& dump, std::string_view after, std::size_t limit) {
  auto at = dump.blocks.begin();
  if (!after.empty()) {
    const auto place = parse_place(after);
    if (!place) return Error{ErrorKind::kInvalid, "`after` must be the `next` of the page before: group:hash"};
    at = std::ranges::upper_bound(dump.blocks, *place, {},
                                  [](const index::HeldBlock& block) { return std::pair(block.group, block.hash); });
  }
  JsonWriter json;
  json.object().member("pool", dump.pool).member("engine", dump.engine);
  json.member("publisher", blocks::publisher_state_name(dump.publisher));
  json.member("blocks_held", static_cast<std::uint64_t>(dump.blocks.size())).key("blocks").array();
  std::size_t written = 0;
  std::string last;
  for (; at != dump.blocks.end() && written < limit; ++at, ++written) {
    json.object().member("group", at->group).member("hash", hex(at->hash)).key("tiers").array();
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      if ((at->tiers >> tier & 1u) != 0) json.value(blocks::tier_name(static_cast<blocks::Tier>(tier)));
    }
    json.end().end();
    last = place_of(*at);
  }
  json.end().key("next");
  if (at != dump.blocks.end()) {
    json.value(last);
  } else {
    json.null();
  }
  json.end();
  return json.take();
}

std::string who_body(const IndexWho& who) {
  JsonWriter json;
  json.object().member("pool", who.pool).member("model", who.model).member("prompt_tokens", who.prompt_tokens);
  json.member("chain_blocks", who.chain_blocks).member("block_tokens", who.block_tokens).member("chain", who.chain);
  json.key("engines").array();
  for (const Holder& holder : who.holders) {
    json.object().member("engine", holder.engine);
    json.member("publisher", blocks::publisher_state_name(holder.publisher)).key("tokens").object();
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      json.member(blocks::tier_name(static_cast<blocks::Tier>(tier)), holder.tokens[tier]);
    }
    json.end().end();
  }
  json.end().end();
  return json.take();
}

}  // namespace warmpath::admin
