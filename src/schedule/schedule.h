// schedule: filter -> score -> pick. Policies are pure functions of one immutable view; state they need lives in fleet,
// index or (bounded, owned by route) in the tables that the view points to.
//
//   auto policy = find_policy("precise");
//   Decision decision = decide(**policy, view, random);
//
// A policy is one file (policy_NAME.cc), one line in the list (policies.cc), one test; the conformance tests run over
// the list. The scores that several policies share are in scores.h.
//
// Thread rule: policies are const and shared; decide() runs on the brain. Cost: O(candidates x scorers), one small
// allocation per candidate: about 0.1 us each (schedule_bench).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "fleet/fleet.h"
#include "index/index.h"

namespace warmpath::schedule {

// One engine that may take the request, with all that is known of it for this request.
struct Candidate {
  fleet::EngineView engine;
  // Exact: leading router blocks held, by tier (cumulative); guesses: what was routed there a moment ago.
  std::array<std::uint32_t, blocks::kTierCount> matched_blocks{};
  std::uint32_t recent_blocks = 0;       // by requests just routed (router blocks)
  std::uint32_t approximate_blocks = 0;  // by the approximate table (guess blocks)
  blocks::PublisherState publisher = blocks::PublisherState::kLost;
};

// A load sample older than this says nothing any more: queue counts only this router's own, KV use is neutral.
inline constexpr Duration kSampleStaleAfter = std::chrono::seconds(5);

// What a policy sees.
struct View {
  std::span<const Candidate> candidates;  // sorted by engine id; at least one
  std::uint32_t prompt_tokens = 0;
  std::uint32_t chain_blocks = 0;        // router blocks of the prompt; 0: not exact
  std::uint32_t block_tokens = 0;        // router block
  std::uint32_t guessed_blocks = 0;      // guess blocks of the prompt
  std::uint32_t guess_block_tokens = 0;  // tokens that one guess block stands for (4 bytes a token)
  std::uint64_t decisions = 0;           // made by this pool before this one: for round robin
  Instant now;
};

// The receipt: the full record of why a decision fell as it did. Numbers, no prompt.
struct ScoreLine {
  std::string_view scorer;  // "prefix", "queue", "kv"
  double weight = 0;
  double score = 0;  // 0..1
};
struct CandidateReceipt {
  EngineId engine;
  double total = 0;
  std::vector<ScoreLine> lines;
  std::uint32_t matched_tokens = 0;  // predicted cached tokens there
  double waiting = 0;
  double running = 0;
  double kv_usage = 0;
  std::uint32_t inflight_requests = 0;
};
// Candidates kept in one receipt: the best by total and the chosen one. Bounds what a ring of receipts holds.
inline constexpr std::size_t kReceiptCandidatesMax = 128;
struct Receipt {
  std::string_view policy;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t chain_blocks = 0;
  std::uint32_t guessed_blocks = 0;
  // The chosen engine's match came from KV events (or from requests just routed, over the exact chain). False: from
  // guesses, or nothing was known.
  bool exact = false;
  std::vector<CandidateReceipt> candidates;  // sorted by engine
  std::size_t candidates_total = 0;          // more than candidates.size() when only the best were kept
  EngineId chosen;
  std::uint32_t ties = 1;  // candidates with the best total; the seeded stream chose among them
};

struct Decision {
  EngineId engine;
  std::size_t candidate = 0;  // its place in view.candidates
  std::uint32_t predicted_cached_tokens = 0;
  bool exact = false;  // as in the receipt
  std::shared_ptr<const Receipt> receipt;
};

// What a policy wants to know of the prompt: nothing, a guessed chain over its text, or the exact chain.
enum class Needs : std::uint8_t { kNothing, kGuess, kExact };
std::string_view needs_name(Needs needs);  // "nothing", "guess", "exact"

class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;  // one sentence, for help and docs
  virtual std::string_view formula() const = 0;  // score as text, for docs and explain
  virtual Needs needs() const = 0;
  // Guess blocks in bytes of text; 0: it wants no guessed chain. A policy that needs the exact chain may want both, as
  // precise does: engines without events, and prompts that could not be encoded, are scored by guesses.
  // `guess_blocks_max` 0: no cap.
  virtual std::uint32_t guess_block_bytes() const { return 0; }
  virtual std::uint32_t guess_blocks_max() const { return 0; }
  // Per-engine capacity of the approximate table in guess blocks, from the engine's KV tokens (0: not known).
  virtual std::size_t guess_capacity(std::uint64_t kv_tokens) const;
  // Scores every candidate: lines[i] for candidates[i]; `lines` comes with one empty vector each. Higher total wins:
  // the sum of weight times score, a score outside 0..1 clamped and NaN counted as 0. Must not depend on the order of
  // candidates, and must stand any number in them: NaN, infinite, negative.
  virtual void score(const View& view, std::vector<std::vector<ScoreLine>>& lines) const = 0;
  // Picks among candidates by their totals (one each, finite); default: the best, ties by the random stream.
  virtual std::size_t pick(const View& view, std::span<const double> totals, RandomStream& random) const;
};

// The explicit list: random, round-robin, load, approximate-2025, approximate, precise, least-work. It feeds
// validation, help, docs and the conformance tests.
std::span<const Policy* const> policies();
// kInvalid naming the nearest policy and all there are.
Result<const Policy*> find_policy(std::string_view name);

// Whether a candidate's match of this prompt rests on the exact chain: there is one and the engine's events are
// followed.
bool matches_exactly(const View& view, const Candidate& candidate);
// Tokens of the prompt that a candidate is predicted to have cached: exact match (gpu tier) or recent entries,
// whichever is deeper, else the guess; but never the whole prompt: at most prompt_tokens - 1, rounded down to the
// engine's block (vLLM 0.32 looks up at most n-1 tokens).
std::uint32_t predicted_cached_tokens(const View& view, const Candidate& candidate);

// Precondition (WP_CHECK): at least one candidate. The receipt is always made.
Decision decide(const Policy& policy, const View& view, RandomStream& random);

}  // namespace warmpath::schedule
