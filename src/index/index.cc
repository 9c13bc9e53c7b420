#include "index/index.h"

#include <algorithm>
#include <mutex>
#include <numeric>

#include "index/engine_map.h"
#include "index/holders.h"
#include "index/roster.h"

namespace warmpath::index {
namespace {

constexpr std::uint8_t kAllTiers = (1u << blocks::kTierCount) - 1;

std::uint8_t tiers_held(const Holding& holding) {
  std::uint8_t tiers = 0;
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if (holding.covers[tier] > 0) tiers = static_cast<std::uint8_t>(tiers | (1u << tier));
  }
  return tiers;
}

void advance(MatchTable::Walk& walk, std::uint8_t tiers, std::uint32_t depth) {
  walk.tiers &= tiers;
  for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
    if ((walk.tiers >> tier & 1u) != 0) walk.depth_blocks[tier] = depth;
  }
}

// Both sides are sorted by holder. Walks that end here move to `ended`.
void walk_block(std::span<const Holding> holdings, std::uint32_t depth, MatchTable& table) {
  std::size_t kept = 0;
  auto at = holdings.begin();
  for (MatchTable::Walk& walk : table.walking) {
    while (at != holdings.end() && at->holder.value() < walk.holder) ++at;
    const bool held = at != holdings.end() && at->holder.value() == walk.holder;
    advance(walk, held ? tiers_held(*at) : std::uint8_t{0}, depth);
    if (walk.tiers == 0) {
      table.ended.push_back(walk);
    } else {
      table.walking[kept++] = walk;
    }
  }
  table.walking.resize(kept);
}

bool is_known(blocks::SpecKind kind) { return kind != blocks::SpecKind::kUnset; }

std::uint32_t whole_units(std::uint32_t depth_blocks, std::uint32_t block_tokens, std::uint32_t unit_tokens) {
  if (unit_tokens == 0) return 0;
  const std::uint64_t tokens = std::uint64_t{depth_blocks} * block_tokens;
  return static_cast<std::uint32_t>(tokens / unit_tokens * unit_tokens / block_tokens);
}

}  // namespace

const MatchRow* MatchTable::find(EngineId engine) const {
  const auto at = std::ranges::lower_bound(rows, engine, {}, &MatchRow::engine);
  return at != rows.end() && at->engine == engine ? &*at : nullptr;
}

struct Index::Impl {
  explicit Impl(IndexOptions given) : options(std::move(given)), holders(bytes) {}

  std::shared_ptr<EngineMap> map_of(EngineId engine) {
    const std::lock_guard lock(roster.mutex);
    std::shared_ptr<EngineMap>& map = roster.engines[engine].map;
    if (map == nullptr) {
      map = std::make_shared<EngineMap>(
          engine, EngineMap::Shared{.options = options, .holders = holders, .roster = roster, .bytes = bytes});
    }
    return map;
  }

  // An engine that is lost and holds nothing leaves no trace.
  void tidy(EngineId engine, const std::shared_ptr<EngineMap>& map) {
    const bool empty = map == nullptr || map->empty();
    const std::lock_guard lock(roster.mutex);
    const auto at = roster.engines.find(engine);
    if (at == roster.engines.end()) return;
    if (empty && at->second.state == blocks::PublisherState::kLost) roster.engines.erase(at);
  }

  // The row of one engine from the ended walks of its groups, [first, last). Needs roster.mutex.
  MatchRow row_of(const EngineEntry& entry, std::span<const MatchTable::Walk> walks) const {
    MatchRow row{.engine = walks.front().engine};
    const bool known =
        std::ranges::any_of(entry.holders, [&](HolderId holder) { return is_known(roster.slot(holder).kind); });
    bool first = true;
    for (const HolderId holder : entry.holders) {
      const GroupSlot& slot = roster.slot(holder);
      if (known && !is_known(slot.kind)) continue;
      const auto walk = std::ranges::find(walks, holder.value(), &MatchTable::Walk::holder);
      for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
        const std::uint32_t walked = walk == walks.end() ? 0 : walk->depth_blocks[tier];
        const std::uint32_t depth = whole_units(walked, options.space.block_tokens(), slot.unit_tokens);
        std::uint32_t& best = row.depth_blocks[tier];
        best = first ? depth : known ? std::min(best, depth) : std::max(best, depth);
      }
      first = false;
    }
    return row;
  }

  const IndexOptions options;
  std::atomic<std::size_t> bytes{0};
  Holders holders;
  Roster roster;
};

