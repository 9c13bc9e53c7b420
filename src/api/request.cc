// Parsing of request bodies, and the splices that change them.
#include <array>
#include <cmath>
#include <limits>

#include "api/api.h"
#include "api/json_scan.h"

namespace warmpath::api {
namespace {

constexpr std::string_view kChatPath = "/v1/chat/completions";
constexpr std::string_view kCompletionsPath = "/v1/completions";

using Kind = JsonScan::Kind;

// Top-level members that the router reads; a body that has one of them twice is refused.
enum class Field : std::uint8_t {
  kModel,
  kStream,
  kStreamOptions,
  kMaxTokens,
  kMaxCompletionTokens,
  kN,
  kIgnoreEos,
  kCacheSalt,
  kUser,
  kMessages,
  kTools,
  kDocuments,
  kChatTemplate,
  kChatTemplateKwargs,
  kReasoningEffort,
  kToolChoice,
  kAddGenerationPrompt,
  kContinueFinalMessage,
  kAddSpecialTokens,
  kTruncatePromptTokens,
  kTruncationSide,
  kPrompt,
  kPromptEmbeds,
  kCount,
};
constexpr std::array<std::string_view, static_cast<std::size_t>(Field::kCount)> kFieldNames = {"model",
                                                                                               "stream",
                                                                                               "stream_options",
                                                                                               "max_tokens",
                                                                                               "max_completion_tokens",
                                                                                               "n",
                                                                                               "ignore_eos",
                                                                                               "cache_salt",
                                                                                               "user",
                                                                                               "messages",
                                                                                               "tools",
                                                                                               "documents",
                                                                                               "chat_template",
                                                                                               "chat_template_kwargs",
                                                                                               "reasoning_effort",
                                                                                               "tool_choice",
                                                                                               "add_generation_prompt",
                                                                                               "continue_final_message",
                                                                                               "add_special_tokens",
                                                                                               "truncate_prompt_tokens",
                                                                                               "truncation_side",
                                                                                               "prompt",
                                                                                               "prompt_embeds"};

// Parts of a message whose whole meaning is their text (vLLM 0.32's names). Anything else may become placeholder
// tokens.
bool is_text_part(std::string_view type) {
  constexpr std::array<std::string_view, 5> kText = {"text", "input_text", "output_text", "refusal", "thinking"};
  for (const std::string_view known : kText) {
    if (type == known) return true;
  }
  return false;
}

class Parser {
 public:
  Parser(Endpoint endpoint, std::string_view body, const RequestLimits& limits)
      : body_(body), limits_(limits), scan_(body, limits.depth_max) {
    request_.endpoint = endpoint;
  }

  Result<Request> run(std::string* param) {
    Result<Request> result = whole();
    if (!result.ok() && param != nullptr) *param = param_;
    return result;
  }

 private:
  Result<Request> whole() {
    if (const auto bad = first_bad_utf8(body_)) {
      return Error{ErrorKind::kInvalid, "body is not UTF-8 text: bad byte" + position(*bad)};
    }
    if (scan_.peek() != Kind::kObject) scan_.fail("expected a JSON object");
    scan_.object([this](std::string_view key) { member(key); });
    scan_.finish();
    if (scan_.failed()) return scan_error();
    return checked();
  }

  std::string position(std::size_t offset) const {
    std::size_t line = 1;
    std::size_t start = 0;
    for (std::size_t i = 0; i < offset && i < body_.size(); ++i) {
      if (body_[i] == '\n') {
        ++line;
        start = i + 1;
      }
    }
    return " at byte " + std::to_string(offset) + " (line " + std::to_string(line) + ", column " +
           std::to_string(offset - start + 1) + ")";
  }

  // A fault that the scanner latched: either broken JSON, or ours about a field (then param_ is set).
  Error scan_error() const {
    const std::string where = position(scan_.fault_offset());
    if (param_.empty()) return {ErrorKind::kInvalid, std::string("body is not valid JSON: ") + scan_.fault() + where};
    return {kind_, "`" + param_ + "`: " + scan_.fault() + where};
  }

  void member(std::string_view key) {
    for (std::size_t i = 0; i < kFieldNames.size(); ++i) {
      if (key != kFieldNames[i]) continue;
      const std::uint32_t bit = 1u << i;
      param_ = key;
      if ((seen_ & bit) != 0) {
        scan_.fail("given twice");
        return;
      }
      seen_ |= bit;
      if (scan_.peek() == Kind::kNull && static_cast<Field>(i) != Field::kStreamOptions &&
          static_cast<Field>(i) != Field::kModel) {
        scan_.skip();  // null: as if absent
      } else {
        field(static_cast<Field>(i));
      }
      if (!scan_.failed()) param_.clear();
      return;
    }
    scan_.skip();
  }

