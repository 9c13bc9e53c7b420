// What the door promises, with the demo model: hostile input, message shaping, templates, exactness.
#include "tokens/tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "tokens/rust_door.h"
#include "tokens/test_models.h"

namespace warmpath::tokens {
namespace {

using ::testing::HasSubstr;

constexpr const char* kUserHi = R"([{"role":"user","content":"hi"}])";

ModelFiles demo_files() { return read_model_files(std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model"); }

// The demo's tokenizer with another template.
std::shared_ptr<const Tokenizer> with_template(std::string jinja) {
  ModelFiles files = demo_files();
  files.chat_template_jinja = std::move(jinja);
  auto made = Tokenizer::create(files);
  EXPECT_TRUE(made.ok()) << made.error().message;
  return made.ok() ? *made : nullptr;
}

ChatInput chat_of(std::string_view messages) {
  ChatInput chat;
  chat.messages = messages;
  return chat;
}

std::string rendered(const std::string& jinja, const ChatInput& chat) {
  auto tokenizer = with_template(jinja);
  if (tokenizer == nullptr) return "";
  auto text = tokenizer->render_chat(chat);
  return text.ok() ? *text : "error: " + text.error().message;
}
std::string rendered(const std::string& jinja, std::string_view messages = kUserHi) {
  return rendered(jinja, chat_of(messages));
}

TEST(Tokenizer, EncodesAndDecodesAnyText) {
  const Tokenizer& demo = demo_model();
  for (std::string text : {std::string(), std::string(" "), std::string("hello world\n"), std::string("a\0b", 3),
                           std::string("naïve 你好 🚀 مرحبا"), std::string("\t \r\n  x")}) {
    auto ids = demo.encode(text, SpecialTokens::kNone);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(demo.decode(*ids, SpecialText::kKeep).value(), text);
    for (TokenId id : *ids) EXPECT_LT(id, demo.vocabulary_size());
  }
  EXPECT_EQ(demo.vocabulary_size(), 6144u);
}

TEST(Tokenizer, SpecialTextBecomesSpecialIdsAndCanBeSkipped) {
  const Tokenizer& demo = demo_model();
  auto ids = demo.encode("a<|im_end|>b", SpecialTokens::kNone).value();
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_THAT(demo.end_ids(), ::testing::Contains(ids[1]));
  EXPECT_EQ(demo.decode(ids, SpecialText::kKeep).value(), "a<|im_end|>b");
  EXPECT_EQ(demo.decode(ids, SpecialText::kSkip).value(), "ab");
}

TEST(Tokenizer, EndIdsComeFromBothConfigs) {
  EXPECT_EQ(demo_model().end_ids().size(), 2u);  // eos_token, and config.json's list that names it again
  ModelFiles files = demo_files();
  files.config_json = R"({"model_type":"llama","eos_token_id":7})";
  files.tokenizer_config_json = R"({"eos_token":{"content":"<|im_end|>"}})";
  EXPECT_THAT(Tokenizer::create(files).value()->end_ids(), ::testing::ElementsAre(6141u, 7u));
  files.config_json.reset();
  files.tokenizer_config_json.reset();
  EXPECT_TRUE(Tokenizer::create(files).value()->end_ids().empty());
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8AndIdsThatAreNone) {
  const Tokenizer& demo = demo_model();
  for (std::string_view text : {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"}) {
    auto ids = demo.encode(text, SpecialTokens::kNone);
    ASSERT_FALSE(ids.ok());
    EXPECT_EQ(ids.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(ids.error().message, HasSubstr("UTF-8"));
  }
  for (TokenId id : {demo.vocabulary_size(), ~TokenId{0}}) {
    const TokenId ids[] = {0, id};
    auto text = demo.decode(ids, SpecialText::kKeep);
    ASSERT_FALSE(text.ok());
    EXPECT_EQ(text.error().kind, ErrorKind::kInvalid);
    EXPECT_THAT(text.error().message, HasSubstr(std::to_string(id)));
  }
}

TEST(Tokenizer, NamesTheFileThatCannotBeUsed) {
  const auto message = [](const ModelFiles& files) {
    auto made = Tokenizer::create(files);
    EXPECT_FALSE(made.ok());
    return made.ok() ? std::string() : made.error().message;
  };
  ModelFiles files;
  EXPECT_THAT(message(files), HasSubstr("tokenizer.json"));
  files.tokenizer_json = "{}";
  EXPECT_THAT(message(files), HasSubstr("tokenizer.json"));
  files.tokenizer_json = std::string(100000, '[');
  EXPECT_THAT(message(files), HasSubstr("tokenizer.json"));
  files = demo_files();
  files.tokenizer_config_json = "[1]";
  EXPECT_THAT(message(files), HasSubstr("tokenizer_config.json"));
  files = demo_files();
  files.config_json = "{\"a\":";
  EXPECT_THAT(message(files), HasSubstr("config.json"));
  files = demo_files();
  files.chat_template_jinja = "{% for x in %}";
  EXPECT_THAT(message(files), HasSubstr("chat template does not compile"));
  files.chat_template_jinja = std::string("\xff", 1);
  EXPECT_THAT(message(files), HasSubstr("UTF-8"));
  files = demo_files();
  files.tokenizer_config_json = R"({"chat_template":5})";
  EXPECT_THAT(message(files), HasSubstr("chat_template"));
}

TEST(Tokenizer, WithoutATemplateChatsAreUnsupported) {
  ModelFiles files = demo_files();
  files.tokenizer_config_json = R"({"tokenizer_class":"PreTrainedTokenizerFast"})";
  auto tokenizer = Tokenizer::create(files).value();
  EXPECT_FALSE(tokenizer->has_chat_template());
  auto ids = tokenizer->encode_chat(chat_of(kUserHi));
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.error().kind, ErrorKind::kUnsupported);
}

TEST(Tokenizer, IgnoresTheFilesOwnTruncation) {
  ModelFiles files = demo_files();
  const std::string_view none = R"("truncation":null)";
  files.tokenizer_json.replace(files.tokenizer_json.find(none), none.size(),
                               R"("truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0})");
  EXPECT_EQ(Tokenizer::create(files).value()->encode("one two three four", SpecialTokens::kAdd).value(),
            demo_model().encode("one two three four", SpecialTokens::kAdd).value());
}

TEST(Tokenizer, IsSharedBetweenThreads) {
  const Tokenizer& demo = demo_model();
  const auto expected = demo.encode_chat(chat_of(kUserHi)).value();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) wrong[t] += demo.encode_chat(chat_of(kUserHi)).value() != expected ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::accumulate(wrong.begin(), wrong.end(), 0), 0);
}

TEST(Chat, MalformedBodiesAreRefused) {
  const Tokenizer& demo = demo_model();
  const std::string deep = R"([{"role":"user","content":)" + std::string(200000, '[') + std::string(200000, ']') + "}]";
  for (const std::string& messages :
       {std::string(), std::string("null"), std::string("[]"), std::string("{}"), std::string("[1]"), std::string("[{}]"),
        std::string(R"([{"role":1}])"), std::string(R"([{"role":"user","content":5}])"),
        std::string(R"([{"role":"user","content":[5]}])"), std::string(R"([{"role":"user","content":[{}]}])"),
        std::string(R"([{"role":"user","content":[{"type":"hologram"}]}])"),
        std::string(R"([{"role":"user","content":[{"type":"text","text":7}]}])"),
        std::string(R"([{"role":"user","content":"\ud800"}])"), std::string("[{\"role\":\"user\",\"content\":\"\xff\"}]"),
        std::string(R"([{"role":"assistant","content":"","tool_calls":5}])"),
        std::string(R"([{"role":"assistant","content":"","tool_calls":[5]}])"),
        std::string(R"([{"role":"assistant","content":"","tool_calls":[{"type":"custom","custom":{}}]}])"), deep}) {
    auto text = demo.render_chat(chat_of(messages));
    ASSERT_FALSE(text.ok()) << messages.substr(0, 80);
    EXPECT_EQ(text.error().kind, ErrorKind::kInvalid) << messages.substr(0, 80);
    EXPECT_LT(text.error().message.size(), 400u);
  }
  for (const char* tools : {"5", "{}", "[1]", "[{}]", R"([{"function":{}}])", R"([{"function":{"name":3}}])", "[", "\xff"}) {
    ChatInput chat = chat_of(kUserHi);
    chat.tools = tools;
    EXPECT_FALSE(demo.render_chat(chat).ok()) << tools;
  }
  for (const char* kwargs : {"5", "[1]", "{", R"({"chat_template":"x"})", R"({"messages":[]})", R"({"tokenize":true})"}) {
    ChatInput chat = chat_of(kUserHi);
    chat.chat_template_kwargs = kwargs;
    EXPECT_FALSE(demo.render_chat(chat).ok()) << kwargs;
  }
  ChatInput both = chat_of(kUserHi);
  both.continue_final_message = true;
  EXPECT_THAT(demo.render_chat(both).error().message, HasSubstr("Cannot set both"));
}

TEST(Chat, HugeAndOddTextsPassThrough) {
  const Tokenizer& demo = demo_model();
  std::string huge(3 << 20, 'x');
  for (std::size_t i = 0; i < huge.size(); i += 7) huge[i] = ' ';
  const std::string messages = R"([{"role":"user","content":")" + huge + R"(\u0000\n{{ x }}{% if %}"}])";
  auto text = demo.render_chat(chat_of(messages));
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_THAT(*text, HasSubstr(std::string("\0\n{{ x }}{% if %}<|im_end|>", 27)));
  EXPECT_GT(text->size(), huge.size());
}

TEST(Chat, TemplatesThatRunAwayAreStopped) {
  const std::string loops =
      "{% for a in range(100000) %}{% for b in range(100000) %}{% set c = a * b %}{% endfor %}{% endfor %}";
  auto tokenizer = with_template(loops);
  ASSERT_NE(tokenizer, nullptr);
  auto text = tokenizer->render_chat(chat_of(kUserHi));
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().kind, ErrorKind::kTooLarge);
  EXPECT_THAT(text.error().message, HasSubstr("steps"));
  EXPECT_THAT(rendered("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"), HasSubstr("error: "));
  EXPECT_THAT(rendered("{% set x = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set x.s = x.s ~ x.s %}"
                       "{% endfor %}{{ x.s }}"),
              HasSubstr("error: "));
  EXPECT_THAT(rendered("{{ 'x' * 9999999999 }}"), HasSubstr("error: "));
}

TEST(Chat, TheTemplatesRefusalIsTheWholeMessage) {
  auto text = with_template("{{ raise_exception('Roles must alternate: ' ~ messages[0].role) }}")->render_chat(chat_of(kUserHi));
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(text.error().message, "Roles must alternate: user");
  // Also from within a macro and a filter's argument.
  EXPECT_EQ(rendered("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() | trim }}"), "error: deep");
}

TEST(Chat, ContentFormsFollowTheTemplate) {
  const char* parts = R"([{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":""},"two"]}])";
  EXPECT_EQ(rendered("{% for m in messages %}{{ m.content }}{% endfor %}", parts), "one\ntwo");
  const std::string loop = "{% for m in messages %}{% for p in m['content'] %}[{{ p.type }}:{{ p.text }}]{% endfor %}{% endfor %}";
  EXPECT_EQ(rendered(loop, parts), "[text:one][text:][text:two]");
  EXPECT_EQ(rendered(loop, kUserHi), "[text:hi]");
  // Through an assignment, a slice, a filter, a macro's parameter.
  EXPECT_EQ(rendered("{% set ms = messages[0:] %}{% for m in ms %}{% for p in m.content | list %}{{ p.type }}{% endfor %}{% endfor %}"),
            "text");
  EXPECT_EQ(rendered("{% macro show(c) %}{% for p in c %}<{{ p.text }}>{% endfor %}{% endmacro %}"
                     "{% for m in messages %}{{ show(m.content) }}{% endfor %}"),
            "<hi>");
  EXPECT_EQ(rendered("{% macro show(x, c=none) %}{% for p in c %}<{{ p.text }}>{% endfor %}{% endmacro %}"
                     "{% for m in messages %}{{ show(1, c=m.content) }}{% endfor %}"),
            "<hi>");
  // A loop over something else inside a macro does not count.
  EXPECT_EQ(rendered("{% macro show(content) %}{% for p in content %}{{ p }}.{% endfor %}{% endmacro %}"
                     "{% for m in messages %}{{ show([1, 2]) }}{{ m.content }}{% endfor %}"),
            "1.2.hi");
}

