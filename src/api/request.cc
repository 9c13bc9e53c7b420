// Parsing of request bodies, and the splices that change them.
#include <array>
#include <cmath>
#include <limits>

#include "api/api.h"
#include "api/chat_form.h"
#include "api/json_scan.h"
#include "api/request_fields.h"

namespace warmpath::api {
namespace {

using Kind = JsonScan::Kind;

constexpr std::string_view kWantedPrompts = "required: a string, an array of token ids, or an array of those";

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
      : body_(body), limits_(limits), scan_(body, limits.depth_max), fields_(fields_of(endpoint)) {
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
      const std::uint64_t bit = std::uint64_t{1} << i;
      if ((fields_ & bit) == 0 || key != kFieldNames[i]) continue;
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
      case Field::kMessages:
        if (request_.endpoint == Endpoint::kEmbeddings) return embedded_chat();
        if (is_anthropic()) {
          anthropic_.messages = slice_of(Kind::kArray, "expected an array");
          return;
        }
        request_.messages = messages();
        return;
      case Field::kTools: tools() = slice_of(Kind::kArray, "expected an array"); return;
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
      case Field::kPrompt:
        if (request_.endpoint == Endpoint::kResponses) return unread(kWhyNotUnknownItem);
        prompt();
        return;
      case Field::kPromptEmbeds:
        request_.has_media = true;
        scan_.skip();
        return;
      case Field::kInput:
        if (request_.endpoint != Endpoint::kResponses) return input();
        if (scan_.peek() != Kind::kString && scan_.peek() != Kind::kArray) {
          return scan_.fail("expected a string or an array of items");
        }
        responses_.input = scan_.text_of(scan_.skip());
        return;
      case Field::kPadding:
        if (scan_.string() != "do_not_pad" && request_.why_not_exact.empty()) request_.why_not_exact = kWhyNotPadding;
        return;
      case Field::kTokenIds: token_ids(); return;
      case Field::kSamplingParams: sampling_params(); return;
      case Field::kFeatures:
      case Field::kContentParts:
        request_.has_media = true;
        scan_.skip();
        return;
      case Field::kMaxOutputTokens:
        if (const auto n = count(0)) max_tokens_ = n;
        return;
      case Field::kInstructions: responses_.instructions = slice_of(Kind::kString, "expected a string"); return;
      case Field::kReasoning: responses_.reasoning = slice_of(Kind::kObject, "expected an object"); return;
      case Field::kTruncation:
        if (scan_.string() != "disabled") request_.why_not_exact = kWhyNotTruncated;
        return;
      case Field::kPreviousResponseId:
      case Field::kConversation:
        return scan_.fail(
            "this gateway keeps no answers, and of the engines behind it each knows at most its own; send the whole "
            "conversation in `input`");
      case Field::kBackground:
        if (scan_.boolean().value_or(false)) {
          scan_.fail("answers are not kept, so nobody could fetch one later; send it without, or with `stream`");
        }
        return;
      case Field::kPreviousInputMessages: return unread(kWhyNotUnknownItem);
      case Field::kSystem:
        if (scan_.peek() != Kind::kString && scan_.peek() != Kind::kArray) {
          return scan_.fail("expected a string or an array of text blocks");
        }
        anthropic_.system = scan_.text_of(scan_.skip());
        return;
      case Field::kThinking: anthropic_.thinking = slice_of(Kind::kObject, "expected an object"); return;
      case Field::kOutputConfig: anthropic_.output_config = slice_of(Kind::kObject, "expected an object"); return;
      case Field::kMetadata: anthropic_.metadata = slice_of(Kind::kObject, "expected an object"); return;
      case Field::kCount: return;
    }
  }

  bool is_anthropic() const {
    return request_.endpoint == Endpoint::kMessages || request_.endpoint == Endpoint::kCountTokens;
  }

  std::string_view& tools() {
    if (is_anthropic()) return anthropic_.tools;
    return request_.endpoint == Endpoint::kResponses ? responses_.tools : request_.tools;
  }

