// The index against a naive twin: per engine the token prefixes of its blocks and their references, and nothing else.
// A position of a prefix is a symbol: the token and, when a multimodal item begins there, that item.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "index/index.h"

namespace warmpath::index {
namespace {

using blocks::BlockRemoved;
using blocks::BlockStored;
using blocks::KvEvent;
using blocks::Tier;

using Prefix = std::u16string;
constexpr std::uint16_t kItemShift = 8;
constexpr std::uint64_t kItemTokens = 5;

struct Context {
  std::string lora;
  std::string salt;
};

struct TwinBlock {
  std::uint32_t group = 0;
  std::size_t context = 0;
  Prefix prefix;  // all symbols up to its end
  std::uint32_t tokens = 0;
  std::optional<std::uint64_t> parent;  // hash
  std::array<std::uint32_t, blocks::kTierCount> refs{};
  std::array<bool, blocks::kTierCount> doubtful{};
  std::size_t start() const { return prefix.size() - tokens; }
  bool held(std::size_t tier_or_faster) const {
    for (std::size_t t = 0; t <= tier_or_faster; ++t) {
      if (refs[t] > 0) return true;
    }
    return false;
  }
};

struct TwinParked {
  std::uint32_t group = 0;
  Tier tier = Tier::kGpu;
  std::uint64_t parent = 0;
  std::vector<std::uint64_t> hashes;
  std::vector<bool> removed;
};

struct TwinGroup {
  std::string kind;  // "" unset
  std::uint32_t block = 16;
  std::uint32_t small_block = 0;  // now and then this size instead
  std::uint32_t unit = 0;         // smallest seen
  bool seen = false;
  bool matches() const { return kind != "sliding_window"; }
};

class TwinEngine {
 public:
  std::map<std::uint32_t, TwinGroup> groups;
  std::map<std::uint64_t, TwinBlock> catalog;  // every block ever named; hash -> block
  std::vector<TwinParked> parked;
  std::uint64_t kept_by_doubt = 0;
  std::uint64_t removed_parked = 0;

  TwinBlock& block(std::uint64_t hash) { return catalog.at(hash); }

  bool exists(std::uint64_t hash) const {
    if (catalog.at(hash).held(2)) return true;
    return has_live_descendant(hash);
  }
  bool has_live_descendant(std::uint64_t hash) const {
    for (const auto& [other, block] : catalog) {
      if (!block.held(2)) continue;
      for (auto up = block.parent; up; up = catalog.at(*up).parent) {
        if (*up == hash) return true;
      }
    }
    return false;
  }

  void add(std::uint64_t hash, Tier tier, bool may_repeat) {
    TwinBlock& b = block(hash);
    const auto t = static_cast<std::size_t>(tier);
    if (may_repeat && b.refs[t] > 0) {
      b.doubtful[t] = true;
    } else {
      ++b.refs[t];
    }
  }

  void store(std::uint32_t group, Tier tier, std::optional<std::uint64_t> parent,
             const std::vector<std::uint64_t>& hashes, std::uint32_t block_tokens, Applied& applied) {
    TwinGroup& g = groups.at(group);
    g.seen = true;
    g.unit = g.unit == 0 ? block_tokens : std::min(g.unit, block_tokens);
    if (parent && !exists(*parent)) {
      ++applied.stores_parked;
      parked.push_back({group, tier, *parent, hashes, std::vector<bool>(hashes.size(), false)});
      return;
    }
    for (const std::uint64_t hash : hashes) add(hash, tier, !parent);
    applied.blocks_stored += static_cast<std::uint32_t>(hashes.size());
    unpark({hashes.begin(), hashes.end()}, applied);
  }

  void unpark(std::set<std::uint64_t> arrived, Applied& applied) {
    for (bool again = true; again;) {
      again = false;
      for (std::size_t i = 0; i < parked.size(); ++i) {
        if (!arrived.contains(parked[i].parent)) continue;
        const TwinParked p = parked[i];
        parked.erase(parked.begin() + static_cast<std::ptrdiff_t>(i));
        for (std::size_t k = 0; k < p.hashes.size(); ++k) {
          arrived.insert(p.hashes[k]);
          if (p.removed[k]) continue;
          add(p.hashes[k], p.tier, true);  // the report that brought the parent may have named it too
          ++applied.blocks_stored;
        }
        ++applied.stores_unparked;
        again = true;
        break;
      }
    }
  }