TEST(Chat, MediaPartsAreNamedOrLeftOut) {
  const char* media =
      R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"what?"}]}])";
  EXPECT_EQ(rendered("{% for m in messages %}{% for p in m.content %}{{ p.type }} {% endfor %}{% endfor %}", media),
            "image text ");
  EXPECT_EQ(rendered("{{ messages[0].content }}", media), "what?");
}

TEST(Chat, ToolCallsAndToolsAreShapedAsTheEngineDoes) {
  const char* messages = R"([{"role":"user","content":"x"},
    {"role":"assistant","content":null,"tool_calls":[{"type":"function","id":"c","extra":1,
       "function":{"name":"f","arguments":"{\"b\":1,\"a\":[2.50,1e3]}"}}]},
    {"role":"assistant","content":"","tool_calls":[{"id":"d","function":{"name":"g","arguments":"not json"}}]},
    {"role":"assistant","content":"","tool_calls":[]},
    {"role":"tool","tool_call_id":"c","name":"f","content":[{"type":"text","text":"1"},{"type":"text","text":"2"}]}])";
  EXPECT_EQ(rendered("{% for m in messages %}{{ m | tojson }}\n{% endfor %}", messages),
            R"({"role": "user", "content": "x"}
{"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"arguments": {"b": 1, "a": [2.5, 1000.0]}, "name": "f"}, "type": "function"}]}
{"role": "assistant", "content": "", "tool_calls": [{"id": "d", "function": {"arguments": {}, "name": "g"}}]}
{"role": "assistant", "content": ""}
{"role": "tool", "content": "1\n2", "tool_call_id": "c", "name": "f"}
)");
  ChatInput chat = chat_of(kUserHi);
  chat.tools = R"([{"function":{"parameters":{"z":1,"a":2},"strict":true,"other":1,"name":"f"},"type":"function","x":1},
                   {"type":"function","function":{"name":"g","strict":null}}])";
  EXPECT_EQ(rendered("{% for t in tools %}{{ t | tojson }}\n{% endfor %}", chat),
            R"({"type": "function", "function": {"name": "f", "description": null, "parameters": {"z": 1, "a": 2}, "strict": true}}
{"type": "function", "function": {"name": "g", "description": null, "parameters": null}}
)");
  for (const char* none : {"", "null", "[]"}) {
    chat.tools = none;
    EXPECT_EQ(rendered("{{ tools is none }}{{ documents is none }}", chat), "TrueTrue") << none;
  }
}

