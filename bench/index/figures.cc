#include "figures.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <thread>
#include <unordered_set>

#include "base/base.h"
#include "index/index.h"

namespace warmpath::bench {
namespace {

using index::HashedEvent;
using index::Index;
using index::MatchTable;

constexpr std::size_t kCapBytes = std::size_t{1} << 30;  // the default; no figure is of a capped index
constexpr std::size_t kSweepBytes = std::size_t{96} << 20;
constexpr std::size_t kColdLookups = 600;
constexpr std::size_t kHotRounds = 20;

std::unique_ptr<Index> make_index(const CorpusView& corpus) {
  auto index = std::make_unique<Index>(
      index::IndexOptions{.space = blocks::KeySpace(1, "bench", corpus.head.block_tokens), .bytes_max = kCapBytes});
  for (std::uint32_t e = 0; e < corpus.head.engines; ++e) {
    index->set_state(EngineId(e), blocks::PublisherState::kExact);
  }
  return index;
}

// What an engine sends at once: removals and the store that needed their room. Owned in one piece.
struct OwnedBatch {
  struct Part {
    bool removal = false;
    std::uint32_t count = 0;
    std::optional<EngineHash> parent;
  };
  EngineId engine;
  std::vector<Part> parts;
  std::vector<EngineHash> hashes;  // of all parts
  std::vector<BlockKey> keys;      // of all stores
};

OwnedBatch own(const CorpusView& corpus, std::span<const Event> events) {
  OwnedBatch out{.engine = EngineId(events.front().engine), .parts = {}, .hashes = {}, .keys = {}};
  std::size_t hashes = 0;
  std::size_t keys = 0;
  for (const Event& event : events) {
    hashes += event.count;
    keys += event.removal != 0 ? 0 : event.count;
  }
  out.parts.reserve(events.size());
  out.hashes.reserve(hashes);
  out.keys.reserve(keys);
  for (const Event& event : events) {
    OwnedBatch::Part part{.removal = event.removal != 0, .count = event.count, .parent = {}};
    if (event.depth > 0) part.parent = EngineHash(event.parent);
    out.parts.push_back(part);
    for (const Block& block : corpus.of(event)) {
      out.hashes.emplace_back(block.hash);
      if (!part.removal) out.keys.emplace_back(block.key);
    }
  }
  return out;
}

std::vector<OwnedBatch> own_batches(const CorpusView& corpus, std::span<const Event> events) {
  std::vector<OwnedBatch> out;
  for (std::size_t first = 0; first < events.size();) {
    std::size_t last = first;
    while (last + 1 < events.size() && events[last].removal != 0 && events[last + 1].engine == events[first].engine) {
      ++last;
    }
    out.push_back(own(corpus, events.subspan(first, last + 1 - first)));
    first = last + 1;
  }
  return out;
}

class Applier {
 public:
  explicit Applier(Index& index) : index_(index) {}
  void apply(const OwnedBatch& batch) {
    events_.clear();
    std::span<const EngineHash> hashes = batch.hashes;
    std::span<const BlockKey> keys = batch.keys;
    for (const OwnedBatch::Part& part : batch.parts) {
      const std::size_t stored = part.removal ? 0 : part.count;
      events_.push_back({.kind = part.removal ? HashedEvent::Kind::kRemoved : HashedEvent::Kind::kStored,
                         .parent = part.parent,
                         .hashes = hashes.first(part.count),
                         .keys = keys.first(stored)});
      hashes = hashes.subspan(part.count);
      keys = keys.subspan(stored);
    }
    ops_ += batch.hashes.size();
    const index::Applied applied = index_.apply_hashed(batch.engine, events_);
    done_ += applied.blocks_stored + applied.blocks_removed;
  }
  std::uint64_t ops() const { return ops_; }
  // Every one of them changed the index.
  bool all_done() const { return done_ == ops_; }

