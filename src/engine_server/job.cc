// Messages and shapes follow what vLLM 0.32 answers (tests/golden/api, "bad requests").
#include "engine_server/job.h"

#include <simdjson.h>

#include <algorithm>

namespace warmpath::engine_server {
namespace {

Refusal bad_request(std::string message, std::string param = {}) {
  return {.status = 400, .message = std::move(message), .param = std::move(param)};
}

Refusal bad_value(std::string message, std::string_view param, std::uint64_t value) {
  message += " (parameter=" + std::string(param) + ", value=" + std::to_string(value) + ")";
  return bad_request(std::move(message), std::string(param));
}

Refusal bad_body(const Error& error, const std::string& param) {
  if (error.kind == ErrorKind::kTooLarge) return {.status = 413, .message = error.message, .param = param};
  if (param == "cache_salt" && error.message.find("non-empty") != std::string::npos) {
    return bad_request("Parameter 'cache_salt' must be a non-empty string if provided. (parameter=cache_salt)", param);
  }
  return {.status = 400,
          .message = error.message,
          .type = "Bad Request",
          .param = param.empty() ? "body" : "body." + param};
}

Refusal unknown_model(const Options& options, const std::string& model) {
  std::string names = options.model;
  for (const std::string& alias : options.aliases) names += ", " + alias;
  for (const Adapter& adapter : options.adapters) names += ", " + adapter.name;
  return {.status = 404,
          .message = "The model `" + model + "` does not exist. Valid aliases: " + names + ".",
          .type = "NotFoundError",
          .param = "model"};
}

bool find_model(const Options& options, const std::string& name, Adapter& adapter) {
  if (name.empty() || name == options.model) return true;
  if (std::ranges::find(options.aliases, name) != options.aliases.end()) return true;
  const auto it = std::ranges::find(options.adapters, name, &Adapter::name);
  if (it == options.adapters.end()) return false;
  adapter = *it;
  return true;
}

Result<std::vector<TokenId>> encode_chat(const JobContext& context, const api::Request& request) {
  tokens::ChatInput chat;
  chat.messages = request.messages;
  chat.tools = request.tools;
  chat.documents = request.documents;
  chat.chat_template_kwargs = request.chat_template_kwargs;
  chat.reasoning_effort = request.reasoning_effort;
  chat.tool_choice = request.tool_choice;
  chat.add_generation_prompt = request.add_generation_prompt && !request.continue_final_message;
  chat.continue_final_message = request.continue_final_message;
  chat.now_unix_seconds = context.now_unix_seconds;
  const bool add = request.add_special_tokens.value_or(false);
  if (!add && context.options.faults.empty()) return context.tokenizer.encode_chat(chat);
  auto text = context.tokenizer.render_chat(chat);
  if (!text) return text.error();
  return encoded_with(context.options.faults, context.tokenizer,
                      rendered_with(context.options.faults, std::move(*text)),
                      add ? tokens::SpecialTokens::kAdd : tokens::SpecialTokens::kNone);
}

Result<std::vector<TokenId>> encode_prompt(const JobContext& context, const api::Request& request,
                                           const api::TextOrIds& prompt) {
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) {
    for (const TokenId id : *ids) {
      if (id >= context.tokenizer.vocabulary_size()) {
        return Error{ErrorKind::kInvalid, "Token id " + std::to_string(id) + " is out of vocabulary"};
      }
    }
    return *ids;
  }
  const bool add = request.add_special_tokens.value_or(true);
  return encoded_with(context.options.faults, context.tokenizer, std::get<std::string>(prompt),
                      add ? tokens::SpecialTokens::kAdd : tokens::SpecialTokens::kNone);
}

// Cut on the left unless the request says otherwise (seen at vLLM 0.32: its tokenizers are set so, whatever their files
// say); -1 stands for the model's limit, less one token where the answer's length is limited.
void truncate(const JobContext& context, const api::Request& request, std::vector<TokenId>& ids) {
  if (!request.truncate_prompt_tokens) return;
  const std::int64_t asked = *request.truncate_prompt_tokens;
  const std::uint64_t limit = context.model_tokens_max - (request.max_tokens.value_or(0) != 0 ? 1 : 0);
  const std::uint64_t most = asked < 0 ? limit : static_cast<std::uint64_t>(asked);
  if (ids.size() <= most) return;
  if (request.truncation_side == api::TruncationSide::kRight) {
    ids.resize(most);
  } else {
    ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(most));
  }
}

std::variant<std::vector<std::vector<TokenId>>, Refusal> encode_all(const JobContext& context,
                                                                    const api::Request& request) {
  std::vector<std::vector<TokenId>> prompts;
  const auto take = [&](Result<std::vector<TokenId>> ids) -> std::optional<Refusal> {
    if (!ids) return refusal_of(ids.error());
    truncate(context, request, *ids);
    if (ids->empty()) return bad_request("The prompt holds no token. (parameter=prompt)", "prompt");
    prompts.push_back(std::move(*ids));
    return std::nullopt;
  };
  if (api::has_chat(request.endpoint)) {
    if (auto refusal = take(encode_chat(context, request))) return std::move(*refusal);
  }
  for (const api::TextOrIds& prompt : request.prompts) {
    if (auto refusal = take(encode_prompt(context, request, prompt))) return std::move(*refusal);
  }
  return prompts;
}