TEST(Chat, ReasoningAndDeveloperMessages) {
  const char* reasoning = R"([{"role":"assistant","content":"a","reasoning_content":"r"},{"role":"user","content":"q","reasoning":"no"}])";
  EXPECT_EQ(rendered("{% for m in messages %}{{ m.reasoning_content }}|{{ m.reasoning }}|{{ m.thinking }};{% endfor %}", reasoning),
            "r|r|r;||;");
  const char* developer =
      R"([{"role":"user","content":"u"},{"role":"developer","content":"d","tools":[1]},{"role":"system","content":"s"}])";
  const std::string each = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}";
  EXPECT_EQ(rendered(each, developer), "system=d\n\ns;user=u;");
  EXPECT_EQ(rendered(each + "{# 'developer' #}", developer), "user=u;developer=d;system=s;");
}

TEST(Chat, VariablesMergeAsTheEngineDoes) {
  const std::string jinja = "{{ bos_token is defined }} {{ eos_token }} {{ enable_thinking }} {{ reasoning_effort }} {{ foo }} "
                            "{{ add_generation_prompt }} {{ documents }}";
  ChatInput chat = chat_of(kUserHi);
  EXPECT_EQ(rendered(jinja, chat), "False <|im_end|>    True None");
  chat.chat_template_kwargs = R"({"foo":[1,"x",null],"eos_token":"E","add_generation_prompt":false,"enable_thinking":null})";
  EXPECT_EQ(rendered(jinja, chat), "False E   [1, 'x', None] True None");
  chat.reasoning_effort = R"("low")";
  EXPECT_EQ(rendered(jinja, chat), "False E  low [1, 'x', None] True None");
  chat.chat_template_kwargs = {};
  EXPECT_EQ(rendered(jinja, chat), "False <|im_end|> True low  True None");
  chat.reasoning_effort = "none";
  EXPECT_EQ(rendered(jinja, chat), "False <|im_end|> False none  True None");
  chat.documents = R"([{"title":"t"}])";
  EXPECT_EQ(rendered("{{ documents[0].title }}", chat), "t");
  chat.chat_template_kwargs = R"({"tools":[{"a":1}]})";
  EXPECT_EQ(rendered("{{ tools | tojson }}", chat), R"([{"a": 1}])");
}

