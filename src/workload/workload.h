// workload: a stream of requests as token ids: who asks what when. Deterministic by seed, pulled lazily.
//
//   auto source = Source::create(options, vocabulary);
//   (*source)->due(now, requests);                 // what is to be sent by now
//   (*source)->finished(id, output_ids, now);      // lets a conversation or a closed loop go on
//
// Thread rule: one owner. Core: files are read by the caller (parse_trace takes their text).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/base.h"

namespace warmpath::workload {

// Populations. Lengths in tokens.
struct SharedPrefix {  // inference-perf's shared_prefix
  std::uint32_t groups = 10;
  std::uint32_t prompts_per_group = 5;
  std::uint32_t system_prompt_tokens = 2'000;
  std::uint32_t question_tokens = 256;
  std::uint32_t output_tokens = 64;
};
struct MultiTurn {  // tenants share a system prompt; conversations grow by the engine's real answers
  std::uint32_t tenants = 10;
  std::uint32_t conversations_per_tenant = 8;
  std::uint32_t turns = 4;
  std::uint32_t system_prompt_tokens = 1'500;
  std::uint32_t user_tokens = 200;    // mean; drawn in [0.5, 1.5] x
  std::uint32_t output_tokens = 100;  // mean; drawn in [0.5, 1.5] x
  double think_seconds = 0;           // mean of an exponential, between an answer and the next turn
  bool salt_per_tenant = false;
};
struct TraceRow {
  double at_seconds = 0;
  std::uint32_t input_tokens = 0;
  std::uint32_t output_tokens = 0;
  std::vector<std::uint32_t> hash_ids;  // one per 512-token block; equal id: equal whole prefix
};
struct Trace {
  std::vector<TraceRow> rows;
  double time_factor = 1;    // 2: twice as slow
  double length_factor = 1;  // 0.5: half as long
};
using Population = std::variant<SharedPrefix, MultiTurn, Trace>;

// Arrivals of new requests (MultiTurn: of conversations). Trace has its own unless ClosedLoop.
struct Poisson { double per_second = 10; };
struct Constant { double per_second = 10; };
struct ClosedLoop { std::uint32_t users = 8; };
using Arrivals = std::variant<Poisson, Constant, ClosedLoop>;

struct Options {
  Population population = MultiTurn{};
  Arrivals arrivals = Poisson{};
  std::uint64_t requests_max = 0;  // 0: all the population has (SharedPrefix: each prompt once)
  std::uint64_t seed = 1;
};

enum class Role : std::uint8_t { kSystem, kUser, kAssistant };
struct Message {
  Role role = Role::kUser;
  std::vector<TokenId> ids;
};
struct Request {
  std::uint64_t id = 0;                // dense from 0
  Instant at;                          // when it was due
  std::string tenant;                  // stable name
  std::string salt;                    // empty: none
  std::vector<Message> messages;       // the conversation so far, the last one the user's
  std::uint32_t output_tokens = 1;     // exactly this many are to be generated
  std::uint32_t turn = 0;              // 0-based
  // All ids in order, without any template: what virtual time sends.
  std::vector<TokenId> flat() const;
};

class Source {
 public:
  virtual ~Source() = default;
  // kInvalid with every fault. `vocabulary`: ids to write texts with (tokens::stable_word_ids live); at least 16.
  // Time runs from Instant{} on: pass instants relative to the start.
  static Result<std::unique_ptr<Source>> create(const Options& options, std::span<const TokenId> vocabulary);
  // Appends every request due at or before `now`, in order.
  virtual void due(Instant now, std::vector<Request>& out) = 0;
  // When the next one is due as far as is known; nullopt: only after some finished(), or never.
  virtual std::optional<Instant> next_at() const = 0;
  // The answer to `id` (its output ids; empty when it failed: the conversation ends).
  virtual void finished(std::uint64_t id, std::span<const TokenId> output, Instant now) = 0;
  virtual bool exhausted() const = 0;  // nothing more will come
  // Requests it will make in all, when known beforehand.
  virtual std::optional<std::uint64_t> total() const = 0;
};

// Mooncake's JSON lines {"timestamp","input_length","output_length","hash_ids"} or the compact form under data/mooncake.
// kInvalid with the line number.
Result<std::vector<TraceRow>> parse_trace(std::string_view text);

}  // namespace warmpath::workload
