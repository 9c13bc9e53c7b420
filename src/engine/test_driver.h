// For this room's tests only: small models, and a driver that runs steps in virtual time.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace warmpath::engine::testing {

inline ModelOptions small_options(std::uint32_t block_tokens, std::uint64_t kv_blocks,
                                  std::uint32_t batched_tokens = 64, std::uint32_t sequences = 8) {
  ModelOptions options;
  options.profile.name = "small";
  options.profile.block_tokens = block_tokens;
  options.profile.kv_blocks = kv_blocks;
  options.profile.batched_tokens_max = batched_tokens;
  options.profile.sequences_max = sequences;
  options.profile.model_tokens_max = 100'000;
  return options;
}

inline std::vector<TokenId> range(TokenId first, std::size_t count) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = first + static_cast<TokenId>(i);
  return ids;
}

// "S2 R1 C": kinds and counts of hashes, in order; "S2^" starts at block 0.
inline std::string pattern(const std::vector<blocks::KvEvent>& events) {
  std::string out;
  for (const auto& event : events) {
    if (!out.empty()) out += ' ';
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      out += "S" + std::to_string(stored->block_hashes.size()) + (stored->parent_block_hash ? "" : "^");
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      out += "R" + std::to_string(removed->block_hashes.size());
    } else {
      out += "C";
    }
  }
  return out;
}

// Replays events into counts of physical blocks, as a consumer would.
class EventReplay {
 public:
  // Empty when sound.
  std::string apply(const std::vector<blocks::KvEvent>& events) {
    for (const auto& event : events) {
      if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
        if (stored->parent_block_hash && !copies_.contains(stored->parent_block_hash->value)) return "unknown parent";
        if (stored->token_ids.size() != stored->block_hashes.size() * stored->block_size) return "token count";
        for (const auto& hash : stored->block_hashes) ++copies_[hash.value];
      } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
        for (const auto& hash : removed->block_hashes) {
          const auto it = copies_.find(hash.value);
          if (it == copies_.end()) return "removal of what is not there";
          if (--it->second == 0) copies_.erase(it);
        }
      } else {
        copies_.clear();
      }
    }
    return "";
  }
  std::vector<EngineHash> hashes() const {
    std::vector<EngineHash> out;
    for (const auto& entry : copies_) out.push_back(entry.first);
    return out;
  }
  std::uint64_t copies() const {
    std::uint64_t sum = 0;
    for (const auto& entry : copies_) sum += entry.second;
    return sum;
  }

 private:
  std::map<EngineHash, std::uint64_t> copies_;
};

struct Outcome {
  std::vector<TokenId> tokens;
  std::uint32_t cached_tokens = 0;
  bool finished = false;
  Instant first_at;
  Instant finished_at;
};

// One model in virtual time.
class Driver {
 public:
  explicit Driver(ModelOptions options) {
    auto created = Model::create(std::move(options));
    WP_CHECK(created.ok());
    model = std::move(*created);
  }

  void add(std::uint64_t id, std::vector<TokenId> prompt, std::vector<TokenId> output) {
    Request request;
    request.id = id;
    request.prompt = std::move(prompt);
    request.output = std::move(output);
    WP_CHECK(model->add(std::move(request), now).ok());
  }

  // One step; false when there was nothing to do.
  bool step() {
    const auto planned = model->begin_step(now);
    if (!planned) return false;
    plan = *planned;
    now = now + plan.duration;
    model->finish_step(now, result);
    for (const Emitted& emitted : result.emitted) {
      Outcome& outcome = outcomes[emitted.id];
      if (emitted.first) outcome.first_at = now;
      outcome.tokens.insert(outcome.tokens.end(), emitted.tokens.begin(), emitted.tokens.end());
      outcome.cached_tokens = emitted.cached_tokens;
      if (emitted.finished) {
        outcome.finished = true;
        outcome.finished_at = now;
      }
    }
    return true;
  }

  // Runs until idle; the patterns of all batches that are not empty.
  std::vector<std::string> run() {
    std::vector<std::string> patterns;
    while (step()) {
      if (!result.events.empty()) patterns.push_back(pattern(result.events));
    }
    return patterns;
  }

  std::unique_ptr<Model> model;
  Instant now;
  StepPlan plan;
  StepResult result;
  std::map<std::uint64_t, Outcome> outcomes;
};

}  // namespace warmpath::engine::testing