TEST(Chat, NamedTemplates) {
  ModelFiles files = demo_files();
  files.tokenizer_config_json =
      R"({"chat_template":[{"name":"default","template":"plain"},{"name":"tool_use","template":"tools {{ tools|length }}"}]})";
  auto tokenizer = Tokenizer::create(files).value();
  ChatInput chat = chat_of(kUserHi);
  EXPECT_EQ(tokenizer->render_chat(chat).value(), "plain");
  chat.tools = R"([{"function":{"name":"f"}}])";
  EXPECT_EQ(tokenizer->render_chat(chat).value(), "tools 1");
  files.tokenizer_config_json = R"({"chat_template":[{"name":"rag","template":"x"},{"name":"tool_use","template":"y"}]})";
  tokenizer = Tokenizer::create(files).value();
  EXPECT_EQ(tokenizer->render_chat(chat).value(), "y");
  chat.tools = {};
  EXPECT_EQ(tokenizer->render_chat(chat).error().kind, ErrorKind::kUnsupported);
}

TEST(Chat, ContinuesTheFinalMessage) {
  ChatInput chat = chat_of(R"([{"role":"user","content":"Count"},{"role":"assistant","content":"1, 2, "}])");
  chat.add_generation_prompt = false;
  chat.continue_final_message = true;
  EXPECT_EQ(demo_model().render_chat(chat).value(), "<|im_start|>user\nCount<|im_end|>\n<|im_start|>assistant\n1, 2, ");
  EXPECT_EQ(rendered("{% for m in messages %}<{{ m.content | trim }}>{% endfor %}", chat), "<Count><1, 2,");
  EXPECT_EQ(rendered("{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}", chat),
            "<Count><1, 2, ");
  EXPECT_THAT(rendered("{{ messages[0].content }}", chat), HasSubstr("error: continue_final_message"));
}