// How many tokens may follow a prompt, or why none.
std::variant<std::uint64_t, Refusal> output_room(const JobContext& context, const api::Request& request,
                                                 std::uint64_t prompt_tokens) {
  if (request.endpoint == api::Endpoint::kCountTokens) return 0u;
  const std::string limit = std::to_string(context.model_tokens_max);
  if (prompt_tokens >= context.model_tokens_max) {
    return bad_value("This model's maximum context length is " + limit + " tokens. However, your prompt contains " +
                         std::to_string(prompt_tokens) +
                         " input tokens, which exceeds this limit even without any output tokens. Please reduce the "
                         "length of the input prompt.",
                     "input_tokens", prompt_tokens);
  }
  const std::uint64_t room = context.model_tokens_max - prompt_tokens;
  if (!request.max_tokens) return room;
  const std::uint64_t asked = *request.max_tokens;
  if (request.endpoint == api::Endpoint::kResponses) return std::clamp<std::uint64_t>(asked, 1, room);
  if (asked == 0) return bad_value("max_tokens must be at least 1, got 0.", "max_tokens", asked);
  if (asked > context.model_tokens_max) {
    return bad_value("max_tokens=" + std::to_string(asked) + " cannot be greater than max_model_len=" + limit +
                         ". Please request fewer output tokens.",
                     "max_tokens", asked);
  }
  if (asked > room) {
    return bad_value("This model's maximum context length is " + limit + " tokens. However, you requested " +
                         std::to_string(asked) + " output tokens and your prompt contains " +
                         std::to_string(prompt_tokens) + " input tokens. Please reduce one of them.",
                     "input_tokens", prompt_tokens);
  }
  return asked;
}

// vllm_xargs.kv_cache_report_mode: what it says other than "full" changes nothing.
engine::ReportMode report_mode(std::string_view body) {
  if (body.find("\"kv_cache_report_mode\"") == std::string_view::npos) return engine::ReportMode::kIncremental;
  simdjson::dom::parser parser;
  std::string_view mode;
  const auto found = parser.parse(body.data(), body.size())["vllm_xargs"]["kv_cache_report_mode"].get(mode);
  const bool full = found == simdjson::SUCCESS && mode == "full";
  return full ? engine::ReportMode::kFull : engine::ReportMode::kIncremental;
}

bool asks_for_texts(std::string_view body) {
  if (body.find("\"return_token_strs\"") == std::string_view::npos) return false;
  simdjson::dom::parser parser;
  bool asked = false;
  return parser.parse(body.data(), body.size())["return_token_strs"].get(asked) == simdjson::SUCCESS && asked;
}

// What only embeddings have.
std::optional<Refusal> read_embedding(std::string_view body, Job& job) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  if (parser.parse(body.data(), body.size()).get(root) != simdjson::SUCCESS) return bad_request("not JSON", "body");
  std::uint64_t dimensions = 0;
  if (root["dimensions"].get(dimensions) == simdjson::SUCCESS) {
    if (dimensions == 0 || dimensions > kDimensionsMax) {
      return bad_value("dimensions must be 1 to " + std::to_string(kDimensionsMax) + ".", "dimensions", dimensions);
    }
    job.dimensions = static_cast<std::uint32_t>(dimensions);
  }
  std::string_view format;
  if (root["encoding_format"].get(format) == simdjson::SUCCESS) {
    if (format != "float" && format != "base64") {
      return bad_request("encoding_format must be float or base64.", "encoding_format");
    }
    job.format = format == "base64" ? api::EmbeddingFormat::kBase64 : api::EmbeddingFormat::kFloat;
  }
  job.exact_length = true;
  job.output_max.assign(job.prompts.size(), 1);  // one step: the model computes the prompt and is done
  return std::nullopt;
}

// Adapter and salt as an engine with these faults keys its blocks.
void mistake_keys(const FaultSet& faults, Job& job) {
  if (faults.has(Fault::kSaltIgnored)) job.salt.clear();
  if (faults.has(Fault::kLoraIgnored)) job.adapter = {};
  if (faults.has(Fault::kLoraRenamed) && !job.adapter.name.empty()) job.adapter.name += "-v0";
}

// One prompt as vLLM 0.32's renderer hands it on; members that take a request's own settings only.
void write_rendered(JsonWriter& json, const Job& job, std::size_t prompt, std::string_view request_id) {
  const bool chat = api::has_chat(job.endpoint);
  json.object().member("request_id", request_id).key("token_ids").array();
  for (const TokenId id : job.prompts[prompt]) json.value(id);
  json.end().key("token_offsets").null().key("features").null().key("content_parts").null();
  json.key("sampling_params").object();
  if (chat || job.exact_length) json.member("max_tokens", job.output_max[prompt]);
  json.end().member("model", job.model).key("return_token_ids").null().member("output_mode", "tokens");
  json.member("stream", job.stream).key("stream_options").null().key("cache_salt");
  if (job.salt.empty()) {
    json.null();
  } else {
    json.value(job.salt);
  }
  json.member("priority", 0).key("kv_transfer_params").null().end();
}

}  // namespace

