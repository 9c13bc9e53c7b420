#include <algorithm>
#include <array>

#include "ingest/ingest.h"

namespace warmpath::ingest {
namespace {

enum class Figure : unsigned char { kRunning, kWaiting, kUsage, kQueries, kHits, kConfig, kStarted };

struct Name {
  std::string_view text;
  Figure figure;
};

// vLLM 0.8 to 0.33, SGLang 0.5, TensorRT-LLM: names of the same figures. Counters end in _total on the page. Where a
// page has a figure under its old and its new name (vLLM 0.9 to 0.10), the first name that gave a value is summed
// alone.
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
    Name{"process_start_time_seconds", Figure::kStarted},
};
// Walks `a="x",b="y"}`: names and raw values, escapes left in. False at the end or where it is no label any more.
struct Labels {
  std::string_view rest;
  std::string_view name, value;

  bool next() {
    while (!rest.empty() && (rest.front() == ',' || rest.front() == ' ')) rest.remove_prefix(1);
    const auto equals = rest.find_first_of("=}");
    if (equals == std::string_view::npos || rest[equals] == '}' || equals + 1 >= rest.size() ||
        rest[equals + 1] != '"') {
      return false;
    }
    name = rest.substr(0, equals);
    rest.remove_prefix(equals + 2);
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] == '\\') {
        ++i;
      } else if (rest[i] == '"') {
        value = rest.substr(0, i);
        rest.remove_prefix(i + 1);
        return true;
      }
    }
    rest = {};
    return false;
  }
  // What follows the closing brace; nullopt: the labels are broken.
  std::optional<std::string_view> behind() {
    while (next()) {
    }
    if (rest.empty() || rest.front() != '}') return std::nullopt;
    return rest.substr(1);
  }
};

std::optional<std::string_view> label_of(std::string_view labels, std::string_view name) {
  for (Labels walk{labels, {}, {}}; walk.next();) {
    if (walk.name == name) return walk.value;
  }
  return std::nullopt;
}

// Engines lie or break: what is no sane number is not known.
std::optional<double> sane(std::string_view text) {
  const auto value = parse_double(text.substr(0, text.find_first_of(" #")));  // a timestamp or an exemplar may follow
  if (!value || *value < 0) return std::nullopt;
  return value;
}

// A sum over label sets, of one of its names only.
struct Sum {
  std::string_view name;
  void add(std::optional<double>& sum, std::string_view line_name, double value) {
    if (name.empty()) name = line_name;
    if (name == line_name) sum = sum.value_or(0) + value;
  }
};

struct Reading {
  PageFigures out;
  Sum running, waiting, queries, hits;
};

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
  constexpr std::uint64_t kTokensMax = 1ull << 40;
  if (const auto tokens = number("kv_cache_size_tokens"); tokens && *tokens <= kTokensMax) {
    out.kv_tokens = *tokens;
  } else if (blocks && out.block_tokens && *blocks <= kTokensMax) {
    out.kv_tokens = *blocks * *out.block_tokens;
  }
  if (const auto caching = label_of(labels, "enable_prefix_caching")) out.prefix_caching = *caching == "True";
}

void read_line(std::string_view line, std::optional<std::uint32_t> rank, Reading& reading) {
  const auto known = std::find_if(kNames.begin(), kNames.end(), [&](const Name& one) {
    const std::size_t size = one.text.size();
    return line.size() > size && (line[size] == '{' || line[size] == ' ') && line.starts_with(one.text);
  });
  if (known == kNames.end()) return;
  std::string_view labels;
  std::string_view rest = line.substr(known->text.size());
  if (rest.front() == '{') {
    labels = rest.substr(1);
    const auto behind = Labels{labels, {}, {}}.behind();
    if (!behind) return;
    rest = *behind;
  }
  if (rank) {
    const auto engine = label_of(labels, "engine");
    if (engine && parse_u64(*engine) != *rank) return;
  }
  PageFigures& out = reading.out;
  if (known->figure == Figure::kConfig) return read_config(labels, out);
  const auto value = sane(trim(rest));
  if (!value) return;
  switch (known->figure) {
    case Figure::kRunning: reading.running.add(out.running, known->text, *value); break;
    case Figure::kWaiting: reading.waiting.add(out.waiting, known->text, *value); break;
    case Figure::kUsage: out.kv_usage = std::min(1.0, std::max(out.kv_usage.value_or(0), *value)); break;
    case Figure::kQueries: reading.queries.add(out.prefix_queries_tokens, known->text, *value); break;
    case Figure::kHits: reading.hits.add(out.prefix_hits_tokens, known->text, *value); break;
    case Figure::kStarted: out.started_at_s = *value; break;
    case Figure::kConfig: break;
  }
}

// Nearly all of a page are histograms that nobody asks for here, so a line's first bytes decide.
constexpr bool may_matter(std::string_view line) {
  constexpr std::size_t kVllm = std::string_view("vllm:").size();
  if (line.size() <= kVllm) return false;
  switch (line.front()) {
    case 'v': return std::string_view("ckgnp").find(line[kVllm]) != std::string_view::npos;
    case 's':
    case 't':
    case 'p': return true;
    default: return false;
  }
}
static_assert(std::all_of(kNames.begin(), kNames.end(), [](const Name& name) { return may_matter(name.text); }));

}  // namespace

PageFigures read_page(std::string_view page, std::optional<std::uint32_t> rank) {
  Reading reading;
  while (!page.empty()) {
    const auto end = page.find('\n');
    std::string_view line = page.substr(0, end);
    page.remove_prefix(end == std::string_view::npos ? page.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (may_matter(line)) read_line(line, rank, reading);
  }
  return reading.out;
}

}  // namespace warmpath::ingest