  void field(Field field) {
    switch (field) {
      case Field::kModel: model(); return;
      case Field::kStream: flag(request_.stream); return;
      case Field::kStreamOptions: stream_options(); return;
      case Field::kMaxTokens:
        if (const auto n = count(0)) max_tokens_ = n;
        return;
      case Field::kMaxCompletionTokens:
        if (const auto n = count(0)) max_completion_tokens_ = n;
        return;
      case Field::kN: request_.n = count(1); return;
      case Field::kIgnoreEos: flag(request_.ignore_eos); return;
      case Field::kCacheSalt: salt(); return;
      case Field::kUser: request_.user = name(); return;
      case Field::kMessages: request_.messages = messages(); return;
      case Field::kTools: request_.tools = slice_of(Kind::kArray, "expected an array"); return;
      case Field::kDocuments: request_.documents = slice_of(Kind::kArray, "expected an array"); return;
      case Field::kChatTemplate:
        request_.has_own_template = true;
        scan_.skip();
        return;
      case Field::kChatTemplateKwargs:
        request_.chat_template_kwargs = slice_of(Kind::kObject, "expected an object");
        return;
      case Field::kReasoningEffort: request_.reasoning_effort = slice_of(Kind::kString, "expected a string"); return;
      case Field::kToolChoice: tool_choice(); return;
      case Field::kAddGenerationPrompt:
        flag(request_.add_generation_prompt);
        asked_generation_prompt_ = request_.add_generation_prompt;
        return;
      case Field::kContinueFinalMessage: flag(request_.continue_final_message); return;
      case Field::kAddSpecialTokens: request_.add_special_tokens = scan_.boolean(); return;
      case Field::kTruncatePromptTokens: truncate(); return;
      case Field::kTruncationSide: truncation_side(); return;
      case Field::kPrompt: prompt(); return;
      case Field::kPromptEmbeds:
        request_.has_media = true;
        scan_.skip();
        return;
      case Field::kCount: return;
    }
  }

  void model() {
    const std::size_t start = value_offset();
    if (scan_.peek() == Kind::kNull) {
      scan_.skip();
    } else {
      request_.model = name();
    }
    request_.model_slice = {start, scan_.offset() - start};
  }

  std::size_t value_offset() {
    scan_.peek();  // skips white space
    return scan_.offset();
  }

  void flag(bool& out) {
    if (const auto value = scan_.boolean()) out = *value;
  }

  std::string name() {
    std::string text = scan_.string();
    if (text.size() > limits_.name_bytes_max) scan_.fail("is too long");
    return text;
  }

  void salt() {
    request_.cache_salt = name();
    // vLLM 0.32 refuses an empty one too ("bad requests", tests/golden/api).
    if (!scan_.failed() && request_.cache_salt.empty()) scan_.fail("must be a non-empty string if given");
  }

  // An integer >= least; beyond 32 bits the largest number stands for it: the engine decides.
  std::optional<std::uint32_t> count(std::uint32_t least) {
    const auto value = integer();
    if (!value) return std::nullopt;
    if (*value < static_cast<std::int64_t>(least)) {
      scan_.fail(least == 0 ? "must not be negative" : "must be at least 1");
      return std::nullopt;
    }
    constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
    return static_cast<std::uint32_t>(std::min(*value, kMost));
  }

  // Integers may be written as 5.0, as the engines' own parsers allow.
  std::optional<std::int64_t> integer() {
    const Slice slice = scan_.number();
    if (scan_.failed()) return std::nullopt;
    const std::string_view text = scan_.text_of(slice);
    if (const auto whole = parse_i64(text)) return whole;
    const auto real = parse_double(text);
    if (real && std::floor(*real) == *real && std::abs(*real) < 9e18) return static_cast<std::int64_t>(*real);
    scan_.fail("expected an integer");
    return std::nullopt;
  }

  void truncate() {
    const auto value = integer();
    if (value && *value < -1) scan_.fail("must be -1 or more");
    request_.truncate_prompt_tokens = value;
  }

  void truncation_side() {
    const std::string side = scan_.string();
    if (side != "left" && side != "right") return scan_.fail("must be \"left\" or \"right\"");
    request_.truncation_side = side == "left" ? TruncationSide::kLeft : TruncationSide::kRight;
  }

  std::string_view slice_of(Kind kind, const char* otherwise) {
    if (scan_.peek() != kind) {
      scan_.fail(otherwise);
      return {};
    }
    return scan_.text_of(scan_.skip());
  }