TEST(Chat, TheClockIsHandedIn) {
  ChatInput chat = chat_of(kUserHi);
  const std::string all = "{{ strftime_now('%d %b %Y|%A %a %B|%j %m %y %H:%M:%S %I %p|%-d/%-m|%F %T|%%|%e|%q|%') }}";
  chat.now_unix_seconds = 1795392000 + 3661;
  EXPECT_EQ(rendered(all, chat), "23 Nov 2026|Monday Mon November|327 11 26 01:01:01 01 AM|23/11|2026-11-23 01:01:01|%|23|%q|%");
  chat.now_unix_seconds = 951782400 - 1;  // the second before 2000-02-29
  EXPECT_EQ(rendered("{{ strftime_now('%F %T %j %p %I %a') }}", chat), "2000-02-28 23:59:59 059 PM 11 Mon");
  chat.now_unix_seconds = 978220799;
  EXPECT_EQ(rendered("{{ strftime_now('%F %j') }}", chat), "2000-12-30 365");
  chat.now_unix_seconds = -1;
  EXPECT_EQ(rendered("{{ strftime_now('%F %a') }}", chat), "1969-12-31 Wed");
}

TEST(Chat, TemplatesMeanWhatTheyMeanInPython) {
  EXPECT_EQ(rendered("  {% if true %}\n  a\n  {% endif %}\nb\n"), "  a\nb");  // trim_blocks, lstrip_blocks, last newline
  EXPECT_EQ(rendered("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"), "02");
  EXPECT_EQ(rendered("a{%- generation -%} b {%- endgeneration %}c{% generation %}\nd{% endgeneration %}"), "abcd");
  EXPECT_EQ(rendered("{% set x = 1 %}{% generation %}{{ x }}{% endgeneration %}"), "1");
  EXPECT_EQ(rendered("{{ {'é': 'ü\"\\n', 'n': none, 'f': 1.0, 't': true, 'l': [1, -2]} | tojson }}"),
            R"({"é": "ü\"\n", "n": null, "f": 1.0, "t": true, "l": [1, -2]})");
  EXPECT_EQ(rendered("{{ {'b': [1, {'c': []}], 'a': {}} | tojson(indent=2) }}"),
            "{\n  \"b\": [\n    1,\n    {\n      \"c\": []\n    }\n  ],\n  \"a\": {}\n}");
  EXPECT_EQ(rendered("{{ {'b': 'é😀', 'a': 1e16} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}"),
            R"({"a":1e+16,"b":"\u00e9\ud83d\ude00"})");
  EXPECT_EQ(rendered("{{ [0.0001, 0.00001, 123456789012345680.0, 1e15] | tojson }}"), "[0.0001, 1e-05, 1.2345678901234568e+17, 1000000000000000.0]");
  EXPECT_THAT(rendered("{{ nothing | tojson }}"), HasSubstr("error: "));
  EXPECT_EQ(rendered("{{ 'abc' is iterable }}{{ 'abc' is sequence }}{{ {} is sequence }}{{ 5 is iterable }}{{ none is iterable }}"),
            "TrueTrueTrueFalseFalse");
  EXPECT_EQ(rendered("{{ 'a-b-c'.rsplit('-', 1) }}{{ 'a-b'.partition('-') }}{{ 'xa'.removeprefix('x') }}{{ 'ax'.removesuffix('x') }}"),
            "['a-b', 'c']['a', '-', 'b']aa");
  EXPECT_EQ(rendered("[{{ '\\x1c a \\u3000'.strip() }}][{{ 'xxaxx'.strip('x') }}][{{ ' b ' | trim }}][{{ 'c\\n'.rstrip() }}]"), "[a][a][b][c]");
  EXPECT_EQ(rendered("{{ messages[0].items() | list }}{{ messages[0].get('x', 'd') }}{{ 'role' in messages[0] }}"),
            "[('role', 'user'), ('content', 'hi')]dTrue");
  EXPECT_EQ(rendered("{% set ns = namespace(a=1) %}{% for i in [1,2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}"), "4");
  EXPECT_THAT(rendered("{{ messages[0].role.x.y }}"), HasSubstr("error: "));
}

