// The scheduler: vLLM 0.32's v1 scheduler and KV cache manager, one full-attention group, synchronous steps.
#include <algorithm>
#include <cmath>
#include <deque>
#include <unordered_map>
#include <utility>

#include "engine/engine.h"
#include "engine/kv_pool.h"
#include "engine/timing.h"

namespace warmpath::engine {
namespace {

std::uint32_t divided_up(std::uint64_t a, std::uint32_t b) { return static_cast<std::uint32_t>((a + b - 1) / b); }

// One request in the model.
struct Live {
  std::uint64_t id = 0;
  std::vector<TokenId> tokens;  // prompt, then the whole output: the first `known` are known to the scheduler
  std::uint32_t prompt_tokens = 0;
  std::uint32_t known = 0;
  std::uint32_t computed = 0;  // tokens whose KV is there (or will be when the step ends)
  std::uint32_t stored = 0;    // leading blocks that are in the prefix cache
  std::vector<BlockIndex> blocks;
  std::vector<blocks::Digest> digests;  // of full blocks, as far as needed yet
  std::string lora;
  std::string lora_path;
  std::string salt;
  ReportMode report = ReportMode::kIncremental;
  std::optional<std::uint32_t> cached_tokens;  // at the first scheduling
  bool first_emitted = false;
  bool preempted = false;
  bool running = false;
  Instant added_at;
  Instant scheduled_at;
};

struct Scheduled {
  Live* live = nullptr;  // null: aborted in mid-step
  std::uint32_t tokens = 0;
};

Result<void> check_options(const ModelOptions& options) {
  const Profile& p = options.profile;
  const auto invalid = [&p](std::string what) {
    return Error{ErrorKind::kInvalid, "engine profile '" + p.name + "': " + std::move(what)};
  };
  if (p.block_tokens == 0 || p.block_tokens > 65'536) return invalid("block_tokens must be 1 to 65,536");
  if (p.kv_blocks < 2 || p.kv_blocks > (1u << 28)) {
    return invalid("kv_blocks must be 2 to 268,435,456 (block 0 is never used)");
  }
  if (p.batched_tokens_max == 0) return invalid("batched_tokens_max must be at least 1");
  if (p.sequences_max == 0) return invalid("sequences_max must be at least 1");
  if (p.model_tokens_max < 2 || p.model_tokens_max > (1u << 30)) return invalid("model_tokens_max must be 2 to 2^30");
  if (options.requests_max == 0) return invalid("requests_max must be at least 1");
  for (const double value : {p.prefill_us_per_token, p.prefill_ps_per_token2, p.step_base_ms, p.step_ms_per_sequence,
                             p.step_ms_per_kilotoken}) {
    if (!std::isfinite(value) || value < 0) return invalid("times must be numbers of at least 0");
  }
  if (!std::isfinite(options.speed) || options.speed <= 0) {
    return Error{ErrorKind::kInvalid, "engine speed must be a number above 0"};
  }
  return {};
}

}  // namespace

struct Model::Impl {
  Impl(ModelOptions opts, blocks::EngineHasher engine_hasher)
      : options(std::move(opts)),
        hasher(std::move(engine_hasher)),
        pool(static_cast<std::uint32_t>(options.profile.kv_blocks)),
        block_tokens(options.profile.block_tokens) {}

  ModelOptions options;
  blocks::EngineHasher hasher;
  KvPool pool;
  const std::uint32_t block_tokens;
  std::unordered_map<std::uint64_t, std::unique_ptr<Live>> requests;  // looked up only
  std::deque<Live*> waiting;
  std::vector<Live*> running;  // in order of admission
  std::vector<Scheduled> scheduled;
  std::vector<blocks::KvEvent> events;  // since the last finish_step
  std::vector<EvictedBlock> evicted;
  std::vector<BlockIndex> hits;
  std::vector<std::string> loras;  // position + 1 is the adapter's integer id
  Stats totals;
  bool in_step = false;

