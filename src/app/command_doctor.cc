// warmpath doctor: compares a live engine with what we compute, and names the cause of a mismatch.
#include <cstdio>
#include <ctime>
#include <random>
#include <string>

#include "app/commands.h"
#include "app/model_folder.h"
#include "app/option_files.h"
#include "config/flags.h"
#include "config/gateway_table.h"
#include "doctor/doctor.h"
#include "io/io.h"

namespace warmpath::app {
namespace {

constexpr std::size_t kKeyBytesMax = 4u << 10;
constexpr int kUnreachable = 2;

struct Asked {
  config::EngineConfig engine;
  std::string folder;
  std::string model;
  std::string key_file;
  Duration step_max = doctor::Options{}.step_max;
  Duration total_max = doctor::Options{}.total_max;
  config::Format format = config::Format::kTable;
};

std::optional<int> read_flags(std::span<const std::string> args, Asked& a) {
  config::Flags flags("doctor", "compare a live engine with what the router computes, name the cause of a mismatch");
  flags.custom("engine", "URL[,kv=tcp://…][,replay=tcp://…][,dp=N][,ca=FILE]",
               "the engine, and what it cannot be asked, as in `warmpath serve`",
               [&a](std::string_view text) -> Result<void> {
                 auto parsed = config::parse_engine(text);
                 if (!parsed.ok()) return parsed.error();
                 a.engine = *std::move(parsed);
                 return {};
               });
  flags.required("engine");
  flags.text("tokenizer", "DIR", "the model folder that the router has", &a.folder).required("tokenizer");
  flags.text("model", "NAME", "a name that the engine serves; default its first", &a.model);
  flags.text("api-key-file", "FILE", "a file with the engine's API key, where it wants one", &a.key_file);
  flags.duration("step-max", "the longest wait for one answer", &a.step_max);
  flags.duration("total-max", "the longest that all of it takes; what is left then is not tested", &a.total_max);
  flags.format(&a.format);
  flags.example("warmpath doctor --engine http://10.0.0.7:8000 --tokenizer ./Qwen3-32B", "one engine");
  flags.example(
      "warmpath doctor --engine http://h:8000,kv=tcp://h:5557,replay=tcp://h:5558 --tokenizer DIR --format json",
      "an older engine that cannot say where its events are");
  flags.note(
      "Sends about twenty texts to /tokenize or /render and at most ten generations of one token, under cache salts "
      "and "
      "with prompts that nobody else has. Exit code 0: no fault; 1: faults; 2: wrong usage, or no engine there.");
  return flags.read(args);
}

std::int64_t local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return ::timegm(&local);
}

Result<doctor::Options> options_of(const Asked& a) {
  doctor::Options options;
  auto url = http::parse_url(a.engine.url);
  if (!url.ok()) return url.error();
  options.url = *std::move(url);
  if (a.engine.kv) {
    const bool bind = a.engine.kv->side == config::KvSource::Side::kBind;
    options.events = ingest::EventSource{bind ? ingest::EventSource::Side::kBind : ingest::EventSource::Side::kConnect,
                                         a.engine.kv->events, a.engine.kv->replay};
  }
  if (options.url.tls) {
    auto context = read_tls_context(a.engine.ca);
    if (!context.ok()) return context.error();
    options.tls = *std::move(context);
  }
  if (!a.key_file.empty()) {
    const auto key = io::read_file(a.key_file, kKeyBytesMax);
    if (!key.ok()) return key.error();
    options.authorization = "Bearer " + std::string(trim(*key));
  }
  options.ranks = a.engine.dp;
  options.model = a.model;
  options.step_max = a.step_max;
  options.total_max = a.total_max;
  options.now_unix_seconds = local_now();
  std::random_device device;
  options.nonce = (std::uint64_t{device()} << 32) | device();
  return options;
}

// Whatever is wrong before there is a report is no finding about the engine.
int give_up(const Error& error) {
  fail(error);
  return kUnreachable;
}

}  // namespace

int run_doctor(std::span<const std::string> args) {
  Asked asked;
  if (const auto code = read_flags(args, asked)) return *code;
  const auto options = options_of(asked);
  if (!options.ok()) return give_up(options.error());
  const auto tokenizer = load_model_folder(asked.folder);
  if (!tokenizer.ok()) return give_up(tokenizer.error());
  const auto report = doctor::examine(*options, **tokenizer);
  if (!report.ok()) return give_up(report.error());
  const std::string out = asked.format == config::Format::kJson ? doctor::to_json(*report) : doctor::to_table(*report);
  if (!print(out)) return 1;
  return report->count(doctor::Outcome::kFault) == 0 ? 0 : 1;
}

}  // namespace warmpath::app
