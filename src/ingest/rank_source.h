// Private to ingest: what of the engines' own words can be followed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ingest/ingest.h"

namespace warmpath::ingest {

// Where one rank's events are: ZMQ addresses, hosts filled in.
struct RankSource {
  std::string events;
  std::string replay;  // empty: none
  std::string topic;   // empty: all
  EventSource::Side side = EventSource::Side::kConnect;
  friend bool operator==(const RankSource&, const RankSource&) = default;
};

// Those that are on, by rank.
std::map<std::uint32_t, RankSource> followable(std::vector<RankTold> ranks);

}  // namespace warmpath::ingest
