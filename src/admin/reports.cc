// The bodies of /ready, /engines and /decisions.
#include <algorithm>
#include <map>

#include "admin/admin.h"

namespace warmpath::admin {
namespace {

bool is_up(const EngineReport& engine) { return engine.liveness == fleet::Liveness::kUp; }

template <class T>
void maybe(JsonWriter& json, std::string_view key, const std::optional<T>& value) {
  json.key(key);
  if (value) {
    json.value(*value);
  } else {
    json.null();
  }
}

void write_view(JsonWriter& json, const fleet::EngineView& view, const fleet::EngineInfo& info) {
  json.member("url", info.url);
  maybe(json, "rank", info.rank);
  json.member("running", view.running).member("waiting", view.waiting).member("kv_usage_ratio", view.kv_usage);
  maybe(json, "sample_age_ms", view.sample_age ? std::optional(to_ms(*view.sample_age)) : std::nullopt);
  json.member("inflight_requests", view.inflight_requests);
  json.member("inflight_prefill_tokens", view.inflight_prefill_tokens);
  json.member("ttft_ms_per_prefill_token", view.ttft_ms_per_prefill_token);
}

void write_proof(JsonWriter& json, const route::EngineProof& proof) {
  json.key("proof").object();
  json.member("requests", proof.requests).member("requests_equal", proof.requests_equal);
  json.member("predicted_cached_tokens", proof.predicted_cached_tokens);
  json.member("reported_cached_tokens", proof.reported_cached_tokens);
  json.member("prompt_tokens", proof.prompt_tokens);
  json.member("error_tokens_recent", proof.absolute_error_tokens_recent).end();
}

void write_engine(JsonWriter& json, const EngineReport& engine, const route::Snapshot& snapshot) {
  json.object().member("name", engine.name);
  json.member("liveness", fleet::liveness_name(engine.liveness)).member("why_not", engine.why_not);
  json.member("models", engine.models)
      .member("block_tokens", engine.block_tokens)
      .member("kv_tokens", engine.kv_tokens);
  json.member("events", engine.events).member("has_events", engine.has_events);
  json.member("publisher", blocks::publisher_state_name(engine.publisher));
  json.member("batches", engine.batches).member("blocks_held", engine.blocks_held);
  if (engine.engine) {
    for (std::size_t i = 0; i < snapshot.engines.size() && i < snapshot.infos.size(); ++i) {
      if (snapshot.engines[i].id == *engine.engine) write_view(json, snapshot.engines[i], snapshot.infos[i]);
    }
    for (const route::EngineProof& proof : snapshot.proofs) {
      if (proof.engine == *engine.engine) write_proof(json, proof);
    }
  }
  json.end();
}

using Names = std::map<EngineId, std::string>;

std::string name_of(const Names& names, EngineId engine) {
  const auto at = names.find(engine);
  return at == names.end() ? "engine " + std::to_string(engine.value()) + " (gone)" : at->second;
}

void write_receipt(JsonWriter& json, const schedule::Receipt& receipt, const Names& names) {
  json.key("receipt").object().member("policy", receipt.policy).member("prompt_tokens", receipt.prompt_tokens);
  json.member("chain_blocks", receipt.chain_blocks).member("guessed_blocks", receipt.guessed_blocks);
  json.member("exact", receipt.exact).member("ties", receipt.ties);
  json.member("candidates_total", static_cast<std::uint64_t>(receipt.candidates_total)).key("candidates").array();
  for (const schedule::CandidateReceipt& candidate : receipt.candidates) {
    json.object().member("engine", name_of(names, candidate.engine)).member("total", candidate.total);
    json.key("scores").array();
    for (const schedule::ScoreLine& line : candidate.lines) {
      json.object().member("scorer", line.scorer).member("weight", line.weight).member("score", line.score).end();
    }
    json.end().member("matched_tokens", candidate.matched_tokens);
    json.member("waiting", candidate.waiting).member("running", candidate.running);
    json.member("kv_usage_ratio", candidate.kv_usage);
    json.member("inflight_requests", candidate.inflight_requests).end();
  }
  json.end().end();
}

void write_decision(JsonWriter& json, const PoolReport& pool, const route::DecisionRecord& record, const Names& names,
                    Instant now) {
  json.object().member("pool", pool.name).member("request", record.id.value());
  json.member("age_ms", to_ms(now - record.at)).member("attempt", record.attempt);
  json.key("engine");
  if (record.receipt) {
    json.value(name_of(names, record.receipt->chosen));
  } else {
    json.null();
  }
  json.member("predicted_cached_tokens", record.predicted_cached_tokens);
  maybe(json, "reported_cached_tokens", record.reported_cached_tokens);
  if (record.receipt) write_receipt(json, *record.receipt, names);
  json.end();
}

}  // namespace

bool is_ready(const std::vector<PoolReport>& pools) {
  return !pools.empty() && std::all_of(pools.begin(), pools.end(), [](const PoolReport& pool) {
    return pool.started && std::any_of(pool.engines.begin(), pool.engines.end(), is_up);
  });
}

std::string ready_body(const std::vector<PoolReport>& pools) {
  JsonWriter json;
  json.object().member("ready", is_ready(pools)).key("pools").array();
  for (const PoolReport& pool : pools) {
    json.object().member("pool", pool.name).member("model", pool.model).member("mode", pool.mode);
    json.member("started", pool.started);
    json.member("engines_known", static_cast<std::uint64_t>(pool.engines.size()));
    json.member("engines_up",
                static_cast<std::uint64_t>(std::count_if(pool.engines.begin(), pool.engines.end(), is_up)));
    json.key("missing").array();
    for (const EngineReport& engine : pool.engines) {
      if (is_up(engine)) continue;
      json.object().member("engine", engine.name).member("liveness", fleet::liveness_name(engine.liveness));
      json.member("why", engine.why_not).end();
    }
    json.end().end();
  }
  json.end().end();
  return json.take();
}

std::string engines_body(const std::vector<PoolReport>& pools) {
  JsonWriter json;
  json.object().key("pools").array();
  for (const PoolReport& pool : pools) {
    json.object().member("pool", pool.name).member("model", pool.model).member("mode", pool.mode);
    json.member("policy", pool.snapshot.policy).member("inflight", static_cast<std::uint64_t>(pool.snapshot.inflight));
    json.member("decisions_total", pool.snapshot.decisions_total);
    json.member("rejected_total", pool.snapshot.rejected_total).member("retries_total", pool.snapshot.retries_total);
    json.key("engines").array();
    for (const EngineReport& engine : pool.engines) write_engine(json, engine, pool.snapshot);
    json.end().end();
  }
  json.end().end();
  return json.take();
}

std::string decisions_body(const std::vector<PoolReport>& pools, std::size_t limit, Instant now) {
  struct Row {
    const PoolReport* pool;
    const route::DecisionRecord* record;
  };
  std::vector<Row> rows;
  std::map<const PoolReport*, Names> names;
  for (const PoolReport& pool : pools) {
    for (const route::DecisionRecord& record : pool.snapshot.decisions) rows.push_back({&pool, &record});
    for (const fleet::EngineInfo& info : pool.snapshot.infos) names[&pool][info.id] = info.name;
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.record->at > b.record->at; });
  if (rows.size() > limit) rows.resize(limit);
  JsonWriter json;
  json.object().key("decisions").array();
  for (const Row& row : rows) write_decision(json, *row.pool, *row.record, names[row.pool], now);
  json.end().end();
  return json.take();
}

}  // namespace warmpath::admin
