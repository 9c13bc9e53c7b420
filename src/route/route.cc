#include "route/route.h"

#include <algorithm>
#include <limits>
#include <span>

#include "route/proofs.h"
#include "route/receipts.h"

namespace warmpath::route {
namespace {

// The request as long as it is in flight.
struct InFlight {
  Arrived request;
  EngineId engine;  // that has it now
  std::uint32_t attempt = 0;
  std::uint32_t deaths = 0;  // engines that broke while they had it
  bool first_byte_seen = false;
  bool predicted_exactly = false;
  std::uint32_t predicted_cached_tokens = 0;
  std::uint64_t record = 0;
  std::vector<EngineId> tried;
  std::vector<std::string> unreached_urls;
};

bool contains(const std::vector<EngineId>& engines, EngineId engine) {
  return std::find(engines.begin(), engines.end(), engine) != engines.end();
}

// Calls f(chain, guessed_chain, prompt_tokens) for each of several prompts.
template <class F>
void for_each_part(const Arrived& request, F&& f) {
  std::span<const BlockKey> chain = request.chain;
  std::span<const BlockKey> guessed = request.guessed_chain;
  for (const PromptPart& part : request.parts) {
    f(chain.first(part.chain_blocks), guessed.first(part.guessed_blocks), part.prompt_tokens);
    chain = chain.subspan(part.chain_blocks);
    guessed = guessed.subspan(part.guessed_blocks);
  }
}

bool adds_up(const Arrived& request) {
  if (request.parts.empty()) return true;
  std::size_t chain = 0;
  std::size_t guessed = 0;
  for (const PromptPart& part : request.parts) {
    chain += part.chain_blocks;
    guessed += part.guessed_blocks;
  }
  return chain == request.chain.size() && guessed == request.guessed_chain.size();
}

// No more of a prompt's guess than the policy wants; 0: no cap.
void cap_guesses(Arrived& request, std::uint32_t cap) {
  std::vector<BlockKey>& chain = request.guessed_chain;
  if (cap == 0) return;
  if (request.parts.empty()) {
    if (chain.size() > cap) chain.resize(cap);
    return;
  }
  auto from = chain.begin();
  auto to = chain.begin();
  for (PromptPart& part : request.parts) {
    const std::uint32_t kept = std::min(part.guessed_blocks, cap);
    to = std::copy_n(from, kept, to);
    from += part.guessed_blocks;
    part.guessed_blocks = kept;
  }
  chain.erase(to, chain.end());
}

// Router blocks that lie in whole blocks of the engine among the first `tokens`.
std::uint32_t whole_blocks(std::uint64_t tokens, std::uint32_t engine_block_tokens, std::uint32_t block_tokens) {
  const std::uint32_t engine_block = engine_block_tokens != 0 ? engine_block_tokens : std::max(block_tokens, 1u);
  return static_cast<std::uint32_t>(tokens / engine_block * engine_block / std::max(block_tokens, 1u));
}

}  // namespace

struct Core::Impl {
  Impl(CoreOptions core_options, const index::Index* read_index)
      : options(std::move(core_options)),
        index(read_index),
        books(options.fleet),
        gate(options.gate),
        recent(options.recent_ttl, options.recent_answered_ttl, options.recent_entries_max),
        picks(options.seed, "route.picks"),
        receipts(options.receipts_max) {
    WP_CHECK(options.policy != nullptr);
    WP_CHECK(options.attempts_max >= 1);
    if (index != nullptr) options.block_tokens = index->space().block_tokens();
  }

  void on(const Arrived& input, Instant now, std::vector<Effect>& out);
  void on(const FirstByte& input, Instant now, std::vector<Effect>& out);
  void on(const Progress& input, Instant now, std::vector<Effect>& out) { on(FirstByte{input.id}, now, out); }
  void on(const Finished& input, Instant now, std::vector<Effect>& out);
  void on(const Failed& input, Instant now, std::vector<Effect>& out);
  void on(const ClientGone& input, Instant now, std::vector<Effect>& out);
  void on(const Sampled& input, Instant now, std::vector<Effect>&) { books.apply(input.sample, now); }
  void on(const EngineChanged& input, Instant now, std::vector<Effect>& out);
  void on(const PublisherChanged& input, Instant now, std::vector<Effect>& out);
  void on(const TimerFired&, Instant, std::vector<Effect>&) {}  // no timer is armed yet: recent entries expire by `now`

