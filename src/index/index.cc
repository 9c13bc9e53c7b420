#include "index/index.h"

#include <algorithm>
#include <numeric>

#include "index/engine_map.h"

namespace warmpath::index {

const MatchRow* MatchTable::find(EngineId engine) const {
  const auto at = std::ranges::lower_bound(rows, engine, {}, &MatchRow::engine);
  return at != rows.end() && at->engine == engine ? &*at : nullptr;
}

struct Index::Impl {
  explicit Impl(IndexOptions given) : commons(std::move(given)) {}

  // Stays while nobody forgets the engine, which its one writer would have to do.
  EngineMap& map_of(EngineId engine) {
    const bool direct = engine.value() < kDirectEngines;
    EngineMap* known = direct ? maps[engine.value()].load(std::memory_order_acquire) : nullptr;
    if (known != nullptr) return *known;
    const std::lock_guard lock(commons.mutex);
    std::shared_ptr<EngineMap>& map = commons.roster.engines[engine].map;
    if (map == nullptr) map = std::make_shared<EngineMap>(engine, commons);
    if (direct) maps[engine.value()].store(map.get(), std::memory_order_release);
    return *map;
  }

  // An engine that is lost and holds nothing leaves no trace. Needs the mutex.
  void tidy(EngineId engine) {
    const auto at = commons.roster.engines.find(engine);
    if (at == commons.roster.engines.end()) return;
    EngineEntry& entry = at->second;
    if (entry.state != blocks::PublisherState::kLost || (entry.map != nullptr && !entry.map->empty())) return;
    if (entry.map != nullptr) entry.map->forget();
    if (engine.value() < kDirectEngines) maps[engine.value()].store(nullptr, std::memory_order_release);
    commons.roster.engines.erase(engine);
  }

  static constexpr std::size_t kDirectEngines = 1'024;  // ids are dense: beyond, a map and a lock more
  Commons commons;
  std::array<std::atomic<EngineMap*>, kDirectEngines> maps{};
};

Index::Index(IndexOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Index::~Index() = default;

const blocks::KeySpace& Index::space() const { return impl_->commons.options.space; }

Applied Index::apply(EngineId engine, std::span<const blocks::KvEvent> events) {
  return impl_->map_of(engine).apply(events);
}

Applied Index::apply_hashed(EngineId engine, std::span<const HashedEvent> events) {
  return impl_->map_of(engine).apply_hashed(events);
}

void Index::forget(EngineId engine) {
  const std::lock_guard lock(impl_->commons.mutex);
  const auto at = impl_->commons.roster.engines.find(engine);
  if (at == impl_->commons.roster.engines.end()) return;
  if (at->second.map != nullptr) at->second.map->forget();
  impl_->tidy(engine);
}

void Index::set_state(EngineId engine, blocks::PublisherState state) {
  const std::lock_guard lock(impl_->commons.mutex);
  impl_->commons.roster.set_state(engine, state);
  impl_->tidy(engine);
}

void Index::match(std::span<const BlockKey> chain, MatchTable& out) const {
  while (!impl_->commons.tree.match(chain, impl_->commons.options.space.block_tokens(), out)) {
  }
}

IndexStat Index::stat() const {
  const std::lock_guard lock(impl_->commons.mutex);
  IndexStat stat;
  for (const auto& [engine, entry] : impl_->commons.roster.engines) {
    EngineStat one = entry.map == nullptr ? EngineStat{.engine = engine} : entry.map->stat();
    one.state = entry.state;
    one.blocks_evicted = entry.blocks_evicted;
    stat.engines.push_back(one);
  }
  stat.keys = impl_->commons.tree.keys();
  stat.bytes = impl_->commons.bytes;
  stat.bytes_reserved = impl_->commons.tree.bytes_reserved();
  stat.blocks_evicted = impl_->commons.blocks_evicted;
  return stat;
}

std::uint64_t Index::blocks_evicted(EngineId engine) const {
  const std::lock_guard lock(impl_->commons.mutex);
  const auto at = impl_->commons.roster.engines.find(engine);
  return at == impl_->commons.roster.engines.end() ? 0 : at->second.blocks_evicted;
}

std::vector<HeldBlock> Index::held(EngineId engine) const {
  std::vector<HeldBlock> out;
  {
    const std::lock_guard lock(impl_->commons.mutex);
    const auto at = impl_->commons.roster.engines.find(engine);
    if (at != impl_->commons.roster.engines.end() && at->second.map != nullptr) out = at->second.map->held();
  }
  std::ranges::sort(out, {}, [](const HeldBlock& block) { return std::pair(block.group, block.hash); });
  return out;
}

std::optional<CopyPoint> Index::copy_point(EngineId engine) const {
  const std::lock_guard lock(impl_->commons.mutex);
  const auto at = impl_->commons.roster.engines.find(engine);
  if (at == impl_->commons.roster.engines.end()) return std::nullopt;
  const EngineEntry& entry = at->second;
  return CopyPoint{
      .map = entry.map, .changes = entry.map ? entry.map->changes() : 0, .blocks_evicted = entry.blocks_evicted};
}

std::optional<EngineBlocks> Index::copy(EngineId engine) const {
  const auto point = copy_point(engine);
  return point ? copy(engine, *point) : std::nullopt;
}

std::optional<EngineBlocks> Index::copy(EngineId engine, const CopyPoint& point) const {
  EngineBlocks out;
  std::shared_ptr<EngineMap> map;
  std::optional<EngineMap::Copier> copier;
  {
    const std::lock_guard lock(impl_->commons.mutex);
    const auto at = impl_->commons.roster.engines.find(engine);
    if (at == impl_->commons.roster.engines.end() || at->second.map != point.map) return std::nullopt;
    map = at->second.map;
    if (map == nullptr) return out;
    if (map->changes() != point.changes || point.changes % 2 != 0) return std::nullopt;
    out.whole = map->stores_parked() == 0 && at->second.blocks_evicted == point.blocks_evicted;
    copier.emplace(*map);
  }
  copier->prepare();
  for (bool more = true; more;) {
    impl_->commons.mutex.let_others();
    const std::lock_guard lock(impl_->commons.mutex);
    if (map->changes() != point.changes) return std::nullopt;
    more = copier->step(kCopySlice);
    const auto at = impl_->commons.roster.engines.find(engine);
    out.whole =
        out.whole && at != impl_->commons.roster.engines.end() && at->second.blocks_evicted == point.blocks_evicted;
  }
  out.whole = out.whole && copier->whole();
  for (GroupCopy& group : copier->take()) {
    out.blocks += group.blocks.size();
    encode_group(std::move(group), out.parts);
  }
  return out;
}

Result<Adopted> Index::adopt(EngineId engine, std::span<const std::string> parts) {
  const Error foreign{ErrorKind::kInvalid, "an engine's blocks are not as they were written"};
  std::vector<PartView> views(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!read_part(parts[i], views[i])) return foreign;
  }
  EngineMap& map = impl_->map_of(engine);
  const std::lock_guard lock(impl_->commons.mutex);
  if (!map.empty()) return Error{ErrorKind::kConflict, "the engine holds blocks already"};
  auto adopted = map.adopt(views);
  if (adopted.ok()) return adopted;
  map.forget();
  impl_->tidy(engine);
  return foreign;
}

std::vector<EngineId> Index::holders(BlockKey key) const {
  const std::lock_guard lock(impl_->commons.mutex);
  std::vector<EngineId> engines;
  for (const LaneId lane : impl_->commons.tree.lanes_holding(key)) {
    engines.push_back(impl_->commons.roster.engine_of(lane));
  }
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
