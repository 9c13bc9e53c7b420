#include "corpus.h"

#include <algorithm>
#include <bitset>
#include <unordered_map>

#include "base/base.h"

namespace warmpath::bench {
namespace {

constexpr std::uint32_t kEnginesMax = 128;
constexpr std::uint32_t kSmallBlocks = 8;
constexpr std::uint32_t kOutOfOrderEvery = 16;
constexpr std::uint32_t kOutOfOrderReach = 64;  // how far from the end of the LRU
constexpr std::uint64_t kLongestMatchPercent = 70;
constexpr std::uint32_t kNone = ~std::uint32_t{0};

std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// A block anywhere in the corpus: 64 bits that name its whole prefix.
using Id = std::uint64_t;

struct Entry {
  Id id = 0;
  std::uint32_t depth = 0;
  Id parent = 0;
  std::uint32_t newer = kNone;
  std::uint32_t older = kNone;
};

// One engine's cache: blocks by last use.
class Lru {
 public:
  bool contains(Id id) const { return at_.contains(id); }
  std::size_t size() const { return at_.size(); }
  // Makes it the newest; true when it is new.
  bool use(Id id, std::uint32_t depth, Id parent) {
    const auto [found, added] = at_.try_emplace(id, 0);
    if (added) {
      if (free_.empty()) {
        found->second = static_cast<std::uint32_t>(entries_.size());
        entries_.emplace_back();
      } else {
        found->second = free_.back();
        free_.pop_back();
      }
      entries_[found->second] = {.id = id, .depth = depth, .parent = parent};
    } else {
      unlink(found->second);
    }
    Entry& entry = entries_[found->second];
    entry.older = newest_;
    entry.newer = kNone;
    if (newest_ != kNone) entries_[newest_].newer = found->second;
    newest_ = found->second;
    if (oldest_ == kNone) oldest_ = newest_;
    return added;
  }
  Entry evict(std::uint32_t skip) {
    std::uint32_t at = oldest_;
    for (; skip > 0 && entries_[at].newer != kNone; --skip) at = entries_[at].newer;
    const Entry out = entries_[at];
    unlink(at);
    at_.erase(out.id);
    free_.push_back(at);
    return out;
  }

 private:
  void unlink(std::uint32_t at) {
    const Entry& entry = entries_[at];
    (entry.newer == kNone ? newest_ : entries_[entry.newer].older) = entry.older;
    (entry.older == kNone ? oldest_ : entries_[entry.older].newer) = entry.newer;
  }
  std::unordered_map<Id, std::uint32_t> at_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
};

class Maker {
 public:
  explicit Maker(const CorpusOptions& options) : options_(options), random_(options.seed, "corpus") {
    WP_CHECK(options.engines <= kEnginesMax);
    corpus_.engines = options.engines;
    corpus_.block_tokens = options.block_tokens;
    engines_.resize(options.engines);
  }

  Corpus make(const std::vector<workload::TraceRow>& rows) {
    const std::uint64_t requests = rows.size() * std::uint64_t{options_.copies};
    const std::uint64_t lookup_every = std::max<std::uint64_t>(1, requests / std::max(1u, options_.prompts));
    for (std::uint64_t request = 0; request < requests && !full_; ++request) {
      const workload::TraceRow& row = rows[request / options_.copies];
      const std::uint64_t copy = options_.every_request_unique ? request : request % options_.copies;
      const std::vector<Id> blocks = blocks_of(row, copy);
      if (blocks.empty()) continue;
      if (request % lookup_every == 0) add_prompt(blocks);
      const std::vector<std::uint32_t> targets = route(row, copy, blocks);
      for (const std::uint32_t engine : targets) serve(engine, blocks);
      if (options_.feed == Feed::kEngineLike) grow(targets[0], blocks, row.output_tokens, request);
    }
    return std::move(corpus_);
  }

