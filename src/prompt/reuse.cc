#include "prompt/reuse.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace warmpath::prompt {
namespace {

// A map's slot, the vector in it, reference counts, strings' and vectors' heads, the allocator's rounding; rounded up.
constexpr std::size_t kEntryOverhead = 384;
constexpr std::size_t kLookupBytes = 64;  // of a piece, hashed to find a step
constexpr std::uint64_t kRootBit = 1ull << 63;
constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15ull;
constexpr int kCutsPerPieceLog2 = 6;  // one cut in 64 ends a piece: pieces of English are about 3.5 KB

// Decides by the eight bytes before a cut. No secret in it: it chooses nothing but sizes.
bool ends_piece(std::string_view text, std::size_t at) {
  std::uint64_t bytes = 0;
  std::memcpy(&bytes, text.data() + at - sizeof bytes, sizeof bytes);
  return (bytes * kGoldenRatio) >> (64 - kCutsPerPieceLog2) == 0;
}

// First bytes of the characters that may stand right of a cut: most bytes are none, and need no closer look. Tabs and
// carriage returns are left out: they are rare.
constexpr unsigned char kMayFollowCut[] = {0x20, 0x0A, 0xE3, 0xEF};

bool may_follow_cut(char c) {
  return std::ranges::find(kMayFollowCut, static_cast<unsigned char>(c)) != std::end(kMayFollowCut);
}

#if defined(__SSE2__)
constexpr std::size_t kLookedAtOnce = 16;

// A bit for each of the 16 bytes at `p` that may follow a cut.
unsigned may_follow_cuts(const char* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  __m128i any = _mm_setzero_si128();
  for (const unsigned char one : kMayFollowCut) {
    any = _mm_or_si128(any, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(static_cast<char>(one))));
  }
  return static_cast<unsigned>(_mm_movemask_epi8(any));
}
#else
constexpr std::size_t kLookedAtOnce = 1;

unsigned may_follow_cuts(const char* p) { return may_follow_cut(*p) ? 1 : 0; }
#endif

// The first cut in [at, end) that `ends` is true for, of those before a space, a line end or a stop; `end` when there
// is none.
template <class Ends>
std::size_t find_cut(std::string_view text, std::size_t at, std::size_t end, Ends&& ends) {
  for (; end - at >= kLookedAtOnce; at += kLookedAtOnce) {
    for (unsigned may = may_follow_cuts(text.data() + at); may != 0; may &= may - 1) {
      const std::size_t cut = at + static_cast<std::size_t>(std::countr_zero(may));
      if (ends(cut) && tokens::is_cut(text, cut)) return cut;
    }
  }
  for (; at < end; ++at) {
    if (may_follow_cut(text[at]) && ends(at) && tokens::is_cut(text, at)) return at;
  }
  return end;
}

}  // namespace

std::size_t piece_end(std::string_view text, std::size_t begin, const PieceSizes& sizes) {
  if (text.size() - begin <= sizes.bytes_min) return text.size();
  const std::size_t easy = std::min(text.size(), begin + sizes.bytes_easy);
  const std::size_t at =
      find_cut(text, begin + sizes.bytes_min, easy, [&](std::size_t cut) { return ends_piece(text, cut); });
  return at < easy ? at : find_cut(text, at, text.size(), [](std::size_t) { return true; });
}

std::size_t last_cut(std::string_view text, std::size_t begin) {
  std::size_t at = text.size();
  while (at > begin && !tokens::is_cut(text, at)) --at;
  return at > begin ? at : text.size();
}

std::size_t Reuse::Step::charge() const {
  return kEntryOverhead + piece->text.size() + piece->ids.size() * sizeof(TokenId) + keys.size() * sizeof(BlockKey) +
         place.tail.size() * sizeof(TokenId);
}

std::size_t Reuse::Piece::charge() const { return kEntryOverhead + text.size() + ids.size() * sizeof(TokenId); }

// Two kinds of entries, each in kShards shelves of two generations. A piece counts with its step and by itself, so what
// is held is less than what is charged.
Reuse::Reuse(const tokens::Tokenizer& tokenizer, const blocks::KeySpace& space, std::size_t bytes_max, PieceSizes sizes)
    : tokenizer_(tokenizer),
      space_(space),
      secret_(space.root("prompt", "reuse").value()),
      sizes_(sizes),
      generation_bytes_max_(bytes_max / (2 * kShards * 2)) {
  WP_CHECK(tokenizer.encoder_facts().parts && sizes.bytes_min >= sizeof(std::uint64_t));
}

std::uint64_t Reuse::hash(std::uint64_t first, std::string_view bytes) const {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), secret_ ^ (first * kGoldenRatio));
}