  void leave_out_tried(const InFlight& flight);
  void gather_candidates(const InFlight& flight, Instant now);
  void add_match(std::span<const BlockKey> chain, std::span<const BlockKey> guessed,
                 std::optional<std::uint32_t> tokens, Instant now);
  schedule::View view_of(const InFlight& flight, Instant now) const;
  void forward(InFlight& flight, Instant now, std::vector<Effect>& out);
  // nullopt: another engine is to be tried; else why not.
  std::optional<Error> why_no_retry(const InFlight& flight, const Failed& failed, Instant now);

  CoreOptions options;
  const index::Index* index;
  fleet::Fleet books;
  flow::Gate gate;
  index::ApproximateTable approximate;
  index::RecentTable recent;
  RandomStream picks;
  ReceiptRing receipts;
  Proofs proofs;
  std::unordered_map<RequestId, InFlight> requests;
  std::unordered_map<EngineId, blocks::PublisherState> publishers;
  Snapshot totals;  // the counters alone
  // Kept between steps to save allocations.
  std::vector<fleet::EngineView> engines;
  std::vector<schedule::Candidate> candidates;
  index::MatchTable match;
};

void Core::Impl::on(const Arrived& input, Instant now, std::vector<Effect>& out) {
  WP_CHECK(!requests.contains(input.id));
  WP_CHECK(adds_up(input));
  books.candidates(input.model, now, engines);
  const flow::Verdict verdict = gate.admit(engines, books.inflight_total());
  if (const auto* refuse = std::get_if<flow::Refuse>(&verdict)) {
    ++totals.rejected_total;
    out.push_back(Reject{input.id, refuse->error, refuse->retry_after});
    return;
  }
  InFlight& flight = requests[input.id];
  flight.request = input;
  cap_guesses(flight.request, options.policy->guess_blocks_max());
  forward(flight, now, out);
}

// Takes the engines already tried out of `engines`; and, where others are left, the other ranks of a server process
// that could not be reached.
void Core::Impl::leave_out_tried(const InFlight& flight) {
  std::erase_if(engines, [&](const fleet::EngineView& view) { return contains(flight.tried, view.id); });
  if (flight.unreached_urls.empty()) return;
  const auto same_process = [&](const fleet::EngineView& view) {
    const std::string& url = books.info(view.id)->url;
    return std::find(flight.unreached_urls.begin(), flight.unreached_urls.end(), url) != flight.unreached_urls.end();
  };
  if (!std::all_of(engines.begin(), engines.end(), same_process)) std::erase_if(engines, same_process);
}

void Core::Impl::gather_candidates(const InFlight& flight, Instant now) {
  const Arrived& request = flight.request;
  candidates.clear();
  for (const fleet::EngineView& view : engines) {
    schedule::Candidate& candidate = candidates.emplace_back();
    candidate.engine = view;
    const auto state = publishers.find(view.id);
    if (state != publishers.end()) candidate.publisher = state->second;
  }
  if (request.parts.empty()) {
    add_match(request.chain, request.guessed_chain, std::nullopt, now);
  } else {
    for_each_part(request, [&](std::span<const BlockKey> chain, std::span<const BlockKey> guessed,
                               std::uint32_t tokens) { add_match(chain, guessed, tokens, now); });
  }
}

// Adds to every candidate what it holds of one prompt. Of several prompts the engine computes the last token of each,
// so no more than what stands before that counts; of a single one predicted_cached_tokens() takes care.
void Core::Impl::add_match(std::span<const BlockKey> chain, std::span<const BlockKey> guessed,
                           std::optional<std::uint32_t> tokens, Instant now) {
  match.rows.clear();
  if (index != nullptr && !chain.empty()) index->match(chain, match);
  const bool guesses = options.policy->guess_block_bytes() > 0 && !guessed.empty();
  for (schedule::Candidate& candidate : candidates) {
    const EngineId id = candidate.engine.id;
    const std::uint32_t engine_block = candidate.engine.block_tokens;
    const std::uint32_t most = tokens ? whole_blocks(*tokens == 0 ? 0 : *tokens - 1, engine_block, options.block_tokens)
                                      : std::numeric_limits<std::uint32_t>::max();
    std::uint32_t on_gpu = 0;
    if (const index::MatchRow* row = match.find(id)) {
      for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
        candidate.matched_blocks[tier] += std::min(row->depth_blocks[tier], most);
      }
      on_gpu = std::min(row->depth(blocks::Tier::kGpu), most);
    }
    if (!chain.empty()) {
      std::uint32_t routed = std::min(recent.depth(id, chain, now), most);
      // Of several prompts each is either known or promised: what counts is the sum of the larger, in whole engine
      // blocks.
      if (tokens) {
        const std::uint64_t routed_tokens = std::uint64_t{routed} * options.block_tokens;
        routed = std::max(on_gpu, whole_blocks(routed_tokens, engine_block, options.block_tokens));
      }
      candidate.recent_blocks += routed;
    }
    if (guesses) candidate.approximate_blocks += approximate.depth(id, guessed);
  }
}

