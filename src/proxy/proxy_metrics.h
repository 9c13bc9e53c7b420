// ProxyMetrics: one I/O thread's handles into the registry, so that a request costs no look-up. Private to proxy.
// Thread rule: one owner; the handles themselves are shared and atomic.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "observe/observe.h"
#include "proxy/proxy.h"

namespace warmpath::proxy {

class ProxyMetrics {
 public:
  explicit ProxyMetrics(observe::Registry& registry);

  void ended(const AccessRecord& record);
  void forget_handles() { requests_.clear(); }  // after engines were removed from the registry
  void prompt(const std::string& pool, std::string_view exact_or_why_not);
  void encoded(Duration took) { encode_seconds_.observe(to_seconds(took)); }

 private:
  observe::Counter& requests(const AccessRecord& record);

  observe::Registry& registry_;
  observe::Histogram& encode_seconds_;
  struct OfModel {
    observe::Histogram* ttft = nullptr;
    observe::Histogram* total = nullptr;
    observe::Counter* prompt_tokens = nullptr;
    observe::Counter* cached_tokens = nullptr;
    observe::Counter* output_tokens = nullptr;
    observe::Counter* bytes_in = nullptr;
    observe::Counter* bytes_out = nullptr;
  };
  OfModel& of_model(const std::string& model);
  std::unordered_map<std::string, OfModel> models_;
  std::unordered_map<std::string, observe::Counter*> requests_;
  std::unordered_map<std::string, observe::Counter*> prompts_;
};

}  // namespace warmpath::proxy
