// The metrics page of a simulated engine: vLLM 0.32's names, labels and buckets, durations in engine time.
// Thread rule: the loop's thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/base.h"
#include "engine/engine.h"
#include "engine_server/publisher.h"
#include "observe/observe.h"

namespace warmpath::engine_server {

enum class FinishReason : std::uint8_t { kStop, kLength, kAbort };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "abort"

// One finished request, in engine time.
struct FinishedTimes {
  double queue_seconds = 0;
  double prefill_seconds = 0;  // scheduled to first token
  double decode_seconds = 0;   // first token to last
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t output_tokens = 0;
};

class RankMetrics {
 public:
  // `ranks`: of the whole server; vLLM tells num_gpu_blocks of all of them together.
  RankMetrics(observe::Registry& registry, std::string_view model_name, const engine::ModelOptions& options,
              std::uint32_t ranks);

  void stepped(const engine::StepPlan& plan);
  void added(std::uint64_t tokens_max, std::uint64_t n);
  void first_token(double seconds);
  void next_token(double seconds);
  void finished(FinishReason reason, const FinishedTimes& times);
  void aborted();
  // Before a page is written.
  void refresh(const engine::Stats& stats, const Publisher* publisher, Duration slipped);

 private:
  observe::Counter& success(FinishReason reason) { return *success_[static_cast<std::size_t>(reason)]; }

  observe::Counter *prefix_queries_, *prefix_hits_, *preemptions_, *prompt_tokens_, *prompt_cached_, *prompt_computed_,
      *prompt_hit_, *prompt_device_, *generation_tokens_, *batches_, *batches_dropped_, *steps_;
  std::array<observe::Counter*, 3> success_{};
  observe::Gauge *running_, *waiting_, *waiting_capacity_, *kv_usage_, *slipped_;
  observe::Histogram *ttft_, *inter_token_, *per_output_token_, *e2e_, *queue_, *inference_, *prefill_, *decode_,
      *prompt_size_, *generation_size_, *prefill_computed_, *params_n_, *params_max_tokens_, *iteration_tokens_;
};

}  // namespace warmpath::engine_server