schedule::View Core::Impl::view_of(const InFlight& flight, Instant now) const {
  schedule::View view;
  view.candidates = candidates;
  view.prompt_tokens = flight.request.prompt_tokens;
  view.chain_blocks = static_cast<std::uint32_t>(flight.request.chain.size());
  view.block_tokens = options.block_tokens;
  if (options.policy->guess_block_bytes() > 0) {
    view.guessed_blocks = static_cast<std::uint32_t>(flight.request.guessed_chain.size());
    view.guess_block_tokens = options.policy->guess_block_bytes() / 4;  // 4 bytes of text for one token
  }
  view.decisions = totals.decisions_total;
  view.now = now;
  return view;
}

// `engines` holds the candidates, at least one.
void Core::Impl::forward(InFlight& flight, Instant now, std::vector<Effect>& out) {
  gather_candidates(flight, now);
  const schedule::Decision decision = schedule::decide(*options.policy, view_of(flight, now), picks);
  WP_CHECK(!contains(flight.tried, decision.engine));
  const Arrived& request = flight.request;
  ++totals.decisions_total;
  ++flight.attempt;
  flight.engine = decision.engine;
  flight.tried.push_back(decision.engine);
  // A request just routed promises blocks that no event told of yet, and would hide that the events never tell of them.
  // Of several prompts engines report what was cached of one (vLLM 0.32).
  const schedule::Candidate& chosen = candidates[decision.candidate];
  flight.predicted_exactly =
      decision.exact && request.parts.empty() &&
      chosen.recent_blocks <= chosen.matched_blocks[static_cast<std::size_t>(blocks::Tier::kGpu)];
  flight.predicted_cached_tokens = decision.predicted_cached_tokens;
  books.forwarded(decision.engine, request.id, request.prompt_tokens,
                  request.prompt_tokens - decision.predicted_cached_tokens, now);
  recent.routed(request.id, decision.engine, request.chain, now);
  if (options.policy->guess_block_bytes() > 0) {
    if (request.parts.empty()) approximate.routed(decision.engine, request.guessed_chain);
    for_each_part(request, [&](std::span<const BlockKey>, std::span<const BlockKey> guessed, std::uint32_t) {
      approximate.routed(decision.engine, guessed);
    });
  }
  flight.record = receipts.add({.id = request.id,
                                .at = now,
                                .attempt = flight.attempt,
                                .receipt = decision.receipt,
                                .predicted_cached_tokens = decision.predicted_cached_tokens,
                                .reported_cached_tokens = std::nullopt});
  out.push_back(
      Forward{request.id, decision.engine, flight.attempt, decision.predicted_cached_tokens, decision.receipt});
}

void Core::Impl::on(const FirstByte& input, Instant now, std::vector<Effect>& /*out*/) {
  const auto at = requests.find(input.id);
  if (at == requests.end() || at->second.first_byte_seen) return;
  InFlight& flight = at->second;
  flight.first_byte_seen = true;
  books.first_byte(input.id, now);
  books.succeeded(flight.engine, now);
  recent.answered(input.id, now);
  // No retry any more: the chains, by far the biggest part, can go.
  flight.request.chain = {};
  flight.request.guessed_chain = {};
  flight.request.parts = {};
}

void Core::Impl::on(const Finished& input, Instant now, std::vector<Effect>& /*out*/) {
  const auto at = requests.find(input.id);
  if (at == requests.end()) return;
  const InFlight& flight = at->second;
  books.released(input.id, now);
  books.succeeded(flight.engine, now);
  recent.answered(input.id, now);
  ++totals.finished_total;
  if (input.usage && input.usage->cached_tokens) {
    const std::uint64_t reported = *input.usage->cached_tokens;
    if (DecisionRecord* record = receipts.find(flight.record)) record->reported_cached_tokens = reported;
    if (flight.predicted_exactly && books.info(flight.engine) != nullptr) {
      proofs.add(flight.engine, flight.predicted_cached_tokens, reported, flight.request.prompt_tokens);
    }
  }
  requests.erase(at);
}

