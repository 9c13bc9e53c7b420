#include "app/workload_flags.h"

#include "io/io.h"

namespace warmpath::app {
namespace {

constexpr std::string_view kKinds[] = {"shared-prefix", "multi-turn", "trace"};
constexpr std::size_t kTraceBytesMax = 1u << 30;

}  // namespace

void WorkloadFlags::declare(config::Flags& flags) {
  flags.choice("workload", "what is asked", &kind, kKinds);
  flags.real("rate", "R", "requests (multi-turn: conversations) begun per second, Poisson", &rate, 0.001, 100'000);
  flags.number("users", "N", "a closed loop of so many users instead of --rate; 0: open", &users, 0, 100'000);
  flags.number("requests", "N", "at most so many requests; 0: all that the workload has", &requests, 0, 10'000'000);
  flags.number("groups", "N", "shared-prefix: system prompts", &shared.groups, 1, 1'000'000);
  flags.number("prompts", "N", "shared-prefix: questions to each", &shared.prompts_per_group, 1, 1'000'000);
  flags.number("question-tokens", "N", "shared-prefix: length of a question", &shared.question_tokens, 1, 1'000'000);
  flags.number("tenants", "N", "multi-turn: tenants, each with a system prompt", &turns.tenants, 1, 1'000'000);
  flags.number("conversations", "N", "multi-turn: conversations of each tenant", &turns.conversations_per_tenant, 1,
               1'000'000);
  flags.number("turns", "N", "multi-turn: turns of each conversation", &turns.turns, 1, 10'000);
  flags.number("user-tokens", "N", "multi-turn: mean length of a user's message", &turns.user_tokens, 1, 1'000'000);
  flags.real("think", "S", "multi-turn: mean seconds between an answer and the next turn", &turns.think_seconds, 0,
             86'400);
  flags.toggle("salts", "multi-turn: each tenant sends a cache_salt of its own", &turns.salt_per_tenant);
  flags.number("system-tokens", "N", "length of a system prompt", &shared.system_prompt_tokens, 1, 1'000'000);
  flags.number("output-tokens", "N", "length of an answer (multi-turn: mean)", &shared.output_tokens, 1, 1'000'000);
  flags.text("trace", "FILE", "trace: Mooncake JSON lines, or the compact form under data/", &trace_file);
  flags.real("time-factor", "F", "trace: 2 replays it twice as slowly", &time_factor, 1e-6, 1e6);
  flags.real("length-factor", "F", "trace: 0.5 makes prompts and answers half as long", &length_factor, 1e-6, 1e3);
}

Result<workload::Options> WorkloadFlags::build(std::uint64_t seed) const {
  workload::Options options;
  if (kind == "shared-prefix") {
    options.population = shared;
  } else if (kind == "multi-turn") {
    workload::MultiTurn conversations = turns;
    conversations.system_prompt_tokens = shared.system_prompt_tokens;
    conversations.output_tokens = shared.output_tokens;
    options.population = conversations;
  } else {
    if (trace_file.empty()) return Error{ErrorKind::kInvalid, "--workload trace needs --trace FILE"};
    auto text = io::read_file(trace_file, kTraceBytesMax);
    if (!text.ok()) return text.error();
    auto rows = workload::parse_trace(*text);
    if (!rows.ok()) return Error{rows.error().kind, trace_file + ": " + rows.error().message};
    options.population = workload::Trace{std::move(rows).value(), time_factor, length_factor};
  }
  if (users > 0) {
    options.arrivals = workload::ClosedLoop{users};
  } else {
    options.arrivals = workload::Poisson{rate};
  }
  options.requests_max = requests;
  options.seed = seed;
  return options;
}

}  // namespace warmpath::app
