#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/model_folder.h"
#include "config/flags.h"
#include "engine_server/engine_server.h"
#include "io/io.h"

namespace warmpath::app {
namespace {

constexpr Duration kDrainMax = std::chrono::seconds(30);
constexpr std::size_t kProfilesBytesMax = 16u << 20;
constexpr int kEndSignals[] = {SIGINT, SIGTERM};

struct Asked {
  std::string listen = "127.0.0.1:8000";
  std::string model;
  std::string folder;
  std::string profile;  // empty: the first
  std::string profiles_file;
  std::optional<std::uint64_t> blocks;
  std::optional<std::uint32_t> block_size, batched_tokens, sequences, model_tokens;
  std::uint32_t ranks = 1;
  double speed = 1;
  std::string seed = "0";
  std::string scheme = "vllm-sha256-cbor";
  std::uint16_t events_port = 0, replay_port = 0;
  std::uint32_t buffer_steps = 10'000;
  std::string topic;
  std::vector<std::string> aliases, adapters;
  std::uint32_t output_tokens_mean = 128;
  bool no_events = false, no_prefix_caching = false, hash_bytes = false, hide_details = false, scale_out = false;
  engine_server::FaultSet faults;
  config::Format format = config::Format::kTable;
};

Error no_such_fault(std::string_view name) {
  std::vector<std::string_view> names;
  std::string all;
  for (const engine_server::FaultText& fault : engine_server::fault_texts()) {
    names.push_back(fault.name);
    all += (all.empty() ? "" : ", ") + std::string(fault.name);
  }
  const auto near = nearest_name(std::string(name), names);
  return {ErrorKind::kInvalid, "takes no '" + std::string(name) + "'" +
                                   (near ? "; did you mean '" + std::string(*near) + "'?" : "; there are " + all)};
}

std::optional<int> read_flags(std::span<const std::string> args, Asked& a) {
  config::Flags flags("engine", "one simulated vLLM-compatible engine: HTTP, KV events, metrics");
  flags.text("listen", "ADDR", "address and port; port 0 takes a free one", &a.listen);
  flags.text("model", "NAME", "the model name it serves", &a.model).required("model");
  flags.text("tokenizer", "DIR", "a Hugging Face model folder (tokenizer.json and its companions)", &a.folder);
  flags.required("tokenizer");
  flags.text("profile", "NAME", "times and sizes of the engine; default " + engine::shipped_profiles().front().name,
             &a.profile);
  flags.text("profiles", "FILE", "a JSON file of profiles, instead of those built in", &a.profiles_file);
  flags.number("blocks", "N", "KV cache blocks of one rank; default the profile's", &a.blocks, 2, 1u << 28);
  flags.number("block-size", "N", "tokens a block; default the profile's", &a.block_size, 1, 65'536);
  flags.number("max-num-batched-tokens", "N", "tokens a step; default the profile's", &a.batched_tokens, 1);
  flags.number("max-num-seqs", "N", "requests a step; default the profile's", &a.sequences, 1);
  flags.number("max-model-len", "N", "prompt and output of a request; default the profile's", &a.model_tokens, 2,
               1u << 30);
  flags.number("dp", "N", "data-parallel ranks, each with a KV cache and event ports of its own", &a.ranks, 1, 64);
  flags.real("speed", "X", "how many times faster than the profile", &a.speed, 0.001, 100'000);
  flags.text("seed", "TEXT", "PYTHONHASHSEED: roots block hashes, and what it generates", &a.seed);
  flags.choice("hash-scheme", "how blocks are hashed", &a.scheme, blocks::scheme_names());
  flags.toggle("hash-bytes", "events carry whole digests, not 64-bit integers", &a.hash_bytes);
  flags.number("kv-events-port", "N", "rank r publishes at N + r; default free ports", &a.events_port);
  flags.number("kv-replay-port", "N", "rank r replays at N + r; default free ports", &a.replay_port);
  flags.number("kv-buffer-steps", "N", "batches kept for replay", &a.buffer_steps, 0, 10'000'000);
  flags.text("topic", "TEXT", "topic of the KV events", &a.topic);
  flags.toggle("no-kv-events", "publish no KV events", &a.no_events);
  flags.toggle("no-prefix-caching", "reuse nothing", &a.no_prefix_caching);
  flags.toggle("hide-prompt-details", "as vLLM without --enable-prompt-tokens-details: no cached_tokens",
               &a.hide_details);
  flags.toggle("enable-scale-out", "serve /render behind the endpoints, and /inference/v1/generate; 403 without",
               &a.scale_out);
  flags.custom_list("fault", "NAME", "misbehave on purpose, see below: what `warmpath doctor` should find",
                    [&a](std::string_view name) -> Result<void> {
                      const auto fault = engine_server::parse_fault(name);
                      if (!fault) return no_such_fault(name);
                      a.faults.add(*fault);
                      return {};
                    });
  flags.list("alias", "NAME", "a further name of the model", &a.aliases);
  flags.list("lora", "NAME[,PATH]", "an adapter", &a.adapters);
  flags.number("output-tokens-mean", "N", "mean length of an answer when the request sets none", &a.output_tokens_mean,
               1, 1'000'000);
  flags.format(&a.format);
  flags.example("warmpath engine --model demo --tokenizer data/demo_model --profile demo", "on 127.0.0.1:8000");
  flags.example("warmpath engine --listen 127.0.0.1:0 --model q --tokenizer DIR --dp 2 --speed 10 --format json",
                "a free port, told as JSON; two ranks, ten times faster");
  flags.example("warmpath engine --model demo --tokenizer data/demo_model --fault salt-ignored --fault draft-model",
                "an engine with two faults");
  std::string faults;
  for (const engine_server::FaultText& fault : engine_server::fault_texts()) {
    faults += (faults.empty() ? "Faults: " : "; ") + std::string(fault.name) + " (" + std::string(fault.meaning) + ")";
  }
  flags.note(faults + ".");
  flags.note(
      "KV-event ports are told by GET /kv_event_sources. Ctrl-C lets running requests end (30 s), again ends at once.");
  return flags.read(args);
}

// "host:port" with a numeric host, "localhost", or none (all addresses).
Result<io::Address> listen_address(const std::string& text) {
  auto parsed = io::parse_host_port(text);
  if (!parsed) return Error{parsed.error().kind, "--listen: " + parsed.error().message};
  if (parsed->host == "localhost") parsed->host = "127.0.0.1";
  if (parsed->host.empty()) parsed->host = "0.0.0.0";
  return io::Address{parsed->host, parsed->port};
}

Result<engine::Profile> profile_of(const Asked& a) {
  std::vector<engine::Profile> profiles = engine::shipped_profiles();
  if (!a.profiles_file.empty()) {
    auto text = io::read_file(a.profiles_file, kProfilesBytesMax);
    if (!text) return text.error();
    auto parsed = engine::parse_profiles(*text);
    if (!parsed) return Error{parsed.error().kind, a.profiles_file + ": " + parsed.error().message};
    profiles = std::move(*parsed);
  }
  auto found =
      a.profile.empty() ? Result<engine::Profile>(profiles.front()) : engine::find_profile(profiles, a.profile);
  // A wrong name is a wrong option.
  if (!found) return Error{ErrorKind::kInvalid, "--profile: " + found.error().message};
  if (a.blocks) found->kv_blocks = *a.blocks;
  if (a.block_size) found->block_tokens = *a.block_size;
  if (a.batched_tokens) found->batched_tokens_max = *a.batched_tokens;
  if (a.sequences) found->sequences_max = *a.sequences;
  if (a.model_tokens) found->model_tokens_max = *a.model_tokens;
  return found;
}

Result<engine_server::Options> options_of(const Asked& a) {
  engine_server::Options options;
  auto listen = listen_address(a.listen);
  if (!listen) return listen.error();
  auto profile = profile_of(a);
  if (!profile) return profile.error();
  options.listen = *listen;
  options.model = a.model;
  options.root = a.folder;
  options.aliases = a.aliases;
  for (const std::string& text : a.adapters) {
    const auto comma = text.find(',');
    const std::string name = text.substr(0, comma);
    if (name.empty()) return Error{ErrorKind::kInvalid, "--lora: NAME or NAME,PATH is wanted"};
    options.adapters.push_back({name, comma == std::string::npos ? name : text.substr(comma + 1)});
  }
  options.engine.profile = *profile;
  options.engine.speed = a.speed;
  options.engine.scheme = *blocks::parse_scheme(a.scheme);
  options.engine.hash_seed = a.seed;
  options.engine.prefix_caching = !a.no_prefix_caching;
  options.engine.hash_form = a.hash_bytes ? engine::HashForm::kBytes : engine::HashForm::kInteger;
  options.ranks = a.ranks;
  options.output_seed = stable_hash(a.seed);
  options.output_tokens_mean = a.output_tokens_mean;
  options.kv_events = a.no_events ? engine_server::KvEvents::kOff : engine_server::KvEvents::kPublish;
  options.prompt_details = a.hide_details ? engine_server::PromptDetails::kHide : engine_server::PromptDetails::kTell;
  options.scale_out = a.scale_out ? engine_server::ScaleOut::kServe : engine_server::ScaleOut::kRefuse;
  options.faults = a.faults;
  options.topic = a.topic;
  options.kv_events_port = a.events_port;
  options.kv_replay_port = a.replay_port;
  options.buffer_steps = a.buffer_steps;
  return options;
}

std::string ready_line(const engine_server::EngineServer& server, const std::string& model) {
  JsonWriter w;
  w.object().member("listening", server.address().text()).member("model", model).key("kv_event_sources").array();
  std::uint64_t rank = 0;
  for (const engine_server::EventSource& source : server.sources()) {
    w.object().member("rank", rank++).member("endpoint", source.endpoint);
    w.member("replay_endpoint", source.replay_endpoint).end();
  }
  w.end().end();
  return w.take() + "\n";
}

void tell(const engine_server::EngineServer& server, const Asked& a, const engine::Profile& profile) {
  std::fprintf(stderr, "warmpath engine: http://%s, model %s, profile %s, %llu blocks of %u tokens, speed %g\n",
               server.address().text().c_str(), a.model.c_str(), profile.name.c_str(),
               static_cast<unsigned long long>(profile.kv_blocks), profile.block_tokens, a.speed);
  std::size_t rank = 0;
  for (const engine_server::EventSource& source : server.sources()) {
    std::fprintf(stderr, "warmpath engine: rank %zu KV events %s, replay %s\n", rank++, source.endpoint.c_str(),
                 source.replay_endpoint.c_str());
  }
}

}  // namespace

int run_engine(std::span<const std::string> args) {
  Asked asked;
  if (const auto code = read_flags(args, asked)) return *code;
  auto options = options_of(asked);
  if (!options) return fail(options.error());
  auto tokenizer = load_model_folder(asked.folder);
  if (!tokenizer) return fail(tokenizer.error());
  io::Loop loop;
  const engine::Profile profile = options->engine.profile;
  auto server = engine_server::EngineServer::create(loop, std::move(*options), std::move(*tokenizer));
  if (!server) return fail(server.error());
  tell(**server, asked, profile);
  if (asked.format == config::Format::kJson && !print(ready_line(**server, asked.model))) return 1;
  bool draining = false;
  io::Timer limit;
  loop.on_signals(kEndSignals, [&](int) {
    if (draining) return loop.stop();
    draining = true;
    limit = loop.after(kDrainMax, [&loop] { loop.stop(); });
    (*server)->drain([&loop] { loop.stop(); });
  });
  loop.run();
  return 0;
}

}  // namespace warmpath::app