TEST(Exactness, FollowsTheConfigs) {
  const auto why_not = [](const std::string& model, const char* tokenizer_config, const char* config) {
    ModelFiles files = model == "demo" ? demo_files() : read_model_files(real_models_folder() + "/" + model);
    if (tokenizer_config != nullptr) files.tokenizer_config_json = tokenizer_config;
    files.config_json.reset();
    if (config != nullptr) files.config_json = config;
    const Exactness exactness = Tokenizer::create(files).value()->exactness();
    EXPECT_EQ(exactness.proven, exactness.why_not.empty());
    return exactness.why_not;
  };
  EXPECT_TRUE(demo_model().exactness().proven) << demo_model().exactness().why_not;
  EXPECT_EQ(why_not("demo", R"({"tokenizer_class":"PreTrainedTokenizerFast"})", nullptr), "");
  EXPECT_EQ(why_not("demo", R"({"tokenizer_class":"TokenizersBackend"})", R"({"model_type":"whatever"})"), "");
  EXPECT_THAT(why_not("demo", R"({"tokenizer_class":"LlamaTokenizerFast"})", nullptr), HasSubstr("config.json is missing"));
  EXPECT_THAT(why_not("demo", R"({})", nullptr), HasSubstr("not named"));
  EXPECT_THAT(why_not("demo", R"({"tokenizer_class":"LlamaTokenizerFast"})", R"({"model_type":"llama"})"), HasSubstr("rebuild"));
  EXPECT_EQ(why_not("demo", R"({"tokenizer_class":"LlamaTokenizerFast"})", R"({"model_type":"deepseek_v3"})"), "");
  // The demo's pieces are not those that the class would build; Qwen's own are.
  EXPECT_THAT(why_not("demo", R"({"tokenizer_class":"Qwen2Tokenizer"})", R"({"model_type":"qwen3"})"), HasSubstr("rebuild"));
  EXPECT_EQ(why_not("qwen3", nullptr, R"({"model_type":"qwen3"})"), "");
  EXPECT_THAT(why_not("qwen3", nullptr, nullptr), HasSubstr("config.json is missing"));
  EXPECT_EQ(why_not("llama3_2", nullptr, nullptr), "");
  EXPECT_THAT(why_not("demo", nullptr, R"({"model_type":"gpt_oss"})"), HasSubstr("in code"));
  EXPECT_THAT(why_not("demo", R"({"tokenizer_class":"PreTrainedTokenizerFast","auto_map":{"AutoTokenizer":["a",null]}})", nullptr),
              HasSubstr("auto_map"));
}

