// Reuse: texts seen before are not encoded again, their ids and block keys are found by comparing bytes. Private to
// prompt.
//
// A text is taken as a run of pieces, each ending at a cut (tokens/cuts.h) that its own bytes choose, so that equal
// stretches fall into equal pieces wherever they begin. What is left at the end is parted at its last cut: a text that
// grows is encoded from there on. Two kinds of entries:
//   step   (what came before, piece) -> ids, the block keys that the piece completes, what is left for the next block
//   piece  (salt, its text)          -> ids, for where something before it is new
// Steps form trees, one root for each adapter, salt and kind of special tokens: a prompt whose beginning was seen walks
// down one by comparing bytes, piece by piece, without looking for cuts.
//
// Exact: an entry is used only where its bytes equal the text's and the text may be cut behind it; hashes, under a
// secret of the pool, decide nothing but where to look. Bounded: the charges of all entries stay below `bytes_max`; a
// shelf drops its older generation when its younger one is full. Thread rule: any thread; a short lock a piece, none
// while encoding.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "blocks/blocks.h"
#include "prompt/prompt.h"
#include "tokens/tokens.h"

namespace warmpath::prompt {

struct PieceSizes {
  std::size_t bytes_min = 3'072;       // no cut is looked for before; at least 8
  std::size_t bytes_easy = 12'288;     // from there on any cut will do
  std::size_t bytes_kept = 64u << 10;  // a longer piece (no cut for long) is not kept
  std::size_t bytes_last = 256;        // the text's last piece, if longer, is parted once more
};

class Reuse {
 public:
  // `tokenizer` must outlive it and allow parts.
  Reuse(const tokens::Tokenizer& tokenizer, const blocks::KeySpace& space, std::size_t bytes_max,
        PieceSizes sizes = {});

  struct Found {
    std::uint64_t prompt_tokens = 0;
    std::vector<BlockKey> chain;
  };
  // kInvalid for text that is not UTF-8. `context.items` must be empty.
  Result<Found> encode(std::string_view text, tokens::SpecialTokens special, const blocks::ChainContext& context);

  ReuseCounters counters() const;

 private:
  struct Piece {
    std::uint64_t salt = 0;
    std::string text;
    std::vector<TokenId> ids;
    std::size_t charge() const;
  };
  using PiecePtr = std::shared_ptr<const Piece>;
  // The end of a prefix: a root, or behind a step.
  struct Place {
    std::uint64_t id = 0;       // a root's: hash of what it is for, top bit set; a step's: a number never used before
    BlockKey key;               // of the last full block, or the root's
    std::vector<TokenId> tail;  // ids behind the last full block
  };
  struct Step {
    std::uint64_t parent = 0;
    PiecePtr piece;
    std::vector<BlockKey> keys;
    Place place;
    std::size_t charge() const;
  };
  using StepPtr = std::shared_ptr<const Step>;

  // Entries of one kind and shard in two generations. A key holds few entries: the oldest gives way.
  template <class Entry>
  struct Shelf {
    static constexpr std::size_t kEntriesPerKey = 4;
    using Map = std::unordered_map<std::uint64_t, std::vector<std::shared_ptr<const Entry>>>;
    std::mutex mutex;
    Map young, old;
    std::size_t young_bytes = 0, old_bytes = 0;
  };
  static constexpr std::size_t kShards = 16;
  template <class Entry>
  using Shelves = std::array<Shelf<Entry>, kShards>;

  // The longest entry of `key` that fits; one of the older generation becomes young again.
  template <class Entry, class Fits>
  std::shared_ptr<const Entry> find(Shelves<Entry>& shelves, std::uint64_t key, Fits&& fits);
  template <class Entry>
  void keep(Shelves<Entry>& shelves, std::uint64_t key, std::shared_ptr<const Entry> entry);
  template <class Entry>
  void put(Shelf<Entry>& shelf, std::uint64_t key, std::shared_ptr<const Entry> entry,
           typename Shelf<Entry>::Map& dead);

  std::uint64_t hash(std::uint64_t first, std::string_view bytes) const;
  static const std::string& text_of(const Step& step) { return step.piece->text; }
  static const std::string& text_of(const Piece& piece) { return piece.text; }
  StepPtr find_step(std::uint64_t parent, std::string_view rest);
  // The pieces from `begin` on, up to the first one that was known, which is the last one returned, or to the end: new
  // ones are encoded together.
  Result<std::vector<PiecePtr>> next_pieces(std::uint64_t salt, std::string_view text, std::size_t begin);
  Place root_of(tokens::SpecialTokens special, const blocks::ChainContext& context, std::vector<BlockKey>& chain) const;
  // Moves `place` over `ids`; appends the keys of the blocks that they complete.
  void extend(Place& place, std::span<const TokenId> ids, std::vector<BlockKey>& keys) const;

  const tokens::Tokenizer& tokenizer_;
  const blocks::KeySpace space_;
  const std::uint64_t secret_;
  const PieceSizes sizes_;
  const std::size_t generation_bytes_max_;  // of one shelf
  Shelves<Step> steps_;
  Shelves<Piece> pieces_;
  std::atomic<std::uint64_t> next_id_{1};
  std::atomic<std::uint64_t> bytes_held_{0}, bytes_walked_{0}, bytes_known_{0}, bytes_encoded_{0}, entries_dropped_{0};
};

// Where the piece that begins at `begin` ends: the same for the same bytes. text.size() when no cut is left.
std::size_t piece_end(std::string_view text, std::size_t begin, const PieceSizes& sizes);
// The last cut behind `begin`; text.size() when there is none.
std::size_t last_cut(std::string_view text, std::size_t begin);

}  // namespace warmpath::prompt
