// Writers of OpenAI-shaped answers, for the simulated engine; model lists.
#include "api/answer_json.h"
#include "api/json_scan.h"

namespace warmpath::api {
namespace {

void write_head(JsonWriter& json, std::string_view id, std::string_view object, std::int64_t created,
                std::string_view model) {
  json.object().member("id", id).member("object", object).member("created", created).member("model", model);
}

void write_finish(JsonWriter& json, const std::optional<std::string_view>& reason) {
  json.key("logprobs").null().key("finish_reason");
  if (reason) {
    json.value(*reason);
  } else {
    json.null();
  }
}

}  // namespace

void write_usage(JsonWriter& json, const Usage& usage) {
  json.key("usage").object();
  json.member("prompt_tokens", usage.prompt_tokens);
  json.member("total_tokens", usage.prompt_tokens + usage.completion_tokens);
  json.member("completion_tokens", usage.completion_tokens);
  json.key("prompt_tokens_details");
  if (usage.cached_tokens) {
    json.object().member("cached_tokens", *usage.cached_tokens).end();
  } else {
    json.null();
  }
  json.end();
}

std::string close_with(JsonWriter& json, std::string_view extra) {
  json.end();
  std::string out = json.take();
  if (!extra.empty()) {
    out.pop_back();
    out.push_back(',');
    out.append(extra);
    out.push_back('}');
  }
  return out;
}

std::string chat_chunk(const Delta& delta) {
  JsonWriter json;
  write_head(json, delta.id, "chat.completion.chunk", delta.created, delta.model);
  json.key("choices").array().object().member("index", delta.index).key("delta").object();
  if (delta.first) json.member("role", "assistant");
  json.member("content", delta.text).end();
  write_finish(json, delta.finish_reason);
  json.end().end().end();
  return json.take();
}

std::string completion_chunk(const Delta& delta) {
  JsonWriter json;
  write_head(json, delta.id, "text_completion", delta.created, delta.model);
  json.key("choices").array().object().member("index", delta.index).member("text", delta.text);
  write_finish(json, delta.finish_reason);
  json.end().end().end();
  return json.take();
}

std::string usage_chunk(Endpoint endpoint, std::string_view id, std::string_view model, std::int64_t created,
                        const Usage& usage, std::string_view extra_members_json) {
  const bool chat = endpoint == Endpoint::kChatCompletions;
  JsonWriter json;
  write_head(json, id, chat ? "chat.completion.chunk" : "text_completion", created, model);
  json.key("choices").array().end();
  write_usage(json, usage);
  return close_with(json, extra_members_json);
}

std::string whole_response(Endpoint endpoint, std::string_view id, std::string_view model, std::int64_t created,
                           std::span<const Choice> choices, const Usage& usage, std::string_view extra_members_json) {
  const bool chat = endpoint == Endpoint::kChatCompletions;
  JsonWriter json;
  write_head(json, id, chat ? "chat.completion" : "text_completion", created, model);
  json.key("choices").array();
  for (const Choice& choice : choices) {
    json.object().member("index", choice.index);
    if (chat) {
      json.key("message").object().member("role", "assistant").member("content", choice.text).end();
    } else {
      json.member("text", choice.text);
    }
    write_finish(json, std::string_view(choice.finish_reason));
    json.end();
  }
  json.end();
  write_usage(json, usage);
  return close_with(json, extra_members_json);
}

std::string models_body(std::span<const ModelEntry> models, std::int64_t created) {
  JsonWriter json;
  json.object().member("object", "list").key("data").array();
  for (const ModelEntry& model : models) {
    json.object().member("id", model.id).member("object", "model").member("created", created);
    json.member("owned_by", "warmpath").member("root", model.root).key("parent");
    if (model.parent) {
      json.value(*model.parent);
    } else {
      json.null();
    }
    json.key("max_model_len");
    if (model.max_model_len) {
      json.value(*model.max_model_len);
    } else {
      json.null();
    }
    json.end();
  }
  json.end().end();
  return json.take();
}

Result<std::vector<ModelEntry>> parse_models(std::string_view text) {
  using Kind = JsonScan::Kind;
  constexpr std::size_t kModelsMax = 10'000;
  const auto nonsense = [](std::string_view why) {
    return Error{ErrorKind::kUpstream, "not a list of models: " + std::string(why)};
  };
  if (first_bad_utf8(text)) return nonsense("not UTF-8");
  JsonScan scan(text, 64);
  std::vector<ModelEntry> models;
  bool data_seen = false;
  const auto member = [&](ModelEntry& entry, std::string_view key) {
    const Kind kind = scan.peek();
    if (key == "id" && kind == Kind::kString) {
      entry.id = scan.string();
    } else if (key == "root" && kind == Kind::kString) {
      entry.root = scan.string();
    } else if (key == "parent" && kind == Kind::kString) {
      entry.parent = scan.string();
    } else if (key == "max_model_len" && kind == Kind::kNumber) {
      entry.max_model_len = parse_u64(scan.text_of(scan.number()));
    } else {
      scan.skip();
    }
  };
  scan.object([&](std::string_view key) {
    if (key != "data") {
      scan.skip();
      return;
    }
    data_seen = true;
    scan.array([&] {
      ModelEntry entry;
      scan.object([&](std::string_view inner) { member(entry, inner); });
      if (models.size() == kModelsMax) {
        scan.fail("more than 10000 models");
      } else if (!entry.id.empty()) {
        models.push_back(std::move(entry));
      }
    });
  });
  scan.finish();
  if (scan.failed()) return nonsense(scan.fault());
  if (!data_seen) return nonsense("no `data`");
  return models;
}

}  // namespace warmpath::api
