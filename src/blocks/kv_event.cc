#include "blocks/kv_event.h"

#include <array>
#include <utility>

namespace warmpath::blocks {

std::string_view tier_name(Tier tier) {
  switch (tier) {
    case Tier::kGpu: return "gpu";
    case Tier::kCpu: return "cpu";
    case Tier::kStorage: return "storage";
  }
  return "unknown";
}

std::optional<Tier> tier_of_medium(std::optional<std::string_view> medium) {
  if (!medium) return Tier::kGpu;
  // vLLM 0.26 says FS and OBJ, 0.27 and later STORAGE. SGLang 0.5.23: CPU_PINNED, DISK, EXTERNAL; early 2026 builds
  // CPU_TIER1 and CPU_TIER2.
  static constexpr std::array<std::pair<std::string_view, Tier>, 10> kMedia{{
      {"gpu", Tier::kGpu},
      {"cpu", Tier::kCpu},
      {"cpu_pinned", Tier::kCpu},
      {"cpu_tier1", Tier::kCpu},
      {"cpu_tier2", Tier::kCpu},
      {"disk", Tier::kStorage},
      {"storage", Tier::kStorage},
      {"fs", Tier::kStorage},
      {"obj", Tier::kStorage},
      {"external", Tier::kStorage},
  }};
  for (const auto& [name, tier] : kMedia) {
    if (equals_ignoring_case(*medium, name)) return tier;
  }
  return std::nullopt;
}

std::string_view publisher_state_name(PublisherState state) {
  switch (state) {
    case PublisherState::kExact: return "exact";
    case PublisherState::kPartial: return "partial";
    case PublisherState::kSuspect: return "suspect";
    case PublisherState::kLost: return "lost";
  }
  return "unknown";
}

SpecKind spec_kind_of(std::string_view name) {
  if (name == "full_attention") return SpecKind::kFull;
  if (name == "mla_attention") return SpecKind::kMla;
  if (name == "sink_full_attention") return SpecKind::kSinkFull;
  return name.empty() ? SpecKind::kUnset : SpecKind::kOther;
}

}  // namespace warmpath::blocks
