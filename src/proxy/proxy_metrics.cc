#include "proxy/proxy_metrics.h"

namespace warmpath::proxy {
namespace {

// Engines come and go; so many (model, engine, status) sets are kept as handles, then the table starts anew.
constexpr std::size_t kHandlesMax = 10'000;

}  // namespace

ProxyMetrics::ProxyMetrics(observe::Registry& registry)
    : registry_(registry),
      encode_seconds_(registry.histogram("warmpath_encode_seconds", "Time to turn a prompt into ids and chain.", {},
                                         observe::cpu_seconds())) {}

observe::Counter& ProxyMetrics::requests(const AccessRecord& record) {
  std::string key = record.model;
  key.append(1, '\0')
      .append(record.engine)
      .append(1, '\0')
      .append(std::to_string(record.status))
      .append(record.outcome);
  if (requests_.size() >= kHandlesMax) requests_.clear();
  observe::Counter*& slot = requests_[key];
  if (slot == nullptr) {
    slot = &registry_.counter("warmpath_requests_total", "Requests ended.",
                              {{"model", record.model},
                               {"engine", record.engine},
                               {"status", std::to_string(record.status)},
                               {"outcome", std::string(record.outcome)}});
  }
  return *slot;
}

ProxyMetrics::OfModel& ProxyMetrics::of_model(const std::string& model) {
  OfModel& slot = models_[model];
  if (slot.ttft != nullptr) return slot;
  const observe::Labels label = {{"model", model}};
  slot.ttft = &registry_.histogram("warmpath_ttft_seconds", "Request read to first byte of its stream to the client.",
                                   label, observe::latency_seconds());
  slot.total = &registry_.histogram("warmpath_request_seconds", "Request read to end of its answer.", label,
                                    observe::latency_seconds());
  slot.prompt_tokens = &registry_.counter("warmpath_prompt_tokens_total", "Prompt tokens, as engines reported.", label);
  slot.cached_tokens = &registry_.counter("warmpath_cached_tokens_total",
                                          "Prompt tokens served from cache, as engines reported.", label);
  slot.output_tokens =
      &registry_.counter("warmpath_output_tokens_total", "Tokens generated, as engines reported.", label);
  slot.bytes_in = &registry_.counter("warmpath_request_bytes_total", "Bytes of request bodies.", label);
  slot.bytes_out = &registry_.counter("warmpath_response_bytes_total", "Bytes of answers' bodies.", label);
  return slot;
}

void ProxyMetrics::ended(const AccessRecord& record) {
  requests(record).add();
  OfModel& model = of_model(record.model);
  if (record.stream && record.ttft > Duration(0)) model.ttft->observe(to_seconds(record.ttft));
  model.total->observe(to_seconds(record.total));
  model.bytes_in->add(record.request_bytes);
  model.bytes_out->add(record.response_bytes);
  if (record.usage) {
    model.prompt_tokens->add(record.usage->prompt_tokens);
    model.output_tokens->add(record.usage->completion_tokens);
    model.cached_tokens->add(record.usage->cached_tokens.value_or(0));
  }
}

void ProxyMetrics::prompt(const std::string& pool, std::string_view exact_or_why_not) {
  observe::Counter*& slot = prompts_[pool + '\0' + std::string(exact_or_why_not)];
  if (slot == nullptr) {
    slot = &registry_.counter("warmpath_prompts_total", "Prompts by whether their chain is exact, or why not.",
                              {{"pool", pool}, {"chain", std::string(exact_or_why_not)}});
  }
  slot->add();
}

}  // namespace warmpath::proxy
