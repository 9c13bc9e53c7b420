#include <simdjson.h>

#include <string>
#include <utility>

#include "tokens/rust_door.h"
#include "tokens/tokens.h"

namespace warmpath::tokens {
namespace {

// Never null: to the library a null pointer means "absent".
WtBytes present(std::string_view text) {
  static constexpr char kEmpty = 0;
  const char* data = text.data() == nullptr ? &kEmpty : text.data();
  return {reinterpret_cast<const std::uint8_t*>(data), text.size()};
}

WtBytes optional_bytes(const std::optional<std::string>& text) { return text ? present(*text) : WtBytes{nullptr, 0}; }

WtBytes unless_empty(std::string_view text) { return text.empty() ? WtBytes{nullptr, 0} : present(text); }

// The library takes texts for UTF-8 without looking.
Result<void> check_utf8(std::string_view text, std::string_view what) {
  if (simdjson::validate_utf8(text.data(), text.size())) return {};
  return Error{ErrorKind::kInvalid, std::string(what) + " is not UTF-8"};
}

Result<void> check_utf8(const ChatInput& chat) {
  const std::pair<std::string_view, std::string_view> fields[] = {{chat.messages, "messages"},
                                                                  {chat.tools, "tools"},
                                                                  {chat.documents, "documents"},
                                                                  {chat.chat_template_kwargs, "chat_template_kwargs"},
                                                                  {chat.reasoning_effort, "reasoning_effort"}};
  for (const auto& [text, what] : fields) {
    if (auto checked = check_utf8(text, what); !checked) return checked;
  }
  return {};
}

std::string borrowed_text(WtBytes text) { return {reinterpret_cast<const char*>(text.data), text.size}; }

std::string take_text(WtText text) {
  std::string out(reinterpret_cast<const char*>(text.data), text.size);
  wt_free_text(text);
  return out;
}

RenderedText keep_text(WtText text) {
  return {std::shared_ptr<const void>(text.data, [text](const void*) { wt_free_text(text); }),
          {reinterpret_cast<const char*>(text.data), text.size}};
}

std::vector<TokenId> take_ids(WtIds ids) {
  std::vector<TokenId> out(ids.data, ids.data + ids.size);
  wt_free_ids(ids);
  return out;
}

TokenRun keep_ids(WtIds ids) {
  return {std::shared_ptr<const void>(ids.data, [ids](const void*) { wt_free_ids(ids); }), {ids.data, ids.size}};
}

Error take_error(std::int32_t status, WtText text) {
  ErrorKind kind = ErrorKind::kInternal;
  switch (status) {
    case kWtInvalid: kind = ErrorKind::kInvalid; break;
    case kWtUnsupported: kind = ErrorKind::kUnsupported; break;
    case kWtTooLarge: kind = ErrorKind::kTooLarge; break;
    default: break;
  }
  return {kind, take_text(text)};
}

class RustTokenizer final : public Tokenizer {
 public:
  explicit RustTokenizer(void* model) : model_(model) {
    WtFacts facts{};
    wt_facts(model_, &facts);
    vocabulary_size_ = facts.vocabulary_size;
    has_chat_template_ = facts.has_chat_template != 0;
    end_ids_.assign(facts.end_ids, facts.end_ids + facts.end_ids_size);
    exactness_.why_not = borrowed_text(facts.inexact_because);
    exactness_.proven = exactness_.why_not.empty();
    encoder_.why_not_fast = borrowed_text(facts.slow_because);
    encoder_.fast = encoder_.why_not_fast.empty();
    encoder_.why_no_parts = borrowed_text(facts.uncut_because);
    encoder_.parts = encoder_.why_no_parts.empty();
    encoder_.before.assign(facts.before, facts.before + facts.before_size);
    encoder_.after.assign(facts.after, facts.after + facts.after_size);
  }
  ~RustTokenizer() override { wt_close(model_); }
  RustTokenizer(const RustTokenizer&) = delete;
  RustTokenizer& operator=(const RustTokenizer&) = delete;

  Result<std::vector<TokenId>> encode(std::string_view text, SpecialTokens special) const override {
    return encode_by(&wt_encode, text, special);
  }
  Result<TokenRun> encode_parts(std::string_view text, std::span<const std::size_t> ends,
                                std::span<std::uint32_t> counts) const override {
    WP_CHECK(encoder_.parts && ends.size() == counts.size());
    if (auto checked = check_utf8(text, "the text"); !checked) return checked.error();
    WtIds ids{};
    WtText error{};
    if (auto status = wt_encode_parts(model_, present(text), ends.data(), counts.data(), ends.size(), &ids, &error)) {
      return take_error(status, error);
    }
    return keep_ids(ids);
  }
  Result<std::vector<TokenId>> encode_by_reference(std::string_view text, SpecialTokens special) const override {
    return encode_by(&wt_encode_by_reference, text, special);
  }

