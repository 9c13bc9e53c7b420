// Long contents that do not go through the template: the rendering is that of the template alone, whatever they hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "tokens/test_models.h"
#include "tokens/tokens.h"

namespace warmpath::tokens {
namespace {

constexpr std::uint64_t kSeed = 20261126;

constexpr const char* kTokenizer = R"({"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,
  "post_processor":null,"decoder":null,"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";

std::shared_ptr<const Tokenizer> with_template(std::string jinja) {
  ModelFiles files;
  files.tokenizer_json = kTokenizer;
  files.chat_template_jinja = std::move(jinja);
  return Tokenizer::create(files).value();
}

// Contents around the length from which on something stands for them, with what templates look for in them.
class Chats {
 public:
  explicit Chats(std::uint64_t seed) : random_(seed, "chats") {}

  std::string next() {
    JsonWriter w;
    w.array();
    for (std::uint64_t i = 1 + random_.below(6); i > 0; --i) {
      static constexpr auto kRoles = std::to_array<std::string_view>({"user", "assistant", "system", "tool", "user"});
      w.object().key("role").value(kRoles[random_.below(kRoles.size())]);
      w.key("content").value(content());
      if (random_.below(6) == 0) w.key("reasoning_content").value(content());
      w.end();
    }
    w.end();
    return w.take();
  }

