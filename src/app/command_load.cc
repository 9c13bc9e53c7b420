// warmpath load: a workload over HTTP, measured.
#include <array>
#include <csignal>
#include <cstdio>

#include "api/api.h"
#include "app/commands.h"
#include "app/model_folder.h"
#include "app/option_files.h"
#include "app/workload_flags.h"
#include "config/flags.h"
#include "io/io.h"
#include "loadgen/loadgen.h"
#include "tokens/stable_words.h"

namespace warmpath::app {
namespace {

constexpr std::string_view kApis[] = {"chat", "completions"};
constexpr std::size_t kWords = 1'024;
constexpr Duration kAskTimeout = std::chrono::seconds(10);

struct Wanted {
  std::string url;
  std::string model;
  std::string tokenizer;
  std::string api = "chat";
  std::string authorization;
  std::string ca;
  WorkloadFlags workload;
  std::uint64_t seed = 1;
  bool whole = false;
  config::Format format = config::Format::kTable;
};

void declare(config::Flags& flags, Wanted& wanted) {
  flags.text("url", "URL", "base URL of the endpoint, without /v1", &wanted.url).required("url");
  flags.text("tokenizer", "DIR", "model folder: turns the workload's token ids into text", &wanted.tokenizer)
      .required("tokenizer");
  flags.text("model", "NAME", "model to ask for; default: the first of /v1/models", &wanted.model);
  wanted.workload.declare(flags);
  flags.choice("api", "endpoint", &wanted.api, kApis);
  flags.toggle("no-stream", "ask for whole answers", &wanted.whole);
  flags.text("authorization", "VALUE", "Authorization header", &wanted.authorization);
  flags.text("ca", "FILE", "https: PEM file of the authority, instead of the system's", &wanted.ca);
  flags.number("seed", "N", "the workload's seed", &wanted.seed);
  flags.format(&wanted.format);
  flags.example("warmpath load --url http://127.0.0.1:8080 --tokenizer ./Qwen3-32B --rate 10",
                "conversations, open loop");
  flags.example(
      "warmpath load --url http://127.0.0.1:8080 --tokenizer DIR --workload shared-prefix --users 16 --format json",
      "a closed loop of 16 users; JSON with inference-perf's names");
  flags.example(
      "warmpath load --url http://127.0.0.1:8080 --tokenizer DIR --workload trace --trace "
      "data/mooncake/conversation.trace --length-factor 0.1",
      "a recorded trace, a tenth of its lengths");
  flags.note(
      "Latencies in JSON are seconds. Exit code 1 when a request failed. Ctrl-C ends early and reports what was "
      "measured.");
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
    return client->fetch({options.address, options.url.host_header(), options.tls}, std::move(request), kAskTimeout,
                         done);
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
  auto population = wanted.workload.build(wanted.seed);
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
    auto tls = read_tls_context(wanted.ca);
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