  blocks::WireHash wire_hash(const blocks::Digest& digest) const;
  void extend_digests(Live& live, std::uint32_t blocks);
  void find_prefix(Live& live);
  bool allocate(Live& live, std::uint32_t tokens, bool admission);
  void store_full_blocks(Live& live, std::uint64_t tokens);
  blocks::BlockStored stored_event(const Live& live, std::uint32_t from, std::uint32_t to);
  void emit_removed();
  void give_back(Live& live);
  void preempt(Live& live);
  void book(Live& live, std::uint32_t tokens, StepWork& work);
  bool make_room(Live& live, std::uint32_t tokens, StepPlan& plan);
  std::uint32_t schedule_running(std::uint32_t budget, StepWork& work, StepPlan& plan);
  void schedule_waiting(std::uint32_t budget, Instant now, StepWork& work);
  void remove(Live& live);
};

blocks::WireHash Model::Impl::wire_hash(const blocks::Digest& digest) const {
  blocks::WireHash hash{blocks::event_hash(options.scheme, digest), {}};
  if (options.hash_form == HashForm::kBytes) {
    hash.bytes.assign(reinterpret_cast<const char*>(digest.bytes.data()), digest.size);
  }
  return hash;
}

void Model::Impl::extend_digests(Live& live, std::uint32_t blocks) {
  const blocks::EngineHasher::Extras extras{live.lora, live.lora_path, live.salt, {}};
  while (live.digests.size() < blocks) {
    const std::size_t index = live.digests.size();
    const std::span<const TokenId> tokens(live.tokens.data() + index * block_tokens, block_tokens);
    live.digests.push_back(hasher.block(index == 0 ? hasher.root() : live.digests.back(), index, tokens, extras));
  }
}

// The longest cached prefix of full blocks, leaving at least one token to compute: its logits are needed.
void Model::Impl::find_prefix(Live& live) {
  hits.clear();
  if (!options.prefix_caching) return;
  const std::uint32_t blocks_max = (live.known - 1) / block_tokens;
  for (std::uint32_t i = 0; i < blocks_max; ++i) {
    extend_digests(live, i + 1);
    const auto block = pool.find(blocks::event_hash(options.scheme, live.digests[i]));
    if (!block) break;
    hits.push_back(*block);
  }
  if (options.last_hit == LastHit::kDropped && !hits.empty()) hits.pop_back();
}

// Takes the blocks for `tokens` more tokens; with `admission` (the request holds none yet) the prefix in `hits` is
// shared first. False, and nothing changed, when they are not there. Admission wants room for the whole prompt, though
// only a chunk may be computed now (vLLM 0.32 scheduler_reserve_full_isl; seen in the recorded burst over capacity).
bool Model::Impl::allocate(Live& live, std::uint32_t tokens, bool admission) {
  const auto reused = static_cast<std::uint32_t>(admission ? hits.size() : 0);
  const std::uint64_t computed = admission ? std::uint64_t{reused} * block_tokens : live.computed;
  const std::uint32_t held = reused + static_cast<std::uint32_t>(live.blocks.size());
  const std::uint32_t total = divided_up(computed + tokens, block_tokens);
  const std::uint32_t fresh = total > held ? total - held : 0;
  std::uint32_t needed = fresh;
  if (admission) {
    needed = divided_up(live.known, block_tokens) - held;
    for (const BlockIndex block : hits) needed += pool.is_free(block) ? 1 : 0;
  }
  if (needed > pool.free_blocks()) return false;
  if (admission) {
    for (const BlockIndex block : hits) pool.reference(block);
    live.blocks.assign(hits.begin(), hits.end());
    live.stored = reused;
    live.computed = static_cast<std::uint32_t>(computed);
    if (live.report == ReportMode::kFull && reused > 0) events.emplace_back(stored_event(live, 0, reused));
  }
  pool.allocate(fresh, live.blocks, evicted);
  emit_removed();
  store_full_blocks(live, computed + tokens);
  return true;
}

void Model::Impl::store_full_blocks(Live& live, std::uint64_t tokens) {
  if (!options.prefix_caching) return;
  const auto full = static_cast<std::uint32_t>(tokens / block_tokens);
  if (full <= live.stored) return;
  extend_digests(live, full);
  for (std::uint32_t i = live.stored; i < full; ++i) {
    pool.store(live.blocks[i], blocks::event_hash(options.scheme, live.digests[i]), live.digests[i]);
  }
  events.emplace_back(stored_event(live, live.stored, full));
  live.stored = full;
}

blocks::BlockStored Model::Impl::stored_event(const Live& live, std::uint32_t from, std::uint32_t to) {
  blocks::BlockStored event;
  event.block_hashes.reserve(to - from);
  for (std::uint32_t i = from; i < to; ++i) event.block_hashes.push_back(wire_hash(live.digests[i]));
  if (from > 0) event.parent_block_hash = wire_hash(live.digests[from - 1]);
  event.token_ids.assign(live.tokens.begin() + std::ptrdiff_t{from} * block_tokens,
                         live.tokens.begin() + std::ptrdiff_t{to} * block_tokens);
  event.block_size = block_tokens;
  event.medium = "GPU";
  std::vector<std::vector<blocks::ExtraKey>> keys(to - from);
  if (!live.lora.empty()) {
    auto it = std::find(loras.begin(), loras.end(), live.lora);
    if (it == loras.end()) it = loras.insert(loras.end(), live.lora);
    event.lora_id = it - loras.begin() + 1;
    event.lora_name = live.lora;
    for (auto& key : keys) key.emplace_back(blocks::ExtraText{live.lora});
  }
  if (from == 0 && !live.salt.empty()) keys.front().emplace_back(blocks::ExtraText{live.salt});
  event.extra_keys = std::move(keys);
  event.group_idx = 0;
  event.kv_cache_spec_kind = "full_attention";
  return event;
}

void Model::Impl::emit_removed() {
  for (const EvictedBlock& block : evicted) {
    blocks::BlockRemoved event;
    event.block_hashes.push_back(wire_hash(block.digest));
    event.medium = "GPU";
    event.group_idx = 0;
    events.emplace_back(std::move(event));
  }
  evicted.clear();
}

void Model::Impl::give_back(Live& live) {
  pool.release(live.blocks);
  live.blocks.clear();
  live.stored = 0;
  live.computed = 0;
}

void Model::Impl::preempt(Live& live) {
  give_back(live);
  live.running = false;
  live.preempted = true;
  waiting.push_front(&live);
  ++totals.preemptions;
}

void Model::Impl::book(Live& live, std::uint32_t tokens, StepWork& work) {
  scheduled.push_back({&live, tokens});
  if (tokens == 1 && live.computed >= live.prompt_tokens) {
    ++work.decode_sequences;
    work.decode_context_tokens += live.computed + 1;
  } else {
    work.prefill_us += prefill_us(options.profile, live.computed, tokens);
    work.prefill_tokens += tokens;
  }
}

// Allocates for a running request, preempting the youngest running ones until it fits; false when it preempted itself.
bool Model::Impl::make_room(Live& live, std::uint32_t tokens, StepPlan& plan) {
  while (!allocate(live, tokens, false)) {
    Live* youngest = running.back();
    running.pop_back();
    preempt(*youngest);
    ++plan.preempted;
    if (youngest == &live) return false;
  }
  return true;
}

std::uint32_t Model::Impl::schedule_running(std::uint32_t budget, StepWork& work, StepPlan& plan) {
  for (std::size_t i = 0; i < running.size() && budget > 0; ++i) {
    Live& live = *running[i];
    const std::uint32_t tokens = std::min(live.known - live.computed, budget);
    if (!make_room(live, tokens, plan)) break;
    book(live, tokens, work);
    budget -= tokens;
  }
  return budget;
}

void Model::Impl::schedule_waiting(std::uint32_t budget, Instant now, StepWork& work) {
  while (!waiting.empty() && budget > 0 && running.size() < options.profile.sequences_max) {
    Live& live = *waiting.front();
    find_prefix(live);
    const auto reused = static_cast<std::uint32_t>(hits.size()) * block_tokens;
    const std::uint32_t tokens = std::min(live.known - reused, budget);
    if (!allocate(live, tokens, true)) return;
    waiting.pop_front();
    running.push_back(&live);
    live.running = true;
    if (!live.cached_tokens) {
      live.cached_tokens = reused;
      live.scheduled_at = now;
    }
    if (options.prefix_caching && !live.preempted) {
      totals.prefix_queries_tokens += live.known;
      totals.prefix_hits_tokens += reused;
    }
    book(live, tokens, work);
    budget -= tokens;
  }
}

void Model::Impl::remove(Live& live) {
  give_back(live);
  if (live.running) {
    running.erase(std::find(running.begin(), running.end(), &live));
  } else {
    waiting.erase(std::find(waiting.begin(), waiting.end(), &live));
  }
  for (Scheduled& entry : scheduled) {
    if (entry.live == &live) entry.live = nullptr;
  }
  requests.erase(live.id);
}

Result<std::unique_ptr<Model>> Model::create(ModelOptions options) {
  if (auto checked = check_options(options); !checked) return checked.error();
  blocks::HashOptions hash;
  hash.scheme = options.scheme;
  hash.block_tokens = options.profile.block_tokens;
  hash.seed = options.hash_seed;
  auto hasher = blocks::EngineHasher::create(std::move(hash));
  if (!hasher) return hasher.error();
  return std::unique_ptr<Model>(new Model(std::make_unique<Impl>(std::move(options), std::move(*hasher))));
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

Result<void> Model::add(Request request, Instant now) {
  Impl& m = *impl_;
  const auto invalid = [](std::string what) { return Error{ErrorKind::kInvalid, std::move(what)}; };
  if (request.prompt.empty()) return invalid("the prompt holds no token");
  if (request.output.empty()) return invalid("at least one token must be generated");
  if (m.requests.contains(request.id)) return invalid("request id " + std::to_string(request.id) + " is in use");
  const std::uint64_t total = request.prompt.size() + request.output.size();
  if (total > m.options.profile.model_tokens_max) {
    return invalid("prompt and output are " + std::to_string(total) + " tokens, the model's limit is " +
                   std::to_string(m.options.profile.model_tokens_max));
  }
  // The last token's own KV is never computed.
  if (divided_up(total - 1, m.block_tokens) > m.pool.usable()) {
    return invalid("prompt and output are " + std::to_string(total) + " tokens, the KV cache holds " +
                   std::to_string(std::uint64_t{m.pool.usable()} * m.block_tokens));
  }
  if (m.requests.size() >= m.options.requests_max) {
    return Error{ErrorKind::kExhausted,
                 "the engine holds " + std::to_string(m.requests.size()) + " requests, its limit: try again later"};
  }
  auto live = std::make_unique<Live>();
  live->id = request.id;
  live->prompt_tokens = live->known = static_cast<std::uint32_t>(request.prompt.size());
  live->tokens = std::move(request.prompt);
  live->tokens.insert(live->tokens.end(), request.output.begin(), request.output.end());
  live->lora = std::move(request.lora);
  live->lora_path = std::move(request.lora_path);
  live->salt = std::move(request.salt);
  live->report = request.report;
  live->added_at = now;
  m.waiting.push_back(live.get());
  m.requests.emplace(live->id, std::move(live));
  return {};
}

bool Model::abort(std::uint64_t id) {
  const auto it = impl_->requests.find(id);
  if (it == impl_->requests.end()) return false;
  impl_->remove(*it->second);
  return true;
}

bool Model::reset_prefix_cache() {
  if (!impl_->pool.clear()) return false;
  if (impl_->options.prefix_caching) impl_->events.emplace_back(blocks::AllBlocksCleared{});
  return true;
}

std::optional<StepPlan> Model::begin_step(Instant now) {
  Impl& m = *impl_;
  WP_CHECK(!m.in_step);
  if (m.requests.empty()) return std::nullopt;
  StepWork work;
  StepPlan plan;
  m.scheduled.clear();
  const std::uint32_t budget = m.schedule_running(m.options.profile.batched_tokens_max, work, plan);
  if (plan.preempted == 0) m.schedule_waiting(budget, now, work);
  // add() lets in only what fits alone, so the oldest request always gets its blocks.
  WP_CHECK(!m.scheduled.empty());
  plan.duration = step_duration(m.options.profile, m.options.speed, work);
  plan.prefill_tokens = work.prefill_tokens;
  plan.decode_sequences = work.decode_sequences;
  m.totals.prefill_tokens_computed += work.prefill_tokens;
  m.in_step = true;
  return plan;
}

void Model::finish_step(Instant, StepResult& out) {
  Impl& m = *impl_;
  WP_CHECK(m.in_step);
  out.emitted.clear();
  out.events.clear();
  std::size_t finished = 0;
  for (const Scheduled& entry : m.scheduled) {
    if (entry.live == nullptr) continue;
    Live& live = *entry.live;
    live.computed += entry.tokens;
    if (live.computed < live.known) continue;
    Emitted emitted;
    emitted.id = live.id;
    emitted.tokens = {live.tokens[live.known++]};
    emitted.first = !live.first_emitted;
    emitted.finished = live.known == live.tokens.size();
    emitted.cached_tokens = *live.cached_tokens;
    emitted.added_at = live.added_at;
    emitted.scheduled_at = live.scheduled_at;
    if (emitted.first) {
      live.first_emitted = true;
      m.totals.prompt_tokens += live.prompt_tokens;
      m.totals.prompt_cached_tokens += *live.cached_tokens;
    }
    ++m.totals.generation_tokens;
    if (emitted.finished) {
      ++m.totals.finished;
      ++finished;
      m.give_back(live);
    }
    out.emitted.push_back(std::move(emitted));
  }
  if (finished > 0) {
    std::erase_if(m.running, [](const Live* live) { return live->known == live->tokens.size(); });
    for (const Emitted& emitted : out.emitted) {
      if (emitted.finished) m.requests.erase(emitted.id);
    }
  }
  m.scheduled.clear();
  out.events.swap(m.events);
  ++m.totals.steps;
  m.in_step = false;
}

bool Model::in_step() const { return impl_->in_step; }

const ModelOptions& Model::options() const { return impl_->options; }

Stats Model::stats() const {
  Stats stats = impl_->totals;
  stats.running = static_cast<std::uint32_t>(impl_->running.size());
  stats.waiting = static_cast<std::uint32_t>(impl_->waiting.size());
  stats.kv_usage = static_cast<double>(impl_->pool.used_blocks()) / impl_->pool.usable();
  stats.blocks_cached = impl_->pool.cached_blocks();
  return stats;
}

std::vector<EngineHash> Model::cached_hashes() const { return impl_->pool.hashes(); }

}  // namespace warmpath::engine