 private:
  std::string content() {
    static constexpr auto kSizes = std::to_array<std::size_t>({0, 10, 900, 1'023, 1'024, 1'100, 3'000, 9'000});
    std::string out;
    const std::size_t size = kSizes[random_.below(kSizes.size())];
    edge(out);
    while (out.size() < size) {
      switch (random_.below(40)) {
        case 0: special(out); break;
        case 1: out += "\u4f60\u597d"; break;
        case 2: out += "\U0001F642"; break;
        case 3: out += '\n'; break;
        case 4: out += "\"\\/"; break;
        default: out += static_cast<char>('a' + random_.below(26)); break;
      }
    }
    if (size > 0) edge(out);
    return out;
  }

  // Now and then more white space than an edge has room for.
  void edge(std::string& out) {
    static constexpr auto kRuns = std::to_array<std::size_t>({0, 0, 0, 1, 5, 63, 64, 65, 129, 300});
    const std::size_t run = kRuns[random_.below(kRuns.size())];
    for (std::size_t i = 0; i < run; ++i) out += " \n\t\n"[random_.below(4)];
    if (random_.below(6) == 0) special(out);
  }

  void special(std::string& out) {
    if (random_.below(4) != 0) return;
    static constexpr auto kTexts =
        std::to_array<std::string_view>({"</think>", "<think>", "<tool_response>", "</tool_response>", "needle",
                                         "\u0001", "\u00010\u0002", "none", "xx", "<|im_end|>"});
    out += kTexts[random_.below(kTexts.size())];
  }

  RandomStream random_;
};

void check(const Tokenizer& tokenizer, int chats, std::string_view name) {
  Chats source(kSeed);
  std::size_t rendered = 0;
  for (int i = 0; i < chats; ++i) {
    const std::string messages = source.next();
    ChatInput chat;
    chat.messages = messages;
    chat.add_generation_prompt = i % 2 == 0;
    chat.continue_final_message = i % 10 == 1;
    const auto alone = tokenizer.render_chat_by_template_alone(chat);
    const auto whole = tokenizer.render_chat(chat);
    ASSERT_EQ(alone.ok(), whole.ok()) << name << ", chat " << i << ": " << messages;
    if (!alone.ok()) {
      ASSERT_EQ(alone.error().message, whole.error().message) << name << ", chat " << i;
      continue;
    }
    ASSERT_EQ(*alone, *whole) << name << ", chat " << i << ": " << messages;
    ASSERT_EQ(tokenizer.render_chat_text(chat)->text, *whole);
    ++rendered;
  }
  EXPECT_GT(rendered, 0u) << name;
  std::printf("%.*s: %zu of %d chats rendered as by the template alone\n", static_cast<int>(name.size()), name.data(),
              rendered, chats);
}

class RealTemplates : public ::testing::TestWithParam<std::pair<const char*, bool>> {};

TEST_P(RealTemplates, RenderLongContentsAsTheyAre) {
  const auto [name, opaque] = GetParam();
  if (!std::filesystem::exists(real_models_folder() + "/" + name + "/tokenizer.json")) {
    GTEST_SKIP() << "run tools/fetch_tokenizers.sh";
  }
  const Tokenizer& tokenizer = real_model(name);
  EXPECT_EQ(tokenizer.template_facts().opaque, opaque) << tokenizer.template_facts().why_not_opaque;
  check(tokenizer, 400, name);
}

INSTANTIATE_TEST_SUITE_P(StandIns, RealTemplates,
                         ::testing::Values(std::pair("qwen3", true), std::pair("qwen2_5", true),
                                           std::pair("llama3", true), std::pair("llama3_2", true),
                                           std::pair("deepseek_v3", true), std::pair("mistral_nemo", false),
                                           std::pair("gemma3", false)),
                         [](const auto& which) { return std::string(which.param.first); });

TEST(StandIns, DemoModelRendersLongContentsAsTheyAre) {
  EXPECT_TRUE(demo_model().template_facts().opaque) << demo_model().template_facts().why_not_opaque;
  check(demo_model(), 400, "demo_model");
}

constexpr const char* kLoop = "{% for m in messages %}";
constexpr const char* kEnd = "{% endfor %}";

// Bodies of a loop over messages that handle contents as wholes.
TEST(StandIns, TemplatesThatPassContentsOnAreAccepted) {
  for (const char* body :
       {"{{ m.content }}", "{{ m['content'] | trim }}", "{{ 'a' + m.content + 'b' }}",
        "{{ m.role ~ m.content ~ '\n' }}", "{% if 'needle' in m.content %}found{% endif %}{{ m.content }}",
        "{% if m.content.startswith('<think>') or m.content.endswith('needle') %}edge{% endif %}",
        "{{ m.content.split('</think>')[-1].lstrip('\n') }}", "{{ m.content.replace('needle', 'pin') }}",
        "{{ m.content.strip('x\n') if m.content is string else '' }}", "{% if m.content == 'none' %}none{% endif %}",
        "{% set text = 'x' + m.content %}{% if 'xx' in text %}seam{% endif %}{{ text.strip() }}",
        "{% set ns = namespace(all='') %}{% set ns.all = ns.all ~ m.content %}{{ ns.all }}",
        "{{ m.content if m.content and loop.index0 + 1 < messages | length else 'last' }}",
        "{% macro show(x) %}[{{ x }}]{% endmacro %}{{ show(m.content) }}",
        "{% set x %}<{{ m.content }}>{% endset %}{{ x }}", "{{ {'a': m.content}.a }}", "{{ [m.content][0] }}",
        "{{ raise_exception('no: ' ~ m.content) if m.role == 'tool' else '' }}",
        // What they print of lists is not passed on: the whole is rendered then.
        "{{ m }}", "{{ messages }}", "{{ m | tojson }}", "{{ [m.content] ~ '' }}", "{{ (messages | string).strip() }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
        "{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}"}) {
    const auto tokenizer = with_template(std::string(kLoop) + body + kEnd);
    EXPECT_TRUE(tokenizer->template_facts().opaque) << body << ": " << tokenizer->template_facts().why_not_opaque;
    check(*tokenizer, 100, body);
  }
}

TEST(StandIns, TemplatesThatLookIntoContentsAreRefused) {
  for (const char* body : {"{{ m.content[:5] }}",
                           "{{ m.content[0] }}",
                           "{{ m.content | length }}",
                           "{{ m.content | upper }}",
                           "{{ m.content.upper() }}",
                           "{% for c in m.content.split('x') %}{% for d in c %}{{ d }}{% endfor %}{% endfor %}",
                           "{% if m.role in m.content %}x{% endif %}",
                           "{% if m.content == messages[0].content %}x{% endif %}",
                           "{% if m.content < 'm' %}x{% endif %}",
                           "{{ m.content.split() }}",
                           "{{ ('a' + m.content).split('ab')[0] }}",
                           "{{ ('a' + m.content).replace('ab', '') }}",
                           "{{ m.content | replace('a', 'b') }}",
                           "{{ m.content | list }}",
                           "{{ '%s' | format(m.content) }}",
                           "{{ m.content * 2 }}",
                           "{{ m.content.find('x') }}",
                           "{% set x = m.content %}{{ x[-1] }}",
                           "{% set ns = namespace() %}{% set ns.x = m.content %}{{ ns.x[1:] }}",
                           "{% macro f(x) %}{{ x[0] }}{% endmacro %}{{ f(m.content) }}",
                           "{{ {'a': m.content}.a[0] }}",
                           "{% for x in [m.content] %}{{ x[0] }}{% endfor %}",
                           "{{ m.values() | join | length }}",
                           "{% for k, v in m.items() %}{{ v | upper }}{% endfor %}",
                           "{{ loop.previtem.content[0] if loop.previtem }}",
                           "{% filter upper %}{{ m.content }}{% endfilter %}",
                           "{{ m.content is startingwith('a') }}",
                           "{{ messages | map(attribute='content') | join }}",
                           "{{ m[m.content] }}",
                           "{{ m.content.strip(m.role) }}",
                           "{{ m.content.removeprefix('needle') }}",
                           "{{ m | attr('content') | first }}"}) {
    const auto tokenizer = with_template(std::string(kLoop) + body + kEnd);
    EXPECT_FALSE(tokenizer->template_facts().opaque) << body;
    EXPECT_FALSE(tokenizer->template_facts().why_not_opaque.empty());
  }
}

TEST(StandIns, WhatRepeatsContentsOftenIsRenderedInFull) {
  const auto tokenizer =
      with_template("{% for m in messages %}{% for n in messages %}{{ n.content }}{% endfor %}{% endfor %}");
  ASSERT_TRUE(tokenizer->template_facts().opaque);
  for (const int count : {2, 4, 5, 10}) {
    std::string messages = "[";
    for (int i = 0; i < count; ++i) {
      messages += std::string(i == 0 ? "" : ",") + R"({"role":"user","content":")" + std::string(2'000, 'x') + "\"}";
    }
    messages += "]";
    ChatInput chat;
    chat.messages = messages;
    EXPECT_EQ(tokenizer->render_chat(chat).value(), tokenizer->render_chat_by_template_alone(chat).value());
    EXPECT_EQ(tokenizer->render_chat(chat).value().size(), static_cast<std::size_t>(count * count * 2'000));
  }
}

TEST(StandIns, ARefusalIsTheTemplatesOwn) {
  const auto tokenizer = with_template("{{ raise_exception('no: ' ~ messages[0].content) }}");
  const std::string text(2'000, 'x');
  const std::string messages = R"([{"role":"user","content":")" + text + R"("}])";
  ChatInput chat;
  chat.messages = messages;
  EXPECT_EQ(tokenizer->render_chat(chat).error().message, "no: " + text);
}

}  // namespace
}  // namespace warmpath::tokens
