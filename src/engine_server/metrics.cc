#include "engine_server/metrics.h"

#include <vector>

namespace warmpath::engine_server {
namespace {

// Bounds as on vLLM 0.32's pages.
const std::vector<double> kTtftBounds = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                         1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const std::vector<double> kInterTokenBounds = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                               .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const std::vector<double> kRequestBounds = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                            30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const std::vector<double> kIterationBounds = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
const std::vector<double> kChoiceBounds = {1, 2, 5, 10, 20};

// 1, 2, 5, 10, 20, 50, … up to `most`.
std::vector<double> one_two_five(double most) {
  std::vector<double> bounds;
  for (double decade = 1;; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step > most) return bounds.empty() ? std::vector<double>{1} : bounds;
      bounds.push_back(decade * step);
    }
  }
}

std::string_view hash_algorithm(blocks::Scheme scheme) {
  switch (scheme) {
    case blocks::Scheme::kVllmSha256: return "sha256";
    case blocks::Scheme::kVllmSha256Cbor: return "sha256_cbor";
    case blocks::Scheme::kVllmXxhash: return "xxhash";
    case blocks::Scheme::kVllmXxhashCbor: return "xxhash_cbor";
    case blocks::Scheme::kSglang: return "sglang";
  }
  return "";
}

// Builds the families of one rank with its two labels.
class Maker {
 public:
  Maker(observe::Registry& registry, std::string_view model_name, std::uint32_t rank)
      : registry_(registry), labels_{{"engine", std::to_string(rank)}, {"model_name", std::string(model_name)}} {}

  observe::Counter* counter(std::string_view name, std::string_view help, observe::Labels more = {}) {
    return &registry_.counter(name, help, with(std::move(more)));
  }
  observe::Gauge* gauge(std::string_view name, std::string_view help, observe::Labels more = {}) {
    return &registry_.gauge(name, help, with(std::move(more)));
  }
  // vLLM 0.32 puts no model name on this one.
  void cache_config(observe::Labels labels) {
    labels.insert(labels.begin(), labels_.front());
    registry_.gauge("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", labels).set(1);
  }
  observe::Histogram* histogram(std::string_view name, std::string_view help, const std::vector<double>& bounds) {
    return &registry_.histogram(name, help, labels_, bounds);
  }

 private:
  observe::Labels with(observe::Labels more) const {
    more.insert(more.begin(), labels_.begin(), labels_.end());
    return more;
  }
  observe::Registry& registry_;
  observe::Labels labels_;
};

void tell_cache_config(Maker& make, const engine::ModelOptions& options, std::uint32_t ranks) {
  const engine::Profile& p = options.profile;
  const auto tokens = p.kv_blocks * p.block_tokens;
  make.cache_config({{"block_size", std::to_string(p.block_tokens)},
                     {"effective_attention_block_size", std::to_string(p.block_tokens)},
                     {"cache_dtype", "auto"},
                     {"enable_prefix_caching", options.prefix_caching ? "True" : "False"},
                     {"kv_cache_size_tokens", std::to_string(tokens)},
                     {"kv_cache_max_concurrency",
                      std::to_string(static_cast<double>(tokens) / static_cast<double>(p.model_tokens_max))},
                     // vLLM 0.32 counts the blocks of all ranks here, though the tokens above are one rank's.
                     {"num_gpu_blocks", std::to_string(p.kv_blocks * ranks)},
                     {"num_gpu_blocks_override", std::to_string(p.kv_blocks)},
                     {"num_cpu_blocks", "None"},
                     {"prefix_caching_hash_algo", std::string(hash_algorithm(options.scheme))},
                     {"prefix_match_unit", "None"},
                     {"sliding_window", "None"}});
}

