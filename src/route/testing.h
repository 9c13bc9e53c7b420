// For the tests of route: one pool with an index, driven by hand.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "route/route.h"

namespace warmpath::route {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr std::uint32_t kBlockTokens = 16;

inline Instant at_ms(std::int64_t ms) { return Instant(milliseconds(ms)); }

inline const schedule::Policy* policy(std::string_view name) {
  const auto found = schedule::find_policy(name);
  WP_CHECK(found.ok());
  return *found;
}

inline fleet::EngineInfo engine(std::uint32_t id, std::vector<std::string> models = {}) {
  return {.id = EngineId(id),
          .name = "engine-" + std::to_string(id),
          .url = "http://engine-" + std::to_string(id) + ":8000",
          .models = std::move(models),
          .block_tokens = kBlockTokens,
          .kv_tokens = 65'536,
          .has_events = true};
}

inline std::vector<TokenId> ids_of(std::uint32_t first, std::size_t count) {
  std::vector<TokenId> ids(count);
  for (std::size_t i = 0; i < count; ++i) ids[i] = first + static_cast<TokenId>(i);
  return ids;
}

// One pool with an index, driven by hand.
class Pool {
 public:
  explicit Pool(std::string_view policy_name, std::uint32_t engines = 3, CoreOptions options = {})
      : space_(42, "model", kBlockTokens),
        index_({.space = space_}),
        core_(with(std::move(options), policy_name), &index_) {
    for (std::uint32_t id = 0; id < engines; ++id) add(engine(id));
  }

  void add(fleet::EngineInfo info) {
    const EngineId id = info.id;
    step(EngineChanged{fleet::Added{std::move(info)}});
    set_state(id, blocks::PublisherState::kExact);
  }
  void set_state(EngineId id, blocks::PublisherState state) {
    index_.set_state(id, state);
    step(PublisherChanged{id, state});
  }

  std::vector<Effect> step(const Input& input) {
    std::vector<Effect> out;
    core_.step(input, now, out);
    return out;
  }

  Arrived request(std::uint64_t id, const std::vector<TokenId>& ids) const {
    Arrived arrived;
    arrived.id = RequestId(id);
    arrived.model = "model";
    arrived.chain = space_.chain(ids, {});
    if (core_.policy().guess_block_bytes() > 0) {
      arrived.guessed_chain = space_.id_guess_chain(ids, core_.policy().guess_block_bytes(), 0, {});
    }
    arrived.prompt_tokens = static_cast<std::uint32_t>(ids.size());
    return arrived;
  }
  // Several prompts.
  Arrived request(std::uint64_t id, const std::vector<std::vector<TokenId>>& prompts) const {
    Arrived all;
    for (const std::vector<TokenId>& ids : prompts) {
      Arrived one = request(id, ids);
      all.id = one.id;
      all.model = one.model;
      all.prompt_tokens += one.prompt_tokens;
      all.parts.push_back({static_cast<std::uint32_t>(one.chain.size()),
                           static_cast<std::uint32_t>(one.guessed_chain.size()), one.prompt_tokens});
      all.chain.insert(all.chain.end(), one.chain.begin(), one.chain.end());
      all.guessed_chain.insert(all.guessed_chain.end(), one.guessed_chain.begin(), one.guessed_chain.end());
    }
    return all;
  }
  std::vector<Effect> arrive(std::uint64_t id, const std::vector<TokenId>& ids) { return step(request(id, ids)); }
  Forward forwarded(std::uint64_t id, const std::vector<TokenId>& ids) { return only<Forward>(arrive(id, ids)); }

  template <class T>
  static T only(const std::vector<Effect>& effects) {
    EXPECT_EQ(effects.size(), 1u);
    const T* one = effects.empty() ? nullptr : std::get_if<T>(&effects[0]);
    EXPECT_NE(one, nullptr);
    return one == nullptr ? T{} : *one;
  }

  // The engine says that it stored all full blocks of the ids.
  void store(EngineId id, const std::vector<TokenId>& ids) {
    blocks::BlockStored stored;
    stored.block_size = kBlockTokens;
    const std::size_t blocks = ids.size() / kBlockTokens;
    for (std::size_t i = 0; i < blocks; ++i) {
      stored.block_hashes.push_back({EngineHash(stable_hash(std::to_string(ids[0]) + "/" + std::to_string(i))), {}});
    }
    stored.token_ids.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(blocks * kBlockTokens));
    const std::vector<blocks::KvEvent> events = {stored};
    ASSERT_EQ(index_.apply(id, events).blocks_stored, blocks);
  }

  Snapshot snapshot(std::size_t decisions = 100) const { return core_.snapshot(now, decisions); }
  Core& core() { return core_; }

  void expect_empty_books() const {
    const Snapshot picture = snapshot();
    EXPECT_EQ(picture.inflight, 0u);
    for (const fleet::EngineView& view : picture.engines) {
      EXPECT_EQ(view.inflight_requests, 0u);
      EXPECT_EQ(view.inflight_tokens, 0u);
      EXPECT_EQ(view.inflight_prefill_tokens, 0u);
      EXPECT_EQ(view.inflight_since_sample, 0u);
    }
  }

  Instant now = at_ms(1'000);

 private:
  static CoreOptions with(CoreOptions options, std::string_view policy_name) {
    options.policy = policy(policy_name);
    return options;
  }
  blocks::KeySpace space_;
  index::Index index_;
  Core core_;
};

inline Failed failed(std::uint64_t id, EngineId at, ErrorKind kind = ErrorKind::kUpstream) {
  return {.id = RequestId(id), .engine = at, .kind = kind};
}

}  // namespace warmpath::route
