#include <algorithm>
#include <string>
#include <unordered_map>

#include <simdjson.h>

#include "workload/workload.h"

namespace warmpath::workload {
namespace {

constexpr std::string_view kHead = "warmpath-trace 1 block_tokens=";
constexpr std::uint32_t kNoBlock = ~std::uint32_t{0};
constexpr std::uint64_t kTimeMsMax = std::uint64_t{1} << 40;  // 34 years

Error fault(std::size_t line, const std::string& what) {
  return {ErrorKind::kInvalid, "trace line " + std::to_string(line) + ": " + what};
}

std::uint32_t blocks_needed(std::uint32_t input_tokens) {
  return (input_tokens + kTraceBlockTokens - 1) / kTraceBlockTokens;
}

// Lines without their ends, numbered from 1.
template <class Use>
Result<void> each_line(std::string_view text, Use&& use) {
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.empty()) continue;
    if (Result<void> used = use(number, line); !used) return used;
  }
  return {};
}

// The numbers of one row, the same checks for both forms.
struct Row {
  std::uint64_t timestamp_ms = 0;
  std::uint64_t input_tokens = 0;
  std::uint64_t output_tokens = 0;
};

// Rows so far, and the tree of their blocks.
class Rows {
 public:
  Result<void> begin(std::size_t line, const Row& row) {
    if (rows_.size() >= kSessionsMax) return fault(line, "more than " + std::to_string(kSessionsMax) + " rows");
    if (row.input_tokens < 1 || row.input_tokens > kRequestTokensMax || row.output_tokens > kRequestTokensMax) {
      return fault(line, "a prompt has 1 to " + std::to_string(kRequestTokensMax) + " tokens, an answer at most that");
    }
    if (row.timestamp_ms < last_ms_)
      return fault(line, "the timestamp is before the one above; sort the trace by time");
    if (row.timestamp_ms > kTimeMsMax) return fault(line, "the timestamp is beyond 2^40 ms");
    blocks_ += blocks_needed(static_cast<std::uint32_t>(row.input_tokens));
    if (blocks_ > kTraceBlocksMax)
      return fault(line, "more than " + std::to_string(kTraceBlocksMax) + " blocks so far");
    last_ms_ = row.timestamp_ms;
    rows_.push_back({.at_seconds = static_cast<double>(row.timestamp_ms) / 1e3,
                     .input_tokens = static_cast<std::uint32_t>(row.input_tokens),
                     .output_tokens = static_cast<std::uint32_t>(row.output_tokens),
                     .hash_ids = {}});
    rows_.back().hash_ids.reserve(blocks_needed(rows_.back().input_tokens));
    return {};
  }
  std::vector<std::uint32_t>& blocks() { return rows_.back().hash_ids; }
  std::uint32_t needed() const { return blocks_needed(rows_.back().input_tokens); }
  std::uint64_t last_ms() const { return last_ms_; }
  std::vector<TraceRow> take() { return std::move(rows_); }

  std::uint32_t known() const { return static_cast<std::uint32_t>(parents_.size()); }
  std::uint32_t parent(std::uint32_t block) const { return parents_[block]; }
  std::uint32_t add_block(std::uint32_t parent) {
    parents_.push_back(parent);
    return known() - 1;
  }

 private:
  std::vector<TraceRow> rows_;
  std::vector<std::uint32_t> parents_;  // kNoBlock for a first block
  std::uint64_t last_ms_ = 0;
  std::uint64_t blocks_ = 0;
};

