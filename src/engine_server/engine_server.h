// engine_server: the engine model behind HTTP and ZMQ: a simulated engine that a client, a gateway or a load generator
// cannot tell from vLLM 0.32 by its wire.
//
//   auto server = EngineServer::create(loop, options, tokenizer);
//   std::cerr << (*server)->address().text();
//   loop.run();
//
// Paths: /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages (streams and whole answers), each with
// /render behind (403 unless scale_out), /v1/messages/count_tokens, /v1/embeddings (vectors drawn from the prompt),
// /inference/v1/generate (403 unless scale_out), /v1/models, /tokenize, /health, /ping, /version, /load, /metrics,
// /kv_event_sources, POST /reset_prefix_cache. Each data-parallel rank is a model, an event publisher and a replay
// socket of its own; header X-data-parallel-rank pins one, without it requests alternate.
//
// What it generates: words that encode back to their own ids, drawn from (seed, prompt), so that every engine with the
// same seed gives the same answer and a conversation's next turn finds the last one's blocks. As many as max_tokens
// says (finish_reason "length"); without max_tokens and ignore_eos a length drawn around output_tokens_mean, closed by
// the model's end token ("stop").
//
// Time: the model's clock follows the loop's. Steps last duration / speed; all durations told (metrics, the `warmpath`
// member below) are engine time, that is multiplied by speed again. When the process cannot keep up, the engine's clock
// stands still instead of letting lag distort what it reports: warmpath_engine_slipped_seconds_total counts that.
// A request with header `x-warmpath-timing: 1` gets "warmpath":{"ttft_ms","queue_ms","e2e_ms"} beside `usage`.
//
// vllm_xargs {"kv_cache_report_mode": "full"} in a request announces its reused prefix again, from token 0.
//
// Thread rule: one Loop's thread. Errors have vLLM's JSON shapes. Prompts are encoded on the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "engine/engine.h"
#include "engine_server/faults.h"  // IWYU pragma: export
#include "http/http.h"
#include "io/io.h"
#include "tokens/tokens.h"

namespace warmpath::engine_server {

struct Adapter {
  std::string name;
  std::string path;
};

enum class KvEvents : std::uint8_t { kPublish, kOff };
// vLLM tells cached_tokens in `usage` only with --enable-prompt-tokens-details.
enum class PromptDetails : std::uint8_t { kTell, kHide };
// vLLM serves /render only with --enable-scale-out.
enum class ScaleOut : std::uint8_t { kRefuse, kServe };

struct Options {
  io::Address listen{"127.0.0.1", 8000};
  std::string model;                 // the name it serves
  std::vector<std::string> aliases;  // further names of the base model
  std::vector<Adapter> adapters;
  std::string root;             // what /v1/models tells as root: the model folder
  engine::ModelOptions engine;  // of every rank; `rank` is set by the server
  std::uint32_t ranks = 1;      // 1 to 64
  std::uint64_t output_seed = 0;
  std::uint32_t output_tokens_mean = 128;
  std::uint32_t words = 512;  // distinct ones it speaks with
  KvEvents kv_events = KvEvents::kPublish;
  PromptDetails prompt_details = PromptDetails::kTell;
  ScaleOut scale_out = ScaleOut::kRefuse;
  FaultSet faults;
  std::string topic;
  std::uint16_t kv_events_port = 0;  // rank r at port + r; 0: free ones
  std::uint16_t kv_replay_port = 0;
  std::uint32_t buffer_steps = 10'000;                // batches kept for replay
  std::uint32_t requests_max = 10'000;                // in the server; beyond it 503
  Duration lag_max = std::chrono::milliseconds(100);  // beyond it the engine's clock slips
  http::Limits limits{.body_bytes_max = 64u << 20};
};

// Where one rank's events are, as /kv_event_sources tells ("tcp://127.0.0.1:5557"; "tcp://*:5557" on a wildcard
// address).
struct EventSource {
  std::string endpoint;
  std::string replay_endpoint;
};

class EngineServer {
 public:
  // kInvalid: impossible engine options, no model name, ranks out of bounds; kUnsupported: the tokenizer has no words
  // that survive being text; kConflict: a port is taken.
  static Result<std::unique_ptr<EngineServer>> create(io::Loop& loop, Options options,
                                                      std::shared_ptr<const tokens::Tokenizer> tokenizer);
  ~EngineServer();
  EngineServer(const EngineServer&) = delete;
  EngineServer& operator=(const EngineServer&) = delete;

  io::Address address() const;
  const std::vector<EventSource>& sources() const;  // one per rank; empty when events are off
  const engine::Model& model(std::uint32_t rank) const;
  // Accepts no more, lets running requests end; then `done`.
  void drain(std::function<void()> done);

 private:
  struct Impl;
  explicit EngineServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::engine_server
