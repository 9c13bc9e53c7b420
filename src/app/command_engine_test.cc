// `warmpath engine` as a user runs it: a process that says where it listens, answers, and ends on a signal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "api/api.h"
#include "app/commands.h"
#include "http/http.h"

namespace warmpath::app {
namespace {

using ::testing::HasSubstr;

const std::string kModelFolder = std::string(WARMPATH_SOURCE_DIR) + "/data/demo_model";

// run_app in a process of its own; its stdout is read here.
class EngineProcess {
 public:
  explicit EngineProcess(std::vector<std::string> args) {
    int out[2];
    WP_CHECK(::pipe(out) == 0);
    pid_ = ::fork();
    WP_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::close(out[0]);
      ::close(out[1]);
      args.insert(args.begin(), "engine");
      ::_exit(run_app(args));
    }
    ::close(out[1]);
    out_ = out[0];
  }
  ~EngineProcess() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(out_);
  }
  // Up to the end of the line; empty when it ended without one.
  std::string line() {
    std::string text;
    char c = 0;
    while (::read(out_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  void signal(int number) { ::kill(pid_, number); }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
};

struct Whole {
  int status = 0;
  std::string body;
};

Whole ask(const std::string& address, std::string method, std::string target, std::string body) {
  io::Loop loop;
  auto client = http::HttpClient::create(loop, {});
  const auto at = io::parse_host_port(address);
  WP_CHECK(at.ok());
  http::ClientRequest request;
  request.method = std::move(method);
  request.target = std::move(target);
  if (!body.empty()) request.body = std::make_shared<const std::string>(std::move(body));
  Whole whole;
  auto call = client->fetch({{at->host, at->port}, address, nullptr}, std::move(request), std::chrono::seconds(60),
                            [&](Result<http::HttpClient::Whole> answer) {
                              EXPECT_TRUE(answer.ok()) << answer.error().message;
                              if (answer.ok()) whole = {answer->head.status, answer->body};
                              loop.stop();
                            });
  loop.run();
  return whole;
}

TEST(CommandEngine, SaysWhereItListensAnswersAndEndsOnASignal) {
  EngineProcess process({"--listen", "127.0.0.1:0", "--model", "demo", "--tokenizer", kModelFolder, "--profile", "demo",
                         "--speed", "100", "--dp", "2", "--lora", "adapter-x,/models/x", "--format", "json"});
  const std::string line = process.line();
  ASSERT_FALSE(line.empty());
  simdjson::dom::parser parser;
  const simdjson::dom::element ready = parser.parse(line);
  const std::string address{std::string_view(ready["listening"])};
  EXPECT_THAT(address, HasSubstr("127.0.0.1:"));
  EXPECT_EQ(ready["kv_event_sources"].get_array().size(), 2u);
  EXPECT_EQ(ask(address, "GET", "/health", "").status, 200);
  EXPECT_THAT(ask(address, "GET", "/v1/models", "").body, HasSubstr("adapter-x"));

  // Two turns on one rank (odd requests): the second finds what the first generated.
  const std::string question = R"({"role":"user","content":"tell me about the weather in the north"})";
  const auto first = ask(address, "POST", "/v1/chat/completions",
                         R"({"model":"demo","max_tokens":200,"messages":[)" + question + "]}");
  ASSERT_EQ(first.status, 200) << first.body;
  JsonWriter answer;
  answer.object().member("role", "assistant").member("content", api::text_of_response(first.body).value_or("")).end();
  const std::string both = question + "," + answer.text() + R"(,{"role":"user","content":"and in the south"})";
  const std::string second = R"({"model":"demo","max_tokens":2,"messages":[)" + both + "]}";
  ask(address, "POST", "/v1/chat/completions", second);  // the other rank knows nothing
  const auto usage = *api::find_usage(first.body);
  const auto hit = *api::find_usage(ask(address, "POST", "/v1/chat/completions", second).body);
  EXPECT_EQ(hit.cached_tokens, (usage.prompt_tokens + usage.completion_tokens - 1) / 16 * 16);

  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 0);
}

TEST(CommandEngine, WrongUseIsExplainedWithExitTwo) {
  const auto code = [](std::vector<std::string> args) {
    EngineProcess process(std::move(args));
    process.line();
    return process.wait();
  };
  EXPECT_EQ(code({"--help"}), 0);
  EXPECT_EQ(code({}), 2);
  EXPECT_EQ(code({"--model", "m", "--tokenizer", kModelFolder, "--profile", "no-such"}), 2);
  EXPECT_EQ(code({"--model", "m", "--tokenizer", kModelFolder, "--speed", "0"}), 2);
  EXPECT_EQ(code({"--model", "m", "--tokenizer", kModelFolder, "--hash-scheme", "md5"}), 2);
  EXPECT_EQ(code({"--model", "m", "--tokenizer", kModelFolder, "--lora", ",x"}), 2);
  EXPECT_EQ(code({"--model", "m", "--tokenizer", kModelFolder, "--listen", "nonsense"}), 2);
  EXPECT_NE(code({"--model", "m", "--tokenizer", "/no/such/folder"}), 0);
}

}  // namespace
}  // namespace warmpath::app