  void tool_choice() {
    const Kind kind = scan_.peek();
    if (kind != Kind::kString && kind != Kind::kObject) {
      scan_.fail("expected a string or an object");
      return;
    }
    request_.tool_choice = scan_.text_of(scan_.skip());
  }

  void stream_options() {
    const std::size_t start = value_offset();
    if (scan_.peek() == Kind::kNull) {
      scan_.skip();
    } else {
      bool seen = false;
      scan_.object([this, &seen](std::string_view key) {
        if (key != "include_usage") {
          scan_.skip();
          return;
        }
        if (std::exchange(seen, true)) {
          scan_.fail("include_usage given twice");
          return;
        }
        const std::size_t at = value_offset();
        if (scan_.peek() == Kind::kNull) {
          scan_.skip();
        } else {
          flag(request_.include_usage);
        }
        request_.include_usage_slice = Slice{at, scan_.offset() - at};
      });
    }
    request_.stream_options = Slice{start, scan_.offset() - start};
  }

  std::string_view messages() {
    const std::size_t start = value_offset();
    std::size_t seen = 0;
    scan_.array([this, &seen] {
      ++seen;
      message();
    });
    if (!scan_.failed() && seen == 0) scan_.fail("must hold at least one message");
    if (scan_.failed()) return {};
    return body_.substr(start, scan_.offset() - start);
  }

  void message() {
    bool role_seen = false;
    bool content_seen = false;
    scan_.object([&](std::string_view key) {
      if (key == "role") {
        if (std::exchange(role_seen, true)) scan_.fail("a message has two roles");
        if (scan_.peek() != Kind::kString) scan_.fail("a role must be a string");
        scan_.skip();
      } else if (key == "content") {
        if (std::exchange(content_seen, true)) scan_.fail("a message has two contents");
        content();
      } else {
        scan_.skip();
      }
    });
    if (!scan_.failed() && !role_seen) scan_.fail("a message has no role");
  }

  void content() {
    switch (scan_.peek()) {
      case Kind::kString:
      case Kind::kNull: scan_.skip(); return;
      case Kind::kArray: scan_.array([this] { part(); }); return;
      default: scan_.fail("content must be a string, an array of parts or null"); return;
    }
  }

  void part() {
    if (scan_.peek() == Kind::kString) {  // vLLM 0.32 takes bare strings as text parts
      scan_.skip();
      return;
    }
    bool text = false;
    scan_.object([&](std::string_view key) {
      if (key == "type" && scan_.peek() == Kind::kString) {
        text = is_text_part(scan_.string());
      } else {
        scan_.skip();
      }
    });
    if (!text) request_.has_media = true;
  }

  void prompt() {
    switch (scan_.peek()) {
      case Kind::kString: request_.prompts.emplace_back(scan_.string()); break;
      case Kind::kArray: prompt_list(); break;
      default: scan_.fail("expected a string, an array of token ids, or an array of those"); return;
    }
    if (scan_.failed()) return;
    for (const TextOrIds& one : request_.prompts) {
      const bool empty = std::visit([](const auto& value) { return value.empty(); }, one);
      if (empty) scan_.fail("must not be empty");
    }
    if (request_.prompts.empty()) scan_.fail("must not be empty");
  }

  void prompt_list() {
    std::vector<TokenId> ids;
    Kind first = Kind::kNone;
    scan_.array([&] {
      const Kind kind = scan_.peek();
      if (first == Kind::kNone) first = kind;
      if (kind != first) {
        scan_.fail("mixes kinds of prompt");
      } else if (kind == Kind::kNumber) {
        ids.push_back(token());
      } else {
        prompt_item(kind);
      }
    });
    request_.prompt_is_list = first == Kind::kString || first == Kind::kArray;
    if (first == Kind::kNumber) request_.prompts.emplace_back(std::move(ids));
  }

  void prompt_item(Kind kind) {
    if (request_.prompts.size() == limits_.prompts_max) {
      kind_ = ErrorKind::kTooLarge;
      scan_.fail("holds too many prompts");
    } else if (kind == Kind::kString) {
      request_.prompts.emplace_back(scan_.string());
    } else if (kind == Kind::kArray) {
      std::vector<TokenId> ids;
      scan_.array([&] { ids.push_back(token()); });
      request_.prompts.emplace_back(std::move(ids));
    } else {
      scan_.fail("expected a string, an array of token ids, or an array of those");
    }
  }

