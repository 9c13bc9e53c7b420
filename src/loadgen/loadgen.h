// loadgen: sends a workload over HTTP to an OpenAI-compatible endpoint, open or closed loop, and measures it.
//
//   Loadgen load(loop, options, tokenizer, source);
//   load.start([&] { loop.stop(); });
//   loop.run();
//   std::string json = report_json(load.report());
//
// Open loops never wait for answers: a request is sent when it is due (coordinated omission is avoided; how late it was
// sent is in the report). Latencies are the client's own clock unless an answer carries engine time (the `warmpath`
// member that the simulated engine writes when asked): then those are reported beside it.
// Thread rule: one Loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/base.h"
#include "http/http.h"
#include "io/io.h"
#include "tokens/tokens.h"
#include "workload/workload.h"

namespace warmpath::loadgen {

enum class Api : std::uint8_t { kChat, kCompletions };
// kAsk: sends `x-warmpath-timing: 1`, and a simulated engine answers with its own times.
enum class EngineTimes : std::uint8_t { kNone, kAsk };

struct Options {
  http::Url url;                      // base URL
  io::Address address;                // resolved
  std::string model;
  Api api = Api::kChat;
  bool stream = true;
  std::string authorization;          // header value; empty: none
  EngineTimes engine_times = EngineTimes::kAsk;
  http::ClientTimeouts timeouts{.connect = std::chrono::seconds(5),
                                .first_byte = std::chrono::minutes(30),
                                .idle = std::chrono::minutes(10)};
  std::uint32_t inflight_max = 10'000;  // beyond it requests wait and are counted as delayed
  std::shared_ptr<io::TlsClientContext> tls;
};

// One request as measured. Times in seconds.
struct Outcome {
  std::uint64_t id = 0;
  bool ok = false;
  std::string failure;                // stable label: "status_503", "unavailable", "broken_stream", …
  double due_at = 0;                  // since the start
  double sent_at = 0;
  double ttft = 0;                    // to the first byte of content; not streamed: the whole answer
  double latency = 0;                 // whole
  std::optional<double> engine_ttft;  // in engine time, as the simulated engine tells
  std::vector<double> gaps;           // between chunks of content
  std::uint64_t prompt_tokens = 0;    // as usage tells
  std::uint64_t output_tokens = 0;
  std::uint64_t cached_tokens = 0;
};

struct Report {
  std::vector<Outcome> outcomes;      // in order of id
  double seconds = 0;                 // first send to last answer
  double requested_rate = 0;          // of an open loop; 0: closed
  double send_seconds = 0;
};

// inference-perf's field names (summary, per_request_lifecycle_metrics), seconds; our additions: `engine_time_to_first_token`,
// `prefix_hit_ratio`.
std::string report_json(const Report& report);
std::string report_table(const Report& report);

// Nearest-rank percentile of values (0 when empty); `p` in 0..100. Sorts a copy.
double percentile(std::vector<double> values, double p);

class Loadgen {
 public:
  // Everything handed in must outlive the Loadgen. `tokenizer` turns ids into text and answers back into ids.
  Loadgen(io::Loop& loop, Options options, const tokens::Tokenizer& tokenizer, workload::Source& source);
  ~Loadgen();
  Loadgen(const Loadgen&) = delete;
  Loadgen& operator=(const Loadgen&) = delete;

  // `progress`: after each finished request. `done`: once, when all are answered and the source is exhausted.
  void start(std::function<void()> done, std::function<void(std::uint64_t finished)> progress = {});
  void stop();  // sends nothing more; running requests are cancelled; `done` follows
  const Report& report() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::loadgen
