// Questions to the index of a running gateway. Part of the admin door.
//
//   GET  /index                                all pools: keys, bytes; by publisher state, lag, gaps, replays, blocks
//   GET  /index/dump?engine=&pool=&after=&limit=    engine blocks held of one engine, a page at a time
//   POST /index/who?pool=&as=chat|completions  a request's body: by engine and tier, how many of its tokens are held
//   GET  /index/snapshot                       all of it as bytes (index/snapshot.h), for a gateway that begins
//
// A dump and an answer to who tell which prompts were there: who may ask may learn that. A snapshot holds the pools'
// key seeds besides. Like all of admin they are for those who run the gateway.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/api.h"
#include "base/base.h"
#include "index/index.h"

namespace warmpath::admin {

// One engine's share of the index and how its event stream stands.
struct IndexEngine {
  std::string name;
  std::string events;  // the source followed, or why there is none
  bool has_events = false;
  blocks::PublisherState publisher = blocks::PublisherState::kLost;
  std::uint64_t blocks_held = 0;
  std::uint64_t router_blocks_held = 0;
  std::uint32_t block_tokens = 0;
  std::uint64_t stores_parked = 0;
  std::uint64_t lag_batches = 0;
  std::uint64_t batches = 0;
  std::uint64_t gaps = 0;
  std::uint64_t replays = 0;
  std::uint64_t replays_failed = 0;
  std::uint64_t restarts = 0;
};
struct IndexPool {
  std::string name;
  std::string model;
  std::string why_none;            // of having no index; empty when it has one
  std::uint32_t block_tokens = 0;  // router block
  std::uint64_t keys = 0;
  std::uint64_t bytes = 0;
  std::uint64_t bytes_max = 0;
  std::uint64_t blocks_restored = 0;  // taken over from a snapshot at start
  std::vector<IndexEngine> engines;
};

struct IndexDump {
  std::string pool;
  std::string engine;
  blocks::PublisherState publisher = blocks::PublisherState::kLost;
  std::vector<index::HeldBlock> blocks;  // all, by group and hash
};

// Tokens of the prompt that an engine holds, in tier t or a faster one.
struct Holder {
  std::string engine;
  blocks::PublisherState publisher = blocks::PublisherState::kLost;
  std::array<std::uint64_t, blocks::kTierCount> tokens{};
};
struct IndexWho {
  std::string pool;
  std::string model;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t chain_blocks = 0;
  std::uint32_t block_tokens = 0;
  std::string chain;            // "exact", or why there is none
  std::vector<Holder> holders;  // deepest first; engines that hold nothing of it are not there
};

// The bytes of a snapshot, made as they are wanted. Thread rule: the loop's.
class SnapshotStream {
 public:
  virtual ~SnapshotStream() = default;
  // The next piece on the loop, never from inside; nullopt: that was all. One at a time. Where the gateway ends
  // meanwhile, `done` is never called.
  virtual void next(std::function<void(std::optional<std::string>)> done) = 0;
};

struct IndexSources {
  std::function<std::vector<IndexPool>()> stat;
  // `pool` empty: the only one, or for who the one that serves the request's model. kNotFound names what there is.
  std::function<Result<IndexDump>(std::string_view pool, std::string_view engine)> dump;
  std::function<Result<IndexWho>(std::string_view pool, const api::Request& request)> who;
  std::function<std::shared_ptr<SnapshotStream>()> snapshot;  // null: too many are under way. Empty: not shared, 403
};

inline constexpr std::size_t kDumpLimitDefault = 1'000;
inline constexpr std::size_t kDumpLimitMax = 100'000;
inline constexpr std::size_t kWhoBytesMax = std::size_t{1} << 20;  // it is encoded on the control thread: about 0.3 s

// The bodies. `after` is the `next` of the page before ("group:hash"), empty for the first; kInvalid when it is none.
std::string index_body(const std::vector<IndexPool>& pools);
Result<std::string> dump_body(const IndexDump& dump, std::string_view after, std::size_t limit);
std::string who_body(const IndexWho& who);

}  // namespace warmpath::admin
