// engine: a model of one vLLM engine (one data-parallel rank): continuous batching, chunked prefill, a paged KV pool
// with prefix cache, timing. Token ids in, token ids and KV events out. The same code runs behind HTTP (engine_server)
// and in virtual time (sim). Behaviour follows vLLM 0.32 v1 scheduler and KV cache manager.
//
//   Model model(options);
//   model.add({.id = 1, .prompt = ids, .output = answer}, now);
//   while (auto step = model.begin_step(now)) { now = now + step->duration; model.finish_step(now, out); }
//
// What it does as vLLM does: running requests first, then waiting ones in order of arrival; chunked prefill shares a
// step with decode; blocks are taken when scheduled; a prompt's longest cached prefix of full blocks is reused, never
// the whole prompt; a request is admitted only when its whole prompt fits into free blocks; a running request that
// finds no free block preempts the youngest running one, which starts over from the head of the waiting queue; block 0
// is never used (vLLM's null block), so kv_blocks - 1 of them hold tokens.
//
// Time of a step: prefill (sum over chunks of n new tokens after c: us_per_token * n + ps_per_token2 * (2cn + n^2)),
// plus, when there are decodes, base + per sequence + per 1,000 tokens of their context; a step without decodes takes
// at least the base (weights are read anyway). All divided by speed.
//
// Thread rule: one owner. No clock, no sockets. Cost: a step about 0.1 us per running request; prefill one hash per
// full block.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"

namespace warmpath::engine {

// Timing and size of one kind of engine. Times in the engine's own time; speed scales them all.
struct Profile {
  std::string name;
  std::string source;                    // where the numbers come from
  double prefill_us_per_token = 42.5;    // of new tokens
  double prefill_ps_per_token2 = 443.0;  // times (2*cached*new + new^2)
  double step_base_ms = 12.0;            // a decode step: base + per sequence + per 1,000 tokens of context
  double step_ms_per_sequence = 0;
  double step_ms_per_kilotoken = 0.036;
  std::uint32_t block_tokens = 64;
  std::uint64_t kv_blocks = 4'802;
  std::uint32_t batched_tokens_max = 8'192;
  std::uint32_t sequences_max = 256;
  std::uint32_t model_tokens_max = 131'072;
};
// A JSON array of profiles (data/profiles.json). kInvalid with name and field.
Result<std::vector<Profile>> parse_profiles(std::string_view json);
// Those of data/profiles.json as it was when this was built; the first is the default.
const std::vector<Profile>& shipped_profiles();
// kNotFound names those there are, and the nearest.
Result<Profile> find_profile(std::span<const Profile> profiles, std::string_view name);

// How events carry hashes: vLLM's VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES, 1 (default) or 0.
enum class HashForm : std::uint8_t { kInteger, kBytes };

// What becomes of the last matched block of a prefix hit.
enum class LastHit : std::uint8_t { kKept, kDropped };

struct ModelOptions {
  Profile profile;
  double speed = 1.0;  // 10: ten times faster than the profile
  blocks::Scheme scheme = blocks::Scheme::kVllmSha256Cbor;
  std::optional<std::string> hash_seed = "0";  // PYTHONHASHSEED
  std::uint32_t rank = 0;
  bool prefix_caching = true;
  HashForm hash_form = HashForm::kInteger;
  // As vLLM up to 0.32 with a draft model (EAGLE, MTP): the last matched block of every hit is computed again.
  LastHit last_hit = LastHit::kKept;
  std::uint32_t requests_max = 100'000;  // waiting and running together: beyond it add() answers kExhausted
};

// vLLM's kv_cache_report_mode: kFull announces a reused prefix again, from token 0 (vLLM 0.32, vllm_xargs).
enum class ReportMode : std::uint8_t { kIncremental, kFull };

struct Request {
  std::uint64_t id = 0;         // unique among the requests in the model
  std::vector<TokenId> prompt;  // at least one
  std::vector<TokenId> output;  // what it will generate, decided by the caller; at least one
  std::string lora;
  std::string salt;
  std::string lora_path = {};  // hashed with the name by vLLM 0.32
  ReportMode report = ReportMode::kIncremental;
};

// What happened to one request in a step.
struct Emitted {
  std::uint64_t id = 0;
  std::vector<TokenId> tokens;  // generated in this step
  bool first = false;           // holds the first token
  bool finished = false;
  std::uint32_t cached_tokens = 0;  // of the prompt, as `usage` tells: known from the first scheduling on
  Instant added_at;
  Instant scheduled_at;  // first scheduling
};

struct StepPlan {
  Duration duration{0};
  std::uint32_t prefill_tokens = 0;
  std::uint32_t decode_sequences = 0;
  std::uint32_t preempted = 0;
};

struct StepResult {
  std::vector<Emitted> emitted;         // in scheduling order
  std::vector<blocks::KvEvent> events;  // one batch, in the order vLLM would publish; empty: nothing to publish
};

struct Stats {
  std::uint32_t running = 0;
  std::uint32_t waiting = 0;
  double kv_usage = 0;                      // blocks in use by requests / all that can be
  std::uint64_t prefix_queries_tokens = 0;  // cumulative, as vllm:prefix_cache_queries: resumed requests do not count
  std::uint64_t prefix_hits_tokens = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t prompt_cached_tokens = 0;
  std::uint64_t prefill_tokens_computed = 0;  // recomputation after preemption included
  std::uint64_t generation_tokens = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t finished = 0;
  std::uint64_t blocks_cached = 0;  // blocks with a hash, used or free
  std::uint64_t steps = 0;
};

class Model {
 public:
  // kInvalid for impossible options (no blocks, xxhash without a seed, …).
  static Result<std::unique_ptr<Model>> create(ModelOptions options);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // kInvalid: empty prompt or output, id in use, prompt and output together longer than the model or the KV cache.
  // kExhausted: requests_max.
  Result<void> add(Request request, Instant now);
  // Takes it out wherever it is (also in mid-step: its tokens of that step are not emitted). False when unknown.
  bool abort(std::uint64_t id);
  // As POST /reset_prefix_cache: true when no block was in use; AllBlocksCleared goes out with the next step's batch.
  bool reset_prefix_cache();

  // Schedules one iteration. nullopt: nothing to do. Must be followed by finish_step at now + duration.
  std::optional<StepPlan> begin_step(Instant now);
  void finish_step(Instant now, StepResult& out);
  bool in_step() const;

  const ModelOptions& options() const;
  Stats stats() const;
  // Every distinct cached hash, sorted: the oracle for tests of the event plane.
  std::vector<EngineHash> cached_hashes() const;

 private:
  struct Impl;
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::engine