  // Something that shapes the prompt in a way that is not known here.
  void unread(std::string_view why) {
    request_.why_not_exact = why;
    scan_.skip();
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

  // Embeddings of chats: one conversation or several, in `messages` or `input`. Pooling models render them in ways of
  // their own.
  void embedded_chat() {
    embedded_chat_ = true;
    request_.why_not_exact = kWhyNotEmbeddedChat;
    request_.messages = scan_.text_of(scan_.skip());
  }

  void input() {
    if (scan_.peek() == Kind::kString) {
      request_.prompts.emplace_back(scan_.string());
      return;
    }
    if (scan_.peek() != Kind::kArray) {
      return scan_.fail("expected a string, an array of token ids, or an array of those");
    }
    prompt_list();
    if (!scan_.failed() && request_.prompts.empty() && !embedded_chat_) scan_.fail("must not be empty");
  }

  void token_ids() {
    std::vector<TokenId> ids;
    scan_.array([&] { ids.push_back(token()); });
    if (!scan_.failed() && ids.empty()) return scan_.fail("must not be empty");
    request_.prompts.emplace_back(std::move(ids));
  }

  void sampling_params() {
    std::array<bool, 3> seen{};
    const auto once = [&](std::size_t which) {
      if (std::exchange(seen[which], true)) scan_.fail("holds a member twice");
      return !scan_.failed() && scan_.peek() != Kind::kNull;
    };
    scan_.object([&](std::string_view key) {
      if (key == "max_tokens" && once(0)) {
        max_tokens_ = count(0);
      } else if (key == "n" && once(1)) {
        request_.n = count(1);
      } else if (key == "ignore_eos" && once(2)) {
        flag(request_.ignore_eos);
      } else {
        scan_.skip();
      }
    });
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
      } else if (kind == Kind::kObject && request_.endpoint == Endpoint::kEmbeddings) {
        embedded_chat();
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
      scan_.array([&] {
        if (scan_.peek() == Kind::kObject && request_.endpoint == Endpoint::kEmbeddings) {
          embedded_chat();
        } else {
          ids.push_back(token());
        }
      });
      if (!embedded_chat_) request_.prompts.emplace_back(std::move(ids));
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
    switch (request_.endpoint) {
      case Endpoint::kChatCompletions:
        if (request_.messages.empty()) return missing("messages", "required: an array of messages");
        if (asked_generation_prompt_ && request_.continue_final_message) {
          return missing("continue_final_message", "cannot be true together with add_generation_prompt");
        }
        break;
      case Endpoint::kCompletions:
        if (request_.prompts.empty() && !request_.has_media) return missing("prompt", kWantedPrompts);
        break;
      case Endpoint::kResponses:
        if (responses_.input.empty()) return missing("input", "required: a string or an array of items");
        param_ = "input";
        read_responses(scan_, responses_, limits_, request_, kind_);
        if (scan_.failed()) return scan_error();
        if (request_.messages == "[]") return missing("input", "must hold at least one item");
        break;
      case Endpoint::kMessages:
      case Endpoint::kCountTokens:
        if (anthropic_.messages.empty()) return missing("messages", "required: an array of messages");
        param_ = "messages";
        read_anthropic(scan_, anthropic_, limits_, request_, kind_);
        if (scan_.failed()) return scan_error();
        if (request_.messages == "[]") return missing("messages", "must hold at least one message that says something");
        break;
      case Endpoint::kEmbeddings:
        if (embedded_chat_) request_.prompts.clear();
        if (request_.prompts.empty() && !embedded_chat_) return missing("input", kWantedPrompts);
        break;
      case Endpoint::kGenerate:
        if (request_.prompts.empty()) return missing("token_ids", "required: an array of token ids");
        if ((seen_ & bit_of(Field::kSamplingParams)) == 0) return missing("sampling_params", "required: an object");
        break;
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
  const std::uint64_t fields_;
  std::uint64_t seen_ = 0;  // of fields_
  AnthropicBody anthropic_;
  ResponsesBody responses_;
  std::string param_;
  ErrorKind kind_ = ErrorKind::kInvalid;
  std::optional<std::uint32_t> max_tokens_, max_completion_tokens_;
  bool asked_generation_prompt_ = false;
  bool embedded_chat_ = false;
};

}  // namespace

Result<Request> parse_request(Endpoint endpoint, std::string_view body, const RequestLimits& limits,
                              std::string* param) {
  return Parser(endpoint, body, limits).run(param);
}

}  // namespace warmpath::api
