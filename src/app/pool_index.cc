// PoolRun's answers to questions about its index.
#include <algorithm>
#include <array>
#include <ctime>
#include <map>
#include <span>

#include "app/pool_run.h"

namespace warmpath::app {
namespace {

std::int64_t local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return ::timegm(&local);
}

// Blocks that each engine holds, by tier; of several prompts the sum.
std::map<EngineId, std::array<std::uint64_t, blocks::kTierCount>> held_blocks(const index::Index& index,
                                                                              const proxy::Plan& plan) {
  std::map<EngineId, std::array<std::uint64_t, blocks::kTierCount>> held;
  index::MatchTable table;
  const auto add = [&](std::span<const BlockKey> chain) {
    index.match(chain, table);
    for (const index::MatchRow& row : table.rows) {
      auto& sums = held[row.engine];
      for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) sums[tier] += row.depth_blocks[tier];
    }
  };
  if (plan.parts.empty()) add(plan.chain);
  std::span<const BlockKey> rest = plan.chain;
  for (const route::PromptPart& part : plan.parts) {
    add(rest.first(part.chain_blocks));
    rest = rest.subspan(part.chain_blocks);
  }
  return held;
}

}  // namespace

std::string PoolRun::why_no_index() const {
  if (index_) return {};
  if (!ingest_) return "the engines are being asked for their block size";
  if (!tokenizer_) return "the pool has no tokenizer (--tokenizer DIR)";
  return "the policy '" + std::string(policy_->name()) + "' looks at no index";
}

admin::IndexPool PoolRun::index_report() const {
  admin::IndexPool out;
  out.name = name_;
  out.model = config_.model;
  out.why_none = why_no_index();
  if (!index_) return out;
  const index::IndexStat stat = index_->stat();
  out.block_tokens = index_->space().block_tokens();
  out.keys = stat.keys;
  out.blocks_restored = blocks_restored_;
  out.bytes = stat.bytes;
  out.bytes_max = index::IndexOptions{.space = index_->space()}.bytes_max;
  for (ingest::EngineStatus& status : ingest_->status()) {
    admin::IndexEngine& engine = out.engines.emplace_back();
    engine.name = std::move(status.name);
    engine.events = std::move(status.events);
    engine.has_events = status.has_events;
    engine.publisher = status.publisher;
    engine.lag_batches = status.lag_batches;
    engine.batches = status.batches;
    engine.gaps = status.counters.gaps;
    engine.replays = status.counters.replays_asked;
    engine.replays_failed = status.counters.replays_failed;
    engine.restarts = status.counters.restarts;
    if (!status.engine) continue;
    const auto held = std::ranges::find(stat.engines, *status.engine, &index::EngineStat::engine);
    if (held == stat.engines.end()) continue;
    engine.blocks_held = held->blocks_held;
    engine.router_blocks_held = held->router_blocks_held;
    engine.block_tokens = held->block_tokens;
    engine.stores_parked = held->stores_parked;
  }
  return out;
}

Result<admin::IndexDump> PoolRun::index_dump(std::string_view engine) const {
  if (!index_) return Error{ErrorKind::kNotFound, "pool '" + name_ + "' keeps no index: " + why_no_index()};
  std::string names;
  for (const ingest::EngineStatus& status : ingest_->status()) {
    names += (names.empty() ? "" : ", ") + status.name;
    if (status.name != engine) continue;
    admin::IndexDump dump{.pool = name_, .engine = status.name, .publisher = status.publisher};
    if (status.engine) dump.blocks = index_->held(*status.engine);
    return dump;
  }
  return Error{ErrorKind::kNotFound, "no such engine in pool '" + name_ + "'; there are " + names};
}

Result<admin::IndexWho> PoolRun::index_who(const api::Request& request) const {
  const auto encoder = pool_->encoder();
  if (!index_ || !encoder) {
    return Error{ErrorKind::kNotFound, "pool '" + name_ + "' keeps no index: " + why_no_index()};
  }
  const auto resolved = pool_->resolve(request.model);
  if (!resolved) return Error{ErrorKind::kNotFound, "pool '" + name_ + "' does not serve '" + request.model + "'"};
  const proxy::Plan plan =
      proxy::make_plan(*encoder, request, {resolved->adapter, local_now(), resolved->model_tokens_max});
  admin::IndexWho who;
  who.pool = name_;
  who.model = resolved->label;
  who.prompt_tokens = plan.prompt_tokens;
  who.chain_blocks = static_cast<std::uint32_t>(plan.chain.size());
  who.block_tokens = index_->space().block_tokens();
  who.chain = plan.chain_kind;
  const auto held = held_blocks(*index_, plan);
  for (const ingest::EngineStatus& status : ingest_->status()) {
    const auto found = status.engine ? held.find(*status.engine) : held.end();
    if (found == held.end()) continue;
    admin::Holder& holder = who.holders.emplace_back();
    holder.engine = status.name;
    holder.publisher = status.publisher;
    for (std::size_t tier = 0; tier < blocks::kTierCount; ++tier) {
      holder.tokens[tier] = found->second[tier] * who.block_tokens;
    }
  }
  std::ranges::stable_sort(who.holders, [](const admin::Holder& a, const admin::Holder& b) {
    return std::ranges::lexicographical_compare(b.tokens, a.tokens);
  });
  return who;
}

}  // namespace warmpath::app
