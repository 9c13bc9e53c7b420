// demo: a gateway and simulated engines over the real wire, one policy after the other. Private to app.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/arms.h"
#include "base/base.h"
#include "workload/workload.h"

namespace warmpath::app {

struct DemoOptions {
  std::vector<std::string> policies = {"random", "load", "approximate", "precise"};
  std::uint32_t engines = 4;
  std::uint64_t kv_blocks = 5'500;  // of each engine
  std::uint32_t block_tokens = 16;
  double speed = 4;                      // of the engines' clock
  double conversations_per_second = 20;  // engine time
  workload::MultiTurn conversations{.tenants = 50,
                                    .conversations_per_tenant = 3,
                                    .turns = 4,
                                    .system_prompt_tokens = 3'000,
                                    .user_tokens = 150,
                                    .output_tokens = 50,
                                    .think_seconds = 15};  // engine time
  std::uint64_t seed = 1;
};

// A fifth of the tenants on a fifth of the KV, with less time to think: shows that it works, not what it is worth.
void make_quick(DemoOptions& options);

// Distinct tokens of the workload over what the engines can hold.
double working_set_share(const DemoOptions& options);

struct DemoProgress {
  std::string policy;
  std::uint64_t finished = 0;
  std::uint64_t total = 0;
};

// One arm: fresh engines, fresh gateway, the same workload. Blocks; tells progress about once a second.
// kInternal / kUnavailable when something does not come up.
Result<Arm> run_demo_arm(const DemoOptions& options, const std::string& policy, const std::string& model_folder,
                         const std::function<void(const DemoProgress&)>& progress);

// Writes the demo's tokenizer, which travels in the binary, into `folder`.
Result<void> write_demo_model(const std::string& folder);

}  // namespace warmpath::app