// Families that a reader may expect and that stay at zero here.
void tell_constants(Maker& make) {
  make.gauge("vllm:num_requests_waiting_by_reason", "Number of requests waiting, by reason.", {{"reason", "deferred"}});
  make.gauge("vllm:engine_sleep_state",
             "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means awake.",
             {{"sleep_state", "awake"}})
      ->set(1);
  for (const char* state : {"weights_offloaded", "discard_all"}) {
    make.gauge("vllm:engine_sleep_state",
               "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means awake.",
               {{"sleep_state", state}});
  }
  make.counter("vllm:external_prefix_cache_queries_total", "External prefix cache queries, in tokens.");
  make.counter("vllm:external_prefix_cache_hits_total", "External prefix cache hits, in tokens.");
  make.counter("vllm:prompt_tokens_by_source_total", "Prompt tokens by source.", {{"source", "external_kv_transfer"}});
  for (const char* source : {"host", "p2p", "disk", "external_unspecified"}) {
    make.counter("vllm:prompt_tokens_cached_by_source_total", "Cached prompt tokens by source.", {{"source", source}});
  }
  for (const char* reason : {"error", "repetition"}) {
    make.counter("vllm:request_success_total", "Requests finished, by reason.", {{"finished_reason", reason}});
  }
}

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kAbort: return "abort";
  }
  return "";
}

RankMetrics::RankMetrics(observe::Registry& registry, std::string_view model_name, const engine::ModelOptions& options,
                         std::uint32_t ranks) {
  Maker make(registry, model_name, options.rank);
  const std::vector<double> sizes = one_two_five(static_cast<double>(options.profile.model_tokens_max));
  prefix_queries_ = make.counter("vllm:prefix_cache_queries_total", "Prefix cache queries, in tokens.");
  prefix_hits_ = make.counter("vllm:prefix_cache_hits_total", "Prefix cache hits, in tokens.");
  preemptions_ = make.counter("vllm:num_preemptions_total", "Preemptions so far.");
  prompt_tokens_ = make.counter("vllm:prompt_tokens_total", "Prompt tokens of requests that began to answer.");
  prompt_cached_ = make.counter("vllm:prompt_tokens_cached_total", "Those found in the prefix cache.");
  prompt_computed_ =
      make.counter("vllm:prompt_tokens_by_source_total", "Prompt tokens by source.", {{"source", "local_compute"}});
  prompt_hit_ =
      make.counter("vllm:prompt_tokens_by_source_total", "Prompt tokens by source.", {{"source", "local_cache_hit"}});
  prompt_device_ = make.counter("vllm:prompt_tokens_cached_by_source_total", "Cached prompt tokens by source.",
                                {{"source", "device"}});
  generation_tokens_ = make.counter("vllm:generation_tokens_total", "Generated tokens.");
  for (const FinishReason reason : {FinishReason::kStop, FinishReason::kLength, FinishReason::kAbort}) {
    success_[static_cast<std::size_t>(reason)] =
        make.counter("vllm:request_success_total", "Requests finished, by reason.",
                     {{"finished_reason", std::string(finish_reason_name(reason))}});
  }
  running_ = make.gauge("vllm:num_requests_running", "Requests in execution batches.");
  waiting_ = make.gauge("vllm:num_requests_waiting", "Requests waiting to be processed.");
  waiting_capacity_ = make.gauge("vllm:num_requests_waiting_by_reason", "Number of requests waiting, by reason.",
                                 {{"reason", "capacity"}});
  kv_usage_ = make.gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.");
  ttft_ = make.histogram("vllm:time_to_first_token_seconds", "Time to first token.", kTtftBounds);
  inter_token_ = make.histogram("vllm:inter_token_latency_seconds", "Time between tokens.", kInterTokenBounds);
  per_output_token_ = make.histogram("vllm:request_time_per_output_token_seconds",
                                     "Time per output token of a request.", kInterTokenBounds);
  e2e_ = make.histogram("vllm:e2e_request_latency_seconds", "End to end latency.", kRequestBounds);
  queue_ = make.histogram("vllm:request_queue_time_seconds", "Time in the waiting queue.", kRequestBounds);
  inference_ =
      make.histogram("vllm:request_inference_time_seconds", "Time from scheduling to the end.", kRequestBounds);
  prefill_ =
      make.histogram("vllm:request_prefill_time_seconds", "Time from scheduling to the first token.", kRequestBounds);
  decode_ = make.histogram("vllm:request_decode_time_seconds", "Time from the first token to the end.", kRequestBounds);
  prompt_size_ = make.histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", sizes);
  generation_size_ = make.histogram("vllm:request_generation_tokens", "Generated tokens of a request.", sizes);
  prefill_computed_ =
      make.histogram("vllm:request_prefill_kv_computed_tokens", "Prompt tokens not found in the cache.", sizes);
  params_n_ = make.histogram("vllm:request_params_n", "Request parameter n.", kChoiceBounds);
  params_max_tokens_ = make.histogram("vllm:request_params_max_tokens", "Request parameter max_tokens.", sizes);
  iteration_tokens_ = make.histogram("vllm:iteration_tokens_total", "Tokens of a step.", kIterationBounds);
  steps_ = make.counter("warmpath_engine_steps_total", "Steps of the simulated engine.");
  batches_ = make.counter("warmpath_engine_kv_batches_total", "Batches of KV events published.");
  batches_dropped_ = make.counter("warmpath_engine_kv_batches_dropped_total", "Batches that the socket refused.");
  slipped_ =
      make.gauge("warmpath_engine_slipped_seconds_total", "Wall time by which the simulation could not keep up.");
  tell_cache_config(make, options, ranks);
  tell_constants(make);
}