// ---- the fast encoder ----

// A byte-level BPE over the given pre-tokenizer, with one added token.
std::string byte_level(const std::string& pre_tokenizer, const std::string& added_token_flags) {
  return R"({"version":"1.0","added_tokens":[{"id":3,"content":"<x>","normalized":false,"special":true,)" +
         added_token_flags + R"(}],"normalizer":null,"pre_tokenizer":)" + pre_tokenizer +
         R"(,"post_processor":null,"decoder":null,"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";
}
constexpr const char* kPlainFlags = R"("single_word":false,"lstrip":false,"rstrip":false)";
constexpr const char* kByteLevel =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";

EncoderFacts facts_of(std::string tokenizer_json) {
  ModelFiles files;
  files.tokenizer_json = std::move(tokenizer_json);
  auto made = Tokenizer::create(files);
  EXPECT_TRUE(made.ok()) << made.error().message;
  return made.ok() ? (*made)->encoder_facts() : EncoderFacts{};
}

TEST(EncoderFacts, TheDemoModelIsEncodedFastAndInParts) {
  const EncoderFacts& facts = demo_model().encoder_facts();
  EXPECT_TRUE(facts.fast) << facts.why_not_fast;
  EXPECT_TRUE(facts.parts) << facts.why_no_parts;
}

