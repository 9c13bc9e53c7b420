// index_figures: makes corpora and measures our index on them. `run` beside it calls it, one process a figure.
//
//   index_figures corpus KIND OUT TRACE COPIES ENGINE_BLOCKS BLOCK_TOKENS
//   index_figures ingest|deep|memory|exact CORPUS
//   index_figures lookup CORPUS OPS_PER_S
//   index_figures frames TRACE BLOCK_TOKENS
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "corpus.h"
#include "figures.h"

namespace warmpath::bench {
namespace {

int fail(const std::string& what) {
  std::fprintf(stderr, "index_figures: %s\n", what.c_str());
  return 2;
}

bool read_trace(const std::string& path, std::vector<workload::TraceRow>& rows) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Result<std::vector<workload::TraceRow>> parsed = workload::parse_trace(text);
  if (!parsed) return false;
  rows = std::move(*parsed);
  return true;
}

bool options_of(const std::string& kind, CorpusOptions& options) {
  if (kind == "large") return true;
  if (kind == "small") options.feed = Feed::kSmall;
  if (kind == "engine_like") options.feed = Feed::kEngineLike;
  if (kind == "filled") options.stop_when_full = true;
  if (kind == "unshared") options.every_request_unique = options.stop_when_full = true;
  if (kind == "shared" || kind == "mixed_seeds") {
    options.replicas = 20;
    options.stop_when_full = true;
    options.seed_per_engine = kind == "mixed_seeds";
  }
  return kind == "small" || kind == "engine_like" || kind == "filled" || kind == "unshared" || options.replicas > 1;
}

int corpus(int argc, char** argv) {
  const std::string kind = argv[2];
  if (kind == "deep" && argc == 4) {
    return write_corpus(make_deep_corpus(100, 6'250, 8), argv[3]) ? 0 : fail("cannot write the corpus");
  }
  CorpusOptions options;
  std::vector<workload::TraceRow> rows;
  if (argc != 8 || !options_of(kind, options)) return fail("corpus KIND OUT TRACE COPIES ENGINE_BLOCKS BLOCK_TOKENS");
  if (!read_trace(argv[4], rows)) return fail("cannot read the trace " + std::string(argv[4]));
  options.copies = static_cast<std::uint32_t>(std::atoi(argv[5]));
  options.engine_blocks = static_cast<std::uint32_t>(std::atoi(argv[6]));
  options.block_tokens = static_cast<std::uint32_t>(std::atoi(argv[7]));
  return write_corpus(make_trace_corpus(rows, options), argv[3]) ? 0 : fail("cannot write the corpus");
}

int measure(const std::string& command, int argc, char** argv) {
  if (command == "frames" && argc == 4) {
    std::vector<workload::TraceRow> rows;
    if (!read_trace(argv[2], rows)) return fail("cannot read the trace");
    std::puts(frames(rows, static_cast<std::uint32_t>(std::atoi(argv[3]))).c_str());
    return 0;
  }
  CorpusView view;
  if (!map_corpus(argv[2], view)) return fail("cannot read the corpus " + std::string(argv[2]));
  std::string out;
  if (command == "ingest") out = ingest(view);
  if (command == "lookup" && argc == 4) out = lookup(view, std::atof(argv[3]));
  if (command == "deep") out = deep(view);
  if (command == "memory") out = memory(view);
  if (command == "exact") out = exact(view);
  if (out.empty()) return fail("no such figure: " + command);
  std::puts(out.c_str());
  return 0;
}

}  // namespace
}  // namespace warmpath::bench

int main(int argc, char** argv) {
  if (argc < 3) return warmpath::bench::fail("what? see main.cc");
  const std::string command = argv[1];
  if (command == "corpus") return warmpath::bench::corpus(argc, argv);
  return warmpath::bench::measure(command, argc, argv);
}