  TokenId token() {
    const Slice slice = scan_.number();
    if (scan_.failed()) return 0;
    const auto value = parse_u64(scan_.text_of(slice));
    if (!value || *value > std::numeric_limits<TokenId>::max()) {
      scan_.fail("a token id must be an integer from 0 to 4294967295");
      return 0;
    }
    return static_cast<TokenId>(*value);
  }

  // What only the whole body shows.
  Result<Request> checked() {
    request_.max_tokens = max_completion_tokens_ ? max_completion_tokens_ : max_tokens_;
    if (request_.endpoint == Endpoint::kChatCompletions) {
      if (request_.messages.empty()) return missing("messages", "required: an array of messages");
      if (asked_generation_prompt_ && request_.continue_final_message) {
        return missing("continue_final_message", "cannot be true together with add_generation_prompt");
      }
    } else if (request_.prompts.empty() && !request_.has_media) {
      return missing("prompt", "required: a string, an array of token ids, or an array of those");
    }
    return std::move(request_);
  }

  Error missing(std::string_view param, std::string_view what) {
    param_ = param;
    return {ErrorKind::kInvalid, "`" + param_ + "`: " + std::string(what)};
  }

  std::string_view body_;
  const RequestLimits& limits_;
  JsonScan scan_;
  Request request_;
  std::uint32_t seen_ = 0;
  std::string param_;
  ErrorKind kind_ = ErrorKind::kInvalid;
  std::optional<std::uint32_t> max_tokens_, max_completion_tokens_;
  bool asked_generation_prompt_ = false;
};

// One replacement of body[at.offset, +at.length).
struct Patch {
  Slice at;
  std::string text;
};

std::string apply(std::string_view body, Patch* first, Patch* last) {
  if (last - first == 2 && first[1].at.offset < first[0].at.offset) std::swap(first[0], first[1]);
  std::size_t size = body.size();
  for (const Patch* p = first; p != last; ++p) size += p->text.size();
  std::string out;
  out.reserve(size);
  std::size_t from = 0;
  for (const Patch* p = first; p != last; ++p) {
    out.append(body.substr(from, p->at.offset - from));
    out.append(p->text);
    from = p->at.offset + p->at.length;
  }
  out.append(body.substr(from));
  return out;
}

// Where a first member can be put: after the opening brace. A parsed body is a non-empty object.
Slice first_member(std::string_view body) { return {body.find('{') + 1, 0}; }

Patch usage_patch(std::string_view body, const Request& request) {
  if (request.include_usage_slice) return {*request.include_usage_slice, "true"};
  if (!request.stream_options) return {first_member(body), R"("stream_options":{"include_usage":true},)"};
  const std::string_view value = body.substr(request.stream_options->offset, request.stream_options->length);
  if (value.front() != '{') return {*request.stream_options, R"({"include_usage":true})"};
  const bool empty = trim(value.substr(1, value.size() - 2)).empty();
  return {{request.stream_options->offset + 1, 0}, empty ? R"("include_usage":true)" : R"("include_usage":true,)"};
}

Patch model_patch(std::string_view body, const Request& request, std::string_view model) {
  Patch patch;
  if (request.model_slice.length == 0) {
    patch.at = first_member(body);
    patch.text = R"("model":)";
    append_json_string(patch.text, model);
    patch.text.push_back(',');
  } else {
    patch.at = request.model_slice;
    append_json_string(patch.text, model);
  }
  return patch;
}

}  // namespace

std::optional<Endpoint> endpoint_of_path(std::string_view path) {
  if (path == kChatPath) return Endpoint::kChatCompletions;
  if (path == kCompletionsPath) return Endpoint::kCompletions;
  return std::nullopt;
}

std::string_view path_of_endpoint(Endpoint endpoint) {
  return endpoint == Endpoint::kChatCompletions ? kChatPath : kCompletionsPath;
}

Result<Request> parse_request(Endpoint endpoint, std::string_view body, const RequestLimits& limits,
                              std::string* param) {
  return Parser(endpoint, body, limits).run(param);
}

std::string spliced(std::string_view body, const Request& request, std::optional<std::string_view> model,
                    UsageSplice usage) {
  std::array<Patch, 2> patches;
  std::size_t used = 0;
  if (model) patches[used++] = model_patch(body, request, *model);
  if (usage == UsageSplice::kAdd && !request.include_usage) patches[used++] = usage_patch(body, request);
  return apply(body, patches.data(), patches.data() + used);
}

std::string with_model(std::string_view body, const Request& request, std::string_view model) {
  return spliced(body, request, model, UsageSplice::kKeep);
}

std::string with_include_usage(std::string_view body, const Request& request) {
  return spliced(body, request, std::nullopt, UsageSplice::kAdd);
}

}  // namespace warmpath::api
