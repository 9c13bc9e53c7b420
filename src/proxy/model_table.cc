#include "proxy/model_table.h"

#include <algorithm>

namespace warmpath::proxy {
namespace {

// The name by which engines serve the pool's base model.
std::string base_name(const PoolOptions& options, std::span<const std::shared_ptr<const EngineAt>> engines) {
  std::string first;
  for (const auto& engine : engines) {
    for (const api::ModelEntry& model : engine->models) {
      if (model.parent) continue;
      if (model.id == options.model) return options.model;
      if (first.empty()) first = model.id;
    }
  }
  // None of the engines knows the configured name: then it is this pool's own name for what they do serve.
  return first.empty() ? options.model : first;
}

}  // namespace

ModelTable::ModelTable(const PoolOptions& options, std::span<const std::shared_ptr<const EngineAt>> engines) {
  const std::string base = base_name(options, engines);
  if (base.empty()) return;
  const std::string& label = options.model.empty() ? base : options.model;
  base_ = Pool::Resolved{.engine_model = base, .label = label, .adapter = {}, .rewrite = false};
  api::ModelEntry facts{.id = base, .root = base, .parent = std::nullopt, .max_model_len = std::nullopt};
  for (const auto& engine : engines) {
    for (const api::ModelEntry& model : engine->models) {
      if (model.parent) {
        add(model, {.engine_model = model.id, .label = model.id, .adapter = model.id, .rewrite = false});
      } else if (model.id == base) {
        if (facts.max_model_len && model.max_model_len) {
          facts.max_model_len = std::min(*facts.max_model_len, *model.max_model_len);
        } else if (model.max_model_len) {
          facts.max_model_len = model.max_model_len;
        }
        if (!model.root.empty()) facts.root = model.root;
      } else {
        // A further name that the engine itself has for its base model.
        add(model, {.engine_model = model.id, .label = label, .adapter = {}, .rewrite = false});
      }
    }
  }
  add(facts, *base_);
  base_ = names_.at(base);
  const auto other_name = [&](const std::string& name) {
    api::ModelEntry entry = facts;
    entry.id = name;
    add(entry, {.engine_model = base, .label = label, .adapter = {}, .rewrite = name != base});
  };
  if (!options.model.empty()) other_name(options.model);
  for (const std::string& alias : options.aliases) other_name(alias);
  std::sort(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

void ModelTable::add(api::ModelEntry entry, Pool::Resolved resolved) {
  // What fits into the smallest engine of those that serve the name.
  if (entry.max_model_len) {
    resolved.model_tokens_max =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(*entry.max_model_len, std::uint32_t{1} << 31));
  }
  if (!names_.try_emplace(entry.id, std::move(resolved)).second) return;
  entries_.push_back(std::move(entry));
}

std::optional<Pool::Resolved> ModelTable::resolve(std::string_view model) const {
  if (!base_)
    return Pool::Resolved{.engine_model = std::string(model), .label = "other", .adapter = {}, .rewrite = false};
  if (model.empty()) return base_;
  const auto at = names_.find(model);
  if (at == names_.end()) return std::nullopt;
  return at->second;
}

}  // namespace warmpath::proxy