  void remove(Tier tier, std::uint64_t hash, Applied& applied) {
    TwinBlock& b = block(hash);
    const auto t = static_cast<std::size_t>(tier);
    if (b.refs[t] > 1) {
      --b.refs[t];
      ++applied.blocks_removed;
    } else if (b.refs[t] == 1) {
      const bool keep = b.doubtful[t] && has_live_descendant(hash);
      b.doubtful[t] = false;
      if (!keep) b.refs[t] = 0;
      kept_by_doubt += keep ? 1 : 0;
      ++applied.blocks_removed;
    } else if (remove_parked(tier, hash)) {
      ++applied.blocks_removed;
    } else {
      ++applied.blocks_unknown;
    }
  }

  bool remove_parked(Tier tier, std::uint64_t hash) {
    for (TwinParked& p : parked) {
      for (std::size_t k = 0; k < p.hashes.size(); ++k) {
        if (p.tier != tier || p.hashes[k] != hash || p.removed[k]) continue;
        p.removed[k] = true;
        ++removed_parked;
        return true;
      }
    }
    return false;
  }

  void clear_gpu() {
    for (auto& [hash, b] : catalog) {
      b.refs[0] = 0;
      b.doubtful[0] = false;
    }
    std::erase_if(parked, [](const TwinParked& p) { return p.tier == Tier::kGpu; });
  }

  void forget() {
    for (auto& [hash, b] : catalog) {
      b.refs = {};
      b.doubtful = {};
    }
    parked.clear();
    for (auto& [id, g] : groups) {
      g.seen = false;
      g.unit = 0;
    }
  }

  // Router block i of the prompt, of R tokens, is held by `group` in `tier` or faster.
  bool holds(std::uint32_t group, std::size_t tier, std::size_t context, const Prefix& prompt, std::size_t i,
             std::size_t R) const {
    for (const auto& [hash, b] : catalog) {
      if (b.group != group || b.context != context || !b.held(tier)) continue;
      const std::size_t end = (i + 1) * R;
      if (b.start() >= end || b.prefix.size() < end || b.prefix.compare(0, end, prompt, 0, end) != 0) continue;
      bool all = true;
      for (auto up = b.parent; up && catalog.at(*up).prefix.size() > i * R; up = catalog.at(*up).parent) {
        all = all && catalog.at(*up).held(tier);
      }
      if (all) return true;
    }
    return false;
  }

  std::uint32_t depth(std::size_t tier, std::size_t context, const Prefix& prompt, std::size_t R) const {
    std::optional<std::uint32_t> known;
    std::uint32_t unknown = 0;
    for (const auto& [id, g] : groups) {
      if (!g.seen || !g.matches()) continue;
      std::size_t blocks = 0;
      while ((blocks + 1) * R <= prompt.size() && holds(id, tier, context, prompt, blocks, R)) ++blocks;
      const auto credit = g.unit == 0 ? 0u : static_cast<std::uint32_t>(blocks * R / g.unit * g.unit / R);
      if (g.kind.empty()) {
        unknown = std::max(unknown, credit);
      } else {
        known = std::min(known.value_or(credit), credit);
      }
    }
    return known.value_or(unknown);
  }

  std::uint64_t blocks_held() const {
    std::uint64_t n = 0;
    for (const auto& [hash, b] : catalog)
      n += static_cast<std::uint64_t>(std::ranges::count_if(b.refs, [](auto r) { return r > 0; }));
    return n;
  }
};

struct World {
  World(std::uint64_t seed, std::uint32_t router_block, std::vector<std::map<std::uint32_t, TwinGroup>> engine_groups)
      : random(seed, "model"), restarts(seed, "restarts"), R(router_block), held(fresh(seed)), key_seed(seed) {
    for (std::size_t e = 0; e < engine_groups.size(); ++e) {
      twins.emplace_back().groups = std::move(engine_groups[e]);
      held->set_state(EngineId(static_cast<std::uint32_t>(e)), blocks::PublisherState::kExact);
    }
  }

