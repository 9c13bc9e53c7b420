#include "config/gateway_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace warmpath::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Checks kAllowed = {{"random", "load", "approximate", "precise"}};

std::string faults_of(std::string_view yaml) {
  GatewayConfig config;
  return to_text(read_gateway_yaml(yaml, "w.yaml", kAllowed, config));
}

constexpr std::string_view kWhole = R"(listen: 0.0.0.0:8000
admin_listen: "[::1]:0"
io_threads: 2
drain: 10s
attempts_max: 2
include_usage: true
log: {level: debug, format: json}
limits:
  body_bytes_max: 32MiB
timeouts:
  first_byte: 2m
pools:
  - model: qwen
    aliases: [q, default]
    tokenizer: /models/qwen
    policy: precise
    block_tokens: 64
    engines:
      - http://a:8000/
      - https://b,kv=bind:tcp://*:5557,dp=2,ca=/ca.pem,adapters=x+y
      - url: http://[::1]:8002
        kv: tcp://c:5557
        replay: tcp://c:5558
  - model: other
    engines: ["http://a:8000"]
)";

TEST(GatewayYaml, ReadsAWholeFile) {
  GatewayConfig c;
  ASSERT_EQ(to_text(read_gateway_yaml(kWhole, "w.yaml", kAllowed, c)), "");
  EXPECT_EQ(c.listen, "0.0.0.0:8000");
  EXPECT_EQ(c.admin_listen, "[::1]:0");
  EXPECT_EQ(c.io_threads, 2u);
  EXPECT_EQ(c.drain, std::chrono::seconds(10));
  EXPECT_TRUE(c.include_usage);
  EXPECT_EQ(c.log_level, LogLevel::kDebug);
  EXPECT_EQ(c.log_format, LogFormat::kJson);
  EXPECT_EQ(c.limits.body_bytes_max, 32u << 20);
  EXPECT_EQ(c.limits.head_bytes_max, GatewayConfig().limits.head_bytes_max);
  EXPECT_EQ(c.timeouts.first_byte, std::chrono::minutes(2));
  ASSERT_EQ(c.pools.size(), 2u);
  const PoolConfig& pool = c.pools[0];
  EXPECT_THAT(pool.aliases, ElementsAre("q", "default"));
  EXPECT_EQ(pool.block_tokens, 64u);
  ASSERT_EQ(pool.engines.size(), 3u);
  EXPECT_EQ(pool.engines[0].url, "http://a:8000");
  EXPECT_FALSE(pool.engines[0].kv);
  ASSERT_TRUE(pool.engines[1].kv);
  EXPECT_EQ(pool.engines[1].kv->side, KvSource::Side::kBind);
  EXPECT_EQ(pool.engines[1].kv->events, "tcp://*:5557");
  EXPECT_EQ(pool.engines[1].dp, 2u);
  EXPECT_EQ(pool.engines[1].ca, "/ca.pem");
  EXPECT_THAT(pool.engines[1].adapters, ElementsAre("x", "y"));
  ASSERT_TRUE(pool.engines[2].kv);
  EXPECT_EQ(pool.engines[2].kv->side, KvSource::Side::kConnect);
  EXPECT_EQ(pool.engines[2].kv->replay, "tcp://c:5558");
}

// Golden: what a user sees.
TEST(GatewayYaml, ReadsWhenEnginesAreAskedForIds) {
  GatewayConfig c;
  const std::string head = "pools:\n  - engines: [\"http://a:8000\"]\n    ask_engine: ";
  ASSERT_EQ(to_text(read_gateway_yaml(head + "when-inexact\n    ask_timeout: 300ms\n    ask_cache_bytes_max: 1MiB\n",
                                      "w.yaml", kAllowed, c)),
            "");
  EXPECT_EQ(c.pools[0].ask_engine, AskEngine::kWhenInexact);
  EXPECT_EQ(c.pools[0].ask_timeout, std::chrono::milliseconds(300));
  EXPECT_EQ(c.pools[0].ask_cache_bytes_max, 1u << 20);
  EXPECT_THAT(faults_of(head + "sometimes\n"), HasSubstr("when-inexact"));
}

