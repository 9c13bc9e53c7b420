// Bytes as a snapshot, and, as its checksums would stop nearly all of them, the rest of them as an engine's blocks.
// What an index takes over it can hold, copy, and forget to the last byte.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "index/index.h"

namespace {

using namespace warmpath;         // NOLINT(google-build-using-namespace)
using namespace warmpath::index;  // NOLINT(google-build-using-namespace)

void take_over(const std::vector<std::string>& parts, std::size_t bytes_max) {
  const EngineId engine(0);
  Index index({.space = blocks::KeySpace(1, "m", 16), .bytes_max = bytes_max});
  const auto adopted = index.adopt(engine, parts);
  WP_CHECK(adopted.ok() || index.held(engine).empty());
  if (adopted.ok() && adopted->whole) {
    const auto copy = index.copy(engine);
    WP_CHECK(copy && copy->whole);
    Index again({.space = blocks::KeySpace(1, "m", 16)});
    const auto once_more = again.adopt(engine, copy->parts);
    WP_CHECK(once_more.ok() && once_more->whole && once_more->blocks == copy->blocks);
    WP_CHECK(again.held(engine) == index.held(engine));
  }
  // It lives on: blocks go in any order, and new ones come behind them.
  std::vector<blocks::KvEvent> events;
  for (const HeldBlock& held : index.held(engine)) {
    if (held.hash.value() % 3 == 0) continue;
    blocks::BlockRemoved removed;
    removed.block_hashes.push_back({.value = held.hash, .bytes = {}});
    removed.group_idx = held.group;
    events.emplace_back(std::move(removed));
    blocks::BlockStored stored;
    stored.block_hashes.push_back({.value = EngineHash(held.hash.value() + 1), .bytes = {}});
    stored.parent_block_hash = blocks::WireHash{.value = held.hash, .bytes = {}};
    stored.token_ids.assign(16, 7);
    stored.block_size = 16;
    stored.group_idx = held.group;
    events.emplace_back(std::move(stored));
  }
  index.apply(engine, events);
  index.forget(engine);
  WP_CHECK(index.stat().bytes == 0 && index.stat().keys == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  SnapshotReader reader;
  const std::size_t cut = data[0] % size;
  reader.feed(bytes.substr(0, cut));
  reader.feed(bytes.substr(cut));
  const SnapshotContent content = reader.finish();
  WP_CHECK(content.complete || !content.why.empty());
  for (const auto& pool : content.pools) {
    for (const auto& engine : pool.engines) take_over(engine.parts, std::size_t{1} << 30);
  }
  const std::size_t bytes_max = (data[0] & 1) != 0 ? std::size_t{1} << 30 : std::size_t{data[1]} << 6;
  const std::size_t half = (data[0] & 2) != 0 ? bytes.size() : 2 + (bytes.size() - 2) / 2;
  std::vector<std::string> parts{std::string(bytes.substr(2, half - 2))};
  if (half < bytes.size()) parts.emplace_back(bytes.substr(half));
  take_over(parts, bytes_max);
  return 0;
}
