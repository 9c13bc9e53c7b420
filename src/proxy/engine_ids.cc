#include "proxy/engine_ids.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace warmpath::proxy {
namespace {

constexpr std::size_t kEntryBytes = 200;  // of bookkeeping, about

std::size_t bytes_of(const std::vector<TokenId>& ids) { return ids.size() * sizeof(TokenId) + kEntryBytes; }

// Each behind its length, so that no two prompts give one text.
void append(std::string& out, std::string_view part) {
  out += std::to_string(part.size());
  out += ':';
  out += part;
}

const std::string* only_text(const api::Request& request) {
  if (request.prompts.size() != 1) return nullptr;
  return std::get_if<std::string>(&request.prompts.front());
}

std::string_view flag(bool value) { return value ? "true" : "false"; }

// What /tokenize takes of a request; it knows no documents, effort or truncation.
bool fits_tokenize(const api::Request& request) {
  return request.documents.empty() && request.reasoning_effort.empty() && !request.truncate_prompt_tokens;
}

// Those that vLLM 0.32 has a `/render` behind.
bool has_render(api::Endpoint endpoint) {
  switch (endpoint) {
    case api::Endpoint::kChatCompletions:
    case api::Endpoint::kCompletions:
    case api::Endpoint::kResponses:
    case api::Endpoint::kMessages: return true;
    default: return false;
  }
}

std::string tokenize_body(const api::Request& request, std::string_view model) {
  JsonWriter name;
  name.value(model);
  std::string body = "{\"model\":" + name.take();
  if (const std::string* text = only_text(request)) {
    JsonWriter quoted;
    quoted.value(*text);
    body += ",\"prompt\":" + quoted.take();
  } else {
    body += ",\"messages\":" + std::string(request.messages);
    if (!request.tools.empty()) body += ",\"tools\":" + std::string(request.tools);
    if (!request.chat_template_kwargs.empty()) {
      body += ",\"chat_template_kwargs\":" + std::string(request.chat_template_kwargs);
    }
    body += ",\"add_generation_prompt\":" + std::string(flag(request.add_generation_prompt));
    body += ",\"continue_final_message\":" + std::string(flag(request.continue_final_message));
  }
  if (request.add_special_tokens) {
    body += ",\"add_special_tokens\":" + std::string(flag(*request.add_special_tokens));
  }
  return body + "}";
}

}  // namespace

EngineIds::EngineIds(AskOptions options, const std::string& pool, observe::Registry& registry)
    : options_(std::move(options)) {
  for (std::size_t i = 0; i < kAskOutcomes; ++i) {
    counters_[i] =
        &registry.counter("warmpath_ids_asked_total", "Prompts whose ids an engine was asked for.",
                          {{"pool", pool}, {"outcome", std::string(ask_outcome_name(static_cast<AskOutcome>(i)))}});
  }
}

bool EngineIds::wants(const api::Request& request, const Plan& plan) const {
  if (options_.when == AskEngine::kNever || request.has_media || request.has_own_template) return false;
  if (!request.why_not_exact.empty() || !has_render(request.endpoint)) return false;
  const bool chat = api::has_chat(request.endpoint);
  if (!chat && only_text(request) == nullptr) return false;  // ids are exact; several prompts are not asked
  if (options_.when == AskEngine::kAlways) return true;
  if (plan.chain_kind == "refused") return false;
  return !plan.exact() || !options_.ids_doubt.empty();
}

BlockKey EngineIds::key_of(const api::Request& request, std::string_view engine_model,
                           const blocks::KeySpace& space) const {
  std::string text;
  text.reserve(request.messages.size() + request.tools.size() + 512);
  append(text, engine_model);
  append(text, api::path_of_endpoint(request.endpoint));
  for (const std::string_view part : {request.messages, request.tools, request.documents, request.chat_template_kwargs,
                                      request.reasoning_effort, request.tool_choice}) {
    append(text, part);
  }
  if (const std::string* prompt = only_text(request)) append(text, *prompt);
  text += flag(request.add_generation_prompt);
  text += flag(request.continue_final_message);
  text += request.add_special_tokens ? flag(*request.add_special_tokens) : "-";
  if (request.truncate_prompt_tokens) {
    text += std::to_string(*request.truncate_prompt_tokens);
    if (request.truncation_side) text += *request.truncation_side == api::TruncationSide::kLeft ? "l" : "r";
    if (request.max_tokens) text += "m";
  }
  // A length that no block of tokens has keeps it apart from every chain.
  const auto size = static_cast<std::uint32_t>(std::min<std::size_t>(text.size(), 1u << 31));
  return space.text_chain(text, size, 1, {.salt = "ids of " + std::to_string(text.size())}).front();
}

