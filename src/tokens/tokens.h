// tokens: a model's own chat template and tokenizer: messages or text <-> token ids, as the engine would do it.
//
// Built on the `tokenizers`, `fastokens` and `minijinja` crates behind a C door (src/tokens/rust). Core: files are read
// by the caller and handed in as bytes; the clock too.
//
//   auto tokenizer = Tokenizer::create(files);
//   auto ids = (*tokenizer)->encode("hello world", SpecialTokens::kAdd);
//
// Thread rule: a Tokenizer is immutable; every const call may run on any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace warmpath::tokens {

// The files of a Hugging Face model folder, whole; an absent file is nullopt.
struct ModelFiles {
  std::string tokenizer_json;
  std::optional<std::string> tokenizer_config_json;
  std::optional<std::string> chat_template_jinja;  // chat_template.jinja or chat_template.json's template
  std::optional<std::string> special_tokens_map_json;
  std::optional<std::string> config_json;
};

enum class SpecialTokens : std::uint8_t { kNone, kAdd };  // what `add_special_tokens` says
// Which end `truncate_prompt_tokens` cuts off: transformers' `truncation_side` (kRight keeps the first tokens).
enum class TruncationSide : std::uint8_t { kRight, kLeft };
enum class SpecialText : std::uint8_t { kKeep, kSkip };  // decode: `skip_special_tokens`

// Whether our ids are the engine's. transformers rebuilds some tokenizers from their class: then nobody knows before
// the engine was asked.
struct Exactness {
  bool proven = false;
  std::string why_not;  // empty when proven
};

// How texts are encoded. The fast encoder (fastokens) is used only where it gave the ids of the reference (the
// `tokenizers` crate) for a built-in text when the tokenizer was loaded.
struct EncoderFacts {
  bool fast = false;
  std::string why_not_fast = "not known";  // empty when fast
  // Texts may be cut where is_cut() (cuts.h) says: the ids of the parts, encoded with kNone, are those of the whole.
  bool parts = false;
  std::string why_no_parts = "not known";  // empty when parts
  // With `parts`: what kAdd puts before and behind a text's ids.
  std::vector<TokenId> before, after;
};

// What a library made, passed on without a copy: freed with the last `owner`.
struct TokenRun {
  std::shared_ptr<const void> owner;
  std::span<const TokenId> ids;
};
struct RenderedText {
  std::shared_ptr<const void> owner;
  std::string_view text;
};

// A chat-completions body's fields, as raw JSON texts (empty view: absent). Shapes as OpenAI's and vLLM 0.32's.
struct ChatInput {
  std::string_view messages;              // array
  std::string_view tools;                 // array
  std::string_view documents;             // array
  std::string_view chat_template_kwargs;  // object
  std::string_view reasoning_effort;      // string
  std::string_view tool_choice;           // string or object
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  std::int64_t now_unix_seconds = 0;  // local time handed in: for strftime_now
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // kInvalid with the file and the cause when it cannot be used. Cost: 0.1 to 4 s, the most for 250,000
  // entries, and memory of 8 to 11 times the file (`./run bench prompt` measures it); a thread that encodes keeps up to
  // about 100 MB of words besides.
  static Result<std::shared_ptr<const Tokenizer>> create(const ModelFiles& files);

  // kInvalid for text that is not UTF-8.
  virtual Result<std::vector<TokenId>> encode(std::string_view text, SpecialTokens special) const = 0;
  // The ids of a text's parts, one after another; `counts` receives how many each has. Parts end at `ends`, ascending,
  // all of them cuts but the last, which is the text's end. Only where encoder_facts().parts. Cost: that of
  // encode(text).
  virtual Result<TokenRun> encode_parts(std::string_view text, std::span<const std::size_t> ends,
                                        std::span<std::uint32_t> counts) const;
  // The same by the reference alone, whatever encoder_facts() says: for comparing. Cost: 10 to 50 times encode().
  virtual Result<std::vector<TokenId>> encode_by_reference(std::string_view text, SpecialTokens special) const {
    return encode(text, special);
  }
  // For benchmarks: the number of ids by the fast encoder, which hands over nothing else; nullopt where it is not used.
  virtual std::optional<std::uint64_t> count_by_fast(std::string_view) const { return std::nullopt; }
  // kInvalid for an id outside the vocabulary.
  virtual Result<std::string> decode(std::span<const TokenId> ids, SpecialText special) const = 0;
  // The prompt text as the engine's renderer would write it (vLLM 0.32's message shaping). kInvalid with the
  // template's own message when it refuses; kUnsupported when the model has no template.
  virtual Result<std::string> render_chat(const ChatInput& chat) const = 0;
  // The same, not copied.
  virtual Result<RenderedText> render_chat_text(const ChatInput& chat) const;
  // render_chat, then encode without added special tokens: as vLLM does.
  virtual Result<std::vector<TokenId>> encode_chat(const ChatInput& chat) const = 0;

  virtual bool has_chat_template() const = 0;
  virtual std::uint32_t vocabulary_size() const = 0;  // ids are below it
  // eos ids by tokenizer_config / config, possibly several or none.
  virtual std::vector<TokenId> end_ids() const = 0;
  virtual const Exactness& exactness() const = 0;
  virtual const EncoderFacts& encoder_facts() const;
  // Texts that the fast encoder gave up on so far; the reference encoded them.
  virtual std::uint64_t given_up() const { return 0; }
};

}  // namespace warmpath::tokens

#include "tokens/cuts.h"          // IWYU pragma: export
#include "tokens/stable_words.h"  // IWYU pragma: export