 private:
  // `sub` blocks of a 512-token block: as many as the prompt has whole.
  std::vector<Id> blocks_of(const workload::TraceRow& row, std::uint64_t copy) const {
    const std::uint32_t parts = workload::kTraceBlockTokens / options_.block_tokens;
    const std::uint32_t whole = row.input_tokens / options_.block_tokens;
    std::vector<Id> out;
    out.reserve(whole);
    for (const std::uint32_t id : row.hash_ids) {
      for (std::uint32_t part = 0; part < parts && out.size() < whole; ++part) {
        out.push_back(mix(((copy + 1) << 40) + id * std::uint64_t{parts} + part));
      }
    }
    return out;
  }

  Block block_of(Id id, std::uint32_t engine) const {
    const std::uint64_t seed = options_.seed_per_engine ? mix(engine + 1000) : 0;
    return {.key = mix(id ^ 0x1111), .hash = mix(id ^ 0x2222 ^ seed), .local = mix(id ^ 0x3333)};
  }

  void add_prompt(const std::vector<Id>& blocks) {
    corpus_.prompts.push_back({corpus_.blocks.size(), blocks.size()});
    for (const Id id : blocks) corpus_.blocks.push_back(block_of(id, 0));
  }

  std::vector<std::uint32_t> route(const workload::TraceRow& row, std::uint64_t copy, const std::vector<Id>& blocks) {
    if (options_.replicas > 1) {
      // One conversation, one set of engines: named by the first block that is not everybody's.
      RandomStream random(mix(mix(copy + 7) + row.hash_ids[std::min<std::size_t>(1, row.hash_ids.size() - 1)]), "set");
      std::vector<std::uint32_t> all(options_.engines);
      for (std::uint32_t e = 0; e < options_.engines; ++e) all[e] = e;
      for (std::uint32_t i = 0; i < options_.replicas; ++i) std::swap(all[i], all[i + random.below(all.size() - i)]);
      all.resize(options_.replicas);
      return all;
    }
    if (random_.below(100) < kLongestMatchPercent) {
      std::bitset<kEnginesMax> best;
      best.set();
      bool any = false;
      for (const Id id : blocks) {
        const auto found = holders_.find(id);
        if (found == holders_.end()) break;
        const std::bitset<kEnginesMax> narrowed = best & found->second;
        if (narrowed.none()) break;
        best = narrowed;
        any = true;
      }
      if (any) {
        std::uint64_t pick = random_.below(best.count());
        for (std::uint32_t e = 0; e < options_.engines; ++e) {
          if (best.test(e) && pick-- == 0) return {e};
        }
      }
    }
    return {static_cast<std::uint32_t>(random_.below(options_.engines))};
  }

  // Blocks are freed tail first when a request ends, so heads are used last.
  void serve(std::uint32_t engine, const std::vector<Id>& blocks) {
    Lru& lru = engines_[engine];
    std::size_t held = 0;
    while (held < blocks.size() && lru.contains(blocks[held])) ++held;
    std::vector<std::uint32_t> fresh;
    for (std::size_t i = blocks.size(); i-- > 0;) {
      const auto depth = static_cast<std::uint32_t>(i);
      if (lru.use(blocks[i], depth, i == 0 ? 0 : blocks[i - 1])) {
        fresh.push_back(depth);
        holders_[blocks[i]].set(engine);
      }
    }
    if (lru.size() > options_.engine_blocks && options_.stop_when_full) full_ = true;
    evict(engine);
    std::ranges::reverse(fresh);
    // A stretch of new blocks an event; one only, unless blocks went out of order.
    for (std::size_t i = 0; i < fresh.size();) {
      std::size_t end = i + 1;
      while (end < fresh.size() && fresh[end] == fresh[end - 1] + 1 &&
             (options_.feed != Feed::kSmall || end - i < kSmallBlocks)) {
        ++end;
      }
      add_store(engine, std::span(blocks).subspan(fresh[i], end - i), fresh[i],
                fresh[i] == 0 ? 0 : blocks[fresh[i] - 1]);
      i = end;
    }
  }