std::string refusal_body(const Refusal& refusal, api::ErrorForm form) {
  JsonWriter json;
  if (form == api::ErrorForm::kAnthropic) {
    json.object().member("type", "error").key("error").object().member("type", refusal.type);
    json.member("message", refusal.message).end().end();
    return json.take();
  }
  json.object().key("error").object().member("message", refusal.message).member("type", refusal.type).key("param");
  if (refusal.param.empty()) {
    json.null();
  } else {
    json.value(refusal.param);
  }
  json.member("code", refusal.status).end().end();
  return json.take();
}

Refusal refusal_of(const Error& error) {
  Refusal refusal;
  refusal.status = api::status_of(error.kind).status;
  refusal.message = error.message;
  if (refusal.status == 404) refusal.type = "NotFoundError";
  if (refusal.status >= 500) refusal.type = "InternalServerError";
  return refusal;
}

std::variant<Job, Refusal> prepare_job(const JobContext& context, api::Endpoint endpoint, std::string_view body) {
  std::string param;
  const auto parsed = api::parse_request(endpoint, body, {}, &param);
  if (!parsed) return bad_body(parsed.error(), param);
  const api::Request& request = *parsed;
  Job job;
  if (!find_model(context.options, request.model, job.adapter)) return unknown_model(context.options, request.model);
  if (request.has_media) return bad_request(context.options.model + " is not a multimodal model");
  // Where real engines try out what a template takes, this one takes it as it stands.
  if (!request.why_not_exact.empty() && request.why_not_exact != api::kWhyNotInlineSystem &&
      request.why_not_exact != api::kWhyNotThinkingOff) {
    return bad_request("this simulated engine does not do that (" + std::string(request.why_not_exact) + ")");
  }
  if (request.has_own_template) {
    return bad_request("Chat template is passed with request, but this engine does not trust request templates.");
  }
  job.choices = request.n.value_or(1);
  if (job.choices > kChoicesMax) {
    return bad_value("n must be at most " + std::to_string(kChoicesMax) + ".", "n", job.choices);
  }
  auto encoded = encode_all(context, request);
  if (auto* refusal = std::get_if<Refusal>(&encoded)) return std::move(*refusal);
  job.prompts = std::move(std::get<0>(encoded));
  for (const auto& prompt : job.prompts) {
    auto room = output_room(context, request, prompt.size());
    if (auto* refusal = std::get_if<Refusal>(&room)) return std::move(*refusal);
    job.output_max.push_back(std::get<0>(room));
  }
  job.endpoint = endpoint;
  job.model = request.model.empty() ? context.options.model : request.model;
  job.salt = request.cache_salt;
  job.report = report_mode(body);
  mistake_keys(context.options.faults, job);
  // The newer APIs' limits are generous: there they only limit.
  const bool limit_only = endpoint == api::Endpoint::kResponses || endpoint == api::Endpoint::kMessages;
  job.exact_length = (request.max_tokens.has_value() && !limit_only) || request.ignore_eos;
  job.stream = request.stream;
  job.include_usage = request.include_usage;
  if (endpoint == api::Endpoint::kEmbeddings) {
    if (auto refusal = read_embedding(body, job)) return std::move(*refusal);
  }
  return job;
}

std::variant<Tokenized, Refusal> prepare_tokenize(const JobContext& context, std::string_view body) {
  // Inside a JSON string the closing quote would be escaped, so this is a key (or a string of just that word).
  const bool chat = body.find("\"messages\"") != std::string_view::npos;
  const auto endpoint = chat ? api::Endpoint::kChatCompletions : api::Endpoint::kCompletions;
  std::string param;
  const auto parsed = api::parse_request(endpoint, body, {}, &param);
  if (!parsed) return bad_body(parsed.error(), param);
  Adapter adapter;
  if (!find_model(context.options, parsed->model, adapter)) return unknown_model(context.options, parsed->model);
  auto encoded = encode_all(context, *parsed);
  if (auto* refusal = std::get_if<Refusal>(&encoded)) return std::move(*refusal);
  auto& prompts = std::get<0>(encoded);
  if (prompts.size() != 1) return bad_request("one prompt is wanted", "prompt");
  return Tokenized{std::move(prompts.front()), asks_for_texts(body)};
}

std::string render_body(const Job& job, std::string_view request_id) {
  JsonWriter json;
  if (api::has_chat(job.endpoint)) {
    write_rendered(json, job, 0, request_id);
    return json.take();
  }
  json.array();
  for (std::size_t i = 0; i < job.prompts.size(); ++i) write_rendered(json, job, i, request_id);
  json.end();
  return json.take();
}

}  // namespace warmpath::engine_server