  std::optional<std::uint64_t> count_by_fast(std::string_view text) const override {
    const std::uint64_t count = check_utf8(text, "") ? wt_count_by_fast(model_, present(text)) : UINT64_MAX;
    return count == UINT64_MAX ? std::nullopt : std::optional(count);
  }

  Result<std::string> decode(std::span<const TokenId> ids, SpecialText special) const override {
    WtText text{};
    WtText error{};
    const std::int32_t skip = special == SpecialText::kSkip ? 1 : 0;
    if (auto status = wt_decode(model_, ids.data(), ids.size(), skip, &text, &error)) return take_error(status, error);
    return take_text(text);
  }

  Result<std::string> render_chat(const ChatInput& chat) const override { return render_by(chat, take_text); }
  Result<RenderedText> render_chat_text(const ChatInput& chat) const override { return render_by(chat, keep_text); }

  Result<std::vector<TokenId>> encode_chat(const ChatInput& chat) const override {
    auto rendered = render_chat_text(chat);
    if (!rendered) return std::move(rendered).error();
    return encode(rendered->text, SpecialTokens::kNone);
  }

  bool has_chat_template() const override { return has_chat_template_; }
  std::uint32_t vocabulary_size() const override { return vocabulary_size_; }
  std::vector<TokenId> end_ids() const override { return end_ids_; }
  const Exactness& exactness() const override { return exactness_; }
  const EncoderFacts& encoder_facts() const override { return encoder_; }
  std::uint64_t given_up() const override { return wt_given_up(model_); }

 private:
  template <class Encode>
  Result<std::vector<TokenId>> encode_by(Encode* call, std::string_view text, SpecialTokens special) const {
    if (auto checked = check_utf8(text, "the text"); !checked) return checked.error();
    WtIds ids{};
    WtText error{};
    if (auto status = call(model_, present(text), special == SpecialTokens::kAdd ? 1 : 0, &ids, &error)) {
      return take_error(status, error);
    }
    return take_ids(ids);
  }

  template <class Take>
  auto render_by(const ChatInput& chat, Take&& take) const -> Result<decltype(take(WtText{}))> {
    const WtChat input{.messages = present(chat.messages),
                       .tools = unless_empty(chat.tools),
                       .documents = unless_empty(chat.documents),
                       .chat_template_kwargs = unless_empty(chat.chat_template_kwargs),
                       .reasoning_effort = unless_empty(chat.reasoning_effort),
                       .add_generation_prompt = chat.add_generation_prompt ? 1 : 0,
                       .continue_final_message = chat.continue_final_message ? 1 : 0,
                       .now_unix_seconds = chat.now_unix_seconds};
    if (auto checked = check_utf8(chat); !checked) return checked.error();
    WtText text{};
    WtText error{};
    if (auto status = wt_render(model_, &input, &text, &error)) return take_error(status, error);
    return take(text);
  }

  void* model_;
  std::uint32_t vocabulary_size_ = 0;
  bool has_chat_template_ = false;
  std::vector<TokenId> end_ids_;
  Exactness exactness_;
  EncoderFacts encoder_;
};

}  // namespace

const EncoderFacts& Tokenizer::encoder_facts() const {
  static const EncoderFacts unknown;
  return unknown;
}

Result<TokenRun> Tokenizer::encode_parts(std::string_view text, std::span<const std::size_t> ends,
                                         std::span<std::uint32_t> counts) const {
  WP_CHECK(ends.size() == counts.size());
  const auto all = std::make_shared<std::vector<TokenId>>();
  std::size_t begin = 0;
  for (std::size_t i = 0; i < ends.size(); begin = ends[i++]) {
    auto ids = encode(text.substr(begin, ends[i] - begin), SpecialTokens::kNone);
    if (!ids) return std::move(ids).error();
    counts[i] = static_cast<std::uint32_t>(ids->size());
    all->insert(all->end(), ids->begin(), ids->end());
  }
  return TokenRun{all, *all};
}

Result<RenderedText> Tokenizer::render_chat_text(const ChatInput& chat) const {
  auto text = render_chat(chat);
  if (!text) return std::move(text).error();
  const auto owner = std::make_shared<std::string>(std::move(*text));
  return RenderedText{owner, *owner};
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::create(const ModelFiles& files) {
  const WtFiles input{.tokenizer_json = present(files.tokenizer_json),
                      .tokenizer_config_json = optional_bytes(files.tokenizer_config_json),
                      .chat_template_jinja = optional_bytes(files.chat_template_jinja),
                      .special_tokens_map_json = optional_bytes(files.special_tokens_map_json),
                      .config_json = optional_bytes(files.config_json)};
  void* model = nullptr;
  WtText error{};
  if (auto status = wt_open(&input, &model, &error)) return take_error(status, error);
  return std::shared_ptr<const Tokenizer>(std::make_shared<RustTokenizer>(model));
}

}  // namespace warmpath::tokens
