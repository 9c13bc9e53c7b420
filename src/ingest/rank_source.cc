#include "ingest/rank_source.h"

namespace warmpath::ingest {

std::map<std::uint32_t, RankSource> followable(std::vector<RankTold> ranks) {
  std::map<std::uint32_t, RankSource> sources;
  for (RankTold& told : ranks) {
    if (!told.enabled) continue;
    RankSource source;
    source.events = std::move(told.events);
    source.replay = std::move(told.replay);
    source.topic = std::move(told.topic);
    sources.emplace(told.rank, std::move(source));
  }
  return sources;
}

}  // namespace warmpath::ingest
