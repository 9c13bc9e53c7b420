#include "doctor/own_filter.h"

#include <algorithm>
#include <utility>

namespace warmpath::doctor {

bool text_holds(std::vector<TokenId> ids, const std::string& nonce, const tokens::Tokenizer& tokenizer) {
  std::erase_if(ids, [&](TokenId id) { return id >= tokenizer.vocabulary_size(); });
  const auto text = tokenizer.decode(ids, tokens::SpecialText::kKeep);
  return text.ok() && text->find(nonce) != std::string::npos;
}

OwnFilter::OwnFilter(const tokens::Tokenizer& tokenizer, std::string nonce)
    : tokenizer_(tokenizer), nonce_(std::move(nonce)) {}

std::vector<blocks::KvEvent> OwnFilter::take(blocks::KvEvent event) {
  if (auto* stored = std::get_if<blocks::BlockStored>(&event)) return take_stored(std::move(*stored));
  std::vector<blocks::KvEvent> through;
  const auto* removed = std::get_if<blocks::BlockRemoved>(&event);
  const bool ours = removed == nullptr || std::ranges::any_of(removed->block_hashes, [this](const auto& hash) {
                      return own_.contains(hash.value);
                    });
  if (ours) through.push_back(std::move(event));
  return through;
}

void OwnFilter::own(const blocks::BlockStored& event) {
  for (const blocks::WireHash& hash : event.block_hashes) own_.insert(hash.value);
}

bool OwnFilter::shows_nonce(const std::vector<TokenId>& ids, const blocks::BlockStored& event) const {
  if (event.cache_salt && event.cache_salt->find(nonce_) != std::string::npos) return true;
  if (event.extra_keys && !event.extra_keys->empty()) {
    for (const blocks::ExtraKey& key : event.extra_keys->front()) {
      const auto* text = std::get_if<blocks::ExtraText>(&key);
      if (text != nullptr && text->text.find(nonce_) != std::string::npos) return true;
    }
  }
  return text_holds(ids, nonce_, tokenizer_);
}

std::vector<blocks::KvEvent> OwnFilter::take_stored(blocks::BlockStored event) {
  std::vector<blocks::KvEvent> through;
  if (event.block_hashes.empty()) return through;
  Undecided chain;
  if (event.parent_block_hash) {
    const EngineHash parent = event.parent_block_hash->value;
    if (own_.contains(parent)) {
      own(event);
      through.emplace_back(std::move(event));
      return through;
    }
    const auto before = undecided_.find(parent);
    if (before == undecided_.end()) return through;
    order_.erase(before->second.place);
    chain = std::move(before->second);
    undecided_.erase(before);
  }
  const std::size_t room = kNonceWithinTokens - std::min(kNonceWithinTokens, chain.ids.size());
  const auto end = event.token_ids.begin() + static_cast<std::ptrdiff_t>(std::min(room, event.token_ids.size()));
  chain.ids.insert(chain.ids.end(), event.token_ids.begin(), end);
  const bool ours = shows_nonce(chain.ids, event);
  const EngineHash last = event.block_hashes.back().value;
  chain.events.emplace_back(std::move(event));
  if (ours) {
    for (const blocks::KvEvent& one : chain.events) own(std::get<blocks::BlockStored>(one));
    return std::move(chain.events);
  }
  if (chain.ids.size() >= kNonceWithinTokens || undecided_.contains(last)) return through;
  chain.place = order_.insert(order_.end(), last);
  undecided_.emplace(last, std::move(chain));
  if (undecided_.size() > kUndecidedMax) {
    undecided_.erase(order_.front());
    order_.pop_front();
  }
  return through;
}

}  // namespace warmpath::doctor