class JsonReader {
 public:
  Result<void> add(std::size_t number, std::string_view line) {
    simdjson::dom::element json;
    Row row;
    simdjson::dom::array ids;
    if (parser_.parse(line.data(), line.size()).get(json) != simdjson::SUCCESS) return fault(number, "not JSON");
    if (json["timestamp"].get(row.timestamp_ms) != simdjson::SUCCESS ||
        json["input_length"].get(row.input_tokens) != simdjson::SUCCESS ||
        json["output_length"].get(row.output_tokens) != simdjson::SUCCESS ||
        json["hash_ids"].get(ids) != simdjson::SUCCESS) {
      return fault(number, "timestamp, input_length, output_length (whole numbers) and hash_ids (a list) are needed");
    }
    if (Result<void> begun = rows.begin(number, row); !begun) return begun;
    if (ids.size() != rows.needed()) {
      return fault(number, "hash_ids must have one id for each " + std::to_string(kTraceBlockTokens) + " tokens");
    }
    std::uint32_t last = kNoBlock;
    for (const simdjson::dom::element id : ids) {
      std::uint64_t value = 0;
      if (id.get(value) != simdjson::SUCCESS) return fault(number, "a hash id is not a whole number");
      const auto [at, added] = numbers_.try_emplace(value, rows.known());
      if (added) {
        rows.add_block(last);
      } else if (rows.parent(at->second) != last) {
        return fault(number, "hash id " + std::to_string(value) + " follows another id than before");
      }
      last = at->second;
      rows.blocks().push_back(last);
    }
    return {};
  }

  Rows rows;

 private:
  simdjson::dom::parser parser_;
  std::unordered_map<std::uint64_t, std::uint32_t> numbers_;
};

class CompactReader {
 public:
  Result<void> add(std::size_t number, std::string_view line) {
    if (line.front() == '#') return {};
    if (!head_seen_) return head(number, line);
    const std::vector<std::string_view> fields = split(line, ' ');
    if (fields.size() != 4) return fault(number, "four fields are needed: dt_ms input output last_shared");
    const auto dt = parse_u64(fields[0]);
    const auto input = parse_u64(fields[1]);
    const auto output = parse_u64(fields[2]);
    const auto shared = fields[3] == "-" ? std::optional<std::uint64_t>(kNoBlock) : parse_u64(fields[3]);
    if (!dt || !input || !output || !shared) return fault(number, "a field is not a whole number");
    const std::uint64_t at = rows.last_ms() + std::min(*dt, kTimeMsMax + 1);
    if (Result<void> begun = rows.begin(number, {at, *input, *output}); !begun) return begun;
    if (*shared != kNoBlock && *shared >= rows.known()) {
      return fault(number, "last_shared names a block that no earlier line has");
    }
    std::vector<std::uint32_t>& blocks = rows.blocks();
    for (auto block = static_cast<std::uint32_t>(*shared); block != kNoBlock; block = rows.parent(block)) {
      if (blocks.size() == rows.needed()) return fault(number, "last_shared lies deeper than the prompt is long");
      blocks.push_back(block);
    }
    std::ranges::reverse(blocks);
    while (blocks.size() < rows.needed()) blocks.push_back(rows.add_block(blocks.empty() ? kNoBlock : blocks.back()));
    return {};
  }

  Rows rows;

 private:
  Result<void> head(std::size_t number, std::string_view line) {
    const std::string wanted = std::string(kHead) + std::to_string(kTraceBlockTokens);
    if (line != wanted) return fault(number, "expected \"" + wanted + "\" or a JSON object");
    head_seen_ = true;
    return {};
  }

  bool head_seen_ = false;
};

template <class Reader>
Result<std::vector<TraceRow>> read(std::string_view text) {
  Reader reader;
  Result<void> used =
      each_line(text, [&](std::size_t number, std::string_view line) { return reader.add(number, line); });
  if (!used) return used.error();
  std::vector<TraceRow> rows = reader.rows.take();
  if (rows.empty()) return Error{ErrorKind::kInvalid, "the trace has no rows"};
  return rows;
}

}  // namespace

Result<std::vector<TraceRow>> parse_trace(std::string_view text) {
  const std::string_view start = trim(text.substr(0, std::min<std::size_t>(text.size(), 4096)));
  return start.starts_with('{') ? read<JsonReader>(text) : read<CompactReader>(text);
}

}  // namespace warmpath::workload