 private:
  Index& index_;
  std::vector<HashedEvent> events_;
  std::uint64_t ops_ = 0;
  std::uint64_t done_ = 0;
};

void apply_all(Index& index, const CorpusView& corpus, std::span<const Event> events) {
  Applier applier(index);
  constexpr std::size_t kAtOnce = 4096;
  for (std::size_t i = 0; i < events.size(); i += kAtOnce) {
    for (const OwnedBatch& batch : own_batches(corpus, events.subspan(i, std::min(kAtOnce, events.size() - i)))) {
      applier.apply(batch);
    }
  }
  WP_CHECK(applier.all_done());
}

std::vector<BlockKey> keys_of(const CorpusView& corpus, const Prompt& prompt) {
  std::vector<BlockKey> out;
  for (const Block& block : corpus.of(prompt)) out.emplace_back(block.key);
  return out;
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

class Sweep {
 public:
  Sweep() : bytes_(kSweepBytes) {}
  void run() {
    for (std::size_t i = 0; i < bytes_.size(); i += 64) ++bytes_[i];
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

// What two readings of the clock cost by themselves.
std::uint64_t clock_cost() {
  std::vector<std::uint64_t> costs(2001);
  for (std::uint64_t& cost : costs) {
    const std::uint64_t start = now_ns();
    cost = now_ns() - start;
  }
  std::ranges::sort(costs);
  return costs[costs.size() / 2];
}

std::uint64_t percentile(std::vector<std::uint64_t>& values, double part) {
  std::ranges::sort(values);
  return values[std::min(values.size() - 1, static_cast<std::size_t>(part * static_cast<double>(values.size())))];
}

std::string field(const char* name, double value) {
  char text[96];
  std::snprintf(text, sizeof text, "\"%s\": %.6g", name, value);
  return text;
}

}  // namespace

double thread_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::string ingest(const CorpusView& corpus) {
  const auto index = make_index(corpus);
  std::vector<OwnedBatch> batches = own_batches(corpus, corpus.events);
  Applier applier(*index);
  const double start = thread_cpu_seconds();
  for (OwnedBatch& batch : batches) {
    applier.apply(batch);
    std::vector<OwnedBatch::Part>().swap(batch.parts);
    std::vector<EngineHash>().swap(batch.hashes);
    std::vector<BlockKey>().swap(batch.keys);
  }
  const double seconds = thread_cpu_seconds() - start;
  WP_CHECK(applier.all_done());
  return "{" + field("ops", static_cast<double>(applier.ops())) + ", " + field("seconds", seconds) + ", " +
         field("ops_per_s", static_cast<double>(applier.ops()) / seconds) + "}";
}

std::string lookup(const CorpusView& corpus, double ops_per_s) {
  const auto index = make_index(corpus);
  const std::size_t half = corpus.events.size() / 2;
  apply_all(*index, corpus, corpus.events.first(half));
  // The latest prompts of the first half and the next ones are what is being asked for now.
  std::vector<std::vector<BlockKey>> chains;
  const std::size_t middle = corpus.prompts.size() / 2;
  const std::size_t from = middle > 500 ? middle - 500 : 0;
  for (std::size_t i = from; i < std::min(corpus.prompts.size(), middle + 500); ++i) {
    chains.push_back(keys_of(corpus, corpus.prompts[i]));
  }
  std::vector<OwnedBatch> batches = own_batches(corpus, corpus.events.subspan(half));
  std::atomic<bool> started{false};
  std::atomic<bool> done{false};
  std::thread writer([&] {
    Applier applier(*index);
    started = true;
    const std::uint64_t start = now_ns();
    for (const OwnedBatch& batch : batches) {
      applier.apply(batch);
      const auto due = start + static_cast<std::uint64_t>(static_cast<double>(applier.ops()) / ops_per_s * 1e9);
      while (now_ns() < due && !done.load(std::memory_order_relaxed)) {
      }
      if (done.load(std::memory_order_relaxed)) break;
    }
    done = true;
  });
  while (!started.load()) {
  }
  const std::uint64_t cost = clock_cost();
  RandomStream random(1, "lookups");
  MatchTable table;
  std::vector<std::uint64_t> warm;
  std::uint64_t rows = 0;
  constexpr std::size_t kLookupsMax = 2'000'000;
  while (!done.load(std::memory_order_relaxed) && warm.size() < kLookupsMax) {
    const std::vector<BlockKey>& chain = chains[random.below(chains.size())];
    const std::uint64_t start = now_ns();
    index->match(chain, table);
    const std::uint64_t took = now_ns() - start;
    warm.push_back(took > cost ? took - cost : 0);
    rows += table.rows.size();
  }
  done = true;
  writer.join();
  Sweep sweep;
  std::vector<std::uint64_t> cold;
  for (std::size_t i = 0; i < kColdLookups; ++i) {
    const std::vector<BlockKey>& chain = chains[random.below(chains.size())];
    sweep.run();
    const std::uint64_t start = now_ns();
    index->match(chain, table);
    const std::uint64_t took = now_ns() - start;
    cold.push_back(took > cost ? took - cost : 0);
  }
  const auto count = static_cast<double>(warm.size());
  return "{" + field("lookups", count) + ", " + field("rows_mean", static_cast<double>(rows) / count) + ", " +
         field("p50", static_cast<double>(percentile(warm, 0.5))) + ", " +
         field("p99", static_cast<double>(percentile(warm, 0.99))) + ", " +
         field("p50_cold", static_cast<double>(percentile(cold, 0.5))) + ", " +
         field("p99_cold", static_cast<double>(percentile(cold, 0.99))) + "}";
}

std::string deep(const CorpusView& corpus) {
  const auto index = make_index(corpus);
  apply_all(*index, corpus, corpus.events);
  std::vector<std::vector<BlockKey>> chains;
  for (const Prompt& prompt : corpus.prompts) chains.push_back(keys_of(corpus, prompt));
  MatchTable table;
  const std::uint64_t cost = clock_cost();
  std::vector<std::uint64_t> hot;
  for (std::size_t i = 0; i < chains.size() * kHotRounds; ++i) {
    const std::vector<BlockKey>& chain = chains[i / kHotRounds];  // the same one again and again
    const std::uint64_t start = now_ns();
    index->match(chain, table);
    const std::uint64_t took = now_ns() - start;
    hot.push_back(took > cost ? took - cost : 0);
    std::uint64_t deepest = 0;
    for (const index::MatchRow& row : table.rows) deepest += row.depth(blocks::Tier::kGpu) == chain.size() ? 1 : 0;
    WP_CHECK(deepest == corpus.events.size() / corpus.prompts.size());
  }
  Sweep sweep;
  std::vector<std::uint64_t> cold;
  for (std::size_t i = 0; i < kColdLookups; ++i) {
    const std::vector<BlockKey>& chain = chains[i % chains.size()];
    sweep.run();
    const std::uint64_t start = now_ns();
    index->match(chain, table);
    const std::uint64_t took = now_ns() - start;
    cold.push_back(took > cost ? took - cost : 0);
  }
  return "{" + field("hot", static_cast<double>(percentile(hot, 0.5)) / 1e3) + ", " +
         field("cold", static_cast<double>(percentile(cold, 0.5)) / 1e3) + "}";
}

namespace {

double anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    double kilobytes = 0;
    if (word == "RssAnon:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

std::string memory(const CorpusView& corpus) {
  malloc_trim(0);
  const double before = anonymous_bytes();
  const auto index = make_index(corpus);
  apply_all(*index, corpus, corpus.events);
  malloc_trim(0);
  const double after = anonymous_bytes();
  const index::IndexStat stat = index->stat();
  std::uint64_t held = 0;
  for (const index::EngineStat& engine : stat.engines) held += engine.blocks_held;
  const auto blocks = static_cast<double>(held);
  return "{" + field("held", blocks) + ", " + field("keys", static_cast<double>(stat.keys)) + ", " +
         field("bytes_per_held_block", (after - before) / blocks) + ", " +
         field("accounted", static_cast<double>(stat.bytes) / blocks) + ", " +
         field("reserved", static_cast<double>(stat.bytes_reserved) / blocks) + "}";
}

std::string exact(const CorpusView& corpus) {
  const auto index = make_index(corpus);
  apply_all(*index, corpus, corpus.events);
  // By engine, the keys held: an engine's hash of a block stands for one key.
  std::vector<std::unordered_set<std::uint64_t>> held(corpus.head.engines);
  for (const Event& event : corpus.events) {
    for (const Block& block : corpus.of(event)) {
      if (event.removal != 0) {
        held[event.engine].erase(block.key);
      } else {
        held[event.engine].insert(block.key);
      }
    }
  }
  MatchTable table;
  std::uint64_t checked = 0;
  std::uint64_t wrong = 0;
  for (const Prompt& prompt : corpus.prompts) {
    index->match(keys_of(corpus, prompt), table);
    for (std::uint32_t e = 0; e < corpus.head.engines; ++e) {
      std::uint32_t depth = 0;
      for (const Block& block : corpus.of(prompt)) {
        if (!held[e].contains(block.key)) break;
        ++depth;
      }
      const index::MatchRow* const row = table.find(EngineId(e));
      const std::uint32_t got = row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
      wrong += got == depth ? 0 : 1;
    }
    ++checked;
  }
  return "{" + field("lookups", static_cast<double>(checked)) + ", " + field("wrong_rows", static_cast<double>(wrong)) +
         ", \"verdict\": " + (wrong == 0 && checked > 0 ? "\"exact\"" : "\"wrong\"") + "}";
}

}  // namespace warmpath::bench
