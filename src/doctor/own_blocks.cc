#include "doctor/own_blocks.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "doctor/own_filter.h"

namespace warmpath::doctor {
namespace {

// The nonce stands at the beginning of every probe, behind what a template puts there.
constexpr std::size_t kNonceWithinTokens = OwnFilter::kNonceWithinTokens;

bool is_dense(const blocks::BlockStored& event) {
  if (!event.kv_cache_spec_kind) return true;
  return blocks::spec_kind_of(*event.kv_cache_spec_kind) != blocks::SpecKind::kOther;
}

std::vector<std::string> extra_texts(const blocks::BlockStored& event, std::size_t block) {
  std::vector<std::string> texts;
  if (event.extra_keys && block < event.extra_keys->size()) {
    for (const blocks::ExtraKey& key : (*event.extra_keys)[block]) {
      if (const auto* text = std::get_if<blocks::ExtraText>(&key)) texts.push_back(text->text);
    }
  }
  if (event.cache_salt && std::ranges::find(texts, *event.cache_salt) == texts.end()) {
    texts.push_back(*event.cache_salt);
  }
  return texts;
}

struct Node {
  OwnBlock block;
  bool ours = false;
};
using Nodes = std::unordered_map<EngineHash, Node>;

void add_stored(const blocks::BlockStored& event, std::uint32_t rank, Nodes& nodes, std::vector<EngineHash>& order) {
  const std::size_t count = event.block_hashes.size();
  if (!is_dense(event) || event.block_size == 0 || event.token_ids.size() != count * event.block_size) return;
  std::optional<EngineHash> parent;
  if (event.parent_block_hash) parent = event.parent_block_hash->value;
  for (std::size_t i = 0; i < count; ++i) {
    Node node;
    node.block.hash = event.block_hashes[i].value;
    node.block.parent = parent;
    const auto begin = event.token_ids.begin() + static_cast<std::ptrdiff_t>(i * event.block_size);
    node.block.tokens.assign(begin, begin + event.block_size);
    node.block.adapter = event.lora_name.value_or("");
    node.block.extra_texts = extra_texts(event, i);
    node.block.rank = rank;
    node.block.lookahead = event.lookahead_token_ids.has_value();
    parent = node.block.hash;
    if (nodes.insert_or_assign(node.block.hash, std::move(node)).second) order.push_back(*parent);
  }
}

// The blocks from the chain's first one that is known to this one; cut where hashes go round in a circle.
std::vector<const Node*> chain_of(const Nodes& nodes, const Node& last) {
  std::vector<const Node*> chain = {&last};
  std::unordered_set<EngineHash> seen = {last.block.hash};
  while (chain.back()->block.parent) {
    const auto before = nodes.find(*chain.back()->block.parent);
    if (before == nodes.end() || !seen.insert(before->first).second) break;
    chain.push_back(&before->second);
  }
  std::ranges::reverse(chain);
  return chain;
}

bool is_ours(std::span<const Node* const> chain, const std::string& nonce, const tokens::Tokenizer& tokenizer) {
  for (const std::string& text : chain.front()->block.extra_texts) {
    if (text.find(nonce) != std::string::npos) return true;
  }
  std::vector<TokenId> ids;
  for (const Node* node : chain) {
    if (ids.size() >= kNonceWithinTokens) break;
    ids.insert(ids.end(), node->block.tokens.begin(), node->block.tokens.end());
  }
  return text_holds(std::move(ids), nonce, tokenizer);
}

// In order of arrival: a block's parents were looked at before it.
void find_ours(Nodes& nodes, const std::vector<EngineHash>& order, const std::string& nonce,
               const tokens::Tokenizer& tokenizer) {
  for (const EngineHash hash : order) {
    Node& node = nodes.at(hash);
    if (node.ours) continue;
    if (node.block.parent) {
      const auto parent = nodes.find(*node.block.parent);
      if (parent != nodes.end() && parent->second.ours) {
        node.ours = true;
        continue;
      }
    }
    const auto chain = chain_of(nodes, node);
    std::size_t before = 0;
    for (const Node* one : chain) before += one->block.tokens.size();
    // Behind so many tokens of others' no nonce of ours begins.
    if (chain.size() > 1 && before - node.block.tokens.size() >= kNonceWithinTokens) continue;
    if (!is_ours(chain, nonce, tokenizer)) continue;
    for (const Node* one : chain) nodes.at(one->block.hash).ours = true;
  }
}

}  // namespace

OwnBlocks::OwnBlocks(const Evidence& evidence, const tokens::Tokenizer& tokenizer, std::size_t until) {
  Nodes nodes;
  std::vector<EngineHash> order;
  std::unordered_set<EngineHash> gone;
  for (std::size_t i = 0; i < std::min(until, evidence.heard.size()); ++i) {
    const Heard& heard = evidence.heard[i];
    if (const auto* stored = std::get_if<blocks::BlockStored>(&heard.event)) {
      add_stored(*stored, heard.rank, nodes, order);
      for (const auto& hash : stored->block_hashes) gone.erase(hash.value);
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&heard.event)) {
      for (const auto& hash : removed->block_hashes) gone.insert(hash.value);
    } else {
      for (const EngineHash hash : order) gone.insert(hash);
    }
  }
  find_ours(nodes, order, evidence.nonce, tokenizer);
  for (const EngineHash hash : order) {
    Node& node = nodes.at(hash);
    if (!node.ours) continue;
    if (gone.contains(hash)) {
      removed_some_ = true;
      continue;
    }
    children_.emplace(node.block.parent, hash);
    by_hash_.emplace(hash, std::move(node.block));
  }
}

