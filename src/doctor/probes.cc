#include "doctor/probes.h"

#include <array>
#include <utility>

namespace warmpath::doctor {
namespace {

constexpr std::string_view kOddText =
    "naïve café — “quotes” … ½ ﬁ e\u0301 你好，世界。 مرحبا بالعالم שלום Привет, мир! "
    "👩‍👩‍👧‍👦 "
    "🇺🇳 "
    "👍🏽 "
    "\u200b\ufeff";
constexpr std::string_view kSpaces = "  leading and  double  spaces\n\n\n\ttabs\r\n and a trailing one ";
constexpr std::string_view kCode =
    "def f(x):\n    return x**2  # 1234567890 3.14159 1e-9\n\n\nfor i in range(10): print(i)";
constexpr std::string_view kLong =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa antidisestablishmentarianism "
    "Donaudampfschifffahrtsgesellschaft "
    "I'll we've DON'T can't";
constexpr std::string_view kTools =
    R"([{"type":"function","function":{"name":"find","description":"looks \"it\" up","parameters":{"type":"object",)"
    R"("properties":{"what":{"type":"string"},"most":{"type":"integer"}},"required":["what"]}}}])";
constexpr std::size_t kSentencesMax = 2'000;

std::string message(std::string_view role, std::string_view content) {
  JsonWriter json;
  json.object().member("role", role).member("content", content).end();
  return json.take();
}

std::string list(std::initializer_list<std::string> messages) {
  std::string all = "[";
  for (const std::string& one : messages) all += (all.size() == 1 ? "" : ",") + one;
  return all + "]";
}

std::string request_head(std::string_view model) {
  JsonWriter name;
  name.value(model);
  return "{\"model\":" + name.take();
}

std::string prompt_member(const Prompt& prompt) {
  if (prompt.chat) return ",\"messages\":" + prompt.messages;
  JsonWriter text;
  text.value(prompt.text);
  return ",\"prompt\":" + text.take();
}

}  // namespace

Probes::Probes(const tokens::Tokenizer& tokenizer, std::string model, std::string nonce, std::int64_t now_unix_seconds,
               std::uint32_t filler_tokens)
    : tokenizer_(tokenizer),
      model_(std::move(model)),
      nonce_(std::move(nonce)),
      now_(now_unix_seconds),
      filler_tokens_(filler_tokens) {}

tokens::ChatInput Probes::chat_input(std::string_view messages, std::string_view tools) const {
  tokens::ChatInput chat;
  chat.messages = messages;
  chat.tools = tools;
  chat.now_unix_seconds = now_;
  return chat;
}

Question Probes::text_question(std::string name, IdsProbe::Kind kind, std::string_view text) const {
  Question question;
  question.probe.name = std::move(name);
  question.probe.kind = kind;
  const bool add = kind == IdsProbe::Kind::kSpecialText;
  auto ids = tokenizer_.encode(text, add ? tokens::SpecialTokens::kAdd : tokens::SpecialTokens::kNone);
  if (ids.ok()) {
    question.probe.ours = *std::move(ids);
  } else {
    question.probe.ours_refused = ids.error().message;
  }
  JsonWriter json;
  json.object().member("model", model_).member("prompt", text).member("add_special_tokens", add).end();
  question.body = json.take();
  return question;
}

Question Probes::chat_question(std::string name, std::string_view messages, std::string_view tools) const {
  Question question;
  question.probe.name = std::move(name);
  question.probe.kind = IdsProbe::Kind::kChat;
  auto ids = tokenizer_.encode_chat(chat_input(messages, tools));
  if (ids.ok()) {
    question.probe.ours = *std::move(ids);
  } else {
    question.probe.ours_refused = ids.error().message;
  }
  question.body = request_head(model_) + ",\"messages\":" + std::string(messages);
  if (!tools.empty()) question.body += ",\"tools\":" + std::string(tools);
  question.body += "}";
  return question;
}

std::vector<Question> Probes::questions() const {
  using Kind = IdsProbe::Kind;
  std::vector<Question> all;
  all.push_back(text_question("plain text", Kind::kText, "hello world"));
  all.push_back(text_question("odd unicode", Kind::kText, kOddText));
  all.push_back(text_question("white space", Kind::kText, kSpaces));
  all.push_back(text_question("code and digits", Kind::kText, kCode));
  all.push_back(text_question("long words", Kind::kText, kLong));
  all.push_back(text_question("text with special tokens added", Kind::kSpecialText, "hello world"));
  if (!tokenizer_.has_chat_template()) return all;
  const std::string user = message("user", "Hi 👋, how do caches work?");
  all.push_back(chat_question("chat", list({user}), {}));
  all.push_back(chat_question("chat with a system prompt", list({message("system", "Be brief."), user}), {}));
  all.push_back(chat_question("chat of two turns",
                              list({user, message("assistant", "They keep things."), message("user", "Which?")}), {}));
  all.push_back(chat_question("chat in odd unicode", list({message("user", kOddText)}), {}));
  all.push_back(chat_question("chat with a tool", list({user}), kTools));
  all.push_back(
      chat_question("chat in parts",
                    R"([{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}])", {}));
  return all;
}

std::string Probes::filler(std::uint32_t tokens) const {
  static constexpr std::array<std::string_view, 8> kThings = {"river",  "engine", "harbour", "letter",
                                                              "garden", "winter", "signal",  "bridge"};
  std::string text;
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < kSentencesMax && length < tokens; ++i) {
    std::string sentence = " Line " + std::to_string(i + 1) + ": the " + std::string(kThings[i % kThings.size()]) +
                           " near the " + std::string(kThings[(i * 5 + 3) % kThings.size()]) + " is quiet today.";
    const auto ids = tokenizer_.encode(sentence, tokens::SpecialTokens::kNone);
    if (!ids.ok() || ids->empty()) break;
    length += static_cast<std::uint32_t>(ids->size());
    text += sentence;
  }
  return text;
}