  // The answer's blocks, one at a time.
  void grow(std::uint32_t engine, const std::vector<Id>& blocks, std::uint32_t tokens, std::uint64_t request) {
    Id parent = blocks.back();
    for (std::uint32_t i = 0; i < tokens / options_.block_tokens; ++i) {
      const Id id = mix((std::uint64_t{1} << 63) + (request << 20) + i);
      const auto depth = static_cast<std::uint32_t>(blocks.size()) + i;
      if (!engines_[engine].contains(parent)) return;
      engines_[engine].use(id, depth, parent);
      holders_[id].set(engine);
      add_store(engine, {&id, 1}, depth, parent);
      evict(engine);
      parent = id;
    }
  }

  void evict(std::uint32_t engine) {
    Lru& lru = engines_[engine];
    std::uint32_t count = 0;
    const auto flush = [&] {
      if (count == 0) return;
      corpus_.events.push_back(
          {.engine = engine, .removal = 1, .first = corpus_.blocks.size() - count, .count = count});
      count = 0;
    };
    while (lru.size() > options_.engine_blocks) {
      const bool odd = options_.feed == Feed::kEngineLike && random_.below(kOutOfOrderEvery) == 0;
      const Entry gone = lru.evict(odd ? static_cast<std::uint32_t>(random_.below(kOutOfOrderReach)) : 0);
      const auto holders = holders_.find(gone.id);
      holders->second.reset(engine);
      if (holders->second.none()) holders_.erase(holders);
      corpus_.blocks.push_back(block_of(gone.id, engine));
      ++count;
      if (options_.feed == Feed::kEngineLike || (options_.feed == Feed::kSmall && count == kSmallBlocks)) flush();
    }
    flush();
  }

  void add_store(std::uint32_t engine, std::span<const Id> ids, std::uint32_t depth, Id parent) {
    corpus_.events.push_back({.engine = engine,
                              .removal = 0,
                              .first = corpus_.blocks.size(),
                              .count = static_cast<std::uint32_t>(ids.size()),
                              .depth = depth,
                              .parent = depth == 0 ? 0 : block_of(parent, engine).hash});
    for (const Id id : ids) corpus_.blocks.push_back(block_of(id, engine));
  }

  const CorpusOptions options_;
  RandomStream random_;
  Corpus corpus_;
  std::vector<Lru> engines_;
  std::unordered_map<Id, std::bitset<kEnginesMax>> holders_;
  bool full_ = false;
};

}  // namespace

Corpus make_trace_corpus(const std::vector<workload::TraceRow>& rows, const CorpusOptions& options) {
  return Maker(options).make(rows);
}

Corpus make_deep_corpus(std::uint32_t engines, std::uint32_t blocks, std::uint32_t holders) {
  Corpus corpus{.engines = engines, .block_tokens = 64};
  for (std::uint32_t prompt = 0; prompt < engines; ++prompt) {
    const std::uint64_t first = corpus.blocks.size();
    for (std::uint32_t i = 0; i < blocks; ++i) {
      const Id id = i == 0 ? 1 : mix((std::uint64_t{prompt} + 1) << 32 | i);
      corpus.blocks.push_back({.key = mix(id ^ 0x1111), .hash = mix(id ^ 0x2222), .local = mix(id ^ 0x3333)});
    }
    corpus.prompts.push_back({first, blocks});
    for (std::uint32_t i = 0; i < holders; ++i) {
      const std::uint32_t engine = (prompt + i * (engines / holders)) % engines;
      // The common first block comes once an engine: with the first prompt that it serves.
      const bool again =
          std::ranges::any_of(corpus.events, [&](const Event& e) { return e.engine == engine && e.depth == 0; });
      const std::uint32_t skip = again ? 1 : 0;
      corpus.events.push_back({.engine = engine,
                               .removal = 0,
                               .first = first + skip,
                               .count = blocks - skip,
                               .depth = skip,
                               .parent = skip == 0 ? 0 : corpus.blocks[first].hash});
    }
  }
  return corpus;
}

}  // namespace warmpath::bench