std::vector<const OwnBlock*> OwnBlocks::match(std::span<const TokenId> ids, std::string_view adapter,
                                              std::string_view salt, Keys keys) const {
  std::vector<const OwnBlock*> found;
  std::optional<EngineHash> parent;
  while (true) {
    const OwnBlock* next = nullptr;
    const auto [begin, end] = children_.equal_range(parent);
    for (auto it = begin; it != end && next == nullptr; ++it) {
      const OwnBlock& block = by_hash_.at(it->second);
      if (block.tokens.size() > ids.size() || !std::ranges::equal(block.tokens, ids.first(block.tokens.size()))) {
        continue;
      }
      const bool salted = std::ranges::find(block.extra_texts, salt) != block.extra_texts.end();
      const bool same = block.adapter == adapter && (!found.empty() || salt.empty() || salted);
      if (keys == Keys::kSame && !same) continue;
      next = &block;
    }
    if (next == nullptr) return found;
    found.push_back(next);
    ids = ids.subspan(next->tokens.size());
    parent = next->hash;
  }
}

std::uint64_t OwnBlocks::predicted(std::span<const TokenId> ids, std::string_view adapter,
                                   std::string_view salt) const {
  std::uint64_t tokens = 0;
  for (const OwnBlock* block : match(ids, adapter, salt, Keys::kSame)) {
    if (tokens + block->tokens.size() >= ids.size()) break;  // one token at least is computed
    tokens += block->tokens.size();
  }
  return tokens;
}

std::vector<const OwnBlock*> OwnBlocks::longest() const {
  std::vector<const OwnBlock*> best;
  for (const auto& [hash, block] : by_hash_) {
    std::vector<const OwnBlock*> chain;
    for (const OwnBlock* at = &block; at != nullptr && chain.size() <= by_hash_.size();) {
      chain.push_back(at);
      const auto before = at->parent ? by_hash_.find(*at->parent) : by_hash_.end();
      at = before == by_hash_.end() ? nullptr : &before->second;
    }
    if (chain.size() > best.size()) best = std::move(chain);
  }
  std::ranges::reverse(best);
  return best;
}

}  // namespace warmpath::doctor
