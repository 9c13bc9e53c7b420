// Whatever an engine answers: metrics pages and the JSON of discovery.
#include <cmath>
#include <cstdint>
#include <string>

#include "ingest/rank_source.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const std::optional<std::uint32_t> rank : {std::optional<std::uint32_t>(), std::optional<std::uint32_t>(1)}) {
    const ingest::PageFigures figures = ingest::read_page(text, rank);
    for (const auto& value : {figures.running, figures.waiting, figures.kv_usage, figures.prefix_queries_tokens}) {
      WP_CHECK(!value || (*value >= 0 && !std::isnan(*value)));
    }
    WP_CHECK(!figures.kv_usage || *figures.kv_usage <= 1);
    WP_CHECK(!figures.block_tokens || *figures.block_tokens > 0);
  }
  const auto sane = [](const std::vector<ingest::RankTold>& ranks) {
    for (const auto& told : ranks) WP_CHECK(told.rank < 1'024 && (!told.enabled || told.events.starts_with("tcp://")));
    WP_CHECK(ingest::followable(ranks).size() <= ranks.size());
  };
  if (const auto told = ingest::read_event_sources(text, "fd00::7"); told.ok()) sane(*told);
  if (const auto told = ingest::read_server_info(text, "10.0.0.7"); told.ok()) sane(told->ranks);
  if (const auto models = ingest::read_served_models(text); models.ok()) {
    for (const auto& model : *models) WP_CHECK(!model.id.empty());
  }
  (void)ingest::rank_endpoint(text, 3, "h");
  return 0;
}
