// Do the engine's blocks and hits follow from our ids?
#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "doctor/checks.h"
#include "doctor/told.h"

namespace warmpath::doctor {
namespace {

using Role = Answered::Role;

constexpr const char* kTellUsage = "start vLLM with --enable-prompt-tokens-details (SGLang: --enable-cache-report)";

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kFirst: return "a new prompt";
    case Role::kAgain: return "the same prompt again";
    case Role::kNextTurn: return "the next turn";
    case Role::kOtherSalt: return "the same prompt under another salt";
    case Role::kAdapter: return "the same prompt for an adapter";
    case Role::kAdapterAgain: return "the adapter's prompt again";
    case Role::kText: return "a completion";
  }
  return "";
}

std::set<std::uint32_t> sizes_of(const OwnBlocks& own) {
  std::set<std::uint32_t> sizes;
  for (const auto& [hash, block] : own.all()) sizes.insert(static_cast<std::uint32_t>(block.tokens.size()));
  return sizes;
}

std::string list_of(const std::set<std::uint32_t>& sizes) {
  std::string text;
  for (const std::uint32_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return text;
}

bool has(const std::vector<std::string>& texts, std::string_view text) {
  return std::ranges::find(texts, text) != texts.end();
}

// The chain's first blocks that came with or after an answer and hold its ids under whatever keys.
const OwnBlock* root_of(const Answered& answer, const OwnBlocks& own) {
  const auto chain = own.match(Reading::ids_of(answer), answer.adapter, answer.salt, Keys::kAny);
  return chain.empty() ? nullptr : chain.front();
}

}  // namespace

Finding check_answers(const Reading& reading) {
  const Evidence& e = reading.evidence;
  std::size_t good = 0;
  for (const Answered& answer : e.answers) {
    if (answer.error.empty()) {
      ++good;
      continue;
    }
    return fault("answers", std::string(role_name(answer.role)) + ": " + answer.error,
                 "doctor cannot look further until the engine answers short requests");
  }
  if (good == 0) return not_tested(e.out_of_time ? "there was no time left" : "no probe could be made");
  if (e.out_of_time) {
    return warning("time", std::to_string(good) + " probes were answered, then the time was over",
                   "the engine is busy: try again, or give more time with --total-max");
  }
  return ok(std::to_string(good) + " short requests answered");
}

Finding check_prefix_caching(const Reading& reading) {
  const Evidence& e = reading.evidence;
  const char* remedy = "start the engine with prefix caching (vLLM: without --no-enable-prefix-caching)";
  if (e.prefix_caching_told && !*e.prefix_caching_told) {
    return fault("prefix_caching", "the engine says that prefix caching is off", remedy);
  }
  if (reading.caching_off()) {
    return fault("prefix_caching", "a repeated prompt was computed again, and no block was stored", remedy);
  }
  const Answered* again = reading.answer(Role::kAgain);
  if (again != nullptr && again->cached_tokens && *again->cached_tokens > 0) {
    return ok("a repeated prompt was reused");
  }
  if (e.prefix_caching_told) return ok("the engine says that it is on");
  return reading.own.empty() ? not_tested("the engine tells neither settings, nor hits, nor events")
                             : ok("the probes' blocks were stored");
}

Finding check_block_size(const Reading& reading) {
  const auto& told = reading.evidence.block_tokens_told;
  const auto sizes = sizes_of(reading.own);
  if (sizes.empty()) {
    return not_tested("no block of a probe came" + (told ? "; the engine tells " + std::to_string(*told) : ""));
  }
  if (sizes.size() > 1) {
    return warning("block_size", "its blocks have several sizes: " + list_of(sizes),
                   "set --block-tokens to one that divides them all");
  }
  if (told && *told != *sizes.begin()) {
    return fault("block_size",
                 "the engine tells blocks of " + std::to_string(*told) + " tokens, its events have " + list_of(sizes),
                 "set --block-tokens " + list_of(sizes) + " (or a divisor): what the engine tells is wrong");
  }
  return ok(list_of(sizes) + " tokens" + (told ? ", as told" : ""));
}