template <class Entry>
void Reuse::put(Shelf<Entry>& shelf, std::uint64_t key, std::shared_ptr<const Entry> entry,
                typename Shelf<Entry>::Map& dead) {
  const std::size_t charge = entry->charge();
  if (shelf.young_bytes + charge > generation_bytes_max_) {
    std::uint64_t dropped = 0;
    for (const auto& [unused, entries] : shelf.old) dropped += entries.size();
    entries_dropped_.fetch_add(dropped, std::memory_order_relaxed);
    bytes_held_.fetch_sub(shelf.old_bytes, std::memory_order_relaxed);
    dead.swap(shelf.old);  // freed by the caller, without the lock
    shelf.old.swap(shelf.young);
    shelf.old_bytes = std::exchange(shelf.young_bytes, 0);
  }
  auto& entries = shelf.young[key];
  if (entries.size() == Shelf<Entry>::kEntriesPerKey) {
    const std::size_t freed = entries.front()->charge();
    shelf.young_bytes -= freed;
    bytes_held_.fetch_sub(freed, std::memory_order_relaxed);
    entries_dropped_.fetch_add(1, std::memory_order_relaxed);
    entries.erase(entries.begin());
  }
  entries.push_back(std::move(entry));
  shelf.young_bytes += charge;
  bytes_held_.fetch_add(charge, std::memory_order_relaxed);
}

template <class Entry>
void Reuse::keep(Shelves<Entry>& shelves, std::uint64_t key, std::shared_ptr<const Entry> entry) {
  if (entry->charge() > generation_bytes_max_) return;
  typename Shelf<Entry>::Map dead;
  Shelf<Entry>& shelf = shelves[key % kShards];
  const std::lock_guard lock(shelf.mutex);
  put(shelf, key, std::move(entry), dead);
}

template <class Entry, class Fits>
std::shared_ptr<const Entry> Reuse::find(Shelves<Entry>& shelves, std::uint64_t key, Fits&& fits) {
  typename Shelf<Entry>::Map dead;
  Shelf<Entry>& shelf = shelves[key % kShards];
  const std::lock_guard lock(shelf.mutex);
  std::shared_ptr<const Entry> best;
  const auto look = [&](typename Shelf<Entry>::Map& map) {
    const auto at = map.find(key);
    if (at == map.end()) return false;
    bool found = false;
    for (const auto& entry : at->second) {
      if ((best == nullptr || text_of(*entry).size() > text_of(*best).size()) && fits(*entry)) {
        best = entry;
        found = true;
      }
    }
    return found;
  };
  look(shelf.young);
  if (!look(shelf.old)) return best;
  const auto at = shelf.old.find(key);
  std::erase(at->second, best);
  if (at->second.empty()) shelf.old.erase(at);
  const std::size_t charge = best->charge();
  shelf.old_bytes -= charge;
  bytes_held_.fetch_sub(charge, std::memory_order_relaxed);
  put(shelf, key, best, dead);
  return best;
}

Reuse::StepPtr Reuse::find_step(std::uint64_t parent, std::string_view rest) {
  return find(steps_, hash(parent, rest.substr(0, kLookupBytes)), [&](const Step& step) {
    const std::string& text = step.piece->text;
    return step.parent == parent && rest.starts_with(text) &&
           (rest.size() == text.size() || tokens::is_cut(rest, text.size()));
  });
}

Result<std::vector<Reuse::PiecePtr>> Reuse::next_pieces(std::uint64_t salt, std::string_view text, std::size_t begin) {
  std::vector<std::size_t> ends;  // of new pieces, from `begin` on
  std::vector<std::uint64_t> keys;
  PiecePtr known;
  std::size_t at = begin;
  while (at < text.size()) {
    std::size_t end = piece_end(text, at, sizes_);
    if (end == text.size() && end - at > sizes_.bytes_last) end = last_cut(text, at);
    const std::string_view one = text.substr(at, end - at);
    at = end;
    std::uint64_t key = 0;
    if (one.size() <= sizes_.bytes_kept) {
      key = hash(salt, one);
      known = find(pieces_, key, [&](const Piece& piece) { return piece.salt == salt && piece.text == one; });
    }
    if (known != nullptr) break;
    ends.push_back(end - begin);
    keys.push_back(key);
  }
  std::vector<PiecePtr> pieces;
  if (!ends.empty()) {
    const std::string_view fresh = text.substr(begin, ends.back());
    std::vector<std::uint32_t> counts(ends.size());
    auto ids = tokenizer_.encode_parts(fresh, ends, counts);
    if (!ids) return std::move(ids).error();
    bytes_encoded_.fetch_add(fresh.size(), std::memory_order_relaxed);
    pieces.reserve(ends.size() + 1);
    auto next = ids->ids.begin();
    std::size_t from = 0;
    for (std::size_t i = 0; i < ends.size(); from = ends[i++]) {
      const std::string_view one = fresh.substr(from, ends[i] - from);
      const auto end = next + static_cast<std::ptrdiff_t>(counts[i]);
      pieces.push_back(std::make_shared<const Piece>(Piece{salt, std::string(one), {next, end}}));
      next = end;
      if (one.size() <= sizes_.bytes_kept) keep(pieces_, keys[i], pieces.back());
    }
  }
  if (known != nullptr) {
    bytes_known_.fetch_add(known->text.size(), std::memory_order_relaxed);
    pieces.push_back(std::move(known));
  }
  return pieces;
}

