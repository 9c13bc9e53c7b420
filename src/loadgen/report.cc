#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>

#include "loadgen/loadgen.h"

namespace warmpath::loadgen {
namespace {

double of_sorted(const std::vector<double>& sorted, double p) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(p / 100.0 * static_cast<double>(sorted.size()));
  const auto at = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return sorted[std::min(at, sorted.size() - 1)];
}

// One metric in inference-perf's form; null without values.
void member_summary(JsonWriter& json, std::string_view name, std::vector<double> values) {
  json.key(name);
  if (values.empty()) {
    json.null();
    return;
  }
  std::sort(values.begin(), values.end());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  struct Row {
    std::string_view name;
    double percent;
  };
  static constexpr std::array kRows{Row{"p0.1", 0.1}, Row{"p1", 1},      Row{"p5", 5},   Row{"p10", 10},
                                    Row{"p25", 25},   Row{"median", 50}, Row{"p75", 75}, Row{"p90", 90},
                                    Row{"p95", 95},   Row{"p99", 99},    Row{"p99.9", 99.9}};
  json.object().member("mean", mean).member("min", values.front());
  for (const Row& row : kRows) json.member(row.name, of_sorted(values, row.percent));
  json.member("max", values.back()).end();
}

struct Columns {
  std::vector<double> delay, latency, ttft, engine_ttft, tpot, normalized, gaps, prompt, output;
  std::vector<double> failed_latency, failed_prompt;
  std::map<std::string, std::uint64_t> failures;
  std::uint64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, ok = 0;
};

Columns columns_of(const Report& report) {
  Columns c;
  for (const Outcome& one : report.outcomes) {
    c.delay.push_back(one.sent_at - one.due_at);
    if (!one.ok) {
      ++c.failures[one.failure];
      c.failed_latency.push_back(one.latency);
      c.failed_prompt.push_back(static_cast<double>(one.prompt_tokens));
      continue;
    }
    ++c.ok;
    c.latency.push_back(one.latency);
    c.ttft.push_back(one.ttft);
    if (one.engine_ttft) c.engine_ttft.push_back(*one.engine_ttft);
    const auto output = static_cast<double>(one.output_tokens);
    if (one.output_tokens > 1) c.tpot.push_back((one.latency - one.ttft) / (output - 1));
    if (one.output_tokens > 0) c.normalized.push_back(one.latency / output);
    c.gaps.insert(c.gaps.end(), one.gaps.begin(), one.gaps.end());
    c.prompt.push_back(static_cast<double>(one.prompt_tokens));
    c.output.push_back(output);
    c.prompt_tokens += one.prompt_tokens;
    c.output_tokens += one.output_tokens;
    c.cached_tokens += one.cached_tokens;
  }
  return c;
}

double per_second(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

double hit_ratio(const Columns& c) {
  return c.prompt_tokens == 0 ? 0 : static_cast<double>(c.cached_tokens) / static_cast<double>(c.prompt_tokens);
}

}  // namespace

double percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return of_sorted(values, p);
}

std::string report_json(const Report& report) {
  const Columns c = columns_of(report);
  const auto count = static_cast<double>(report.outcomes.size());
  JsonWriter json;
  json.object();
  json.key("load_summary").object().member("count", static_cast<std::uint64_t>(report.outcomes.size()));
  member_summary(json, "schedule_delay", c.delay);
  json.member("send_duration", report.send_seconds);
  json.key("requested_rate");
  report.requested_rate > 0 ? json.value(report.requested_rate) : json.null();
  json.member("achieved_rate", per_second(count, report.send_seconds)).end();

  json.key("successes").object().member("count", c.ok);
  json.key("latency").object();
  member_summary(json, "request_latency", c.latency);
  member_summary(json, "normalized_time_per_output_token", c.normalized);
  member_summary(json, "time_per_output_token", c.tpot);
  member_summary(json, "time_to_first_token", c.ttft);
  member_summary(json, "engine_time_to_first_token", c.engine_ttft);
  member_summary(json, "inter_token_latency", c.gaps);
  json.end();
  json.key("throughput")
      .object()
      .member("input_tokens_per_sec", per_second(static_cast<double>(c.prompt_tokens), report.seconds))
      .member("output_tokens_per_sec", per_second(static_cast<double>(c.output_tokens), report.seconds))
      .member("total_tokens_per_sec",
              per_second(static_cast<double>(c.prompt_tokens + c.output_tokens), report.seconds))
      .member("requests_per_sec", per_second(static_cast<double>(c.ok), report.seconds))
      .end();
  member_summary(json, "prompt_len", c.prompt);
  member_summary(json, "output_len", c.output);
  json.member("prefix_hit_ratio", hit_ratio(c)).end();

  json.key("failures").object().member("count", static_cast<std::uint64_t>(c.failed_latency.size()));
  member_summary(json, "request_latency", c.failed_latency);
  member_summary(json, "prompt_tokens", c.failed_prompt);
  json.key("by_label").object();
  for (const auto& [label, number] : c.failures) json.member(label, number);
  json.end().end().end();
  return json.take();
}

std::string report_table(const Report& report) {
  const Columns c = columns_of(report);
  char line[256];
  std::string out;
  const auto add = [&](const char* name, const std::vector<double>& values, double scale) {
    if (values.empty()) return;
    std::snprintf(line, sizeof line, "%-28s %10.1f %10.1f %10.1f\n", name, percentile(values, 50) * scale,
                  percentile(values, 90) * scale, percentile(values, 99) * scale);
    out += line;
  };
  std::snprintf(line, sizeof line, "requests %zu, failed %zu, %.1f s, %.1f requests/s, %.0f output tokens/s\n",
                report.outcomes.size(), c.failed_latency.size(), report.seconds,
                per_second(static_cast<double>(c.ok), report.seconds),
                per_second(static_cast<double>(c.output_tokens), report.seconds));
  out += line;
  std::snprintf(line, sizeof line, "prompt tokens %llu, cached %llu (prefix hit ratio %.3f), output tokens %llu\n",
                static_cast<unsigned long long>(c.prompt_tokens), static_cast<unsigned long long>(c.cached_tokens),
                hit_ratio(c), static_cast<unsigned long long>(c.output_tokens));
  out += line;
  std::snprintf(line, sizeof line, "%-28s %10s %10s %10s\n", "", "p50", "p90", "p99");
  out += line;
  add("time to first token, ms", c.ttft, 1e3);
  add("  in engine time, ms", c.engine_ttft, 1e3);
  add("time per output token, ms", c.tpot, 1e3);
  add("request latency, ms", c.latency, 1e3);
  for (const auto& [label, number] : c.failures) {
    std::snprintf(line, sizeof line, "failed: %s %llu\n", label.c_str(), static_cast<unsigned long long>(number));
    out += line;
  }
  return out;
}

}  // namespace warmpath::loadgen
