#include "engine_server/generation.h"

#include <utility>

namespace warmpath::engine_server {

Generation::Generation(std::shared_ptr<http::Exchange> exchange, Options options, std::vector<ChoiceState> choices)
    : exchange_(std::move(exchange)),
      options_(std::move(options)),
      choices_(std::move(choices)),
      left_(choices_.size()) {
  if (options_.endpoint == api::Endpoint::kResponses) item_id_ = "msg_" + options_.id;
}

void Generation::start() {
  if (!options_.stream) return;
  http::Headers headers;
  headers.add("Content-Type", "text/event-stream; charset=utf-8");
  exchange_->start(200, std::move(headers), std::nullopt);
}

bool Generation::emit(ChoiceState& choice, TokenId token, std::string_view text, bool finished) {
  if (options_.stream) {
    stream_token(choice, token, text, finished);
  } else if (options_.endpoint == api::Endpoint::kGenerate) {
    choice.ids.push_back(token);
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

api::ResponseAnswer Generation::response(const ChoiceState& choice, std::string_view extra_members_json) const {
  return {.id = options_.id,
          .item_id = item_id_,
          .model = options_.model,
          .created = options_.created,
          .output_tokens_max = options_.output_tokens_max,
          .text = choice.text,
          .cut = choice.end == FinishReason::kLength,
          .usage = usage(),
          .extra_members_json = extra_members_json};
}

api::MessageAnswer Generation::message(const ChoiceState& choice, std::string_view extra_members_json) const {
  return {.id = options_.id,
          .model = options_.model,
          .text = choice.text,
          .stop_reason = choice.end == FinishReason::kLength ? "max_tokens" : "end_turn",
          .usage = usage(),
          .extra_members_json = extra_members_json};
}

void Generation::stream_token(ChoiceState& choice, TokenId token, std::string_view text, bool finished) {
  if (options_.endpoint == api::Endpoint::kResponses) {
    const api::ResponseAnswer answer = response(choice, {});
    std::string bytes;
    if (choice.output_tokens == 1) {
      bytes = api::response_opening(answer);
      events_ = api::kResponseOpeningEvents;
    }
    if (!text.empty()) bytes += api::response_delta(answer, text, events_++);
    choice.text += text;
    exchange_->write(bytes);
    return;
  }
  if (options_.endpoint == api::Endpoint::kMessages) {
    std::string bytes;
    if (choice.output_tokens == 1) bytes = api::message_opening(message(choice, {}));
    if (!text.empty()) bytes += api::message_delta(text);
    exchange_->write(bytes);
    return;
  }
  if (options_.endpoint == api::Endpoint::kGenerate) {
    api::IdsChoice told{.index = choice.index, .ids = {token}, .finish_reason = std::nullopt};
    if (finished) told.finish_reason = finish_reason_name(choice.end);
    exchange_->write(http::sse_event(api::ids_chunk(options_.id, told)));
    return;
  }
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
  if (options_.endpoint == api::Endpoint::kResponses || options_.endpoint == api::Endpoint::kMessages) {
    const std::string more = extra();
    const ChoiceState& choice = choices_.front();
    exchange_->write(options_.endpoint == api::Endpoint::kResponses
                         ? api::response_ending(response(choice, more), events_)
                         : api::message_ending(message(choice, more)));
    exchange_->end();
    return;
  }
  if (options_.include_usage) {
    const bool ids = options_.endpoint == api::Endpoint::kGenerate;
    bytes = http::sse_event(
        ids ? api::ids_usage_chunk(options_.id, usage(), extra())
            : api::usage_chunk(options_.endpoint, options_.id, options_.model, options_.created, usage(), extra()));
  }
  bytes += http::sse_event("[DONE]");
  exchange_->write(bytes);
  exchange_->end();
}

void Generation::finish_whole() {
  http::Headers headers;
  headers.add("Content-Type", "application/json");
  exchange_->respond(200, std::move(headers), whole_body());
}

std::string Generation::whole_body() {
  const std::string more = extra();
  if (options_.endpoint == api::Endpoint::kResponses) return api::response_body(response(choices_.front(), more));
  if (options_.endpoint == api::Endpoint::kMessages) return api::message_body(message(choices_.front(), more));
  if (options_.endpoint == api::Endpoint::kEmbeddings) {
    std::vector<std::vector<float>> vectors;
    vectors.reserve(choices_.size());
    for (ChoiceState& choice : choices_) vectors.push_back(std::move(choice.vector));
    return api::embeddings_body(options_.id, options_.model, options_.created, vectors, options_.format,
                                usage().prompt_tokens);
  }
  if (options_.endpoint == api::Endpoint::kGenerate) {
    std::vector<api::IdsChoice> choices;
    choices.reserve(choices_.size());
    for (ChoiceState& choice : choices_) {
      choices.push_back({choice.index, std::move(choice.ids), finish_reason_name(choice.end)});
    }
    return api::ids_response(options_.id, options_.model, options_.created, choices, usage(), more);
  }
  std::vector<api::Choice> choices;
  choices.reserve(choices_.size());
  for (ChoiceState& choice : choices_) {
    choices.push_back({choice.index, std::move(choice.text), std::string(finish_reason_name(choice.end))});
  }
  return api::whole_response(options_.endpoint, options_.id, options_.model, options_.created, choices, usage(), more);
}

api::Usage Generation::usage() const {
  api::Usage usage;
  // Of several prompts vLLM 0.32 tells what was cached of one: of the last, in a stream of whichever answered first.
  const ChoiceState* told = &choices_.front();
  for (const ChoiceState& choice : choices_) {
    usage.prompt_tokens += choice.prompt_tokens;
    usage.completion_tokens += choice.output_tokens;
    if (options_.stream ? choice.first_at < told->first_at : choice.prompt > told->prompt) told = &choice;
  }
  if (options_.tell_cached) usage.cached_tokens = told->cached_tokens;
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