Finding check_blocks(const Reading& reading) {
  const Answered* first = reading.answer(Role::kFirst);
  if (first == nullptr) return not_tested("no prompt was answered");
  const auto sizes = sizes_of(reading.own);
  if (sizes.empty()) return not_tested("no block of a probe came");
  const OwnBlocks own = reading.own_at(*first);
  const auto& ids = Reading::ids_of(*first);
  const std::size_t expected = ids.size() / *sizes.begin();
  if (expected == 0) return not_tested("a block is longer than a gentle prompt");
  const std::size_t held = own.match(ids, "", first->salt, Keys::kAny).size();
  if (held >= expected) {
    return ok(std::to_string(expected) + " blocks hold the prompt's ids, each with its parent");
  }
  if (own.removed_some()) {
    return warning("evicted", "the engine evicted blocks of the probes while it was looked at",
                   "its KV cache is full: try again when it is less busy");
  }
  const bool ids_differ = !first->theirs && (reading.tokenizer_differs() != nullptr ||
                                             reading.find(Of::kChats, Difference::kText) != nullptr ||
                                             reading.find(Of::kChats, Difference::kSpecialTokens) != nullptr);
  if (ids_differ) return not_tested("the ids differ already");
  return fault("blocks",
               std::to_string(held) + " of " + std::to_string(expected) + " blocks hold the prompt's ids" +
                   (first->theirs ? " as the engine itself told them" : ""),
               "run `warmpath events decode` on a recorded payload: the engine's events do not say what it computes");
}

Finding check_salt(const Reading& reading) {
  if (reading.caching_off()) return not_tested("without prefix caching salts do nothing");
  const Answered* first = reading.answer(Role::kFirst);
  const Answered* other = reading.answer(Role::kOtherSalt);
  if (first == nullptr || other == nullptr) return not_tested("no prompt was answered under two salts");
  if (other->cached_tokens && *other->cached_tokens > 0) {
    return fault("salt",
                 "the engine reused " + std::to_string(*other->cached_tokens) + " tokens across two cache salts",
                 "cache_salt does not reach the engine or is ignored (a proxy, an old version, an offload tier): "
                 "tenants share its cache, and the router predicts misses where it hits");
  }
  const OwnBlocks own = reading.own_at(*first);
  const OwnBlock* root = root_of(*first, own);
  if (root != nullptr && !has(root->extra_texts, first->salt)) {
    return fault("salt", "events do not tell the cache salt of a block",
                 "salted prompts cannot be matched at this engine: a newer version tells extra_keys or cache_salt");
  }
  if (root == nullptr && !other->cached_tokens) return not_tested("neither events nor cached tokens were told");
  std::string how = root != nullptr ? "events tell the salt" : "";
  if (other->cached_tokens) how += std::string(how.empty() ? "" : ", ") + "another salt reuses nothing";
  return ok(how);
}

Finding check_adapter(const Reading& reading) {
  const Evidence& e = reading.evidence;
  if (e.adapters.empty()) return not_tested("the engine lists no adapter");
  if (reading.caching_off()) return not_tested("without prefix caching adapters share nothing");
  const Answered* first = reading.answer(Role::kAdapter);
  if (first == nullptr) return not_tested("no adapter's prompt was answered");
  const std::string& name = first->adapter;
  if (first->cached_tokens && *first->cached_tokens > 0) {
    return fault(
        "lora",
        "the engine reused " + std::to_string(*first->cached_tokens) + " tokens of the base model for '" + name + "'",
        "the adapter is not applied, or it takes no part in block hashes: look at --lora-modules");
  }
  const OwnBlocks own = reading.own_at(*first);
  if (own.empty()) return not_tested("no block of the adapter's prompt came");
  const OwnBlock* renamed = nullptr;
  for (const auto& [hash, block] : own.all()) {
    if (block.adapter == name) {
      return ok("events name '" + name + "'" + (first->cached_tokens ? ", and it reuses nothing of the base" : ""));
    }
    if (!block.adapter.empty()) renamed = &block;
  }
  if (renamed != nullptr) {
    return fault("lora", "events name the adapter '" + printable(renamed->adapter) + "', requests '" + name + "'",
                 "name it the same in --lora-modules and in what stores it: the router keys an adapter's blocks by the "
                 "name in the request");
  }
  return fault("lora", "events do not name the adapter of its blocks",
               "this engine's adapter prompts cannot be matched: a newer version tells lora_name");
}

