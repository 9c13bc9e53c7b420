// The request scanner beside simdjson's two parsers, on a chat of 400 KB.
#include <benchmark/benchmark.h>
#include <simdjson.h>

#include <string>

#include "api/api.h"

namespace {

std::string chat_body(std::size_t bytes) {
  std::string body = R"({"model":"m","stream":true,"messages":[)";
  for (int i = 0; body.size() < bytes; ++i) {
    if (i != 0) body += ",";
    body += R"({"role":"user","content":")";
    for (int line = 0; line < 40; ++line) body += "The quick brown fox jumps over the lazy dog, twice a day.\\n";
    body += "\"}";
  }
  return body + "]}";
}

void BM_ParseRequest(benchmark::State& state) {
  const std::string body = chat_body(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    auto request = warmpath::api::parse_request(warmpath::api::Endpoint::kChatCompletions, body);
    benchmark::DoNotOptimize(request);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(BM_ParseRequest)->Arg(2'000)->Arg(400'000);

void BM_SimdjsonDom(benchmark::State& state) {
  const std::string body = chat_body(static_cast<std::size_t>(state.range(0)));
  simdjson::dom::parser parser;
  for (auto _ : state) {
    simdjson::dom::element element;
    auto code = parser.parse(body).get(element);
    benchmark::DoNotOptimize(code);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(BM_SimdjsonDom)->Arg(2'000)->Arg(400'000);

void BM_SimdjsonOnDemand(benchmark::State& state) {
  const std::string body = chat_body(static_cast<std::size_t>(state.range(0)));
  simdjson::ondemand::parser parser;
  for (auto _ : state) {
    const simdjson::padded_string padded(body);
    auto document = parser.iterate(padded);
    std::size_t messages = 0;
    for (auto message : document["messages"]) {
      std::string_view content;
      if (message["content"].get_string().get(content) == simdjson::SUCCESS) messages += content.size();
    }
    benchmark::DoNotOptimize(messages);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(BM_SimdjsonOnDemand)->Arg(2'000)->Arg(400'000);

}  // namespace