  std::vector<Context> contexts{{"", ""}, {"", "salt-a"}, {"lora-x", ""}, {"lora-x", "lora-x"}};
  RandomStream random;
  RandomStream restarts;  // of its own: what happens otherwise stays the same
  std::uint32_t R;
  std::unique_ptr<Index> held;
  std::uint64_t key_seed;
  std::vector<TwinEngine> twins;
  std::map<std::tuple<std::size_t, std::uint32_t, std::size_t, Prefix, std::uint32_t>, std::uint64_t> names;
  bool one_seed = false;  // engines call the same block the same
  std::map<std::tuple<std::uint32_t, std::size_t, Prefix, std::uint32_t>, std::uint64_t> seeded_names;

  std::unique_ptr<Index> fresh(std::uint64_t seed) const {
    return std::make_unique<Index>(IndexOptions{.space = blocks::KeySpace(seed, "m", R)});
  }

  // The router ends and begins again with what it had written down; parked stores are lost, and nothing else.
  void restart() {
    SnapshotWriter writer;
    std::string bytes = writer.begin(1) + writer.pool({.name = "p", .key_probe = key_probe(held->space())});
    for (std::size_t e = 0; e < twins.size(); ++e) {
      auto copy = held->copy(EngineId(static_cast<std::uint32_t>(e)));
      ASSERT_TRUE(copy);
      EXPECT_EQ(copy->whole, twins[e].parked.empty());
      tally.copied += copy->blocks;
      writer.engine({.name = std::to_string(e), .blocks = copy->blocks, .parts = std::move(copy->parts)}, bytes);
      tally.parked_lost += twins[e].parked.size();
      twins[e].parked.clear();
    }
    bytes += writer.end();
    SnapshotReader reader;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t piece = std::min<std::size_t>(1 + restarts.below(700), bytes.size() - at);
      reader.feed(std::string_view(bytes).substr(at, piece));
      at += piece;
    }
    const SnapshotContent content = reader.finish();
    EXPECT_TRUE(content.complete);
    ASSERT_EQ(content.pools.size(), 1u);
    ASSERT_EQ(content.pools[0].engines.size(), twins.size());
    held = fresh(key_seed);
    EXPECT_EQ(content.pools[0].pool.key_probe, key_probe(held->space()));
    for (std::size_t e = 0; e < twins.size(); ++e) {
      const EngineId engine(static_cast<std::uint32_t>(e));
      held->set_state(engine, blocks::PublisherState::kExact);
      const auto adopted = held->adopt(engine, content.pools[0].engines[e].parts);
      ASSERT_TRUE(adopted.ok());
      EXPECT_TRUE(adopted->whole);
      EXPECT_EQ(adopted->blocks, content.pools[0].engines[e].blocks);
    }
    ++tally.restarts;
  }

  std::uint64_t pick(std::uint64_t n) { return random.below(n); }

  char16_t symbol() {
    const auto token = static_cast<char16_t>(pick(8) == 0 ? 1 : 0);
    const auto item = static_cast<char16_t>(pick(40) == 0 ? 1 + pick(2) : 0);
    return static_cast<char16_t>(token | (item << kItemShift));
  }

  // One name per (engine, group, context, prefix, size): what a hash is.
  std::uint64_t name(std::size_t e, std::uint32_t group, std::size_t context, const Prefix& prefix,
                     std::uint32_t tokens, std::optional<std::uint64_t> parent) {
    std::uint64_t fresh = random.next();
    // Now and then another hash for the same block: a second adapter of the same name, say.
    if (one_seed && pick(50) != 0)
      fresh = seeded_names.try_emplace({group, context, prefix, tokens}, fresh).first->second;
    const auto [at, added] = names.try_emplace({e, group, context, prefix, tokens}, fresh);
    if (added) {
      twins[e].catalog[at->second] = {
          .group = group, .context = context, .prefix = prefix, .tokens = tokens, .parent = parent};
    }
    return at->second;
  }

  static blocks::WireHash wire(std::uint64_t hash) { return {.value = EngineHash(hash), .bytes = {}}; }

