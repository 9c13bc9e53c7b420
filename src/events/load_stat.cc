#include "events/load_stat.h"

#include "events/msgpack.h"

namespace warmpath::events {
namespace {

constexpr std::uint32_t kDepthMax = 8;
constexpr std::uint32_t kFieldsRequired = 5;  // the tag, running, waiting, used, max

Error bad(const char* what) { return {ErrorKind::kInvalid, std::string("load gauge ") + what}; }

}  // namespace

Result<LoadStat> decode_load(std::span<const std::uint8_t> payload) {
  msgpack::Reader reader(payload, kDepthMax);
  const auto count = reader.take_array();
  if (!count || reader.take_text() != "LoadStat") return bad("is no [\"LoadStat\", …]");
  if (*count < kFieldsRequired) return bad("has fewer than its 4 first fields");
  LoadStat stat;
  std::uint64_t rank = 0;
  std::uint64_t* const fields[] = {&stat.running,
                                   &stat.waiting,
                                   &stat.kv_tokens_used,
                                   &stat.kv_tokens_max,
                                   &rank,
                                   &stat.waiting_uncached_tokens,
                                   &stat.total_tokens,
                                   &stat.running_max,
                                   &stat.uncached_prefill_tokens,
                                   &stat.prefill_busy_us};
  for (std::uint32_t i = 1; i < *count; ++i) {
    std::uint64_t* const field = i <= std::size(fields) ? fields[i - 1] : nullptr;
    if (field == nullptr) {
      if (!reader.skip()) return bad("ends in the middle of a value");
      continue;
    }
    if (field == &rank && reader.take_nil()) continue;
    const auto integer = reader.take_integer();
    if (!integer || integer->negative) return bad("has a field that is no number of at least 0");
    *field = integer->bits;
    if (field == &rank && rank <= UINT32_MAX) stat.rank = static_cast<std::uint32_t>(rank);
  }
  if (reader.left() != 0) return bad("has bytes behind its end");
  return stat;
}

}  // namespace warmpath::events