TEST(GatewayYaml, ReadsHowTheIndexSurvives) {
  GatewayConfig c;
  const std::string pools = "pools:\n  - engines: [\"http://a:8000\"]\n";
  ASSERT_EQ(to_text(read_gateway_yaml(pools + "index:\n  snapshot: {path: /var/lib/w/index, every: 5s}\n"
                                              "  share: true\n  copy_from: http://peer:8081\n  copy_timeout: 2s\n",
                                      "w.yaml", kAllowed, c)),
            "");
  EXPECT_EQ(c.index.snapshot_path, "/var/lib/w/index");
  EXPECT_EQ(c.index.snapshot_every, std::chrono::seconds(5));
  EXPECT_TRUE(c.index.share);
  EXPECT_EQ(c.index.copy_from, "http://peer:8081");
  EXPECT_EQ(c.index.copy_timeout, std::chrono::seconds(2));
  EXPECT_THAT(faults_of(pools + "index: {copy_from: \"https://peer:8081\"}\n"), HasSubstr("plain http"));
  EXPECT_THAT(faults_of(pools + "index: {snapshot: {every: 1ms}}\n"), HasSubstr("from 100ms to 24h"));
  EXPECT_THAT(faults_of(pools + "index: {snapshot: {file: x}}\n"), HasSubstr("here are allowed: path, every"));
}

TEST(GatewayYaml, NamesEveryFaultWithLineKeyAndWhatIsAllowed) {
  EXPECT_EQ(faults_of(R"(lisen: 0.0.0.0:8000
admin_listen: 8081
drain: 30
attempts_max: 99
include_usage: yes
log:
  level: warn
  colour: red
limits: 5
timeouts:
  idle: [1s]
pools:
  - model: qwen
    policy: precice
    block_tokens: 24
    engines:
      - htp://a
      - url: http://b:8000
        replay: tcp://b:5558
      - http://c:8000,ca=x,kv=5557
      - url: http://b:8000
        ca: /ca.pem
  - model: qwen
  - 7
whatever: 1
)"),
            R"(w.yaml:1: lisen: there is no such option; did you mean 'listen'?
w.yaml:2: admin_listen: takes HOST:PORT or [IPV6]:PORT with a port from 0 to 65535 (all interfaces: 0.0.0.0 or [::]), not '8081'
w.yaml:3: drain: takes a time (500ms, 30s, 2m) from 0 to 24h, not '30'
w.yaml:4: attempts_max: takes a whole number from 1 to 16, not '99'
w.yaml:5: include_usage: takes true or false, not 'yes'
w.yaml:7: log.level: takes one of debug, info, warning, error, not 'warn'
w.yaml:8: log.colour: there is no such option; here are allowed: level, format
w.yaml:9: limits: takes a map of options, not a text
w.yaml:11: timeouts.idle: takes a time (500ms, 30s, 2m) from 1ms to 24h, not a list
w.yaml:14: pools[0].policy: takes one of random, load, approximate, precise, not 'precice'; did you mean 'precise'?
w.yaml:15: pools[0].block_tokens: takes 0 or a multiple of 16
w.yaml:17: pools[0].engines[0]: url takes http://HOST:PORT or https://HOST:PORT without a path, not 'htp://a'
w.yaml:18: pools[0].engines[1]: replay needs kv: the address of the events themselves
w.yaml:20: pools[0].engines[2]: kv takes tcp://HOST:PORT, or bind:tcp://HOST:PORT for an engine that dials out, not '5557'
w.yaml:21: pools[0].engines[3]: the engine http://b:8000 is already pools[0].engines[1]
w.yaml:21: pools[0].engines[3]: ca is for https engines, and the URL is http://b:8000
w.yaml:23: pools[1]: has no engine: name at least one under engines
w.yaml:23: pools[1]: the name 'qwen' already belongs to pools[0]
w.yaml:24: pools[2]: takes a map of options, not a text
w.yaml:25: whatever: there is no such option; here are allowed: pools, listen, admin_listen, io_threads, drain, attempts_max, include_usage, scrape_interval, health_interval, resolve_interval, decisions_kept, index, log, limits, timeouts
)");
}

TEST(GatewayYaml, RefusesWhatIsNoPlainYaml) {
  EXPECT_THAT(faults_of("a: [1, 2"), HasSubstr("w.yaml:"));
  EXPECT_THAT(faults_of("a: [1, 2"), HasSubstr("this is not YAML"));
  EXPECT_THAT(faults_of("\tlisten: x"), HasSubstr("this is not YAML"));
  EXPECT_THAT(faults_of("- a\n- b\n"), HasSubstr("the file holds a list; a map of options is needed"));
  EXPECT_THAT(faults_of("listen: a:1\n---\nlisten: b:1\n"), HasSubstr("several YAML documents"));
  EXPECT_THAT(faults_of("listen: a:1\nlisten: b:1\n"),
              HasSubstr("w.yaml:2: the key 'listen' is given twice; first in line 1"));
  EXPECT_THAT(faults_of("? [a]\n: 1\n"), HasSubstr("a key has to be a text"));
  EXPECT_EQ(faults_of(""), "w.yaml: pools: there is no engine: give --engine URL, or pools in a file\n");
  EXPECT_THAT(faults_of("listen: ~\n"), HasSubstr("not nothing"));
  EXPECT_THAT(faults_of("listen: \"a\\nb:1\"\n"), HasSubstr("w.yaml:1: listen: takes"));
}

