// workload: a stream of requests as token ids: who asks what when. Deterministic by seed, pulled lazily.
//
//   auto source = Source::create(options, vocabulary);
//   (*source)->due(now, requests);                 // what is to be sent by now
//   (*source)->finished(id, output_ids, now);      // lets a conversation or a closed loop go on
//
// What is asked depends on the seed and the population alone, never on timing: the text of turn 3 of a conversation is
// the same whenever it comes. When it is asked depends on the arrivals and, in conversations and closed loops, on the
// finishes. Wanted lengths are exact in ids of the vocabulary.
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
// The list of groups * prompts_per_group prompts is shuffled once and, when requests_max asks for more, cycled.
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
inline constexpr std::uint32_t kTraceBlockTokens = 512;
struct TraceRow {
  double at_seconds = 0;  // from the trace's start, never going back
  std::uint32_t input_tokens = 0;
  std::uint32_t output_tokens = 0;
  std::vector<std::uint32_t> hash_ids;  // one per 512-token block; equal id: equal whole prefix
};
// Prompts are made from the block ids: the same id, the same tokens; a last, partial block is the head of its block.
struct Trace {
  std::vector<TraceRow> rows;
  double time_factor = 1;    // 2: twice as slow
  double length_factor = 1;  // 0.5: half as long, blocks as well
};
using Population = std::variant<SharedPrefix, MultiTurn, Trace>;

// Arrivals of new requests (MultiTurn: of conversations, in shuffled order). Trace has its own unless ClosedLoop.
struct Poisson {
  double per_second = 10;
};
struct Constant {  // the first at once
  double per_second = 10;
};
struct ClosedLoop {  // each user begins the next request or conversation when the last one has ended
  std::uint32_t users = 8;
};
using Arrivals = std::variant<Poisson, Constant, ClosedLoop>;

struct Options {
  Population population = MultiTurn{};
  Arrivals arrivals = Poisson{};
  std::uint64_t requests_max = 0;  // 0: all the population has (SharedPrefix: each prompt once)
  std::uint64_t seed = 1;
};

inline constexpr std::uint64_t kSessionsMax = 10'000'000;      // conversations, prompts of a list, rows of a trace
inline constexpr std::uint32_t kRequestTokensMax = 16u << 20;  // prompt with its history and answers
inline constexpr std::uint64_t kTraceBlocksMax = 1u << 27;     // hash ids of all rows together
inline constexpr std::size_t kVocabularyMin = 16;

// All faults, each naming the field and what is allowed; empty when there is none.
std::vector<std::string> faults(const Options& options, std::span<const TokenId> vocabulary);

// Distinct tokens of all prompts and answers, by mean lengths: what a fleet must hold to compute nothing twice.
std::uint64_t working_set_tokens(const Options& options);

enum class Role : std::uint8_t { kSystem, kUser, kAssistant };
struct Message {
  Role role = Role::kUser;
  std::vector<TokenId> ids;
  friend bool operator==(const Message&, const Message&) = default;
};
struct Request {
  std::uint64_t id = 0;             // dense from 0
  Instant at;                       // when it was due
  std::string tenant;               // stable name: "tenant-3", "group-12"; empty in traces
  std::string salt;                 // empty: none
  std::vector<Message> messages;    // the conversation so far, the last one the user's
  std::uint32_t output_tokens = 1;  // exactly this many are to be generated
  std::uint32_t turn = 0;           // 0-based
  // All ids in order, without any template: what virtual time sends.
  std::vector<TokenId> flat() const;
};

class Source {
 public:
  virtual ~Source() = default;
  // kInvalid with every fault, separated by "; ". `vocabulary`: ids to write texts with (tokens::stable_word_ids live);
  // at least 16; copied. Time runs from Instant{} on: pass instants relative to the start.
  static Result<std::unique_ptr<Source>> create(const Options& options, std::span<const TokenId> vocabulary);
  // Appends every request due at or before `now`, in order of their time. Cost: proportional to their tokens.
  virtual void due(Instant now, std::vector<Request>& out) = 0;
  // When the next one is due as far as is known; nullopt: only after some finished(), or never.
  virtual std::optional<Instant> next_at() const = 0;
  // The answer to `id`, once for each request (its output ids; empty when it failed: the conversation ends). A second
  // call or an unknown id is ignored. `now` is not before the request's time.
  virtual void finished(std::uint64_t id, std::span<const TokenId> output, Instant now) = 0;
  // Nothing more will come; requests already handed out may still be on their way.
  virtual bool exhausted() const = 0;
  // Requests it will make in all, when known beforehand.
  virtual std::optional<std::uint64_t> total() const = 0;
};

// Either form of a trace; kInvalid with the line number. Cost: one pass; memory 4 bytes a block.
// - Mooncake's JSON lines {"timestamp": ms, "input_length", "output_length", "hash_ids": one per 512 tokens};
// - the compact form of tools/compact_trace.py: a head line "warmpath-trace 1 block_tokens=512", then per row
//   "dt_ms input output last_shared": last_shared is the last block that an earlier row has as well ("-": none), which
//   stands for all before it too, and the blocks behind it are new, numbered on. Lines that begin with # are skipped.
Result<std::vector<TraceRow>> parse_trace(std::string_view text);

}  // namespace warmpath::workload