EngineIds::Ids EngineIds::find(BlockKey key, Instant now) {
  const std::lock_guard lock(mutex_);
  const auto it = kept_.find(key);
  if (it == kept_.end()) return nullptr;
  if (now - it->second.at > kKeptMax) {
    kept_bytes_ -= bytes_of(*it->second.ids);
    order_.erase(it->second.place);
    kept_.erase(it);
    return nullptr;
  }
  order_.splice(order_.begin(), order_, it->second.place);
  return it->second.ids;
}

void EngineIds::keep(BlockKey key, Ids ids, Instant now) {
  const std::size_t bytes = bytes_of(*ids);
  if (bytes > options_.cache_bytes_max) return;
  const std::lock_guard lock(mutex_);
  if (kept_.contains(key)) return;
  order_.push_front(key);
  kept_.emplace(key, Kept{std::move(ids), now, order_.begin()});
  kept_bytes_ += bytes;
  while (kept_bytes_ > options_.cache_bytes_max) drop_last();
}

void EngineIds::drop_last() {
  const auto it = kept_.find(order_.back());
  kept_bytes_ -= bytes_of(*it->second.ids);
  kept_.erase(it);
  order_.pop_back();
}

std::optional<EngineIds::Question> EngineIds::begin(const api::Request& request, std::string_view engine_model,
                                                    std::shared_ptr<const std::string> body, const Pool& pool,
                                                    Instant now, AskOutcome& why) {
  const auto engines = pool.engines();
  Question question;
  bool render_off = false;
  {
    const std::lock_guard lock(mutex_);
    const std::size_t first = next_.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < engines.size() && !question.engine; ++i) {
      const auto& engine = engines[(first + i) % engines.size()];
      const auto trouble = troubles_.find(engine->info.id);
      if (trouble != troubles_.end() && now < trouble->second.avoided_until) continue;
      question.engine = engine;
      render_off = trouble != troubles_.end() && now < trouble->second.render_off_until;
    }
  }
  why = AskOutcome::kNoEngine;
  if (!question.engine) return std::nullopt;
  question.render = !render_off;
  why = AskOutcome::kUnsupported;
  if (!question.render && !fits_tokenize(request)) return std::nullopt;
  why = AskOutcome::kBusy;
  if (in_flight_.fetch_add(1) >= kAsksMax) {
    in_flight_.fetch_sub(1);
    return std::nullopt;
  }
  const std::string path(question.render ? api::path_of_endpoint(request.endpoint) : "/tokenize");
  question.target = question.engine->path + path + (question.render ? "/render" : "");
  question.body =
      question.render ? std::move(body) : std::make_shared<const std::string>(tokenize_body(request, engine_model));
  return question;
}

EngineIds::Told EngineIds::read(const Question& question, const Result<http::HttpClient::Whole>& answer, Instant now) {
  Told told;
  if (!answer.ok()) {
    const bool slow = answer.error().kind == ErrorKind::kTimeoutEngine;
    told.outcome = slow ? AskOutcome::kTimeout : AskOutcome::kError;
    return told;
  }
  const int status = answer->head.status;
  // 403: not switched on (vLLM 0.32). 404, 405: older, or another engine.
  if (question.render && (status == 403 || status == 404 || status == 405)) {
    const std::lock_guard lock(mutex_);
    troubles_[question.engine->info.id].render_off_until = now + kRenderOff;
    told.ask_again = true;
    return told;
  }
  if (status != 200) {
    told.outcome = status >= 400 && status < 500 ? AskOutcome::kRefused : AskOutcome::kError;
    return told;
  }
  auto ids = api::parse_token_ids(answer->body);
  if (!ids.ok()) return told;
  told.outcome = AskOutcome::kTold;
  told.ids = std::make_shared<const std::vector<TokenId>>(*std::move(ids));
  return told;
}

void EngineIds::ended(const Question& question, AskOutcome outcome, Instant now) {
  in_flight_.fetch_sub(1);
  if (outcome != AskOutcome::kTimeout && outcome != AskOutcome::kError) return;
  const std::lock_guard lock(mutex_);
  // Engines that left leave their entry until the table is full: ids are never used again.
  constexpr std::size_t kTroublesMax = 4'096;
  if (troubles_.size() >= kTroublesMax) troubles_.erase(troubles_.begin());
  troubles_[question.engine->info.id].avoided_until = now + kAvoided;
}

void EngineIds::count(AskOutcome outcome) {
  const auto at = static_cast<std::size_t>(outcome);
  counters_[at]->add();
  counts_[at].fetch_add(1, std::memory_order_relaxed);
}

AskCounts EngineIds::counts() const {
  AskCounts out;
  for (std::size_t i = 0; i < kAskOutcomes; ++i) out.by_outcome[i] = counts_[i].load(std::memory_order_relaxed);
  return out;
}

}  // namespace warmpath::proxy
