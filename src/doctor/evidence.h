// Evidence: all that was gathered at an engine, before anything is judged. Private to doctor.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "ingest/engine_answers.h"

namespace warmpath::doctor {

// One text or chat: our ids beside the engine's.
struct IdsProbe {
  enum class Kind : std::uint8_t {
    kText,         // without added special tokens
    kSpecialText,  // with them
    kChat,
  };
  std::string name;
  Kind kind = Kind::kText;
  std::vector<TokenId> ours;
  std::string ours_refused;  // why we have none; empty when we have
  std::vector<TokenId> theirs;
  std::string theirs_refused;
};

// One generation.
struct Answered {
  enum class Role : std::uint8_t {
    kFirst,         // a prompt that nobody has seen
    kAgain,         // the same once more
    kNextTurn,      // it went on
    kOtherSalt,     // the first under another salt
    kAdapter,       // the first for an adapter
    kAdapterAgain,  // that once more
    kText,          // a completion
  };
  Role role = Role::kFirst;
  std::string error;  // empty: 200
  std::optional<std::uint64_t> prompt_tokens;
  std::optional<std::uint64_t> cached_tokens;
  std::vector<TokenId> ours;
  std::optional<std::vector<TokenId>> theirs;  // as /render or /tokenize told
  std::string salt;
  std::string adapter;
  std::size_t heard_until = 0;  // of Evidence::heard, once its events had their time
};

// One event of a publisher, the probes' alone.
struct Heard {
  std::uint32_t rank = 0;
  blocks::KvEvent event;
};

// One publisher as listened to.
struct SourceSeen {
  enum class Replay : std::uint8_t { kNone, kAnswered, kSilent };
  std::uint32_t rank = 0;
  std::string events;
  std::string replay;    // empty: none known
  std::string unusable;  // why it could not be opened
  bool bound = false;    // it dials out to us
  bool connected = false;
  std::uint64_t batches = 0;
  std::uint64_t unreadable = 0;  // messages or events
  std::set<std::string> topics;  // at most kTopicsMax
  Replay replays = Replay::kNone;
};
inline constexpr std::size_t kTopicsMax = 16;
inline constexpr std::size_t kHeardEventsMax = 50'000;
inline constexpr std::size_t kHeardTokensMax = 4'000'000;

// How an HTTP path answered: its status, or none.
inline constexpr int kNotAsked = 0;
inline constexpr int kNoAnswer = -1;

struct Evidence {
  std::string engine;
  std::string version;
  std::string model;
  std::vector<std::string> adapters;
  std::optional<std::uint64_t> model_tokens_max;
  std::string tokenizer_doubt;  // Exactness::why_not

  int sources_status = kNotAsked;      // /kv_event_sources
  int server_info_status = kNotAsked;  // /server_info, where that is missing
  bool sources_given = false;          // by the user
  std::vector<ingest::RankTold> told;
  std::vector<SourceSeen> sources;
  std::uint32_t ranks = 1;

  std::optional<std::uint32_t> block_tokens_told;
  std::optional<bool> prefix_caching_told;

  int tokenize_status = kNotAsked;
  int render_status = kNotAsked;
  std::vector<IdsProbe> ids;

  std::string nonce;
  std::vector<Answered> answers;
  std::vector<Heard> heard;
  bool heard_too_much = false;  // beyond the bounds above: events of ours may be missing
  bool out_of_time = false;     // total_max
};

}  // namespace warmpath::doctor
