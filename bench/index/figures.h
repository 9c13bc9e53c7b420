// The figures of our index on one corpus. Each prints one JSON object.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "corpus_file.h"
#include "workload/workload.h"

namespace warmpath::bench {

double thread_cpu_seconds();

// Owned, pre-hashed batches, applied and freed one after the other on this thread.
std::string ingest(const CorpusView& corpus);
// Looks up the corpus' prompts while another thread applies its second half at `ops_per_s`; then alone, between sweeps
// over a buffer larger than the caches.
std::string lookup(const CorpusView& corpus, double ops_per_s);
// Prompts one after the other without a writer, hot and between sweeps.
std::string deep(const CorpusView& corpus);
// Growth of anonymous resident memory while the events are applied straight from the file.
std::string memory(const CorpusView& corpus);
// Every prompt's rows, after all events, against sets of hashes.
std::string exact(const CorpusView& corpus);
// Frames of one copy of the trace: decoded, hashed and applied on this thread.
std::string frames(const std::vector<workload::TraceRow>& rows, std::uint32_t block_tokens);

}  // namespace warmpath::bench
