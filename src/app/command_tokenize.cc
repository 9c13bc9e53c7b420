#include <cstdio>
#include <ctime>
#include <optional>
#include <string>

#include "api/api.h"
#include "app/commands.h"
#include "app/model_folder.h"
#include "app/standard_input.h"
#include "config/flags.h"

namespace warmpath::app {
namespace {

constexpr std::size_t kInputBytesMax = 256u << 20;

struct Options {
  std::string folder;
  bool no_special_tokens = false;
  bool chat = false;
  std::optional<std::int64_t> now;
  config::Format format = config::Format::kTable;
};

// "2026-11-23" or "2026-11-23T14:05:00", the local time that a template is to print.
Result<std::int64_t> parse_date(std::string_view text) {
  const std::string copy(text);
  std::tm time{};
  const char* rest = ::strptime(copy.c_str(), "%Y-%m-%d", &time);
  if (rest != nullptr && *rest == 'T') rest = ::strptime(rest, "T%H:%M:%S", &time);
  const std::tm asked = time;
  const std::int64_t seconds = rest != nullptr && *rest == '\0' ? ::timegm(&time) : 0;
  // timegm turns the 31st of June into the 1st of July.
  if (rest == nullptr || *rest != '\0' || time.tm_mday != asked.tm_mday) {
    return Error{ErrorKind::kInvalid, "is not a date such as 2026-11-23 or 2026-11-23T14:05:00"};
  }
  return seconds;
}

std::int64_t local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return ::timegm(&local);
}

Result<std::vector<TokenId>> encode(const tokens::Tokenizer& tokenizer, const Options& options,
                                    const std::string& input) {
  if (!options.chat) {
    using tokens::SpecialTokens;
    return tokenizer.encode(input, options.no_special_tokens ? SpecialTokens::kNone : SpecialTokens::kAdd);
  }
  auto request = api::parse_request(api::Endpoint::kChatCompletions, input);
  if (!request.ok()) return std::move(request).error();
  if (request->has_media) std::fputs("warmpath: note: parts that are not text have no ids here\n", stderr);
  tokens::ChatInput chat;
  chat.messages = request->messages;
  chat.tools = request->tools;
  chat.documents = request->documents;
  chat.chat_template_kwargs = request->chat_template_kwargs;
  chat.reasoning_effort = request->reasoning_effort;
  chat.tool_choice = request->tool_choice;
  chat.add_generation_prompt = request->add_generation_prompt;
  chat.continue_final_message = request->continue_final_message;
  chat.now_unix_seconds = options.now ? *options.now : local_now();
  return tokenizer.encode_chat(chat);
}

std::string as_json(const std::vector<TokenId>& ids) {
  JsonWriter w;
  w.object().key("ids").array();
  for (TokenId id : ids) w.value(id);
  w.end().end();
  return w.take() + "\n";
}

// One line an id: position, id, its text as a JSON string.
std::string as_table(const tokens::Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string out;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    auto text = tokenizer.decode(std::span(&ids[i], 1), tokens::SpecialText::kKeep);
    char head[48];
    std::snprintf(head, sizeof head, "%6zu %8u  ", i, ids[i]);
    out += head;
    append_json_string(out, text.ok() ? *text : "");
    out += '\n';
  }
  return out + std::to_string(ids.size()) + " ids\n";
}

}  // namespace

int run_tokenize(std::span<const std::string> args) {
  Options options;
  config::Flags flags("tokenize", "encode standard input as an engine would");
  flags.text("tokenizer", "DIR", "folder of the model: tokenizer.json and, for chats, its template", &options.folder)
      .required("tokenizer");
  flags.toggle("no-special-tokens", "do not add the tokens that the tokenizer puts around a text",
               &options.no_special_tokens);
  flags.toggle("chat", "the input is a chat-completions body: render it by the model's template", &options.chat);
  flags.custom(
      "now", "DATE", "local date, or date and time, for templates that print it",
      [&](std::string_view text) -> Result<void> {
        auto seconds = parse_date(text);
        if (!seconds.ok()) return seconds.error();
        options.now = *seconds;
        return {};
      },
      "the clock's");
  flags.format(&options.format);
  flags.example("printf 'hello world' | warmpath tokenize --tokenizer models/qwen3 --format json", "ids of a text");
  flags.example("warmpath tokenize --tokenizer models/llama3 --chat --now 2026-11-23 <body.json", "ids of a chat");
  flags.note("A chat that the template refuses ends with exit code 1 and the template's own message.");
  if (const auto code = flags.read(args)) return *code;

  auto tokenizer = load_model_folder(options.folder);
  if (!tokenizer.ok()) return fail(tokenizer.error());
  if (!(*tokenizer)->exactness().proven) {
    std::fprintf(stderr, "warmpath: note: an engine's ids may differ: %s\n", (*tokenizer)->exactness().why_not.c_str());
  }
  if (!(*tokenizer)->encoder_facts().fast) {
    std::fprintf(stderr, "warmpath: note: encoded by tokenizers, not by fastokens: %s\n",
                 (*tokenizer)->encoder_facts().why_not_fast.c_str());
  }
  auto input = read_standard_input(kInputBytesMax);
  if (!input.ok()) return fail(input.error());
  auto ids = encode(**tokenizer, options, *input);
  if (!ids.ok()) {
    fail(ids.error());
    return 1;
  }
  return print(options.format == config::Format::kJson ? as_json(*ids) : as_table(**tokenizer, *ids)) ? 0 : 1;
}

}  // namespace warmpath::app
