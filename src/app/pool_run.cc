#include "app/pool_run.h"

#include <algorithm>
#include <random>

#include "app/option_files.h"
#include "io/files.h"

namespace warmpath::app {
namespace {

// Divides every block size that engines use: where none has told its own, any engine can still be matched.
constexpr std::uint32_t kBlockTokensDefault = 16;
constexpr Duration kProofInterval = std::chrono::seconds(2);
constexpr Duration kProofWarnEvery = std::chrono::minutes(5);
constexpr Duration kAskWarnEvery = std::chrono::minutes(1);
constexpr Duration kEngineWatch = std::chrono::milliseconds(500);
constexpr Duration kSurveyMax = std::chrono::seconds(3);

std::uint64_t random_bits() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace

PoolRun::PoolRun(const config::GatewayConfig& gateway, const config::PoolConfig& config, io::Loop& control,
                 observe::Registry& registry, Log* log)
    : gateway_(gateway), config_(config), control_(control), registry_(registry), log_(log) {}

PoolRun::~PoolRun() = default;

Result<std::unique_ptr<PoolRun>> PoolRun::create(const config::GatewayConfig& gateway, const config::PoolConfig& config,
                                                 std::string name, ModelFolders& models, io::Loop& control,
                                                 observe::Registry& registry, Log* log) {
  std::unique_ptr<PoolRun> run(new PoolRun(gateway, config, control, registry, log));
  if (auto loaded = run->load(std::move(name), models); !loaded.ok()) return loaded.error();
  return run;
}

Result<void> PoolRun::load(std::string name, ModelFolders& models) {
  name_ = std::move(name);
  auto policy = schedule::find_policy(config_.policy);
  if (!policy.ok()) return policy.error();
  policy_ = *policy;
  mode_ = policy_->name();
  if (!config_.tokenizer.empty()) {
    auto loaded = models.load(config_.tokenizer);
    if (!loaded.ok()) return loaded.error();
    tokenizer_ = std::move(loaded->tokenizer);
    tokenizer_print_ = loaded->print;
    inexact_ = std::move(loaded->inexact);
  } else if (policy_->needs() == schedule::Needs::kExact && config_.ask_engine == config::AskEngine::kNever) {
    policy_ = *schedule::find_policy("approximate");
    mode_ = "approximate: " + std::string((*policy)->name()) + " needs the model's tokenizer (--tokenizer DIR)";
  }
  auto key = config_.secret_file.empty() ? Result<std::uint64_t>(random_bits()) : read_secret(config_.secret_file);
  if (!key.ok()) return key.error();
  secret_ = *key;
  if (auto engines = load_engines(); !engines.ok()) return engines;
  proxy::PoolOptions options;
  options.name = name_;
  options.model = config_.model;
  options.aliases = config_.aliases;
  options.arrivals_max = gateway_.limits.requests_max;
  options.usage = gateway_.include_usage ? api::UsageSplice::kAdd : api::UsageSplice::kKeep;
  if (policy_->needs() == schedule::Needs::kExact) {
    options.ask.when = static_cast<proxy::AskEngine>(config_.ask_engine);
    options.ask.deadline = config_.ask_timeout;
    options.ask.cache_bytes_max = config_.ask_cache_bytes_max;
    options.ask.ids_doubt = tokenizer_ ? tokenizer_->exactness().why_not : "no tokenizer";
  }
  // Nothing is routed before engines are known, and those come from the ingest.
  options.routed = [this](EngineId engine, std::uint64_t prompt_tokens) { ingest_->routed(engine, prompt_tokens); };
  pool_ = std::make_unique<proxy::Pool>(std::move(options), registry_, control_);
  return {};
}

Result<void> PoolRun::load_engines() {
  for (const config::EngineConfig& engine : config_.engines) {
    auto url = http::parse_url(engine.url);
    if (!url.ok()) return url.error();
    ingest::EngineAddress address;
    address.url = *url;
    address.ranks = engine.dp;
    address.adapters = engine.adapters;
    if (engine.kv) {
      const bool bind = engine.kv->side == config::KvSource::Side::kBind;
      address.events =
          ingest::EventSource{bind ? ingest::EventSource::Side::kBind : ingest::EventSource::Side::kConnect,
                              engine.kv->events, engine.kv->replay};
    }
    if (url->tls) {
      auto context = read_tls_context(engine.ca);
      if (!context.ok()) return context.error();
      address.tls = std::move(context).value();
    }
    engines_.push_back(std::move(address));
  }
  return {};
}

void PoolRun::start(std::vector<index::SnapshotContent::Pool> known) {
  known_ = std::move(known);
  if (config_.block_tokens != 0 || !follows_events()) {
    return start_with(config_.block_tokens != 0 ? config_.block_tokens : kBlockTokensDefault);
  }
  survey_ = ingest::survey(control_, engines_, kSurveyMax, [this](const ingest::Survey& survey) {
    start_with(survey.block_tokens.empty() ? kBlockTokensDefault : index::router_block_tokens(survey.block_tokens));
  });
}

void PoolRun::start_with(std::uint32_t block_tokens) {
  ingest::IngestOptions options;
  options.health_interval = gateway_.health_interval;
  options.scrape_interval = gateway_.scrape_interval;
  options.resolve_interval = gateway_.resolve_interval;
  options.model = config_.model;
  options.pool = name_;
  options.seed = random_bits();
  options.follow_events = follows_events();
  if (options.follow_events) choose_restored(block_tokens);
  known_.clear();
  if (options.follow_events) index_ = std::make_unique<index::Index>(index::IndexOptions{.space = space(block_tokens)});
  ingest_ = std::make_unique<ingest::Ingest>(control_, options, index_.get(), *this, registry_);
  start_brain(block_tokens);
  for (const ingest::EngineAddress& engine : engines_) ingest_->add(engine);
  if (index_ && restored_) ingest_->restore(std::move(restored_->engines));
  restored_.reset();
  ingest_->start();
  engine_timer_ = control_.after(kEngineWatch, [this] { watch_engines(); });
  proof_timer_ = control_.after(kProofInterval, [this] { watch_proofs(); });
}

bool PoolRun::follows_events() const {
  const bool ids = tokenizer_ != nullptr || config_.ask_engine != config::AskEngine::kNever;
  return ids && policy_->needs() == schedule::Needs::kExact;
}

void PoolRun::choose_restored(std::uint32_t block_tokens) {
  for (index::SnapshotContent::Pool& known : known_) {
    const std::string why_not = take_seed(known.pool, block_tokens);
    if (why_not.empty()) {
      restored_ = std::move(known);
      return;
    }
    if (log_ == nullptr) continue;
    const bool last = &known == &known_.back();
    log_->warn(
        "snapshot_refused",
        {{"pool", std::string_view(name_)},
         {"why", std::string_view(why_not)},
         {"then", std::string_view(last ? "the pool begins with an empty map" : "the next one known is tried")}});
  }
}

// Keys in a snapshot are met again only by the seed that made them. Why they cannot be, or empty.
std::string PoolRun::take_seed(const index::SnapshotPool& from, std::uint32_t block_tokens) {
  if (from.tokenizer != tokenizer_print_) return "it was written with another tokenizer";
  if (from.block_tokens != block_tokens) {
    return "it was written with blocks of " + std::to_string(from.block_tokens) + " tokens, there are now " +
           std::to_string(block_tokens);
  }
  if (!config_.secret_file.empty() && from.secret != secret_) return "it was written with another secret_file";
  if (index::key_probe(blocks::KeySpace(from.secret, key_model(), block_tokens)) != from.key_probe) {
    return "it was written for another model, or with another way to make keys";
  }
  secret_ = from.secret;
  return {};
}

std::optional<index::SnapshotPool> PoolRun::snapshot_pool() const {
  if (!index_) return std::nullopt;
  return index::SnapshotPool{.name = name_,
                             .secret = secret_,
                             .tokenizer = tokenizer_print_,
                             .block_tokens = index_->space().block_tokens(),
                             .key_probe = index::key_probe(index_->space())};
}

void PoolRun::restored(std::string_view engine, const Result<std::uint64_t>& blocks) {
  if (blocks.ok()) {
    blocks_restored_ += *blocks;
    registry_
        .counter("warmpath_index_restored_blocks_total", "Engine blocks taken over from a snapshot or a peer at start.",
                 {{"pool", name_}})
        .add(*blocks);
    if (log_ != nullptr) {
      log_->info("engine_restored", {{"pool", std::string_view(name_)}, {"engine", engine}, {"blocks", *blocks}});
    }
    return;
  }
  registry_
      .counter("warmpath_index_restore_refused_total", "Engines in a snapshot whose blocks were not taken over.",
               {{"pool", name_}})
      .add();
  if (log_ != nullptr) {
    log_->warn("engine_not_restored", {{"pool", std::string_view(name_)},
                                       {"engine", engine},
                                       {"why", std::string_view(blocks.error().message)},
                                       {"then", std::string_view("its map is learned anew")}});
  }
}

void PoolRun::start_brain(std::uint32_t block_tokens) {
  route::CoreOptions core;
  core.policy = policy_;
  core.seed = config_.seed != 0 ? config_.seed : random_bits();
  core.attempts_max = gateway_.attempts_max;
  core.receipts_max = gateway_.decisions_kept;
  core.gate.inflight_requests_max = static_cast<std::uint32_t>(gateway_.limits.requests_max);
  core.block_tokens = block_tokens;
  // Policies that do not look at the chain need no ids: their prompts are only sized.
  const bool ids_wanted = policy_->needs() == schedule::Needs::kExact;
  pool_->start(core, index_.get(),
               std::make_shared<const prompt::Encoder>(
                   ids_wanted ? tokenizer_ : nullptr, space(block_tokens),
                   prompt::Guess{policy_->guess_block_bytes(), policy_->guess_blocks_max()},
                   prompt::ReuseLimits{.bytes_max = gateway_.limits.prompt_cache_bytes_max}));
  if (log_ != nullptr) {
    log_->info("pool", {{"pool", std::string_view(name_)},
                        {"model", std::string_view(config_.model)},
                        {"mode", std::string_view(mode_)},
                        {"block_tokens", std::uint64_t{block_tokens}},
                        {"tokenizer", std::string_view(config_.tokenizer)},
                        {"encoder", std::string_view(encoder_in_words())}});
    if (policy_->needs() == schedule::Needs::kExact) tell_inexact();
  }
}

// A prompt that cannot be exact is a silent miss unless it is said.
void PoolRun::tell_inexact() {
  const bool asks = config_.ask_engine != config::AskEngine::kNever;
  for (const std::string& why : inexact_) {
    log_->warn("prompts_inexact", {{"pool", std::string_view(name_)},
                                   {"why", std::string_view(why)},
                                   {"then", std::string_view(asks ? "the engines are asked for ids (ask_engine)"
                                                                  : "matched by what is computed here; check it with "
                                                                    "`warmpath doctor`, or set ask_engine")}});
  }
}

// For /ready and /engines; empty: nothing is asked.
std::string PoolRun::asking_text() const {
  if (pool_->options().ask.when == proxy::AskEngine::kNever) return {};
  const proxy::AskCounts counts = pool_->asked();
  std::string text = "; engines are asked for ids";
  if (counts.failed() == 0) return text;
  text += ", approximate for " + std::to_string(counts.failed()) + " prompts (";
  bool first = true;
  for (std::size_t i = 0; i < proxy::kAskOutcomes; ++i) {
    const auto outcome = static_cast<proxy::AskOutcome>(i);
    const bool good = outcome == proxy::AskOutcome::kTold || outcome == proxy::AskOutcome::kKnown;
    if (good || counts.of(outcome) == 0) continue;
    text +=
        (first ? "" : ", ") + std::string(proxy::ask_outcome_name(outcome)) + " " + std::to_string(counts.of(outcome));
    first = false;
  }
  return text + ")";
}

// Falling back to guesses is said, once a minute at most.
void PoolRun::watch_asking() {
  const std::uint64_t failed = pool_->asked().failed();
  const bool due = asks_failed_told_ == 0 || control_.now() - asks_failed_told_at_ >= kAskWarnEvery;
  if (failed == asks_failed_told_ || !due || log_ == nullptr) return;
  log_->warn("ids_not_told", {{"pool", std::string_view(name_)},
                              {"prompts", failed - asks_failed_told_},
                              {"why", asking_text().substr(2)},
                              {"then", std::string_view("these prompts are matched approximately")}});
  asks_failed_told_ = failed;
  asks_failed_told_at_ = control_.now();
}

// Which encoder works, and what it cannot do.
std::string PoolRun::encoder_in_words() const {
  if (!tokenizer_) return "none";
  const tokens::EncoderFacts& facts = tokenizer_->encoder_facts();
  std::string words = facts.fast ? "fastokens" : "tokenizers (slow: " + facts.why_not_fast + ")";
  if (!facts.parts) words += "; nothing is reused: " + facts.why_no_parts;
  return words;
}

void PoolRun::refresh_metrics() {
  pool_->refresh_metrics();
  if (ingest_) ingest_->refresh_metrics();
  const auto encoder = pool_->encoder();
  if (!encoder) return;
  const prompt::ReuseCounters reuse = encoder->reuse_counters();
  const auto bytes = [&](const char* how, std::uint64_t total) {
    registry_
        .counter("warmpath_prompt_bytes_total",
                 "Bytes of prompts' text, by how their ids were found: walked, known (both seen before) or encoded.",
                 {{"pool", name_}, {"how", how}})
        .raise_to(total);
  };
  bytes("walked", reuse.bytes_walked);
  bytes("known", reuse.bytes_known);
  bytes("encoded", reuse.bytes_encoded);
  registry_.gauge("warmpath_prompt_cache_bytes", "Text, ids and keys kept for reuse.", {{"pool", name_}})
      .set(static_cast<double>(reuse.bytes_held));
  registry_
      .counter("warmpath_prompt_cache_dropped_total", "Entries dropped to stay below the bound.", {{"pool", name_}})
      .raise_to(reuse.entries_dropped);
  if (!tokenizer_) return;
  registry_
      .gauge("warmpath_tokenizer_fast", "1 when the fast encoder is used, 0 when the reference is.", {{"pool", name_}})
      .set(tokenizer_->encoder_facts().fast ? 1 : 0);
  registry_
      .counter("warmpath_tokenizer_given_up_total", "Texts that the fast encoder left to the reference.",
               {{"pool", name_}})
      .raise_to(tokenizer_->given_up());
}

void PoolRun::engine_found(ingest::Found engine) {
  proxy::EngineAt at;
  at.info = std::move(engine.info);
  if (config_.guess_tokens != 0) at.info.kv_tokens = config_.guess_tokens;  // what the table of guesses is sized by
  at.origin = std::move(engine.origin);
  at.path = std::move(engine.path);
  for (ingest::ServedModel& model : engine.models) {
    at.models.push_back({std::move(model.id), std::move(model.root), std::move(model.parent), model.max_model_len});
  }
  pool_->engine_added(std::move(at));
}

void PoolRun::changed(const fleet::Change& change) { pool_->changed(change); }

void PoolRun::warned(std::string_view event, std::string_view engine, std::string_view text) {
  if (log_ != nullptr) log_->warn(event, {{"pool", std::string_view(name_)}, {"engine", engine}, {"why", text}});
}

// One line an engine when it is first known and whenever its state changes: the start-up summary, kept up to date.
void PoolRun::watch_engines() {
  for (const ingest::EngineStatus& status : ingest_->status()) tell(status);
  watch_asking();
  engine_timer_ = control_.after(kEngineWatch, [this] { watch_engines(); });
}

void PoolRun::tell(const ingest::EngineStatus& status) {
  if (status.liveness == fleet::Liveness::kUnknown && !status.engine && !told_.contains(status.name) &&
      status.why_not.empty()) {
    return;
  }
  const std::string_view liveness = fleet::liveness_name(status.liveness);
  std::string line = std::string(liveness) + '\0' + status.why_not + '\0' + status.models + '\0' + status.events;
  std::string& last = told_[status.name];
  if (last == line) return;
  last = std::move(line);
  if (log_ == nullptr) return;
  const auto level = status.liveness == fleet::Liveness::kDown ? config::LogLevel::kWarning : config::LogLevel::kInfo;
  log_->line(level, "engine",
             {{"pool", std::string_view(name_)},
              {"engine", std::string_view(status.name)},
              {"liveness", liveness},
              {"why", std::string_view(status.why_not)},
              {"models", std::string_view(status.models)},
              {"block_tokens", std::uint64_t{status.block_tokens}},
              {"kv_tokens", status.kv_tokens},
              {"events", std::string_view(status.events)}});
}

// Predicted against reported: a lasting difference means that prompts are not what the engine makes of them.
void PoolRun::watch_proofs() {
  const route::Snapshot snapshot = pool_->snapshot(0);
  for (const route::EngineProof& proof : snapshot.proofs) {
    const auto engine = pool_->engine(proof.engine);
    if (!engine) continue;
    Doubt& doubt = doubts_[proof.engine];
    const bool differs = proof.differs();
    registry_
        .gauge("warmpath_proof_differs", "1 while predicted and reported cached tokens differ lastingly.",
               {{"pool", name_}, {"engine", engine->info.name}})
        .set(differs ? 1 : 0);
    const bool due = !doubt.differs || control_.now() - doubt.warned_at > kProofWarnEvery;
    doubt.differs = differs;
    if (!differs || !due || log_ == nullptr) continue;
    doubt.warned_at = control_.now();
    log_->warn("cached_tokens_differ",
               {{"pool", std::string_view(name_)},
                {"engine", std::string_view(engine->info.name)},
                {"error_tokens_recent", proof.absolute_error_tokens_recent},
                {"allowed_tokens", proof.allowed_tokens()},
                {"remedy", std::string_view("run `warmpath doctor` against it, see docs/operations.md")}});
  }
  proof_timer_ = control_.after(kProofInterval, [this] { watch_proofs(); });
}

admin::PoolReport PoolRun::report(std::size_t decisions_max) const {
  admin::PoolReport out;
  out.name = name_;
  out.model = config_.model;
  out.mode = mode_ + asking_text();
  out.started = pool_->started();
  out.snapshot = pool_->snapshot(decisions_max);
  if (out.model.empty()) {
    if (const auto resolved = pool_->resolve("")) out.model = resolved->engine_model;
  }
  if (!ingest_) {
    for (const ingest::EngineAddress& engine : engines_) {
      out.engines.push_back({.name = engine.url.text(), .why_not = "being asked for its block size"});
    }
    return out;
  }
  for (ingest::EngineStatus& status : ingest_->status()) {
    if (follows_events() && status.engine && !status.has_events) {
      out.mode += "; approximate for " + status.name + ": " + status.events;
    }
    admin::EngineReport& engine = out.engines.emplace_back();
    engine.name = std::move(status.name);
    engine.engine = status.engine;
    engine.liveness = status.liveness;
    engine.why_not = std::move(status.why_not);
    engine.models = std::move(status.models);
    engine.block_tokens = status.block_tokens;
    engine.kv_tokens = status.kv_tokens;
    engine.events = std::move(status.events);
    engine.has_events = status.has_events;
    engine.publisher = status.publisher;
    engine.batches = status.batches;
    engine.blocks_held = status.blocks_held;
  }
  return out;
}

}  // namespace warmpath::app
