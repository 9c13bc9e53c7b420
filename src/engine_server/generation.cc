#include "engine_server/generation.h"

#include <utility>

namespace warmpath::engine_server {

Generation::Generation(std::shared_ptr<http::Exchange> exchange, Options options, std::vector<ChoiceState> choices)
    : exchange_(std::move(exchange)),
      options_(std::move(options)),
      choices_(std::move(choices)),
      left_(choices_.size()) {}

void Generation::start() {
  if (!options_.stream) return;
  http::Headers headers;
  headers.add("Content-Type", "text/event-stream; charset=utf-8");
  exchange_->start(200, std::move(headers), std::nullopt);
}

bool Generation::emit(ChoiceState& choice, std::string_view text, bool finished) {
  if (options_.stream) {
    stream_token(choice, text, finished);
  } else {
    choice.text += text;
  }
  if (!finished) return false;
  choice.done = true;
  if (--left_ > 0) return false;
  if (options_.stream) {
    finish_stream();
  } else {
    finish_whole();
  }
  return true;
}

void Generation::stream_token(const ChoiceState& choice, std::string_view text, bool finished) {
  const bool chat = options_.endpoint == api::Endpoint::kChatCompletions;
  api::Delta delta{.id = options_.id, .model = options_.model, .created = options_.created, .index = choice.index};
  std::string bytes;
  if (chat && choice.output_tokens == 1) {
    // The role comes in a chunk of its own, with the first token (vLLM 0.32).
    delta.first = true;
    bytes = http::sse_event(api::chat_chunk(delta));
    delta.first = false;
  }
  delta.text = text;
  if (finished) delta.finish_reason = finish_reason_name(choice.end);
  bytes += http::sse_event(chat ? api::chat_chunk(delta) : api::completion_chunk(delta));
  exchange_->write(bytes);
}

void Generation::finish_stream() {
  std::string bytes;
  if (options_.include_usage) {
    bytes = http::sse_event(
        api::usage_chunk(options_.endpoint, options_.id, options_.model, options_.created, usage(), extra()));
  }
  bytes += http::sse_event("[DONE]");
  exchange_->write(bytes);
  exchange_->end();
}

void Generation::finish_whole() {
  std::vector<api::Choice> choices;
  choices.reserve(choices_.size());
  for (ChoiceState& choice : choices_) {
    choices.push_back({choice.index, std::move(choice.text), std::string(finish_reason_name(choice.end))});
  }
  http::Headers headers;
  headers.add("Content-Type", "application/json");
  exchange_->respond(
      200, std::move(headers),
      api::whole_response(options_.endpoint, options_.id, options_.model, options_.created, choices, usage(), extra()));
}

api::Usage Generation::usage() const {
  api::Usage usage;
  std::uint64_t cached = 0;
  for (const ChoiceState& choice : choices_) {
    usage.prompt_tokens += choice.prompt_tokens;
    usage.completion_tokens += choice.output_tokens;
    cached += choice.cached_tokens;
  }
  if (options_.tell_cached) usage.cached_tokens = cached;
  return usage;
}

// Of the first answer; the load generator reads ttft_ms.
std::string Generation::extra() const {
  if (options_.timing == Timing::kSilent) return {};
  const ChoiceState& choice = choices_.front();
  const auto ms = [this](Duration d) { return engine_seconds(d) * 1e3; };
  JsonWriter json;
  json.object().member("ttft_ms", ms(choice.first_at - choice.added_at));
  json.member("queue_ms", ms(choice.scheduled_at - choice.added_at));
  json.member("e2e_ms", ms(choice.last_at - choice.added_at)).end();
  return "\"warmpath\":" + json.take();
}

FinishedTimes Generation::times(const ChoiceState& choice) const {
  FinishedTimes times;
  times.queue_seconds = engine_seconds(choice.scheduled_at - choice.added_at);
  times.prefill_seconds = engine_seconds(choice.first_at - choice.scheduled_at);
  times.decode_seconds = engine_seconds(choice.last_at - choice.first_at);
  times.prompt_tokens = choice.prompt_tokens;
  times.cached_tokens = choice.cached_tokens;
  times.output_tokens = choice.output_tokens;
  return times;
}

}  // namespace warmpath::engine_server
