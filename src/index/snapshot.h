// The index as bytes: what survives a restart, and what one router copies from another.
//
//   magic ─ POOL ─ ENGINE ─ BLOCKS* ─ ENGINE ─ BLOCKS* ─ … ─ POOL ─ … ─ END
//
// A section is [kind u32, ordinal u32, payload bytes u64, XXH3 of the payload u64, XXH3 of the 24 bytes before u64] and
// the payload; numbers are little-endian. A payload that is not what was written costs its engine (a POOL its engines
// too), a head that is not all behind it: an engine comes back whole or not at all. Checksums find accidents, not
// forgeries: who can write the file can claim anything, so it is for its owner alone (mode 0600), all the more as it
// holds the pool's secret, without which no key in it would ever be met again.
//
// Thread rule: one owner. No I/O: bytes are handed in and out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"

namespace warmpath::index {

inline constexpr std::uint32_t kSnapshotVersion = 1;

// What one pool's keys are made of. Another model, tokenizer, block size or way to make keys: nothing in it is of use.
struct SnapshotPool {
  std::string name;             // in its gateway
  std::uint64_t secret = 0;     // of the KeySpace
  std::uint64_t tokenizer = 0;  // fingerprint of its files; 0: none
  std::uint32_t block_tokens = 0;
  std::uint64_t key_probe = 0;  // key_probe() of the KeySpace
};
// A key that every KeySpace makes its own of: equal ones have secret, model, block size and way to make keys in common.
std::uint64_t key_probe(const blocks::KeySpace& space);

// How far a publisher's stream had been applied: see events::FollowerMark.
struct SnapshotMark {
  PublisherSeq seq;          // of the last batch
  std::uint64_t digest = 0;  // of that batch
  blocks::PublisherState trust = blocks::PublisherState::kPartial;
  bool unreadable_seen = false;
  bool other_tiers_seen = false;
};

struct SnapshotEngine {
  std::string name;  // URL, with the address where the name has several, with the rank where there are several
  SnapshotMark mark;
  double started_at_s = 0;         // of its process, unix time; 0: it does not tell
  std::uint64_t blocks = 0;        // in `parts`
  std::vector<std::string> parts;  // Index::copy's
};

// The bytes of a snapshot, piece by piece in this order.
class SnapshotWriter {
 public:
  std::string begin(std::int64_t written_at_ms);  // unix time, for people
  std::string pool(const SnapshotPool& pool);
  // Appended to `out`. Of the pool named last. False: something of it is larger than a reader takes, which would cost
  // all behind it as well; nothing is appended then.
  bool engine(const SnapshotEngine& engine, std::string& out);
  std::string end();

 private:
  void section(std::uint32_t kind, std::string_view payload, std::string& out);
  std::uint32_t ordinal_ = 0;
  std::uint32_t engines_ = 0;
};

struct SnapshotContent {
  struct Pool {
    SnapshotPool pool;
    std::vector<SnapshotEngine> engines;
  };
  std::vector<Pool> pools;
  std::int64_t written_at_ms = 0;
  bool complete = false;              // up to its end
  bool foreign = false;               // it begins with what is no snapshot: another's file
  std::uint32_t engines_refused = 0;  // not what was written; those behind a broken head are not counted
  std::string why;                    // of not being complete, or of what was refused first; empty: nothing was
};

inline constexpr std::size_t kSectionBytesMax = std::size_t{8} << 20;  // of a payload

// Bytes in, in any pieces. Holds what was read and at most one section more; a length that a head claims decides no
// allocation beyond kSectionBytesMax.
class SnapshotReader {
 public:
  explicit SnapshotReader(std::size_t bytes_max = std::size_t{16} << 30) : bytes_max_(bytes_max) {}

  // False: nothing that comes is of use any more.
  bool feed(std::string_view bytes);
  // No more bytes come.
  SnapshotContent finish();

 private:
  bool step();
  void take(std::uint32_t kind, std::string_view payload, bool intact);
  bool take_pool(std::string_view payload);
  bool take_engine(std::string_view payload);
  void end_engine();
  void refuse_engine(std::string_view why);
  bool stop(std::string_view why);
  void note(std::string_view why);

  const std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::string pending_;
  std::size_t used_ = 0;  // of pending_
  bool begun_ = false;
  bool stopped_ = false;
  std::uint32_t ordinal_ = 0;
  bool pool_open_ = false;
  std::optional<SnapshotEngine> engine_;  // its parts are coming
  std::uint32_t parts_left_ = 0;
  SnapshotContent content_;
};

}  // namespace warmpath::index
