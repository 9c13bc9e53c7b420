#include <algorithm>
#include <array>
#include <cmath>

#include "ingest/ingest.h"

namespace warmpath::ingest {
namespace {

enum class Figure : unsigned char { kRunning, kWaiting, kUsage, kQueries, kHits, kConfig };

struct Name {
  std::string_view text;
  Figure figure;
};

// vLLM 0.10 to 0.33, SGLang 0.5, TensorRT-LLM: names of the same figures. Counters end in _total on the page.
constexpr std::array kNames{
    Name{"vllm:num_requests_running", Figure::kRunning},
    Name{"vllm:num_requests_waiting", Figure::kWaiting},
    Name{"vllm:kv_cache_usage_perc", Figure::kUsage},
    Name{"vllm:gpu_cache_usage_perc", Figure::kUsage},
    Name{"vllm:prefix_cache_queries_total", Figure::kQueries},
    Name{"vllm:gpu_prefix_cache_queries_total", Figure::kQueries},
    Name{"vllm:prefix_cache_hits_total", Figure::kHits},
    Name{"vllm:gpu_prefix_cache_hits_total", Figure::kHits},
    Name{"vllm:cache_config_info", Figure::kConfig},
    Name{"sglang:num_running_reqs", Figure::kRunning},
    Name{"sglang:num_queue_reqs", Figure::kWaiting},
    Name{"sglang:token_usage", Figure::kUsage},
    Name{"sglang:cache_config_info", Figure::kConfig},
    Name{"trtllm_num_requests_running", Figure::kRunning},
    Name{"trtllm_num_requests_waiting", Figure::kWaiting},
    Name{"trtllm_kv_cache_utilization", Figure::kUsage},
};

// The value of `name` in a label block: `a="x",b="y"`. Labels never hold what we look for inside another's value: the
// name has to follow the start or a comma.
std::optional<std::string_view> label_of(std::string_view labels, std::string_view name) {
  std::size_t from = 0;
  for (;;) {
    const auto at = labels.find(name, from);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view rest = labels.substr(at + name.size());
    if ((at == 0 || labels[at - 1] == ',') && rest.starts_with("=\"")) {
      const auto end = rest.find('"', 2);
      if (end == std::string_view::npos) return std::nullopt;
      return rest.substr(2, end - 2);
    }
    from = at + 1;
  }
}

// Engines lie or break: what is no sane number is not known.
std::optional<double> sane(std::string_view text) {
  const auto space = text.find(' ');  // a timestamp may follow
  const auto value = parse_double(text.substr(0, space));
  if (!value || *value < 0) return std::nullopt;
  return value;
}

void add_to(std::optional<double>& sum, double value) { sum = sum.value_or(0) + value; }

void read_config(std::string_view labels, PageFigures& out) {
  const auto number = [&](std::string_view name) -> std::optional<std::uint64_t> {
    const auto text = label_of(labels, name);
    return text ? parse_u64(*text) : std::nullopt;
  };
  constexpr std::uint64_t kBlockTokensMax = 1u << 20;
  auto block = number("block_size");
  if (!block) block = number("page_size");
  if (block && *block >= 1 && *block <= kBlockTokensMax) out.block_tokens = static_cast<std::uint32_t>(*block);
  auto blocks = number("num_gpu_blocks");
  if (!blocks) blocks = number("num_pages");
  // With data parallelism num_gpu_blocks counts all ranks together (vLLM 0.32), kv_cache_size_tokens one rank.
  if (const auto tokens = number("kv_cache_size_tokens")) {
    out.kv_tokens = *tokens;
  } else if (blocks && out.block_tokens && *blocks < (1ull << 40)) {
    out.kv_tokens = *blocks * *out.block_tokens;
  }
  if (const auto caching = label_of(labels, "enable_prefix_caching")) out.prefix_caching = *caching == "True";
}

void read_line(std::string_view line, std::optional<std::uint32_t> rank, PageFigures& out) {
  const auto name_end = line.find_first_of("{ ");
  if (name_end == std::string_view::npos) return;
  const std::string_view name = line.substr(0, name_end);
  const auto known = std::find_if(kNames.begin(), kNames.end(), [&](const Name& one) { return one.text == name; });
  if (known == kNames.end()) return;
  std::string_view labels;
  std::string_view rest = line.substr(name_end);
  if (rest.front() == '{') {
    const auto close = rest.rfind('}');
    if (close == std::string_view::npos) return;
    labels = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
  }
  if (rank) {
    const auto engine = label_of(labels, "engine");
    if (engine && parse_u64(*engine) != *rank) return;
  }
  if (known->figure == Figure::kConfig) return read_config(labels, out);
  const auto value = sane(trim(rest));
  if (!value) return;
  switch (known->figure) {
    case Figure::kRunning: add_to(out.running, *value); break;
    case Figure::kWaiting: add_to(out.waiting, *value); break;
    case Figure::kUsage: out.kv_usage = std::min(1.0, std::max(out.kv_usage.value_or(0), *value)); break;
    case Figure::kQueries: add_to(out.prefix_queries_tokens, *value); break;
    case Figure::kHits: add_to(out.prefix_hits_tokens, *value); break;
    case Figure::kConfig: break;
  }
}

}  // namespace

PageFigures read_page(std::string_view page, std::optional<std::uint32_t> rank) {
  PageFigures out;
  while (!page.empty()) {
    const auto end = page.find('\n');
    std::string_view line = page.substr(0, end);
    page.remove_prefix(end == std::string_view::npos ? page.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    // Nearly all lines are histograms of families nobody asks for here: the first letter and colon decide.
    if (line.size() < 8 || line.front() == '#') continue;
    if (line.starts_with("vllm:") || line.starts_with("sglang:") || line.starts_with("trtllm_")) {
      read_line(line, rank, out);
    }
  }
  return out;
}

}  // namespace warmpath::ingest
