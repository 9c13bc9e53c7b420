// For this room's tests: the evidence that a healthy engine leaves, with knobs for what may be wrong with it.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "doctor/checks.h"
#include "doctor/probes.h"
#include "tokens/test_models.h"

namespace warmpath::doctor::testing {

constexpr std::uint32_t kBlock = 16;

struct Knobs {
  bool ignores_salt = false;
  bool tells_salt = true;
  bool ignores_adapter = false;
  std::string adapter_in_events = "adapter-x";
  bool drops_last = false;
  bool caches = true;
  bool tells_usage = true;
  bool tells_ids = true;  // /tokenize
  bool sends_events = true;
  std::uint32_t block = kBlock;
  std::function<std::vector<TokenId>(std::vector<TokenId>)> mistake;  // what it makes of a chat's ids
};

class TinyEngine {
 public:
  explicit TinyEngine(Knobs knobs) : knobs_(std::move(knobs)) {
    evidence_.engine = "http://engine:8000";
    evidence_.model = "demo";
    evidence_.adapters = {"adapter-x"};
    evidence_.nonce = "0123456789abcdef";
    evidence_.sources_status = 200;
    evidence_.tokenize_status = knobs_.tells_ids ? 200 : 404;
    evidence_.render_status = 403;
    evidence_.block_tokens_told = kBlock;
    evidence_.prefix_caching_told = true;
    evidence_.told = {{.rank = 0, .enabled = true, .publisher = "zmq", .events = "tcp://h:5557", .topic = "kv"}};
    evidence_.sources = {{.rank = 0,
                          .events = "tcp://h:5557",
                          .replay = "tcp://h:5558",
                          .connected = true,
                          .batches = 9,
                          .topics = {"kv"},
                          .replays = SourceSeen::Replay::kAnswered}};
  }

  Evidence examined() {
    using Role = Answered::Role;
    const tokens::Tokenizer& tokenizer = tokens::demo_model();
    const Probes probes(tokenizer, "demo", evidence_.nonce, 0, 72);
    if (knobs_.tells_ids) {
      for (const Question& question : probes.questions()) {
        evidence_.ids.push_back(question.probe);
        IdsProbe& probe = evidence_.ids.back();
        probe.theirs = probe.kind == IdsProbe::Kind::kChat ? theirs(probe.ours) : probe.ours;
      }
    }
    const std::string salt = evidence_.nonce + "-0";
    const Prompt first = probes.first();
    generate(Role::kFirst, first, salt, "");
    generate(Role::kAgain, first, salt, "");
    generate(Role::kNextTurn, probes.next_turn(first), salt, "");
    generate(Role::kOtherSalt, first, evidence_.nonce + "-other", "");
    generate(Role::kAdapter, first, salt, "adapter-x");
    generate(Role::kAdapterAgain, first, salt, "adapter-x");
    generate(Role::kText, probes.completion(), salt, "");
    return std::move(evidence_);
  }

 private:
  std::vector<TokenId> theirs(std::vector<TokenId> ours) const {
    return knobs_.mistake ? knobs_.mistake(std::move(ours)) : ours;
  }

  void generate(Answered::Role role, const Prompt& prompt, const std::string& salt, const std::string& adapter) {
    Answered answer;
    answer.role = role;
    answer.ours = prompt.ours;
    const auto ids = prompt.chat ? theirs(prompt.ours) : prompt.ours;
    if (knobs_.tells_ids) answer.theirs = ids;
    answer.salt = salt;
    answer.adapter = adapter;
    answer.prompt_tokens = ids.size();
    const std::uint64_t cached = run(ids, knobs_.ignores_salt ? "" : salt, knobs_.ignores_adapter ? "" : adapter);
    if (knobs_.tells_usage) answer.cached_tokens = cached;
    answer.heard_until = evidence_.heard.size();
    evidence_.answers.push_back(std::move(answer));
  }

  // Stores what is new; gives what was reused.
  std::uint64_t run(const std::vector<TokenId>& ids, const std::string& salt, const std::string& adapter) {
    if (!knobs_.caches) return 0;
    std::uint64_t reused = 0;
    bool reusing = true;
    std::string key = salt + "|" + adapter;
    blocks::BlockStored event;
    event.block_size = knobs_.block;
    event.extra_keys.emplace();
    if (!adapter.empty()) event.lora_name = knobs_.adapter_in_events;
    std::optional<blocks::WireHash> parent;
    for (std::size_t at = 0; at + knobs_.block <= ids.size(); at += knobs_.block) {
      for (std::size_t i = at; i < at + knobs_.block; ++i) key += "," + std::to_string(ids[i]);
      const blocks::WireHash hash{EngineHash(stable_hash(key)), {}};
      const bool last_token_in = at + knobs_.block >= ids.size();
      if (stored_.contains(hash.value)) {
        if (reusing && !last_token_in) reused += knobs_.block;
      } else {
        reusing = false;
        stored_.insert(hash.value);
        if (event.block_hashes.empty()) event.parent_block_hash = parent;
        event.block_hashes.push_back(hash);
        event.token_ids.insert(event.token_ids.end(), ids.begin() + at, ids.begin() + at + knobs_.block);
        auto& extras = event.extra_keys->emplace_back();
        if (!adapter.empty()) extras.emplace_back(blocks::ExtraText{knobs_.adapter_in_events});
        if (at == 0 && !salt.empty() && knobs_.tells_salt) extras.emplace_back(blocks::ExtraText{salt});
      }
      parent = hash;
    }
    if (!event.block_hashes.empty() && knobs_.sends_events) evidence_.heard.push_back({0, std::move(event)});
    return knobs_.drops_last && reused > 0 ? reused - knobs_.block : reused;
  }

  Knobs knobs_;
  Evidence evidence_;
  std::set<EngineHash> stored_;
};

inline Evidence evidence_of(Knobs knobs = {}) { return TinyEngine(std::move(knobs)).examined(); }

}  // namespace warmpath::doctor::testing