TEST(EncoderFacts, WhatTheFastEncoderCannotDoIsSaidAndDoneByTheReference) {
  const auto json = byte_level(kByteLevel, R"("single_word":true,"lstrip":false,"rstrip":false)");
  const EncoderFacts facts = facts_of(json);
  EXPECT_FALSE(facts.fast);
  EXPECT_THAT(facts.why_not_fast, HasSubstr("whole words"));
  EXPECT_FALSE(facts.parts);
  ModelFiles files;
  files.tokenizer_json = json;
  const auto tokenizer = Tokenizer::create(files).value();
  EXPECT_EQ(tokenizer->count_by_fast("ab"), std::nullopt);
  EXPECT_EQ(tokenizer->encode("ab<x>", SpecialTokens::kNone).value(),
            tokenizer->encode_by_reference("ab<x>", SpecialTokens::kNone).value());
}

TEST(EncoderFacts, PartsNeedAKnownPreTokenizer) {
  EXPECT_TRUE(facts_of(byte_level(kByteLevel, kPlainFlags)).parts);
  // Each of these makes what stands around a cut matter, or is not known.
  const auto split = [](const std::string& regex) {
    return R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")" + regex +
           R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
           R"("use_regex":false}]})";
  };
  EXPECT_FALSE(facts_of(byte_level(split(R"(\\w+\\s|.)"), kPlainFlags)).parts);
  EXPECT_FALSE(facts_of(byte_level("null", kPlainFlags)).parts);
  EXPECT_FALSE(facts_of(byte_level(R"({"type":"Whitespace"})", kPlainFlags)).parts);
  EXPECT_FALSE(
      facts_of(byte_level(R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true})",
                          kPlainFlags))
          .parts);
}

TEST(EncoderFacts, PartsAddUpToTheWhole) {
  const std::string text =
      "The gateway keeps\n\na live map, <|im_start|>user\n of caf\u00e9 e\u0301 what engines hold 123 now";
  std::vector<std::size_t> ends;
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (is_cut(text, at)) ends.push_back(at);
  }
  ASSERT_THAT(ends.size(), ::testing::Ge(10u));
  ends.push_back(text.size());
  std::vector<std::uint32_t> counts(ends.size());
  const auto run = demo_model().encode_parts(text, ends, counts).value();
  const std::vector<TokenId> ids(run.ids.begin(), run.ids.end());
  EXPECT_EQ(ids, demo_model().encode_by_reference(text, SpecialTokens::kNone).value());
  std::size_t begin = 0, first = 0;
  for (std::size_t i = 0; i < ends.size(); begin = ends[i], first += counts[i++]) {
    const auto part =
        demo_model().encode_by_reference(text.substr(begin, ends[i] - begin), SpecialTokens::kNone).value();
    EXPECT_EQ(std::vector<TokenId>(ids.begin() + static_cast<std::ptrdiff_t>(first),
                                   ids.begin() + static_cast<std::ptrdiff_t>(first + counts[i])),
              part);
  }
}

TEST(Cuts, BothSidesOfTheDoorHoldTheSameSets) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    const auto code = static_cast<std::uint32_t>(c);
    ASSERT_EQ(is_cut_left(c), wt_is_cut(code, ' ') != 0) << code;
    ASSERT_EQ(is_cut_right(c), wt_is_cut('a', code) != 0) << code;
  }
}

TEST(Cuts, LieBetweenWholeCharacters) {
  EXPECT_TRUE(is_cut("ab cd", 2));
  EXPECT_FALSE(is_cut("ab cd", 3));
  EXPECT_FALSE(is_cut("ab", 0));
  EXPECT_FALSE(is_cut("ab ", 3));
  EXPECT_FALSE(is_cut("a, b", 2));
  EXPECT_TRUE(is_cut("\u4eca\u3002\u5929", 3));
  EXPECT_TRUE(is_cut("\u00e9\n", 2));
  EXPECT_FALSE(is_cut("\x80\x80 ", 2));
  EXPECT_FALSE(is_cut("a\xe3\x80", 1));
}

}  // namespace
}  // namespace warmpath::tokens