TEST(GatewayYaml, HostileFilesCostLittle) {
  // Ten levels of tenfold aliases: 10^10 values if they were expanded.
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += (k ? "," : "") + before;
    bomb += "]\n";
  }
  EXPECT_THAT(faults_of(bomb), HasSubstr("aliases (*name) are not allowed"));
  EXPECT_THAT(faults_of("a: " + std::string(20, '[') + std::string(20, ']')),
              HasSubstr("nested deeper than 16 levels"));
  EXPECT_THAT(faults_of("a: " + std::string(100'000, '[')), HasSubstr("w.yaml"));
  EXPECT_THAT(faults_of(std::string(kConfigBytesMax + 1, 'a')), HasSubstr("1048577 bytes; at most 1MiB"));
  std::string many = "pools: [";
  for (int i = 0; i < 30'000; ++i) many += "1,";
  EXPECT_THAT(faults_of(many + "]"), HasSubstr("more than 20000 values"));
  std::string faulty;
  for (int i = 0; i < 500; ++i) faulty += "k" + std::to_string(i) + ": 1\n";
  GatewayConfig config;
  const auto faults = read_gateway_yaml(faulty, "w.yaml", kAllowed, config);
  EXPECT_EQ(faults.size(), kFaultsMax + 1);
  EXPECT_THAT(faults.back().message, HasSubstr("more faults are not shown"));
}

TEST(ParseEngine, SaysWhichPartIsWrong) {
  const auto message = [](std::string_view text) {
    const auto parsed = parse_engine(text);
    return parsed.ok() ? std::string("ok") : parsed.error().message;
  };
  EXPECT_EQ(message("http://a:1,kv=tcp://a:2,replay=tcp://a:3,dp=4"), "ok");
  EXPECT_EQ(message("https://a"), "ok");
  EXPECT_THAT(message(""), HasSubstr("url takes http://HOST:PORT"));
  EXPECT_THAT(message("http://a/v1"), HasSubstr("without a path, not 'http://a/v1'"));
  EXPECT_THAT(message("http://user@a"), HasSubstr("url takes"));
  EXPECT_THAT(message("http://a:99999"), HasSubstr("url takes"));
  EXPECT_THAT(message("http://a,dp=x"), HasSubstr("dp takes a whole number from 0 to 256, not 'x'"));
  EXPECT_THAT(message("http://a,dq=2"), HasSubstr("did you mean 'dp='?"));
  EXPECT_THAT(message("http://a,dp=1,dp=2"), HasSubstr("dp= is given twice"));
  EXPECT_THAT(message("http://a,url=http://b"), HasSubstr("is no part of an engine"));
  EXPECT_THAT(message("http://a,kv=tcp://*:5557"), HasSubstr("kv takes tcp://HOST:PORT, or bind:"));
  EXPECT_THAT(message("http://a,replay=bind:tcp://*:5558"), HasSubstr("replay takes tcp://HOST:PORT, not"));
  EXPECT_THAT(message("http://a,kv"), HasSubstr("kv takes"));
  EXPECT_THAT(message("http://a:0"), HasSubstr("url takes")) << "there is no port 0 to connect to";
  EXPECT_THAT(message("http://a:1,kv=tcp://a:0"), HasSubstr("kv takes"));
  const std::string all = message("http://a:1,foo=3,dp=a,kv=x");
  for (const char* part : {"'foo=3' is no part", "dp takes", "kv takes"}) EXPECT_THAT(all, HasSubstr(part));
  std::string many = "http://a:1";
  for (int i = 0; i < 100'000; ++i) many += ",x";
  EXPECT_LT(message(many).size(), 4'096u);
  EXPECT_LT(message("http://a:1,adapters=" + std::string(100'000, '+')).size(), 4'096u);
}

TEST(GatewayYaml, FilesThatCannotBeUsedAreFaultsLikeOthers) {
  constexpr std::string_view kFiles =
      "pools:\n"
      "- model: a\n  tokenizer: /t1\n  secret_file: /s1\n  engines:\n  - url: https://a:1\n    ca: /c1\n"
      "- model: b\n  tokenizer: /good\n  drain: 1\n  engines: ['https://b:1,ca=/c2']\n";
  Checks checks = kAllowed;
  std::vector<std::string> asked;
  checks.path_fault = [&](std::string_view option, const std::string& path) {
    asked.push_back(std::string(option) + " " + path);
    return path == "/good" ? std::string() : path + ": no such file";
  };
  GatewayConfig c;
  const std::string faults = to_text(read_gateway_yaml(kFiles, "w.yaml", checks, c));
  for (const char* fault :
       {"w.yaml:3: pools[0].tokenizer: /t1: no such file\n", "w.yaml:4: pools[0].secret_file: /s1: no such file\n",
        "w.yaml:7: pools[0].engines[0].ca: /c1: no such file\n", "w.yaml:10: pools[1].drain: there is no such option",
        "w.yaml:11: pools[1].engines[0].ca: /c2: no such file\n"}) {
    EXPECT_THAT(faults, HasSubstr(fault));
  }
  EXPECT_THAT(asked, ::testing::UnorderedElementsAre("tokenizer /t1", "secret_file /s1", "ca /c1", "tokenizer /good",
                                                     "ca /c2"));
}

// Reads `args` and the one file w.yaml; faults of both kinds together.
std::string serve(const std::vector<std::string>& args, std::string_view yaml, GatewayConfig& out) {
  GatewayFlags gateway(kAllowed);
  Flags flags("serve", "the gateway");
  gateway.add_to(flags);
  std::string text;
  for (const auto& fault : flags.parse(args).faults) text += fault + "\n";
  const auto read = [&](const std::string& path) -> Result<std::string> {
    if (path != "w.yaml") return Error{ErrorKind::kNotFound, path + ": no such file"};
    return std::string(yaml);
  };
  return text + to_text(gateway.finish(read, out));
}

TEST(GatewayFlags, DescribeAGatewayWithoutAFile) {
  GatewayConfig c;
  EXPECT_EQ(
      serve({"--engine", "http://a:1", "--engine=http://b:1,dp=2", "--tokenizer", "dir", "--policy", "load", "--listen",
             "[::]:80", "--alias", "x", "--alias", "y", "--model", "m", "--log-level", "error", "--idle-timeout", "5s"},
            "", c),
      "");
  ASSERT_EQ(c.pools.size(), 1u);
  EXPECT_EQ(c.pools[0].engines.size(), 2u);
  EXPECT_EQ(c.pools[0].policy, "load");
  EXPECT_THAT(c.pools[0].aliases, ElementsAre("x", "y"));
  EXPECT_EQ(c.listen, "[::]:80");
  EXPECT_EQ(c.log_level, LogLevel::kError);
  EXPECT_EQ(c.timeouts.idle, std::chrono::seconds(5));
}

TEST(GatewayFlags, WinOverTheFile) {
  GatewayConfig c;
  constexpr std::string_view kOne = "listen: a:1\npools:\n- policy: load\n  engines: [http://a:1]\n";
  EXPECT_EQ(serve({"--config", "w.yaml", "--policy", "random", "--engine", "http://b:1"}, kOne, c), "");
  EXPECT_EQ(c.listen, "a:1");
  ASSERT_EQ(c.pools.size(), 1u);
  EXPECT_EQ(c.pools[0].policy, "random");
  EXPECT_EQ(c.pools[0].engines.size(), 2u);
}

TEST(GatewayFlags, SayWhatIsWrong) {
  GatewayConfig c;
  EXPECT_EQ(serve({}, "", c), "command line: pools: there is no engine: give --engine URL, or pools in a file\n");
  c = {};
  EXPECT_EQ(serve({"--config", "x.yaml"}, "", c), "command line: --config: x.yaml: no such file\n");
  c = {};
  EXPECT_EQ(serve({"--config", "w.yaml", "--policy", "load"}, kWhole, c),
            "command line: --policy: describes one pool, and w.yaml has 2; set it there\n");
  c = {};
  EXPECT_THAT(serve({"--engine", "http://a:1", "--engine", "http://a:1"}, "", c),
              HasSubstr("command line: pools[0].engines[1]: the engine http://a:1 is already pools[0].engines[0]"));
  c = {};
  EXPECT_THAT(serve({"--engine", "a:1"}, "", c), HasSubstr("--engine url takes http://HOST:PORT"));
  c = {};
  EXPECT_THAT(serve({"--engine", "http://a:1", "--admin-listen", "127.0.0.1:8080"}, "", c),
              HasSubstr("the two listeners need one each"));
  c = {};
  EXPECT_THAT(serve({"--engine", "http://a:1,kv=tcp://a:65535,dp=4"}, "", c), HasSubstr("the highest port is 65535"));
}

TEST(GatewayDocs, ArePageAndTableAlike) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/docs/config.md");
  std::stringstream page;
  page << file.rdbuf();
  EXPECT_EQ(page.str(), gateway_docs_markdown()) << "write it again: build/dev/warmpath config docs > docs/config.md";
}

}  // namespace
}  // namespace warmpath::config
