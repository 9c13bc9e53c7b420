// ModelTable: which names a pool serves and what engines call them. Immutable once built. Private to proxy.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/pool.h"

namespace warmpath::proxy {

class ModelTable {
 public:
  ModelTable(const PoolOptions& options, std::span<const std::shared_ptr<const EngineAt>> engines);

  std::optional<Pool::Resolved> resolve(std::string_view model) const;
  const std::vector<api::ModelEntry>& entries() const { return entries_; }  // sorted by id

 private:
  void add(api::ModelEntry entry, Pool::Resolved resolved);

  std::map<std::string, Pool::Resolved, std::less<>> names_;
  std::vector<api::ModelEntry> entries_;
  std::optional<Pool::Resolved> base_;
};

}  // namespace warmpath::proxy