void RankMetrics::stepped(const engine::StepPlan& plan) {
  iteration_tokens_->observe(plan.prefill_tokens + plan.decode_sequences);
}

void RankMetrics::added(std::uint64_t tokens_max, std::uint64_t n) {
  params_n_->observe(static_cast<double>(n));
  params_max_tokens_->observe(static_cast<double>(tokens_max));
}

void RankMetrics::first_token(double seconds) { ttft_->observe(seconds); }
void RankMetrics::next_token(double seconds) { inter_token_->observe(seconds); }

void RankMetrics::finished(FinishReason reason, const FinishedTimes& times) {
  success(reason).add();
  queue_->observe(times.queue_seconds);
  prefill_->observe(times.prefill_seconds);
  decode_->observe(times.decode_seconds);
  inference_->observe(times.prefill_seconds + times.decode_seconds);
  e2e_->observe(times.queue_seconds + times.prefill_seconds + times.decode_seconds);
  prompt_size_->observe(static_cast<double>(times.prompt_tokens));
  generation_size_->observe(static_cast<double>(times.output_tokens));
  prefill_computed_->observe(static_cast<double>(times.prompt_tokens - times.cached_tokens));
  const auto gaps = static_cast<double>(times.output_tokens) - 1;
  per_output_token_->observe(gaps > 0 ? times.decode_seconds / gaps : 0);
}

void RankMetrics::aborted() { success(FinishReason::kAbort).add(); }

void RankMetrics::refresh(const engine::Stats& stats, const Publisher* publisher, Duration slipped) {
  prefix_queries_->raise_to(stats.prefix_queries_tokens);
  prefix_hits_->raise_to(stats.prefix_hits_tokens);
  preemptions_->raise_to(stats.preemptions);
  prompt_tokens_->raise_to(stats.prompt_tokens);
  prompt_cached_->raise_to(stats.prompt_cached_tokens);
  prompt_hit_->raise_to(stats.prompt_cached_tokens);
  prompt_device_->raise_to(stats.prompt_cached_tokens);
  prompt_computed_->raise_to(stats.prompt_tokens - stats.prompt_cached_tokens);
  generation_tokens_->raise_to(stats.generation_tokens);
  steps_->raise_to(stats.steps);
  running_->set(stats.running);
  waiting_->set(stats.waiting);
  waiting_capacity_->set(stats.waiting);
  kv_usage_->set(stats.kv_usage);
  slipped_->set(to_seconds(slipped));
  if (publisher == nullptr) return;
  batches_->raise_to(publisher->published());
  batches_dropped_->raise_to(publisher->dropped());
}

}  // namespace warmpath::engine_server