  // What the engine would list for the block [start, start + size) of `prefix`.
  std::vector<blocks::ExtraKey> extras_of(const Context& context, const Prefix& prefix, std::size_t start,
                                          std::size_t size) {
    std::vector<blocks::ExtraKey> keys;
    if (!context.lora.empty()) keys.push_back(blocks::ExtraText{context.lora});
    for (std::size_t at = start < kItemTokens ? 0 : start - kItemTokens + 1; at < start + size; ++at) {
      const int item = prefix[at] >> kItemShift;
      if (item == 0) continue;
      keys.push_back(blocks::ExtraItem{"img" + std::to_string(item),
                                       static_cast<std::int64_t>(at) - static_cast<std::int64_t>(start)});
    }
    if (start == 0 && !context.salt.empty()) keys.push_back(blocks::ExtraText{context.salt});
    return keys;
  }

  static const char* medium(Tier tier) {
    return tier == Tier::kGpu ? "GPU" : tier == Tier::kCpu ? "CPU_PINNED" : "STORAGE";
  }
  Tier any_tier() {
    const std::uint64_t n = pick(6);
    return n < 4 ? Tier::kGpu : n == 4 ? Tier::kCpu : Tier::kStorage;
  }

  KvEvent store_event(std::size_t e, Applied& expected) {
    TwinEngine& twin = twins[e];
    auto at = twin.groups.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(pick(twin.groups.size())));
    const std::uint32_t group = at->first;
    TwinGroup& g = at->second;
    const std::uint32_t size = g.small_block != 0 && pick(4) == 0 ? g.small_block : g.block;
    const Tier tier = any_tier();

    std::optional<std::uint64_t> parent;
    Prefix prefix;
    std::size_t context = pick(contexts.size());
    if (pick(3) != 0) {
      std::vector<std::uint64_t> candidates;
      for (const auto& [hash, b] : twin.catalog) {
        if (b.group == group && b.prefix.size() < 6 * R) candidates.push_back(hash);
      }
      if (!candidates.empty()) {
        parent = candidates[pick(candidates.size())];
        prefix = twin.block(*parent).prefix;
        context = twin.block(*parent).context;
      }
    }
    const std::size_t first = prefix.size();
    const std::size_t count = 1 + pick(size < R ? 2 * R / size : 3);
    std::vector<std::uint64_t> hashes;
    std::optional<std::uint64_t> up = parent;
    BlockStored event;
    event.extra_keys.emplace();
    // Half the time along what is known, so that chains are shared.
    const Prefix like = pick(2) == 0 && !twin.catalog.empty() ? random_known(e) : Prefix();
    for (std::size_t k = 0; k < count; ++k) {
      for (std::uint32_t i = 0; i < size; ++i) {
        const bool follow = like.size() > prefix.size() && like.compare(0, prefix.size(), prefix) == 0;
        prefix.push_back(follow ? like[prefix.size()] : symbol());
      }
      hashes.push_back(name(e, group, context, prefix, size, up));
      // The same prefix may be reached over other sizes: a hash names one chain, so follow what it named first.
      if (twin.block(hashes.back()).parent != up) {
        hashes.pop_back();
        prefix.resize(prefix.size() - size);
        break;
      }
      up = hashes.back();
      event.block_hashes.push_back(wire(hashes.back()));
    }
    if (hashes.empty()) return blocks::BlockRemoved{};
    for (std::size_t k = 0; k < hashes.size(); ++k) {
      event.extra_keys->push_back(extras_of(contexts[context], prefix, first + k * size, size));
    }
    for (std::size_t i = first; i < prefix.size(); ++i) event.token_ids.push_back(prefix[i] & 0xFF);
    if (parent) event.parent_block_hash = wire(*parent);
    event.block_size = size;
    event.medium = medium(tier);
    if (!contexts[context].lora.empty()) event.lora_name = contexts[context].lora;
    if (group != 0 || pick(2) == 0) event.group_idx = group;
    // The kind may be left out once it is known.
    if (!g.kind.empty() && (!g.seen || pick(2) == 0)) event.kv_cache_spec_kind = g.kind;
    if (!g.matches()) {
      g.seen = true;
      ++expected.stores_skipped;
    } else {
      twin.store(group, tier, parent, hashes, size, expected);
    }
    return event;
  }

