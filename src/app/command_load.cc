// warmpath load: a workload over HTTP, measured.
#include <array>
#include <csignal>
#include <cstdio>

#include "api/api.h"
#include "app/commands.h"
#include "app/model_folder.h"
#include "config/flags.h"
#include "io/io.h"
#include "loadgen/loadgen.h"
#include "tokens/stable_words.h"

namespace warmpath::app {
namespace {

constexpr std::string_view kWorkloads[] = {"shared-prefix", "multi-turn", "trace"};
constexpr std::string_view kApis[] = {"chat", "completions"};
constexpr std::size_t kTraceBytesMax = 1u << 30;
constexpr std::size_t kWords = 1'024;
constexpr Duration kAskTimeout = std::chrono::seconds(10);

struct Wanted {
  std::string url;
  std::string model;
  std::string tokenizer;
  std::string workload = "multi-turn";
  std::string trace_file;
  std::string api = "chat";
  std::string authorization;
  std::string ca;
  workload::SharedPrefix shared;
  workload::MultiTurn turns;
  double time_factor = 1;
  double length_factor = 1;
  double rate = 4;
  std::uint32_t users = 0;
  std::uint64_t requests = 0;
  std::uint64_t seed = 1;
  bool whole = false;
  config::Format format = config::Format::kTable;
};

void declare(config::Flags& flags, Wanted& wanted) {
  flags.text("url", "URL", "base URL of the endpoint, without /v1", &wanted.url).required("url");
  flags.text("tokenizer", "DIR", "model folder: turns the workload's token ids into text", &wanted.tokenizer).required("tokenizer");
  flags.text("model", "NAME", "model to ask for; default: the first of /v1/models", &wanted.model);
  flags.choice("workload", "what is asked", &wanted.workload, kWorkloads);
  flags.real("rate", "R", "requests (multi-turn: conversations) begun per second, Poisson", &wanted.rate, 0.001, 100'000);
  flags.number("users", "N", "a closed loop of so many users instead of --rate; 0: open", &wanted.users, 0, 10'000);
  flags.number("requests", "N", "at most so many requests; 0: all that the workload has", &wanted.requests, 0, 10'000'000);
  flags.number("groups", "N", "shared-prefix: system prompts", &wanted.shared.groups, 1, 1'000'000);
  flags.number("prompts", "N", "shared-prefix: questions to each", &wanted.shared.prompts_per_group, 1, 1'000'000);
  flags.number("question-tokens", "N", "shared-prefix: length of a question", &wanted.shared.question_tokens, 1, 1'000'000);
  flags.number("tenants", "N", "multi-turn: tenants, each with a system prompt", &wanted.turns.tenants, 1, 1'000'000);
  flags.number("conversations", "N", "multi-turn: conversations of each tenant", &wanted.turns.conversations_per_tenant, 1, 1'000'000);
  flags.number("turns", "N", "multi-turn: turns of each conversation", &wanted.turns.turns, 1, 10'000);
  flags.number("user-tokens", "N", "multi-turn: mean length of a user's message", &wanted.turns.user_tokens, 1, 1'000'000);
  flags.real("think", "S", "multi-turn: mean seconds between an answer and the next turn", &wanted.turns.think_seconds, 0, 86'400);
  flags.toggle("salts", "multi-turn: each tenant sends a cache_salt of its own", &wanted.turns.salt_per_tenant);
  flags.number("system-tokens", "N", "length of a system prompt", &wanted.shared.system_prompt_tokens, 1, 1'000'000);
  flags.number("output-tokens", "N", "length of an answer (multi-turn: mean)", &wanted.shared.output_tokens, 1, 1'000'000);
  flags.text("trace", "FILE", "trace: Mooncake JSON lines, or the compact form under data/", &wanted.trace_file);
  flags.real("time-factor", "F", "trace: 2 replays it twice as slowly", &wanted.time_factor, 1e-6, 1e6);
  flags.real("length-factor", "F", "trace: 0.5 makes prompts and answers half as long", &wanted.length_factor, 1e-6, 1e3);
  flags.choice("api", "endpoint", &wanted.api, kApis);
  flags.toggle("no-stream", "ask for whole answers", &wanted.whole);
  flags.text("authorization", "VALUE", "Authorization header", &wanted.authorization);
  flags.text("ca", "FILE", "https: PEM file of the authority, instead of the system's", &wanted.ca);
  flags.number("seed", "N", "the workload's seed", &wanted.seed);
  flags.format(&wanted.format);
  flags.example("warmpath load --url http://127.0.0.1:8080 --tokenizer ./Qwen3-32B --rate 10", "conversations, open loop");
  flags.example("warmpath load --url http://127.0.0.1:8080 --tokenizer DIR --workload shared-prefix --users 16 --format json",
                "a closed loop of 16 users; JSON with inference-perf's names");
  flags.example("warmpath load --url http://127.0.0.1:8080 --tokenizer DIR --workload trace --trace data/mooncake/conversation.trace --length-factor 0.1",
                "a recorded trace, a tenth of its lengths");
  flags.note("Latencies in JSON are seconds. Exit code 1 when a request failed. Ctrl-C ends early and reports what was measured.");
}

Result<workload::Options> workload_of(const Wanted& wanted) {
  workload::Options options;
  if (wanted.workload == "shared-prefix") {
    options.population = wanted.shared;
  } else if (wanted.workload == "multi-turn") {
    workload::MultiTurn turns = wanted.turns;
    turns.system_prompt_tokens = wanted.shared.system_prompt_tokens;
    turns.output_tokens = wanted.shared.output_tokens;
    options.population = turns;
  } else {
    if (wanted.trace_file.empty()) return Error{ErrorKind::kInvalid, "--workload trace needs --trace FILE"};
    auto text = io::read_file(wanted.trace_file, kTraceBytesMax);
    if (!text.ok()) return text.error();
    auto rows = workload::parse_trace(*text);
    if (!rows.ok()) return Error{rows.error().kind, wanted.trace_file + ": " + rows.error().message};
    options.population = workload::Trace{std::move(rows).value(), wanted.time_factor, wanted.length_factor};
  }
  if (wanted.users > 0) {
    options.arrivals = workload::ClosedLoop{wanted.users};
  } else {
    options.arrivals = workload::Poisson{wanted.rate};
  }
  options.requests_max = wanted.requests;
  options.seed = wanted.seed;
  return options;
}

// Runs the loop until one answer is there.
template <class T, class Start>
Result<T> wait_for(io::Loop& loop, Start start) {
  std::optional<Result<T>> answer;
  const auto pending = start([&](Result<T> got) {
    answer = std::move(got);
    loop.stop();
  });
  if (!answer) loop.run();
  return *std::move(answer);
}

Result<std::string> first_model(io::Loop& loop, const loadgen::Options& options) {
  auto client = http::HttpClient::create(loop, {});
  http::ClientRequest request;
  request.target = options.url.path + "/v1/models";
  if (!options.authorization.empty()) request.headers.add("Authorization", options.authorization);
  auto answer = wait_for<http::HttpClient::Whole>(loop, [&](auto done) {
    return client->fetch({options.address, options.url.host_header(), options.tls}, std::move(request), kAskTimeout, done);
  });
  if (!answer.ok()) return Error{answer.error().kind, options.url.text() + ": " + answer.error().message};
  auto models = api::parse_models(answer->body);
  if (!models.ok() || models->empty()) {
    return Error{ErrorKind::kUpstream, options.url.text() + "/v1/models names no model; say it with --model"};
  }
  return models->front().id;
}

}  // namespace

int run_load(std::span<const std::string> args) {
  Wanted wanted;
  config::Flags flags("load", "send a workload over HTTP and measure it");
  declare(flags, wanted);
  if (const auto code = flags.read(args)) return *code;
  auto url = http::parse_url(wanted.url);
  if (!url.ok()) return fail({ErrorKind::kInvalid, "--url: " + url.error().message});
  auto population = workload_of(wanted);
  if (!population.ok()) return fail(population.error());
  auto tokenizer = load_model_folder(wanted.tokenizer);
  if (!tokenizer.ok()) return fail(tokenizer.error());
  auto source = workload::Source::create(*population, tokens::stable_word_ids(**tokenizer, kWords));
  if (!source.ok()) return fail(source.error());

  io::Loop loop;
  auto addresses = wait_for<std::vector<io::Address>>(
      loop, [&](auto done) { return io::resolve(loop, url->host, url->port, kAskTimeout, done); });
  if (!addresses.ok()) return fail(addresses.error());
  loadgen::Options options;
  options.url = *url;
  options.address = addresses->front();
  options.api = wanted.api == "chat" ? loadgen::Api::kChat : loadgen::Api::kCompletions;
  options.stream = !wanted.whole;
  options.authorization = wanted.authorization;
  if (url->tls) {
    std::optional<std::string> ca;
    if (!wanted.ca.empty()) {
      auto pem = io::read_file(wanted.ca, 1u << 20);
      if (!pem.ok()) return fail(pem.error());
      ca = std::move(pem).value();
    }
    auto tls = io::TlsClientContext::create(ca);
    if (!tls.ok()) return fail(tls.error());
    options.tls = std::move(tls).value();
  }
  options.model = wanted.model;
  if (options.model.empty()) {
    auto model = first_model(loop, options);
    if (!model.ok()) return fail(model.error());
    options.model = std::move(model).value();
  }

  loadgen::Loadgen load(loop, options, **tokenizer, **source);
  constexpr std::array<int, 2> kEnds = {SIGINT, SIGTERM};
  loop.on_signals(kEnds, [&](int) { load.stop(); });
  const auto total = (*source)->total();
  Instant told;
  load.start([&] { loop.stop(); },
             [&](std::uint64_t finished) {
               if (loop.now() - told < std::chrono::seconds(1)) return;
               told = loop.now();
               std::fprintf(stderr, "%llu of %s requests\n", static_cast<unsigned long long>(finished),
                            total ? std::to_string(*total).c_str() : "?");
             });
  loop.run();
  const loadgen::Report& report = load.report();
  const bool json = wanted.format == config::Format::kJson;
  if (!print(json ? loadgen::report_json(report) + "\n" : loadgen::report_table(report))) return 1;
  for (const loadgen::Outcome& one : report.outcomes) {
    if (!one.ok) return 1;
  }
  return 0;
}

}  // namespace warmpath::app