Finding check_usage(const Reading& reading) {
  const Answered* again = reading.answer(Role::kAgain);
  if (again == nullptr) return not_tested("no repeated prompt was answered");
  if (again->cached_tokens) return ok("usage tells them");
  return warning("usage_details", "usage tells no cached_tokens: predictions cannot be proven on live traffic",
                 kTellUsage);
}

Finding check_prediction(const Reading& reading) {
  if (reading.own.empty()) return not_tested("no block of a probe came");
  if (reading.caching_off()) return not_tested("prefix caching is off");
  if (check_salt(reading).outcome == Outcome::kFault) return not_tested("cache salts are not kept or not told");
  const Answered* first = reading.answer(Role::kFirst);
  if (first != nullptr && check_blocks(reading).outcome != Outcome::kOk) {
    return not_tested("the blocks do not hold the prompts as we know them");
  }
  const bool adapters = check_adapter(reading).outcome != Outcome::kFault;
  const auto sizes = sizes_of(reading.own);
  std::size_t compared = 0, equal = 0, one_short = 0;
  std::string worst;
  bool evicted = false;
  for (const Answered& answer : reading.evidence.answers) {
    if (!answer.error.empty() || !answer.cached_tokens || (!adapters && !answer.adapter.empty())) continue;
    // What was known when it was sent: the events of the answers before it.
    const std::size_t at = static_cast<std::size_t>(&answer - reading.evidence.answers.data());
    const std::size_t until = at == 0 ? 0 : reading.evidence.answers[at - 1].heard_until;
    const OwnBlocks own(reading.evidence, reading.tokenizer, until);
    evicted = evicted || own.removed_some();
    const std::uint64_t predicted = own.predicted(Reading::ids_of(answer), answer.adapter, answer.salt);
    if (predicted == 0 && *answer.cached_tokens == 0) continue;
    ++compared;
    if (predicted == *answer.cached_tokens) {
      ++equal;
      continue;
    }
    if (predicted == *answer.cached_tokens + *sizes.rbegin()) ++one_short;
    worst = std::string(role_name(answer.role)) + ": predicted " + std::to_string(predicted) + ", reported " +
            std::to_string(*answer.cached_tokens);
  }
  const bool lookahead =
      std::ranges::any_of(reading.own.all(), [](const auto& entry) { return entry.second.lookahead; });
  if (compared == 0) return not_tested("no hit was predicted or reported");
  if (equal == compared) return ok(std::to_string(equal) + " of " + std::to_string(compared) + " equal, to the token");
  if (one_short == compared - equal && equal == 0) {
    return warning(
        "draft_model", "every hit is one block short of what the engine holds: " + worst,
        "a draft model (EAGLE, MTP) computes the last matched block again: nothing to mend, but every hit of "
        "this engine is one block less than matched");
  }
  if (lookahead) {
    return warning("draft_model", "block hashes cover tokens behind the block: " + worst,
                   "a draft model's blocks match only where the next tokens are equal: predictions are upper bounds");
  }
  if (evicted) {
    return warning("evicted", "blocks were evicted meanwhile: " + worst, "try again when the engine is less busy");
  }
  return fault("prediction", std::to_string(compared - equal) + " of " + std::to_string(compared) + " differ; " + worst,
               "look at the other findings first; else the cache was cleared, or requests reach several engines behind "
               "one address");
}

}  // namespace warmpath::doctor