  Prefix random_known(std::size_t e) {
    auto at = twins[e].catalog.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(pick(twins[e].catalog.size())));
    return at->second.prefix;
  }

  std::optional<std::uint64_t> random_hash(std::size_t e, bool leaf_like) {
    std::vector<std::uint64_t> candidates;
    for (const auto& [hash, b] : twins[e].catalog) {
      if (!leaf_like || (b.held(2) && !twins[e].has_live_descendant(hash))) candidates.push_back(hash);
    }
    if (candidates.empty()) return std::nullopt;
    return candidates[pick(candidates.size())];
  }

  KvEvent placeholder_event(std::size_t e, Applied& expected) {
    const auto hash = random_hash(e, false);
    if (!hash) return BlockRemoved{};
    TwinEngine& twin = twins[e];
    const TwinBlock& b = twin.block(*hash);
    BlockStored event;
    event.block_hashes = {wire(*hash)};
    event.medium = "CPU";
    event.group_idx = b.group;
    if (!twin.groups.at(b.group).seen) return BlockRemoved{};
    if (!twin.groups.at(b.group).matches()) {
      ++expected.stores_skipped;
    } else if (twin.exists(*hash)) {
      twin.add(*hash, Tier::kCpu, true);
      ++expected.blocks_stored;
    } else {
      ++expected.stores_dropped;
    }
    return event;
  }

  KvEvent remove_event(std::size_t e, Applied& expected) {
    BlockRemoved event;
    const auto first = random_hash(e, pick(3) != 0);
    if (!first) return event;
    TwinEngine& twin = twins[e];
    const std::uint32_t group = twin.block(*first).group;
    const Tier tier = any_tier();
    event.group_idx = group;
    event.medium = medium(tier);
    std::vector<std::uint64_t> hashes{*first};
    if (pick(4) == 0 && twin.block(*first).parent) hashes.push_back(*twin.block(*first).parent);
    for (const std::uint64_t hash : hashes) {
      event.block_hashes.push_back(wire(hash));
      const TwinGroup& g = twin.groups.at(group);
      if (g.seen && !g.matches()) continue;
      twin.remove(tier, hash, expected);
    }
    return event;
  }

  void step() {
    const std::size_t e = pick(twins.size());
    const EngineId engine(static_cast<std::uint32_t>(e));
    Applied expected;
    std::vector<KvEvent> batch;
    if (pick(150) == 0) {
      held->forget(engine);
      twins[e].forget();
    }
    for (std::uint64_t n = 1 + pick(3); n > 0; --n) {
      const std::uint64_t what = pick(200);
      if (what == 0) {
        twins[e].clear_gpu();
        batch.push_back(blocks::AllBlocksCleared{});
      } else if (what < 110) {
        batch.push_back(store_event(e, expected));
      } else if (what < 120) {
        batch.push_back(placeholder_event(e, expected));
      } else {
        batch.push_back(remove_event(e, expected));
      }
    }
    const Applied applied = held->apply(engine, batch);
    EXPECT_EQ(applied.blocks_stored, expected.blocks_stored);
    EXPECT_EQ(applied.blocks_removed, expected.blocks_removed);
    EXPECT_EQ(applied.blocks_unknown, expected.blocks_unknown);
    EXPECT_EQ(applied.stores_parked, expected.stores_parked);
    EXPECT_EQ(applied.stores_unparked, expected.stores_unparked);
    EXPECT_EQ(applied.stores_dropped, expected.stores_dropped);
    EXPECT_EQ(applied.stores_skipped, expected.stores_skipped);
    tally.unparked += applied.stores_unparked;
    shrink_catalog(e);
  }

  // The twin is quadratic: blocks that are gone and named by nobody else are taken out of the generator's reach.
  void shrink_catalog(std::size_t e) {
    TwinEngine& twin = twins[e];
    if (twin.catalog.size() < 120) return;
    std::set<std::uint64_t> keep;
    for (const auto& [hash, b] : twin.catalog) {
      if (!b.held(2)) continue;
      keep.insert(hash);
      for (auto up = b.parent; up; up = twin.catalog.at(*up).parent) keep.insert(*up);
    }
    for (const TwinParked& p : twin.parked) {
      std::vector<std::uint64_t> named = p.hashes;
      named.push_back(p.parent);
      for (const std::uint64_t hash : named) {
        for (std::optional<std::uint64_t> up = hash; up; up = twin.catalog.at(*up).parent) keep.insert(*up);
      }
    }
    if (keep.size() > 100) {  // too much alive: start over
      held->forget(EngineId(static_cast<std::uint32_t>(e)));
      twin.forget();
      keep.clear();
    }
    std::erase_if(names,
                  [&](const auto& entry) { return std::get<0>(entry.first) == e && !keep.contains(entry.second); });
    std::erase_if(twin.catalog, [&](const auto& entry) { return !keep.contains(entry.first); });
  }

  // What the run has seen, so that an idle run fails.
  struct Tally {
    std::uint64_t rows = 0, blocks = 0, tiers_differ = 0, kept_by_doubt = 0, unparked = 0, removed_parked = 0;
    std::uint64_t restarts = 0, copied = 0, parked_lost = 0;
  } tally;

  void compare() {
    MatchTable table;
    for (int n = 0; n < 3; ++n) {
      const std::size_t e = pick(twins.size());
      Prefix prompt;
      std::size_t context = pick(contexts.size());
      if (!twins[e].catalog.empty()) {
        auto at = twins[e].catalog.begin();
        std::advance(at, static_cast<std::ptrdiff_t>(pick(twins[e].catalog.size())));
        prompt = at->second.prefix;
        context = at->second.context;
      }
      if (pick(4) == 0 && !prompt.empty()) prompt.resize(pick(prompt.size()));
      for (std::uint64_t more = pick(2 * R); more > 0; --more) prompt.push_back(symbol());
      compare_prompt(context, prompt, table);
    }
  }

  void compare_prompt(std::size_t context, const Prefix& prompt, MatchTable& table) {
    std::vector<TokenId> ids;
    blocks::ChainContext chain_context{.lora = contexts[context].lora, .salt = contexts[context].salt, .items = {}};
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      ids.push_back(prompt[i] & 0xFF);
      const int item = prompt[i] >> kItemShift;
      if (item != 0) chain_context.items.push_back({"img" + std::to_string(item), i, kItemTokens});
    }
    held->match(held->space().chain(ids, chain_context), table);
    std::size_t row = 0;
    for (std::size_t e = 0; e < twins.size(); ++e) {
      std::array<std::uint32_t, blocks::kTierCount> expected{};
      for (std::size_t t = 0; t < blocks::kTierCount; ++t) expected[t] = twins[e].depth(t, context, prompt, R);
      if (expected.back() == 0) {
        EXPECT_EQ(table.find(EngineId(static_cast<std::uint32_t>(e))), nullptr);
        continue;
      }
      ASSERT_LT(row, table.rows.size());
      EXPECT_EQ(table.rows[row].engine.value(), e);
      EXPECT_EQ(table.rows[row].depth_blocks, expected);
      ++row;
      ++tally.rows;
      tally.blocks += expected.back();
      if (expected.front() != expected.back()) ++tally.tiers_differ;
    }
    EXPECT_EQ(row, table.rows.size());
  }

  void compare_stat() {
    const IndexStat stat = held->stat();
    ASSERT_EQ(stat.engines.size(), twins.size());
    for (std::size_t e = 0; e < twins.size(); ++e) {
      EXPECT_EQ(stat.engines[e].blocks_held, twins[e].blocks_held());
      EXPECT_EQ(stat.engines[e].stores_parked, twins[e].parked.size());
    }
  }
};