Reuse::Place Reuse::root_of(tokens::SpecialTokens special, const blocks::ChainContext& context,
                            std::vector<BlockKey>& chain) const {
  Place root;
  root.key = space_.root(context.lora, context.salt);
  const bool adds = special == tokens::SpecialTokens::kAdd;
  const std::uint64_t kind = adds ? 1 : 0;
  root.id = hash(root.key.value(), {reinterpret_cast<const char*>(&kind), sizeof kind}) | kRootBit;
  if (adds) extend(root, tokenizer_.encoder_facts().before, chain);
  return root;
}

void Reuse::extend(Place& place, std::span<const TokenId> ids, std::vector<BlockKey>& keys) const {
  const std::size_t block = space_.block_tokens();
  keys.reserve(keys.size() + (place.tail.size() + ids.size()) / block);
  if (!place.tail.empty()) {
    const std::size_t missing = std::min(block - place.tail.size(), ids.size());
    place.tail.reserve(block);
    place.tail.insert(place.tail.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(missing));
    ids = ids.subspan(missing);
    if (place.tail.size() < block) return;
    place.key = space_.next(place.key, place.tail);
    keys.push_back(place.key);
    place.tail.clear();
  }
  for (; ids.size() >= block; ids = ids.subspan(block)) {
    place.key = space_.next(place.key, ids.first(block));
    keys.push_back(place.key);
  }
  place.tail.assign(ids.begin(), ids.end());
}

Result<Reuse::Found> Reuse::encode(std::string_view text, tokens::SpecialTokens special,
                                   const blocks::ChainContext& context) {
  WP_CHECK(context.items.empty());
  Found found;
  const std::uint64_t salt = space_.root({}, context.salt).value();
  const Place root = root_of(special, context, found.chain);
  const Place* place = &root;
  StepPtr step;  // keeps `place` alive
  bool kept = true;
  std::uint64_t walked = 0;
  if (special == tokens::SpecialTokens::kAdd) found.prompt_tokens += tokenizer_.encoder_facts().before.size();
  const auto go_on = [&](StepPtr next) {
    step = std::move(next);
    place = &step->place;
    found.prompt_tokens += step->piece->ids.size();
    found.chain.insert(found.chain.end(), step->keys.begin(), step->keys.end());
  };
  for (std::size_t at = 0; at < text.size();) {
    // Behind a step that is not kept nothing can be found.
    if (StepPtr next = kept ? find_step(place->id, text.substr(at)) : nullptr; next != nullptr) {
      at += next->piece->text.size();
      walked += next->piece->text.size();
      go_on(std::move(next));
      continue;
    }
    auto pieces = next_pieces(salt, text, at);
    if (!pieces) return std::move(pieces).error();
    for (PiecePtr& piece : *pieces) {
      const std::uint64_t key = hash(place->id, text.substr(at, kLookupBytes));
      at += piece->text.size();
      kept = kept && piece->text.size() <= sizes_.bytes_kept;
      auto made = std::make_shared<Step>(Step{place->id, std::move(piece), {}, *place});
      made->place.id = next_id_.fetch_add(1, std::memory_order_relaxed);
      extend(made->place, made->piece->ids, made->keys);
      if (kept) keep(steps_, key, StepPtr(made));
      go_on(std::move(made));
    }
  }
  bytes_walked_.fetch_add(walked, std::memory_order_relaxed);
  const auto& after = tokenizer_.encoder_facts().after;
  if (special == tokens::SpecialTokens::kAdd && !after.empty()) {
    Place end = *place;
    extend(end, after, found.chain);
    found.prompt_tokens += after.size();
  }
  return found;
}

ReuseCounters Reuse::counters() const {
  ReuseCounters out;
  out.bytes_held = bytes_held_.load(std::memory_order_relaxed);
  out.bytes_walked = bytes_walked_.load(std::memory_order_relaxed);
  out.bytes_known = bytes_known_.load(std::memory_order_relaxed);
  out.bytes_encoded = bytes_encoded_.load(std::memory_order_relaxed);
  out.entries_dropped = entries_dropped_.load(std::memory_order_relaxed);
  return out;
}

}  // namespace warmpath::prompt
