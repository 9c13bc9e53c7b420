// The prompt path measured: JSON bytes in, chain out. `bench/prompt/run` gives it texts and tokenizers.
//
//   prompt_bench [--runs N] --tokenizer NAME=DIR... --text KIND=FILE...     one JSON object
//   prompt_bench --cases N --tokenizer NAME=DIR...                          N random cases a tokenizer against the
//   reference
//
// Times are CPU of one thread, medians of runs. Each side of a comparison starts on a thread of its own, so that the
// word cache that fastokens keeps a thread is empty for both.
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "api/api.h"
#include "parsers.h"
#include "prompt/prompt.h"
#include "prompt/test_texts.h"

namespace {

using namespace warmpath;
using tokens::SpecialTokens;

constexpr std::size_t kPromptBytes = 400'000;
constexpr std::uint32_t kBlockTokens = 16;
constexpr std::size_t kReuseBytes = 256u << 20;

double cpu_ms() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

double timed(const std::function<void()>& work) {
  const double begin = cpu_ms();
  work();
  return cpu_ms() - begin;
}

void on_new_thread(const std::function<void()>& work) { std::thread(work).join(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return std::move(content).str();
}

// Parts of about `bytes`, each whole characters.
std::vector<std::string> split(const std::string& text, std::size_t bytes) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at + bytes < text.size();) {
    std::size_t end = at + bytes;
    while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
  return parts;
}

struct Model {
  std::string name;
  std::shared_ptr<const tokens::Tokenizer> tokenizer;
  double load_ms = 0;
  std::size_t file_bytes = 0, loaded_bytes = 0;
};

prompt::Encoder fresh_encoder(const Model& model) {
  return {model.tokenizer, blocks::KeySpace(42, model.name, kBlockTokens), {}, {.bytes_max = kReuseBytes}};
}

// As the gateway does it: proxy/plan.cc.
prompt::Encoded encode_body(const prompt::Encoder& encoder, api::Endpoint endpoint, const std::string& body) {
  const api::Request request = api::parse_request(endpoint, body).value();
  prompt::Input input;
  if (endpoint == api::Endpoint::kCompletions) {
    input.prompts.emplace_back(prompt::TextPrompt{std::get<std::string>(request.prompts.at(0)), SpecialTokens::kAdd});
  } else {
    tokens::ChatInput chat;
    chat.messages = request.messages;
    chat.tools = request.tools;
    chat.now_unix_seconds = 1'790'000'000;
    input.prompts.emplace_back(chat);
  }
  return encoder.encode(input).value().front();
}

struct Message {
  std::string_view role;
  std::string_view content;
};

std::string chat_body(const std::vector<Message>& messages) {
  JsonWriter w;
  w.object().key("model").value("m").key("stream").value(true).key("messages").array();
  for (const Message& one : messages) w.object().key("role").value(one.role).key("content").value(one.content).end();
  w.end().end();
  return w.take();
}

std::string completion_body(std::string_view prompt) {
  JsonWriter w;
  w.object().key("model").value("m").key("prompt").value(prompt).end();
  return w.take();
}

bool same_as_reference(const Model& model, const std::string& text, const prompt::Encoded& encoded) {
  const auto ids = model.tokenizer->encode_by_reference(text, SpecialTokens::kNone).value();
  return encoded.exact && encoded.prompt_tokens == ids.size() &&
         encoded.chain == blocks::KeySpace(42, model.name, kBlockTokens).chain(ids, {}) &&
         model.tokenizer->encode(text, SpecialTokens::kNone).value() == ids;
}

struct Speed {
  double cold = 0, tokens = 0, fast = 0, reference = 0;  // MB/s
  std::size_t bytes = 0;
};

Speed measure_speed(const Model& model, const std::string& text, int runs, bool& exact) {
  const auto prompts = split(text, kPromptBytes);
  Speed speed;
  for (const auto& one : prompts) speed.bytes += one.size();
  std::vector<double> cold, door, fast;
  for (int run = 0; run < runs; ++run) {
    on_new_thread([&] {
      fast.push_back(timed([&] {
        for (const auto& one : prompts) WP_CHECK(model.tokenizer->count_by_fast(one).value_or(0) != 0);
      }));
    });
    on_new_thread([&] {
      door.push_back(timed([&] {
        for (const auto& one : prompts) WP_CHECK(model.tokenizer->encode(one, SpecialTokens::kNone).ok());
      }));
    });
    on_new_thread([&] {
      const auto encoder = fresh_encoder(model);
      cold.push_back(timed([&] {
        for (const auto& one : prompts) {
          prompt::Input input;
          input.prompts.emplace_back(prompt::TextPrompt{one, SpecialTokens::kNone});
          WP_CHECK(encoder.encode(input).ok());
        }
      }));
    });
  }
  double reference = 0;
  const auto encoder = fresh_encoder(model);
  for (const auto& one : prompts) {
    reference += timed([&] { WP_CHECK(model.tokenizer->encode_by_reference(one, SpecialTokens::kNone).ok()); });
    prompt::Input input;
    input.prompts.emplace_back(prompt::TextPrompt{one, SpecialTokens::kNone});
    for (int again = 0; again < 2; ++again) {
      exact = exact && same_as_reference(model, one, encoder.encode(input).value().front());
    }
  }
  const auto rate = [&](double ms) { return static_cast<double>(speed.bytes) / 1e3 / ms; };
  speed.cold = rate(median(cold));
  speed.tokens = rate(median(door));
  speed.fast = rate(median(fast));
  speed.reference = rate(reference);
  return speed;
}

// Ways to read one chat's body of 400 KB, in MB/s.
struct Parsing {
  double ours = 0, on_demand = 0, on_demand_unescaped = 0, dom = 0;
};

Parsing measure_parsing(const std::string& body, int runs) {
  constexpr int kRepeats = 50;
  const std::string padded = bench::padded(body);
  std::size_t sum = 0;
  const auto rate = [&](const std::function<std::size_t()>& parse) {
    std::vector<double> times;
    for (int run = 0; run < runs; ++run) {
      times.push_back(timed([&] {
        for (int i = 0; i < kRepeats; ++i) sum += parse();
      }));
    }
    return static_cast<double>(body.size()) * kRepeats / 1e3 / median(times);
  };
  Parsing out;
  out.ours = rate([&] { return api::parse_request(api::Endpoint::kChatCompletions, body).value().messages.size(); });
  out.on_demand = rate([&] { return bench::read_on_demand(padded); });
  out.on_demand_unescaped = rate([&] { return bench::read_on_demand_unescaped(padded); });
  out.dom = rate([&] { return bench::read_dom(padded); });
  WP_CHECK(sum != 0);
  return out;
}

struct Requests {
  double render_ms = 0;
  double warm_ms = 0, cold_ms = 0, append_ms = 0, turn_ratio_max = 0;
  std::uint32_t tokens = 0;
};

// Every run takes text that no run before it saw.
class Source {
 public:
  explicit Source(const std::string& text) : text_(text) {}
  std::string_view take(std::size_t bytes) {
    if (at_ + bytes + 4 > text_.size()) at_ = 0;
    while ((static_cast<unsigned char>(text_[at_]) & 0xC0) == 0x80) ++at_;
    std::size_t end = at_ + bytes;
    while ((static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80) --end;
    const auto out = std::string_view(text_).substr(at_, end - at_);
    at_ = end;
    return out;
  }

 private:
  const std::string& text_;
  std::size_t at_ = 0;
};

void measure_chats(const Model& model, const std::string& text, int runs, Requests& out, bool& exact) {
  Source source(text);
  std::vector<double> warm, cold;
  const auto warm_encoder = fresh_encoder(model);
  const auto system = source.take(kPromptBytes * 95 / 100);
  const auto first = chat_body({{"system", system}, {"user", source.take(kPromptBytes / 20)}});
  (void)encode_body(warm_encoder, api::Endpoint::kChatCompletions, first);
  for (int run = 0; run < runs; ++run) {
    const auto body = chat_body({{"system", system}, {"user", source.take(kPromptBytes / 20)}});
    prompt::Encoded encoded;
    warm.push_back(timed([&] { encoded = encode_body(warm_encoder, api::Endpoint::kChatCompletions, body); }));
    out.tokens = encoded.prompt_tokens;
    exact = exact && encoded.chain == encode_body(fresh_encoder(model), api::Endpoint::kChatCompletions, body).chain;
  }
  for (int run = 0; run < runs; ++run) {
    const auto body =
        chat_body({{"system", source.take(kPromptBytes * 95 / 100)}, {"user", source.take(kPromptBytes / 20)}});
    const auto encoder = fresh_encoder(model);
    cold.push_back(timed([&] { (void)encode_body(encoder, api::Endpoint::kChatCompletions, body); }));
  }
  out.warm_ms = median(warm);
  out.cold_ms = median(cold);
  const auto request = api::parse_request(api::Endpoint::kChatCompletions, first).value();
  tokens::ChatInput chat;
  chat.messages = request.messages;
  std::vector<double> rendered;
  for (int run = 0; run < runs; ++run) {
    rendered.push_back(timed([&] { WP_CHECK(model.tokenizer->render_chat_text(chat).ok()); }));
  }
  out.render_ms = median(rendered);
}

void measure_append(const Model& model, const std::string& text, int runs, Requests& out) {
  Source source(text);
  const auto encoder = fresh_encoder(model);
  std::string prompt(source.take(kPromptBytes));
  (void)encode_body(encoder, api::Endpoint::kCompletions, completion_body(prompt));
  std::vector<double> append;
  for (int run = 0; run < runs; ++run) {
    prompt += source.take(1'000);
    const auto body = completion_body(prompt);
    append.push_back(timed([&] { (void)encode_body(encoder, api::Endpoint::kCompletions, body); }));
  }
  out.append_ms = median(append);
}

// Turn n against a request that holds only what is new in it, plus 2 us per KB of turn n's body.
void measure_turns(const Model& model, const std::string& text, int runs, Requests& out) {
  constexpr int kTurns = 20;
  constexpr double kMsPerKb = 0.002;
  std::vector<std::vector<double>> ratios(kTurns);
  Source source(text);
  for (int run = 0; run < runs; ++run) {
    const auto encoder = fresh_encoder(model);
    std::vector<Message> all = {{"system", source.take(8'000)}};
    for (int turn = 0; turn < kTurns; ++turn) {
      std::vector<Message> fresh;
      if (turn > 0) fresh.push_back({"assistant", source.take(3'000)});
      fresh.push_back({"user", source.take(1'500)});
      all.insert(all.end(), fresh.begin(), fresh.end());
      const auto whole = chat_body(all);
      const auto single = chat_body(fresh);
      const auto empty = fresh_encoder(model);
      const double single_ms = timed([&] { (void)encode_body(empty, api::Endpoint::kChatCompletions, single); });
      const double whole_ms = timed([&] { (void)encode_body(encoder, api::Endpoint::kChatCompletions, whole); });
      if (turn == 0) continue;
      const double allowed_ms = kMsPerKb * static_cast<double>(whole.size()) / 1e3;
      ratios[static_cast<std::size_t>(turn)].push_back(std::max(0.0, whole_ms - allowed_ms) / single_ms);
    }
  }
  for (std::size_t turn = 1; turn < kTurns; ++turn) {
    out.turn_ratio_max = std::max(out.turn_ratio_max, median(ratios[turn]));
  }
}

std::size_t memory_bytes(const char* field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(field)) return std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10) * 1024;
  }
  return 0;
}

struct Peak {
  double bytes_ratio = 0;
  std::size_t words_bytes = 0;  // what fastokens keeps a thread
};

// 100 requests of 400 KB that have arrived, encoded by as many threads as a gateway has for that: what the process
// needs at most beyond what it needed before, for each byte received. Reuse keeps next to nothing here: its bound comes
// on top. So do the words that fastokens keeps a thread: each has encoded all of the text before.
Peak measure_peak(const Model& model, const std::string& text) {
  constexpr std::size_t kRequests = 100;
  constexpr std::size_t kThreads = 4;
  const prompt::Encoder encoder(model.tokenizer, blocks::KeySpace(42, model.name, kBlockTokens), {},
                                {.bytes_max = std::size_t{1} << 20});
  const auto known = split(text, kPromptBytes);
  std::vector<std::string> bodies;
  std::size_t received = 0;
  Source source(text);
  std::atomic<std::size_t> ready{0}, next{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  Peak peak;
  const std::size_t alone = memory_bytes("VmRSS");
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (const auto& one : known) WP_CHECK(model.tokenizer->count_by_fast(one).has_value());
      malloc_trim(0);
      ready.fetch_add(1);
      ready.notify_all();
      go.wait(false);
      for (std::size_t i = next.fetch_add(1); i < kRequests; i = next.fetch_add(1)) {
        (void)encode_body(encoder, api::Endpoint::kChatCompletions, bodies[i]);
      }
    });
  }
  for (std::size_t seen = ready.load(); seen < kThreads; seen = ready.load()) ready.wait(seen);
  std::ofstream("/proc/self/clear_refs") << "5";
  const std::size_t before = memory_bytes("VmRSS");
  peak.words_bytes = (before - std::min(before, alone)) / kThreads;
  for (std::size_t i = 0; i < kRequests; ++i) {
    bodies.push_back(
        chat_body({{"system", source.take(kPromptBytes * 95 / 100)}, {"user", source.take(kPromptBytes / 20)}}));
    received += bodies.back().size();
  }
  go.store(true);
  go.notify_all();
  for (std::thread& thread : threads) thread.join();
  const std::size_t most = memory_bytes("VmHWM");
  WP_CHECK(most > before);
  peak.bytes_ratio = static_cast<double>(most - before) / static_cast<double>(received);
  return peak;
}

int check_cases(const std::vector<Model>& models, std::uint64_t cases) {
  for (const Model& model : models) {
    const auto seed = static_cast<std::uint64_t>(std::time(nullptr));
    prompt::ReuseCheck check(*model.tokenizer, seed);
    for (std::uint64_t i = 0; i < cases; ++i) {
      if (const auto fault = check.step()) {
        std::fprintf(stderr, "%s, seed %llu, case %llu: %s\n", model.name.c_str(),
                     static_cast<unsigned long long>(seed), static_cast<unsigned long long>(i), fault->c_str());
        return 1;
      }
    }
    std::printf("%s: %llu cases equal those of the reference (seed %llu)\n", model.name.c_str(),
                static_cast<unsigned long long>(cases), static_cast<unsigned long long>(seed));
    std::fflush(stdout);
  }
  return 0;
}

Model load(const std::string& name, const std::string& folder) {
  tokens::ModelFiles files;
  files.tokenizer_json = read(folder + "/tokenizer.json");
  const auto optional = [&](const char* file) -> std::optional<std::string> {
    auto content = read(folder + "/" + file);
    return content.empty() ? std::nullopt : std::optional(std::move(content));
  };
  files.tokenizer_config_json = optional("tokenizer_config.json");
  files.config_json = optional("config.json");
  Model model{.name = name, .tokenizer = nullptr};
  model.file_bytes = files.tokenizer_json.size();
  const auto held = [] {
    const auto now = mallinfo2();
    return now.uordblks + now.hblkhd;
  };
  const std::size_t before = held();
  model.load_ms = timed([&] {
    auto made = tokens::Tokenizer::create(files);
    if (!made.ok()) {
      std::fprintf(stderr, "%s: %s\n", folder.c_str(), made.error().message.c_str());
      std::exit(1);
    }
    model.tokenizer = *made;
  });
  model.loaded_bytes = held() - before;
  return model;
}

double rounded(double value) { return static_cast<double>(static_cast<std::int64_t>(value * 1000 + 0.5)) / 1000; }

}  // namespace

int main(int argc, char** argv) {
  int runs = 7;
  std::uint64_t cases = 0;
  std::vector<Model> models;
  std::vector<std::pair<std::string, std::string>> texts;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    const std::string name = value.substr(0, value.find('='));
    const std::string path = value.substr(std::min(value.size(), name.size() + 1));
    if (option == "--runs") runs = std::max(1, std::atoi(value.c_str()));
    if (option == "--cases") cases = std::strtoull(value.c_str(), nullptr, 10);
    if (option == "--tokenizer") models.push_back(load(name, path));
    if (option == "--text") texts.emplace_back(name, read(path));
  }
  if (models.empty() || (cases == 0 && texts.empty())) {
    std::fprintf(stderr, "prompt_bench: give --tokenizer NAME=DIR and --text KIND=FILE, or --cases N\n");
    return 2;
  }
  if (cases != 0) return check_cases(models, cases);

  bool exact = true;
  const Peak peak = measure_peak(models.front(), texts.front().second);
  JsonWriter w;
  w.object().key("parsing").array();
  for (const auto& [kind, text] : texts) {
    Source source(text);
    const auto body =
        chat_body({{"system", source.take(kPromptBytes * 95 / 100)}, {"user", source.take(kPromptBytes / 20)}});
    const Parsing parsing = measure_parsing(body, runs);
    w.object().key("text").value(kind).key("ours_mb_per_s").value(rounded(parsing.ours));
    w.key("simdjson_mb_per_s").value(rounded(parsing.on_demand));
    w.key("simdjson_unescaped_mb_per_s").value(rounded(parsing.on_demand_unescaped));
    w.key("simdjson_dom_mb_per_s").value(rounded(parsing.dom)).end();
  }
  w.end().key("texts").array();
  for (const Model& model : models) {
    for (const auto& [kind, text] : texts) {
      std::fprintf(stderr, "%s, %s\n", model.name.c_str(), kind.c_str());
      const Speed speed = measure_speed(model, text, std::min(runs, 5), exact);
      w.object().key("tokenizer").value(model.name).key("text").value(kind);
      w.key("bytes").value(static_cast<std::uint64_t>(speed.bytes));
      w.key("cold_mb_per_s").value(rounded(speed.cold)).key("encode_mb_per_s").value(rounded(speed.tokens));
      w.key("fastokens_mb_per_s").value(rounded(speed.fast));
      w.key("tokenizers_mb_per_s").value(rounded(speed.reference)).end();
    }
  }
  w.end().key("requests").array();
  Requests worst;
  for (const Model& model : models) {
    std::fprintf(stderr, "%s, requests\n", model.name.c_str());
    Requests one;
    on_new_thread([&] {
      measure_chats(model, texts.front().second, runs, one, exact);
      measure_append(model, texts.front().second, runs, one);
      measure_turns(model, texts.front().second, runs, one);
    });
    w.object().key("tokenizer").value(model.name).key("load_cpu_ms").value(rounded(model.load_ms));
    w.key("file_bytes").value(static_cast<std::uint64_t>(model.file_bytes));
    w.key("loaded_bytes").value(static_cast<std::uint64_t>(model.loaded_bytes));
    w.key("render_cpu_ms").value(rounded(one.render_ms));
    w.key("prompt_tokens").value(one.tokens).key("warm_100k_cpu_ms").value(rounded(one.warm_ms));
    w.key("cold_100k_cpu_ms").value(rounded(one.cold_ms)).key("append_1kb_cpu_ms").value(rounded(one.append_ms));
    w.key("turn_ratio_max").value(rounded(one.turn_ratio_max)).end();
    worst.warm_ms = std::max(worst.warm_ms, one.warm_ms);
    worst.cold_ms = std::max(worst.cold_ms, one.cold_ms);
    worst.append_ms = std::max(worst.append_ms, one.append_ms);
    worst.turn_ratio_max = std::max(worst.turn_ratio_max, one.turn_ratio_max);
  }
  w.end().key("warm_100k_cpu_ms").value(rounded(worst.warm_ms)).key("cold_100k_cpu_ms").value(rounded(worst.cold_ms));
  w.key("append_1kb_cpu_ms").value(rounded(worst.append_ms));
  w.key("turn_ratio_max").value(rounded(worst.turn_ratio_max));
  w.key("peak_bytes_ratio").value(rounded(peak.bytes_ratio));
  w.key("words_bytes_a_thread").value(static_cast<std::uint64_t>(peak.words_bytes)).key("exact").value(exact).end();
  std::printf("%s\n", w.take().c_str());
  return exact ? 0 : 1;
}