TwinGroup group_of(std::string kind, std::uint32_t block, std::uint32_t small = 0) {
  TwinGroup group;
  group.kind = std::move(kind);
  group.block = block;
  group.small_block = small;
  return group;
}

void run(std::uint64_t seed, std::uint32_t router_block, std::vector<std::map<std::uint32_t, TwinGroup>> engines,
         int steps, bool one_seed = false) {
  SCOPED_TRACE("seed " + std::to_string(seed) + ", router block " + std::to_string(router_block));
  std::printf("model seed %llu, router block %u\n", static_cast<unsigned long long>(seed), router_block);
  const std::size_t count = engines.size();
  World world(seed, router_block, std::move(engines));
  world.one_seed = one_seed;
  for (int i = 0; i < steps; ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    world.step();
    const bool parked = std::ranges::any_of(world.twins, [](const TwinEngine& twin) { return !twin.parked.empty(); });
    if (world.restarts.below(parked ? 60 : 12) == 0) {
      world.restart();
      world.compare_stat();
    }
    world.compare();
    if (i % 16 == 0) world.compare_stat();
    if (::testing::Test::HasFailure()) return;
  }
  for (const TwinEngine& twin : world.twins) {
    world.tally.kept_by_doubt += twin.kept_by_doubt;
    world.tally.removed_parked += twin.removed_parked;
  }
  std::printf("  rows %llu blocks %llu tiers differ %llu kept by doubt %llu unparked %llu removed while parked %llu\n",
              static_cast<unsigned long long>(world.tally.rows), static_cast<unsigned long long>(world.tally.blocks),
              static_cast<unsigned long long>(world.tally.tiers_differ),
              static_cast<unsigned long long>(world.tally.kept_by_doubt),
              static_cast<unsigned long long>(world.tally.unparked),
              static_cast<unsigned long long>(world.tally.removed_parked));
  EXPECT_GT(world.tally.rows, static_cast<std::uint64_t>(steps) / 4);
  EXPECT_GT(world.tally.blocks, world.tally.rows);
  EXPECT_GT(world.tally.tiers_differ, 0u);
  EXPECT_GT(world.tally.unparked + world.tally.parked_lost, 0u);
  EXPECT_GT(world.tally.copied, world.tally.restarts);
  for (std::size_t e = 0; e < count; ++e) world.held->forget(EngineId(static_cast<std::uint32_t>(e)));
  const IndexStat stat = world.held->stat();
  EXPECT_EQ(stat.keys, 0u);
  EXPECT_EQ(stat.bytes, 0u);
}