Prompt Probes::first() const {
  const std::string opening = "Probe " + nonce_ + " of a cache." + filler(filler_tokens_);
  const std::string question = "Is it? 你好 naïve 👍";
  Prompt prompt;
  for (const std::string& messages : {list({message("system", opening), message("user", question)}),
                                      list({message("user", opening + "\n" + question)})}) {
    auto ids = tokenizer_.encode_chat(chat_input(messages, {}));
    if (!ids.ok()) continue;
    prompt.messages = messages;
    prompt.ours = *std::move(ids);
    return prompt;
  }
  return completion();
}

Prompt Probes::next_turn(const Prompt& first) const {
  Prompt next = first;
  if (!first.chat) {
    next.text += " And then the second part of it follows.";
    if (auto ids = tokenizer_.encode(next.text, tokens::SpecialTokens::kAdd); ids.ok()) next.ours = *std::move(ids);
    return next;
  }
  next.messages.pop_back();
  next.messages += "," + message("assistant", "It is.") + "," + message("user", "And the other one?") + "]";
  auto ids = tokenizer_.encode_chat(chat_input(next.messages, {}));
  if (!ids.ok()) return first;
  next.ours = *std::move(ids);
  return next;
}

Prompt Probes::completion() const {
  Prompt prompt;
  prompt.chat = false;
  prompt.text = "Text " + nonce_ + " of a cache: " + std::string(kOddText) + filler(filler_tokens_);
  if (auto ids = tokenizer_.encode(prompt.text, tokens::SpecialTokens::kAdd); ids.ok()) prompt.ours = *std::move(ids);
  return prompt;
}

std::string Probes::generation_body(const Prompt& prompt, std::string_view model, std::string_view salt) {
  JsonWriter quoted;
  quoted.value(salt);
  return request_head(model) + prompt_member(prompt) +
         ",\"max_tokens\":1,\"temperature\":0,\"cache_salt\":" + quoted.take() + "}";
}

std::string Probes::render_body(const Prompt& prompt, std::string_view model) {
  return request_head(model) + prompt_member(prompt) + "}";
}

}  // namespace warmpath::doctor
