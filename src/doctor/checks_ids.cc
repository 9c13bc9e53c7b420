// Are our ids the engine's?
#include <string>

#include "doctor/checks.h"

namespace warmpath::doctor {
namespace {

constexpr const char* kSave =
    "save it there with AutoTokenizer.from_pretrained(…).save_pretrained(…) and take that folder, or set ask_engine";

std::string told_by(const Reading& reading) {
  const Evidence& e = reading.evidence;
  std::string how = "/tokenize answered ";
  how += e.tokenize_status == kNoAnswer ? "nothing" : std::to_string(e.tokenize_status);
  if (e.render_status > 0 && e.render_status != 200) how += ", /render " + std::to_string(e.render_status);
  return how;
}

std::string plural(std::size_t count, const char* word) {
  return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}

}  // namespace

Finding check_tokenizer(const Reading& reading) {
  const std::string& doubt = reading.evidence.tokenizer_doubt;
  if (const Compared* one = reading.tokenizer_differs()) {
    const std::string what = one->probe->name + ": " + one->detail;
    if (one->difference == Difference::kSplit) {
      return fault(
          "tokenizer", "the same text becomes other ids; " + what,
          std::string("the engine splits text otherwise: point --tokenizer at the folder that it runs with; if "
                      "it is that one, transformers rebuilds the tokenizer from its class: ") +
              kSave);
    }
    return fault("tokenizer", "the engine has another tokenizer; " + what,
                 "point --tokenizer at the folder of the model that this engine serves");
  }
  if (reading.count(Of::kTexts) > 0) {
    std::string text = plural(reading.count(Of::kTexts), "text") + " become the same ids";
    if (!doubt.empty()) text += "; that settles the doubt that " + doubt;
    return ok(text);
  }
  if (reading.find(Of::kChats, Difference::kNone) != nullptr) return ok("a chat becomes the same ids");
  return not_tested("the engine tells no ids of texts: " + told_by(reading));
}

Finding check_special_tokens(const Reading& reading) {
  const Compared* one = reading.find(Of::kChats, Difference::kSpecialTokens);
  if (one == nullptr) one = reading.find(Of::kTexts, Difference::kSpecialTokens);
  if (one != nullptr) {
    return fault("special_tokens", one->probe->name + ": " + one->detail,
                 "the engine adds special tokens that the template or tokenizer.json already has, or leaves out ours "
                 "(double BOS): compare add_special_tokens, the template's bos_token and tokenizer.json's "
                 "post_processor with the engine's");
  }
  if (reading.tokenizer_differs() != nullptr) return not_tested("the tokenizer differs");
  if (reading.count(Of::kTexts) + reading.count(Of::kChats) == 0)
    return not_tested("the engine tells no ids: " + told_by(reading));
  return ok("none too many, none missing");
}

Finding check_template(const Reading& reading) {
  if (!reading.tokenizer.has_chat_template() && reading.count(Of::kChats) == 0) {
    return not_tested("the tokenizer folder has no chat template");
  }
  if (reading.find(Of::kTexts, Difference::kText) != nullptr) return not_tested("the tokenizer differs");
  const char* remedy =
      "give the router the engine's template: chat_template.jinja in the tokenizer folder, the same file as "
      "--chat-template at the engine; where the engine renders in code, set ask_engine";
  if (const Compared* one = reading.find(Of::kChats, Difference::kText)) {
    return fault("chat_template", one->probe->name + ": " + one->detail, remedy);
  }
  if (const Compared* one = reading.refused_by_one()) {
    return fault("chat_template", one->probe->name + ": " + one->detail, remedy);
  }
  if (reading.count(Of::kChats) == 0) return not_tested("the engine tells no ids of chats: " + told_by(reading));
  std::string by = reading.evidence.render_status == 200 ? ", by /render" : ", by /tokenize";
  if (reading.evidence.render_status != 200 && reading.evidence.tokenize_status != 200) by = ", by its events";
  return ok(plural(reading.count(Of::kChats), "chat") + " become the same text" + by);
}

Finding check_prompt_sizes(const Reading& reading) {
  const bool differ = reading.find(Of::kChats, Difference::kText) != nullptr ||
                      reading.find(Of::kChats, Difference::kSpecialTokens) != nullptr ||
                      reading.tokenizer_differs() != nullptr;
  std::size_t equal = 0;
  for (const Answered& answer : reading.evidence.answers) {
    if (!answer.error.empty() || !answer.prompt_tokens) continue;
    const std::size_t expected = Reading::ids_of(answer).size();
    if (*answer.prompt_tokens == expected) {
      ++equal;
      continue;
    }
    if (differ && !answer.theirs) continue;
    const bool one_more = *answer.prompt_tokens == expected + 1;
    return fault(one_more ? "special_tokens" : "prompt",
                 "the engine counts " + std::to_string(*answer.prompt_tokens) + " prompt tokens where " +
                     (answer.theirs ? "its own rendering has " : "we have ") + std::to_string(expected),
                 one_more ? "one special token is added to what the prompt holds already: double BOS"
                          : "something changes prompts on the way: a proxy, a default system prompt, truncation");
  }
  if (equal > 0) return ok("usage counts as many prompt tokens in " + plural(equal, "answer"));
  return not_tested(differ ? "the ids differ already" : "no answer told its prompt's size");
}

}  // namespace warmpath::doctor
