// Chat JSON and template text -> rendering. The Rust side is not instrumented; crossing the door and surviving anything
// (panics come back as errors of kind kInternal) is what is checked.
#include <cstdint>
#include <string>
#include <string_view>

#include "tokens/tokens.h"

namespace {

using namespace warmpath;
using namespace warmpath::tokens;

constexpr const char* kTokenizer = R"({"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,
  "post_processor":null,"decoder":null,"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";
constexpr const char* kMessages = R"([{"role":"system","content":"s"},{"role":"user","content":"u"},
  {"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]}])";
// One for each content form; both touch everything that shaping makes.
constexpr const char* kTemplates[] = {
    "{% for m in messages %}{{ m.role }}{{ m.content }}{{ m | tojson }}{% endfor %}{{ tools | tojson }}{{ "
    "strftime_now('%c') }}",
    "{% for m in messages %}{% for p in m.content %}{{ p.type }}{{ p.text }}{% endfor %}{% endfor %}"};

std::shared_ptr<const Tokenizer> make(std::string_view jinja) {
  ModelFiles files;
  files.tokenizer_json = kTokenizer;
  files.chat_template_jinja = std::string(jinja);
  auto made = Tokenizer::create(files);
  if (!made.ok()) WP_CHECK(made.error().kind != ErrorKind::kInternal);
  return made.ok() ? *made : nullptr;
}

void render(const Tokenizer& tokenizer, const ChatInput& chat) {
  auto text = tokenizer.render_chat(chat);
  if (!text.ok()) {
    WP_CHECK(text.error().kind != ErrorKind::kInternal);
    return;
  }
  WP_CHECK(tokenizer.encode(*text, SpecialTokens::kNone).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::shared_ptr<const Tokenizer> kReady[] = {make(kTemplates[0]), make(kTemplates[1])};
  if (size == 0) return 0;
  const std::uint8_t choice = data[0];
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  ChatInput chat;
  chat.messages = kMessages;
  chat.add_generation_prompt = (choice & 1) != 0;
  chat.continue_final_message = (choice & 2) != 0;
  switch (choice >> 5) {
    case 0:
    case 1:
    case 2: chat.messages = input; break;
    case 3: chat.tools = input; break;
    case 4: chat.chat_template_kwargs = input; break;
    case 5:
      chat.reasoning_effort = input;
      chat.documents = input;
      break;
    default:
      if (auto tokenizer = make(input)) render(*tokenizer, chat);
      return 0;
  }
  render(*kReady[(choice >> 2) & 1], chat);
  return 0;
}
