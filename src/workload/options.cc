#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "workload/workload.h"

namespace warmpath::workload {
namespace {

class Faults {
 public:
  void need(bool fine, std::string fault) {
    if (!fine) list_.push_back(std::move(fault));
  }
  void need_count(std::string_view field, std::uint64_t value, std::uint64_t max) {
    need(value >= 1 && value <= max,
         std::string(field) + " is " + std::to_string(value) + ": 1 to " + std::to_string(max) + " is allowed");
  }
  void need_positive(std::string_view field, double value, double max) {
    need(std::isfinite(value) && value > 0 && value <= max,
         std::string(field) + " must be above 0 and at most " + std::to_string(max));
  }
  std::vector<std::string> take() { return std::move(list_); }

 private:
  std::vector<std::string> list_;
};

constexpr double kRateMax = 1e6;
constexpr double kFactorMax = 1e3;
constexpr std::uint32_t kUsersMax = 1'000'000;
constexpr std::uint32_t kTurnsMax = 10'000;
constexpr double kThinkSecondsMax = 1e6;

void check(const SharedPrefix& shape, std::uint64_t requests_max, Faults& faults) {
  faults.need_count("groups", shape.groups, kSessionsMax);
  faults.need_count("prompts_per_group", shape.prompts_per_group, kSessionsMax);
  faults.need_count("groups * prompts_per_group", std::uint64_t{shape.groups} * shape.prompts_per_group, kSessionsMax);
  faults.need_count("question_tokens", shape.question_tokens, kRequestTokensMax);
  faults.need_count("output_tokens", shape.output_tokens, kRequestTokensMax);
  faults.need(
      std::uint64_t{shape.system_prompt_tokens} + shape.question_tokens + shape.output_tokens <= kRequestTokensMax,
      "a request has more than " + std::to_string(kRequestTokensMax) + " tokens");
  faults.need(requests_max <= 1'000'000'000, "requests_max is above 1000000000");
}

void check(const MultiTurn& shape, std::uint64_t, Faults& faults) {
  faults.need_count("tenants", shape.tenants, kSessionsMax);
  faults.need_count("conversations_per_tenant", shape.conversations_per_tenant, kSessionsMax);
  faults.need_count("tenants * conversations_per_tenant", std::uint64_t{shape.tenants} * shape.conversations_per_tenant,
                    kSessionsMax);
  faults.need_count("turns", shape.turns, kTurnsMax);
  faults.need_count("user_tokens", shape.user_tokens, kRequestTokensMax);
  faults.need_count("output_tokens", shape.output_tokens, kRequestTokensMax);
  // Longest case: every draw at 1.5 times its mean.
  const std::uint64_t turn = (std::uint64_t{shape.user_tokens} + shape.output_tokens) * 3 / 2;
  faults.need(
      shape.system_prompt_tokens + turn * shape.turns <= kRequestTokensMax,
      "a conversation can grow beyond " + std::to_string(kRequestTokensMax) + " tokens: fewer or shorter turns");
  faults.need(std::isfinite(shape.think_seconds) && shape.think_seconds >= 0 && shape.think_seconds <= kThinkSecondsMax,
              "think_seconds must be 0 to 1000000");
}

void check(const Trace& trace, std::uint64_t, Faults& faults) {
  faults.need(!trace.rows.empty(), "the trace has no rows");
  faults.need_count("rows of the trace", std::max<std::uint64_t>(1, trace.rows.size()), kSessionsMax);
  faults.need_positive("time_factor", trace.time_factor, kFactorMax);
  faults.need_positive("length_factor", trace.length_factor, kFactorMax);
  double before = 0;
  for (std::size_t i = 0; i < trace.rows.size(); ++i) {
    const TraceRow& row = trace.rows[i];
    const std::string name = "row " + std::to_string(i) + " of the trace";
    if (!(std::isfinite(row.at_seconds) && row.at_seconds >= before && row.at_seconds <= 1e9)) {
      return faults.need(false, name + " is before the one above, or not a time");
    }
    before = row.at_seconds;
    const std::uint64_t blocks = (std::uint64_t{row.input_tokens} + kTraceBlockTokens - 1) / kTraceBlockTokens;
    if (blocks == 0 || row.hash_ids.size() != blocks) {
      return faults.need(false,
                         name + " must have one hash id for each " + std::to_string(kTraceBlockTokens) + " tokens");
    }
    if ((double{1} * row.input_tokens + row.output_tokens) * trace.length_factor > kRequestTokensMax) {
      return faults.need(false, name + " has more than " + std::to_string(kRequestTokensMax) + " tokens");
    }
  }
}

std::uint64_t rounded(double number) { return static_cast<std::uint64_t>(std::llround(number)); }

}  // namespace

std::vector<std::string> faults(const Options& options, std::span<const TokenId> vocabulary) {
  Faults faults;
  std::visit([&](const auto& shape) { check(shape, options.requests_max, faults); }, options.population);
  if (const auto* poisson = std::get_if<Poisson>(&options.arrivals)) {
    faults.need_positive("rate per second", poisson->per_second, kRateMax);
  } else if (const auto* constant = std::get_if<Constant>(&options.arrivals)) {
    faults.need_positive("rate per second", constant->per_second, kRateMax);
  } else {
    faults.need_count("users", std::get<ClosedLoop>(options.arrivals).users, kUsersMax);
  }
  faults.need(vocabulary.size() >= kVocabularyMin, "the vocabulary has " + std::to_string(vocabulary.size()) +
                                                       " ids: at least " + std::to_string(kVocabularyMin) +
                                                       " are needed");
  return faults.take();
}

std::uint64_t working_set_tokens(const Options& options) {
  if (const auto* shared = std::get_if<SharedPrefix>(&options.population)) {
    const std::uint64_t prompts =
        std::uint64_t{shared->prompts_per_group} * (std::uint64_t{shared->question_tokens} + shared->output_tokens);
    return shared->groups * (shared->system_prompt_tokens + prompts);
  }
  if (const auto* turns = std::get_if<MultiTurn>(&options.population)) {
    const std::uint64_t conversation = turns->turns * (std::uint64_t{turns->user_tokens} + turns->output_tokens);
    return turns->tenants * (turns->system_prompt_tokens + turns->conversations_per_tenant * conversation);
  }
  const Trace& trace = std::get<Trace>(options.population);
  std::unordered_set<std::uint32_t> seen;
  double tokens = 0;
  for (const TraceRow& row : trace.rows) {
    for (std::size_t i = 0; i < row.hash_ids.size(); ++i) {
      const std::size_t left = row.input_tokens - i * kTraceBlockTokens;
      if (seen.insert(row.hash_ids[i]).second)
        tokens += static_cast<double>(std::min<std::size_t>(left, kTraceBlockTokens));
    }
    tokens += row.output_tokens;
  }
  return rounded(tokens * trace.length_factor);
}

}  // namespace warmpath::workload