Index::Index(IndexOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Index::~Index() = default;

const blocks::KeySpace& Index::space() const { return impl_->options.space; }

Applied Index::apply(EngineId engine, std::span<const blocks::KvEvent> events) {
  return impl_->map_of(engine)->apply(events);
}

void Index::forget(EngineId engine) {
  std::shared_ptr<EngineMap> map;
  {
    const std::shared_lock lock(impl_->roster.mutex);
    const auto at = impl_->roster.engines.find(engine);
    if (at == impl_->roster.engines.end()) return;
    map = at->second.map;
  }
  if (map != nullptr) map->forget();
  impl_->tidy(engine, map);
}

void Index::set_state(EngineId engine, blocks::PublisherState state) {
  std::shared_ptr<EngineMap> map;
  {
    const std::lock_guard lock(impl_->roster.mutex);
    EngineEntry& entry = impl_->roster.engines[engine];
    entry.state = state;
    map = entry.map;
  }
  if (state == blocks::PublisherState::kLost) impl_->tidy(engine, map);
}

void Index::match(std::span<const BlockKey> chain, MatchTable& out) const {
  out.rows.clear();
  out.walking.clear();
  out.ended.clear();
  if (chain.empty()) return;
  const std::shared_lock lock(impl_->roster.mutex);
  impl_->holders.read(chain[0], [&](std::span<const Holding> holdings) {
    for (const Holding& holding : holdings) {
      const EngineId engine = impl_->roster.slot(holding.holder).engine;
      if (impl_->roster.engines.at(engine).state == blocks::PublisherState::kLost) continue;
      out.walking.push_back({.engine = engine, .holder = holding.holder.value(), .tiers = kAllTiers});
      advance(out.walking.back(), tiers_held(holding), 1);
    }
  });
  for (std::uint32_t i = 1; i < chain.size() && !out.walking.empty(); ++i) {
    impl_->holders.read(chain[i], [&](std::span<const Holding> holdings) { walk_block(holdings, i + 1, out); });
  }
  out.ended.insert(out.ended.end(), out.walking.begin(), out.walking.end());
  out.walking.clear();
  std::ranges::sort(out.ended, {}, &MatchTable::Walk::engine);
  for (std::size_t first = 0; first < out.ended.size();) {
    std::size_t last = first;
    while (last < out.ended.size() && out.ended[last].engine == out.ended[first].engine) ++last;
    const EngineEntry& entry = impl_->roster.engines.at(out.ended[first].engine);
    const MatchRow row = impl_->row_of(entry, std::span(out.ended).subspan(first, last - first));
    if (row.depth_blocks.back() > 0) out.rows.push_back(row);
    first = last;
  }
}

IndexStat Index::stat() const {
  IndexStat stat;
  std::vector<std::pair<EngineStat, std::shared_ptr<EngineMap>>> engines;
  {
    const std::shared_lock lock(impl_->roster.mutex);
    for (const auto& [engine, entry] : impl_->roster.engines) {
      engines.push_back({{.engine = engine, .state = entry.state}, entry.map});
    }
  }
  for (const auto& [bare, map] : engines) {
    EngineStat one = map == nullptr ? bare : map->stat();
    one.state = bare.state;
    stat.engines.push_back(one);
  }
  stat.keys = impl_->holders.keys();
  stat.bytes = impl_->bytes.load(std::memory_order_relaxed);
  return stat;
}

std::vector<HeldBlock> Index::held(EngineId engine) const {
  std::shared_ptr<EngineMap> map;
  {
    const std::shared_lock lock(impl_->roster.mutex);
    const auto at = impl_->roster.engines.find(engine);
    if (at != impl_->roster.engines.end()) map = at->second.map;
  }
  return map == nullptr ? std::vector<HeldBlock>() : map->held();
}

std::vector<EngineId> Index::holders(BlockKey key) const {
  std::vector<EngineId> engines;
  const std::shared_lock lock(impl_->roster.mutex);
  impl_->holders.read(key, [&](std::span<const Holding> holdings) {
    for (const Holding& holding : holdings) engines.push_back(impl_->roster.slot(holding.holder).engine);
  });
  std::ranges::sort(engines);
  engines.erase(std::unique(engines.begin(), engines.end()), engines.end());
  return engines;
}

std::uint32_t router_block_tokens(std::span<const std::uint32_t> engine_block_tokens, std::uint32_t floor_tokens) {
  WP_CHECK(!engine_block_tokens.empty() && floor_tokens >= 1);
  std::uint32_t divisor = 0;
  for (const std::uint32_t tokens : engine_block_tokens) {
    WP_CHECK(tokens >= 1);
    divisor = std::gcd(divisor, tokens);
  }
  return divisor >= floor_tokens ? divisor : (floor_tokens + divisor - 1) / divisor * divisor;
}

}  // namespace warmpath::index
