#include "doctor/examination.h"

#include <algorithm>
#include <utility>

#include "doctor/checks.h"
#include "doctor/own_blocks.h"
#include "doctor/told.h"

namespace warmpath::doctor {
namespace {

constexpr Duration kLookEvery = std::chrono::milliseconds(5);
constexpr Duration kConnectMax = std::chrono::seconds(2);
constexpr Duration kReplayMax = std::chrono::seconds(1);
// A subscription reaches the publisher a moment after the connection stands.
constexpr Duration kSubscribed = std::chrono::milliseconds(100);
constexpr Duration kEventsAgainMax = std::chrono::milliseconds(250);
constexpr std::size_t kFirstAttempts = 2;
constexpr std::uint32_t kBlockTokensUnknown = 64;
constexpr std::uint32_t kFillerTokensMin = 96;
constexpr std::uint32_t kFillerTokensMax = 4'096;
constexpr std::size_t kAnswerBytesMax = 8u << 20;

std::string hex_of(std::uint64_t value) {
  std::uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return to_hex(bytes);
}

// About four blocks and a half, if the model takes that.
std::uint32_t filler_tokens(const Evidence& evidence) {
  const std::uint32_t block = evidence.block_tokens_told.value_or(kBlockTokensUnknown);
  const std::uint64_t wanted =
      std::clamp<std::uint64_t>(std::uint64_t{block} * 9 / 2, kFillerTokensMin, kFillerTokensMax);
  const std::uint64_t most = evidence.model_tokens_max ? *evidence.model_tokens_max / 2 : wanted;
  return static_cast<std::uint32_t>(std::min(wanted, most));
}

int status_of(const Result<http::HttpClient::Whole>& answer) { return answer.ok() ? answer->head.status : kNoAnswer; }

}  // namespace

Examination::Examination(const Options& options, const tokens::Tokenizer& tokenizer)
    : options_(options), tokenizer_(tokenizer) {
  http::ClientOptions client;
  client.whole_body_bytes_max = kAnswerBytesMax;
  client_ = http::HttpClient::create(loop_, client);
  begun_ = loop_.now();
  events_max_ = options.events_max;
  evidence_.engine = options.url.text();
  evidence_.tokenizer_doubt = tokenizer.exactness().why_not;
  evidence_.nonce = hex_of(options.nonce);
}

Result<Evidence> Examination::run() {
  if (auto resolved = resolve(); !resolved.ok()) return resolved.error();
  if (auto met = meet(); !met.ok()) return met.error();
  read_facts();
  find_sources();
  listen();
  probes_ = std::make_unique<Probes>(tokenizer_, evidence_.model, evidence_.nonce, options_.now_unix_seconds,
                                     filler_tokens(evidence_));
  ask_ids();
  wait(kReplayMax, [this] { return listener_->all_replays_answered(); });
  generate();
  listener_.reset();
  return std::move(evidence_);
}

Duration Examination::left() const { return std::max(Duration(0), options_.total_max - (loop_.now() - begun_)); }

void Examination::wait(Duration longest, const std::function<bool()>& done) {
  const Instant until = loop_.now() + std::min(longest, left());
  io::Timer tick;
  std::function<void()> look = [&] {
    if (done() || loop_.now() >= until) {
      loop_.stop();
    } else {
      tick = loop_.after(kLookEvery, look);
    }
  };
  tick = loop_.after(Duration(0), look);
  loop_.run();
}

Examination::Answer Examination::ask(const std::string& method, const std::string& path, std::string body) {
  const Duration deadline = std::min(options_.step_max, left());
  if (deadline <= Duration(0)) {
    evidence_.out_of_time = true;
    return Error{ErrorKind::kTimeoutEngine, "no time left"};
  }
  http::ClientRequest request;
  request.method = method;
  request.target = options_.url.path + path;
  if (!options_.authorization.empty()) request.headers.add("Authorization", options_.authorization);
  if (evidence_.ranks > 1) request.headers.add("X-data-parallel-rank", "0");
  if (!body.empty()) {
    request.headers.add("Content-Type", "application/json");
    request.body = std::make_shared<const std::string>(std::move(body));
  }
  request.timeouts.first_byte = deadline;
  std::optional<Answer> answer;
  const auto call = client_->fetch({address_, options_.url.host_header(), options_.tls}, std::move(request), deadline,
                                   [&](Answer whole) {
                                     answer = std::move(whole);
                                     loop_.stop();
                                   });
  loop_.run();
  return *std::move(answer);
}

Result<void> Examination::resolve() {
  std::optional<Result<std::vector<io::Address>>> found;
  const auto pending = io::resolve(loop_, options_.url.host, options_.url.port, std::min(options_.step_max, left()),
                                   [&](Result<std::vector<io::Address>> addresses) {
                                     found = std::move(addresses);
                                     loop_.stop();
                                   });
  loop_.run();
  if (!found->ok()) return found->error();
  if ((*found)->empty()) return Error{ErrorKind::kUnavailable, options_.url.host + " has no address"};
  address_ = (*found)->front();
  return {};
}

Result<void> Examination::meet() {
  const auto answer = get("/v1/models");
  const std::string where = evidence_.engine + "/v1/models";
  if (!answer.ok()) return Error{answer.error().kind, where + ": " + answer.error().message};
  const int status = answer->head.status;
  if (status == 401 || status == 403) {
    return Error{ErrorKind::kUnauthorized,
                 where + " answered " + std::to_string(status) + ": the engine wants a key; give --api-key-file FILE"};
  }
  const auto models = api::parse_models(answer->body);
  if (status != 200 || !models.ok() || models->empty()) {
    return Error{ErrorKind::kUpstream, where + " answered " + std::to_string(status) +
                                           " and no list of models: is this an engine's HTTP address?"};
  }
  const auto base = std::ranges::find_if(*models, [this](const api::ModelEntry& entry) {
    return options_.model.empty() ? !entry.parent : entry.id == options_.model;
  });
  if (base == models->end()) {
    std::string names;
    for (const api::ModelEntry& entry : *models) names += (names.empty() ? "" : ", ") + entry.id;
    return Error{ErrorKind::kNotFound,
                 evidence_.engine + " does not serve '" + options_.model + "'; it serves " + names};
  }
  evidence_.model = base->id;
  evidence_.model_tokens_max = base->max_model_len;
  for (const api::ModelEntry& entry : *models) {
    if (entry.parent) evidence_.adapters.push_back(entry.id);
  }
  return {};
}

void Examination::read_facts() {
  if (const auto version = get("/version"); version.ok() && version->head.status == 200) {
    evidence_.version = read_version(version->body);
  }
  const auto page = get("/metrics");
  if (!page.ok() || page->head.status != 200) return;
  const ingest::PageFigures figures = ingest::read_page(page->body, std::nullopt);
  evidence_.block_tokens_told = figures.block_tokens;
  evidence_.prefix_caching_told = figures.prefix_caching;
}

void Examination::find_sources() {
  const auto told = get("/kv_event_sources");
  evidence_.sources_status = status_of(told);
  if (evidence_.sources_status == 200) {
    if (auto read = ingest::read_event_sources(told->body, address_.ip); read.ok()) evidence_.told = *std::move(read);
  } else {
    const auto info = get("/server_info");
    evidence_.server_info_status = status_of(info);
    if (evidence_.server_info_status == 200) {
      auto read = ingest::read_server_info(info->body, address_.ip);
      if (read.ok()) evidence_.told = std::move(read->ranks);
    }
  }
  for (ingest::RankTold& one : evidence_.told) {
    one.publisher = printable(one.publisher);
    one.topic = printable(one.topic);
  }
  const auto told_ranks = static_cast<std::uint32_t>(std::max<std::size_t>(evidence_.told.size(), 1));
  evidence_.ranks = options_.ranks != 0 ? options_.ranks : told_ranks;
  if (!options_.events) {
    for (const ingest::RankTold& one : evidence_.told) {
      if (one.enabled) evidence_.sources.push_back({.rank = one.rank, .events = one.events, .replay = one.replay});
    }
    return;
  }
  evidence_.sources_given = true;
  const bool bound = options_.events->side == ingest::EventSource::Side::kBind;
  for (std::uint32_t rank = 0; rank < evidence_.ranks; ++rank) {
    const std::string host = bound ? "*" : address_.ip;
    SourceSeen seen{.rank = rank, .bound = bound};
    seen.events = ingest::rank_endpoint(options_.events->events, rank, host).value_or("");
    seen.replay = ingest::rank_endpoint(options_.events->replay, rank, address_.ip).value_or("");
    evidence_.sources.push_back(std::move(seen));
  }
}

void Examination::listen() {
  listener_ = std::make_unique<Listener>(loop_, evidence_, tokenizer_);
  listener_->open();
  if (evidence_.sources.empty()) return;
  wait(kConnectMax, [this] { return listener_->all_connected(); });
  wait(kSubscribed, [] { return false; });
}

// ---- ids ----

void Examination::ask_ids() {
  for (const Question& question : probes_->questions()) ask_ids_of(question);
}

// A chat by /render where the engine has it switched on, else by /tokenize.
void Examination::ask_ids_of(const Question& question) {
  IdsProbe probe = question.probe;
  const bool chat = probe.kind == IdsProbe::Kind::kChat;
  const bool render = chat && (evidence_.render_status == kNotAsked || evidence_.render_status == 200 ||
                               evidence_.render_status == 400);
  std::optional<Answer> answer, refused;
  if (render) {
    answer = ask("POST", "/v1/chat/completions/render", question.body);
    const int status = status_of(*answer);
    if (evidence_.render_status != 200) evidence_.render_status = status;
    // A refusal may be about generating (tools without a parser at vLLM 0.32), not about the prompt.
    if (status != 200) std::swap(refused, answer);
    if (status != 200 && status != 400) refused.reset();
  }
  const bool tokenize =
      evidence_.tokenize_status == kNotAsked || evidence_.tokenize_status == 200 || evidence_.tokenize_status == 400;
  if (!answer && tokenize) {
    answer = ask("POST", "/tokenize", question.body);
    const int status = status_of(*answer);
    if (evidence_.tokenize_status != 200) evidence_.tokenize_status = status;
    if (status != 200 && status != 400) answer.reset();
  }
  if (!answer) answer = std::move(refused);
  if (!answer) return;
  if ((*answer)->head.status == 400) {
    probe.theirs_refused = read_refusal(400, (*answer)->body);
  } else if (auto ids = api::parse_token_ids((*answer)->body); ids.ok()) {
    probe.theirs = *std::move(ids);
  } else {
    return;
  }
  evidence_.ids.push_back(std::move(probe));
}

// ---- generations ----

void Examination::generate() {
  using Role = Answered::Role;
  const Prompt first = probes_->first();
  const std::string salt_stem = "warmpath-doctor-" + evidence_.nonce + "-";
  std::string salt;
  // Twice at most: a subscription that came late has missed the first one's events.
  for (std::size_t attempt = 0; attempt < kFirstAttempts; ++attempt) {
    salt = salt_stem + std::to_string(attempt);
    evidence_.answers.push_back(generate_one(Role::kFirst, first, salt, {}));
    if (!evidence_.answers.back().error.empty()) return;
    if (heard_all(evidence_.answers.back())) break;
  }
  const std::string adapter = evidence_.adapters.empty() ? "" : evidence_.adapters.front();
  struct Step {
    Role role;
    Prompt prompt;
    std::string salt;
    std::string adapter;
  };
  std::vector<Step> steps = {{Role::kAgain, first, salt, {}},
                             {Role::kNextTurn, probes_->next_turn(first), salt, {}},
                             {Role::kOtherSalt, first, salt_stem + "other", {}}};
  if (!adapter.empty()) {
    steps.push_back({Role::kAdapter, first, salt, adapter});
    steps.push_back({Role::kAdapterAgain, first, salt, adapter});
  }
  if (first.chat) steps.push_back({Role::kText, probes_->completion(), salt, {}});
  for (const Step& step : steps) {
    if (left() <= Duration(0)) {
      evidence_.out_of_time = true;
      return;
    }
    evidence_.answers.push_back(generate_one(step.role, step.prompt, step.salt, step.adapter));
    if (!evidence_.answers.back().error.empty()) return;
  }
}

Answered Examination::generate_one(Answered::Role role, const Prompt& prompt, const std::string& salt,
                                   const std::string& adapter) {
  Answered answered;
  answered.role = role;
  answered.ours = prompt.ours;
  answered.salt = salt;
  answered.adapter = adapter;
  const std::string& model = adapter.empty() ? evidence_.model : adapter;
  const char* path = prompt.chat ? "/v1/chat/completions" : "/v1/completions";
  const bool tells = evidence_.tokenize_status == 200 || (prompt.chat && evidence_.render_status == 200);
  if (tells) {
    const std::string where =
        prompt.chat && evidence_.render_status == 200 ? std::string(path) + "/render" : std::string("/tokenize");
    const auto rendered = ask("POST", where, Probes::render_body(prompt, model));
    if (rendered.ok() && rendered->head.status == 200) {
      if (auto ids = api::parse_token_ids(rendered->body); ids.ok()) answered.theirs = *std::move(ids);
    }
  }
  const auto answer = ask("POST", path, Probes::generation_body(prompt, model, salt));
  if (!answer.ok()) {
    answered.error = answer.error().message;
  } else if (answer->head.status != 200) {
    answered.error = "the engine answered " + read_refusal(answer->head.status, answer->body);
  } else if (const auto usage = api::find_usage(answer->body)) {
    answered.prompt_tokens = usage->prompt_tokens;
    answered.cached_tokens = usage->cached_tokens;
  } else {
    answered.error = "the engine answered 200 without usage: no completion as OpenAI's";
  }
  if (answered.error.empty()) hear_out(answered);
  answered.heard_until = evidence_.heard.size();
  return answered;
}

// Events come with the answer or a moment after it.
void Examination::hear_out(const Answered& answer) {
  const bool listening = std::ranges::any_of(evidence_.sources, &SourceSeen::connected);
  if (!listening) return;
  std::size_t looked_at = evidence_.heard.size() + 1;
  bool all = false;
  wait(events_max_, [&] {
    if (looked_at == evidence_.heard.size()) return false;
    looked_at = evidence_.heard.size();
    return all = heard_all(answer);
  });
  // What did not come in all that time is not late: it does not come.
  if (!all) events_max_ = std::min(events_max_, kEventsAgainMax);
}

// Every full block of its prompt, under its own keys.
bool Examination::heard_all(const Answered& answer) const {
  const OwnBlocks own(evidence_, tokenizer_, evidence_.heard.size());
  const auto& ids = answer.theirs ? *answer.theirs : answer.ours;
  const auto held = own.match(ids, answer.adapter, answer.salt, Keys::kSame);
  std::size_t tokens = 0;
  for (const OwnBlock* block : held) tokens += block->tokens.size();
  return !held.empty() && tokens + held.front()->tokens.size() > ids.size();
}

Result<Report> examine(const Options& options, const tokens::Tokenizer& tokenizer) {
  Examination examination(options, tokenizer);
  const auto evidence = examination.run();
  if (!evidence.ok()) return evidence.error();
  Report report;
  report.engine = evidence->engine;
  report.version = evidence->version;
  report.model = evidence->model;
  report.findings = judge(*evidence, tokenizer);
  return report;
}

}  // namespace warmpath::doctor