std::optional<Error> Core::Impl::why_no_retry(const InFlight& flight, const Failed& failed, Instant now) {
  const std::string tried = std::to_string(flight.attempt) + (flight.attempt == 1 ? " engine" : " engines");
  if (failed.retry == Failed::Retry::kMayNot || flight.first_byte_seen) {
    return Error{failed.kind, "the engine failed after its answer had begun or gave an answer that is final"};
  }
  if (flight.deaths >= options.poison_deaths_max) {
    ++totals.poisoned_total;
    return Error{ErrorKind::kUpstream,
                 "the request was given up: " + std::to_string(flight.deaths) + " engines broke off while they had it"};
  }
  if (flight.attempt >= options.attempts_max) {
    return Error{failed.kind, "the request was given up after " + tried + " failed, the maximum"};
  }
  books.candidates(flight.request.model, now, engines);
  leave_out_tried(flight);
  if (engines.empty())
    return Error{failed.kind, "the request was given up after " + tried + " failed; no other is available"};
  return std::nullopt;
}

void Core::Impl::on(const Failed& input, Instant now, std::vector<Effect>& out) {
  const auto at = requests.find(input.id);
  if (at == requests.end() || at->second.engine != input.engine) return;
  InFlight& flight = at->second;
  books.released(input.id, now);
  recent.rolled_back(input.id);
  if (input.blame == Failed::Blame::kEngine) {
    books.failed(input.engine, now);
    const fleet::EngineInfo* info = books.info(input.engine);
    if (input.kind != ErrorKind::kUnavailable) {
      ++flight.deaths;
    } else if (info != nullptr && !info->url.empty()) {
      flight.unreached_urls.push_back(info->url);
    }
  }
  std::optional<Error> refusal = why_no_retry(flight, input, now);
  if (!refusal) {
    ++totals.retries_total;
    forward(flight, now, out);
    return;
  }
  const bool later = refusal->kind == ErrorKind::kUnavailable || refusal->kind == ErrorKind::kExhausted;
  ++totals.rejected_total;
  out.push_back(Reject{input.id, std::move(*refusal), later ? options.retry_after : Duration(0)});
  requests.erase(at);
}

void Core::Impl::on(const ClientGone& input, Instant now, std::vector<Effect>& out) {
  const auto at = requests.find(input.id);
  if (at == requests.end()) return;
  out.push_back(Cancel{input.id, at->second.engine});
  books.released(input.id, now);
  recent.rolled_back(input.id);
  ++totals.cancelled_total;
  requests.erase(at);
}

void Core::Impl::on(const EngineChanged& input, Instant now, std::vector<Effect>& /*out*/) {
  books.apply(input.change, now);
  if (const auto* added = std::get_if<fleet::Added>(&input.change)) {
    approximate.set_capacity(added->info.id, options.policy->guess_capacity(added->info.kv_tokens));
  } else if (const auto* removed = std::get_if<fleet::Removed>(&input.change)) {
    // Its requests in flight run on: a removed engine often still ends what it has (draining), and if not, their
    // connections fail and they are retried elsewhere.
    approximate.forget(removed->engine);
    recent.forget(removed->engine);
    publishers.erase(removed->engine);
    proofs.forget(removed->engine);
  } else if (const auto* change = std::get_if<fleet::LivenessChanged>(&input.change);
             change != nullptr && change->liveness == fleet::Liveness::kDown) {
    // Whatever comes back there may be another process, with an empty cache.
    recent.forget(change->engine);
  }
}

void Core::Impl::on(const PublisherChanged& input, Instant /*now*/, std::vector<Effect>& /*out*/) {
  if (books.info(input.engine) == nullptr) return;  // removed meanwhile
  publishers[input.engine] = input.state;
}

Core::Core(CoreOptions options, const index::Index* index) : impl_(std::make_unique<Impl>(std::move(options), index)) {}
Core::~Core() = default;

void Core::step(const Input& input, Instant now, std::vector<Effect>& out) {
  std::visit([&](const auto& one) { impl_->on(one, now, out); }, input);
  WP_CHECK(impl_->books.inflight_total() == impl_->requests.size());
}

Snapshot Core::snapshot(Instant now, std::size_t decisions_max) const {
  Snapshot out = impl_->totals;
  out.policy = impl_->options.policy->name();
  impl_->books.all(now, out.engines);
  out.infos.reserve(out.engines.size());
  for (const fleet::EngineView& view : out.engines) out.infos.push_back(*impl_->books.info(view.id));
  out.proofs = impl_->proofs.list();
  out.decisions = impl_->receipts.newest(decisions_max);
  out.inflight = impl_->requests.size();
  return out;
}

const fleet::Fleet& Core::fleet() const { return impl_->books; }

const schedule::Policy& Core::policy() const { return *impl_->options.policy; }

double EngineProof::allowed_tokens() const {
  constexpr double kLeast = 64;
  constexpr double kShare = 0.05;
  if (requests == 0) return kLeast;
  return std::max(kLeast, kShare * static_cast<double>(prompt_tokens) / static_cast<double>(requests));
}

}  // namespace warmpath::route