// WARMPATH_MODEL_STEPS makes the runs longer.
int steps_of(int usual) {
  const char* text = std::getenv("WARMPATH_MODEL_STEPS");
  return text == nullptr ? usual : std::atoi(text);
}

TEST(IndexModel, EngineBlockEqualsRouterBlock) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    run(seed, 16,
        {{{0, group_of("full_attention", 16)}}, {{0, group_of("", 16)}}, {{0, group_of("mla_attention", 16)}}},
        steps_of(500));
  }
}

TEST(IndexModel, EnginesOfOneSeed) {
  for (std::uint64_t seed = 54; seed <= 56; ++seed) {
    run(seed, 16, {{{0, group_of("", 16)}}, {{0, group_of("", 16)}}, {{0, group_of("", 16)}}}, steps_of(500), true);
    run(seed, 16, {{{0, group_of("", 32)}}, {{0, group_of("", 32)}}, {{0, group_of("", 64)}}}, steps_of(400), true);
  }
}

TEST(IndexModel, EngineBlocksLargerThanRouterBlocks) {
  for (std::uint64_t seed = 11; seed <= 13; ++seed) {
    run(seed, 16, {{{0, group_of("", 32)}}, {{0, group_of("", 48)}}, {{0, group_of("", 64)}}}, steps_of(400));
  }
}

TEST(IndexModel, EngineBlocksSmallerThanRouterBlocks) {
  for (std::uint64_t seed = 21; seed <= 23; ++seed) {
    run(seed, 16, {{{0, group_of("", 1)}}, {{0, group_of("", 8)}}, {{0, group_of("", 4)}}}, steps_of(300));
  }
}

TEST(IndexModel, UnalignedBlocks) {
  for (std::uint64_t seed = 31; seed <= 34; ++seed) {
    run(seed, 32, {{{0, group_of("", 48)}}, {{0, group_of("", 20)}}, {{0, group_of("", 7)}}}, steps_of(300));
    run(seed, 64, {{{0, group_of("", 48)}}, {{0, group_of("", 16)}}, {{0, group_of("", 64)}}}, steps_of(300));
    run(seed, 48, {{{0, group_of("", 32)}}, {{0, group_of("", 64)}}}, steps_of(300));
  }
}

TEST(IndexModel, GroupsAndMixedSizes) {
  for (std::uint64_t seed = 41; seed <= 43; ++seed) {
    run(seed, 16,
        {{{0, group_of("full_attention", 16)}, {1, group_of("sliding_window", 16)}},
         {{0, group_of("full_attention", 16)}, {3, group_of("sink_full_attention", 32)}},
         {{0, group_of("", 16)}, {1, group_of("", 32)}},
         {{0, group_of("full_attention", 32, 16)}, {1, group_of("", 16)}}},
        steps_of(500));
  }
}

}  // namespace
}  // namespace warmpath::index
