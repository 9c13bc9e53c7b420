#include "index/snapshot.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "index/byte_codec.h"

namespace warmpath::index {
namespace {

constexpr std::string_view kMagic = "WarmPath";
constexpr std::size_t kMagicBytes = 8 + 4 + 8 + 8;
constexpr std::size_t kHeadBytes = 32;
constexpr std::size_t kNameBytesMax = 4'096;
constexpr std::uint32_t kPoolsMax = 4'096;

constexpr std::string_view kForeign = "it is no snapshot of an index";

enum Kind : std::uint32_t { kPool = 1, kEngine = 2, kBlocks = 3, kEnd = 4 };

std::uint64_t checksum(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace

std::uint64_t key_probe(const blocks::KeySpace& space) {
  std::vector<TokenId> ids(space.block_tokens());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i * 7 + 1);
  const blocks::MmKey item{.identifier = "probe", .offset = 0};
  const BlockKey first = space.next(space.root("probe", "probe"), ids, {&item, 1});
  return space.next(first, ids).value();
}

std::string SnapshotWriter::begin(std::int64_t written_at_ms) {
  std::string out(kMagic);
  put(out, kSnapshotVersion);
  put(out, written_at_ms);
  put(out, checksum(out));
  return out;
}

void SnapshotWriter::section(std::uint32_t kind, std::string_view payload, std::string& out) {
  std::string head;
  put(head, kind);
  put(head, ordinal_++);
  put(head, std::uint64_t{payload.size()});
  put(head, checksum(payload));
  put(head, checksum(head));
  out += head;
  out += payload;
}

std::string SnapshotWriter::pool(const SnapshotPool& pool) {
  std::string payload;
  put_text(payload, pool.name);
  put(payload, pool.secret);
  put(payload, pool.tokenizer);
  put(payload, pool.block_tokens);
  put(payload, pool.key_probe);
  std::string out;
  section(kPool, payload, out);
  return out;
}

bool SnapshotWriter::engine(const SnapshotEngine& engine, std::string& out) {
  const auto too_large = [](const std::string& part) { return part.size() > kSectionBytesMax; };
  if (engine.name.size() > kNameBytesMax || std::ranges::any_of(engine.parts, too_large)) return false;
  std::string payload;
  put_text(payload, engine.name);
  put(payload, engine.mark.seq.value());
  put(payload, engine.mark.digest);
  put(payload, static_cast<std::uint8_t>(engine.mark.trust));
  put(payload, static_cast<std::uint8_t>(engine.mark.unreadable_seen));
  put(payload, static_cast<std::uint8_t>(engine.mark.other_tiers_seen));
  put(payload, engine.started_at_s);
  put(payload, engine.blocks);
  put(payload, static_cast<std::uint32_t>(engine.parts.size()));
  section(kEngine, payload, out);
  for (const std::string& part : engine.parts) section(kBlocks, part, out);
  ++engines_;
  return true;
}

std::string SnapshotWriter::end() {
  std::string payload;
  put(payload, engines_);
  std::string out;
  section(kEnd, payload, out);
  return out;
}

bool SnapshotReader::feed(std::string_view bytes) {
  if (stopped_) return false;
  bytes_ += bytes.size();
  if (bytes_ > bytes_max_) return stop("it is larger than " + std::to_string(bytes_max_) + " bytes");
  pending_.append(bytes);
  while (!stopped_ && step()) {
  }
  pending_.erase(0, used_);
  used_ = 0;
  return !stopped_;
}

// True when something whole was taken.
bool SnapshotReader::step() {
  const std::string_view left = std::string_view(pending_).substr(used_);
  if (!begun_) {
    if (left.size() < kMagicBytes) return false;
    ByteReader reader(left.substr(0, kMagicBytes));
    if (reader.take(kMagic.size()) != kMagic) {
      content_.foreign = true;
      return stop(kForeign);
    }
    const auto version = reader.get<std::uint32_t>();
    content_.written_at_ms = reader.get<std::int64_t>();
    if (reader.get<std::uint64_t>() != checksum(left.substr(0, kMagicBytes - 8))) return stop("its first bytes differ");
    if (version != kSnapshotVersion) {
      return stop("it is of version " + std::to_string(version) + ", read is " + std::to_string(kSnapshotVersion));
    }
    begun_ = true;
    used_ += kMagicBytes;
    return true;
  }
  if (left.size() < kHeadBytes) return false;
  ByteReader reader(left.substr(0, kHeadBytes));
  const auto kind = reader.get<std::uint32_t>();
  const auto ordinal = reader.get<std::uint32_t>();
  const auto size = reader.get<std::uint64_t>();
  const auto payload_sum = reader.get<std::uint64_t>();
  if (reader.get<std::uint64_t>() != checksum(left.substr(0, kHeadBytes - 8))) return stop("a section's head differs");
  if (ordinal != ordinal_) return stop("sections are missing or doubled");
  if (size > kSectionBytesMax) return stop("a section is larger than any that is written");
  if (left.size() - kHeadBytes < size) return false;
  const std::string_view payload = left.substr(kHeadBytes, size);
  ++ordinal_;
  used_ += kHeadBytes + size;
  take(kind, payload, checksum(payload) == payload_sum);
  return true;
}

void SnapshotReader::take(std::uint32_t kind, std::string_view payload, bool intact) {
  if (kind == kBlocks) {
    if (!engine_) return;  // of an engine that was refused
    if (!intact) return refuse_engine("blocks of an engine differ");
    engine_->parts.emplace_back(payload);
    if (--parts_left_ == 0) end_engine();
    return;
  }
  if (engine_) refuse_engine("blocks of an engine are missing");
  if (kind == kPool) {
    pool_open_ = intact && take_pool(payload);
    if (!pool_open_) note("a pool's section differs");
  } else if (kind == kEngine) {
    if (!pool_open_ || !intact || !take_engine(payload)) {
      engine_.reset();
      ++content_.engines_refused;
      note("an engine's section differs");
    }
  } else if (kind == kEnd && intact) {
    content_.complete = true;
    stopped_ = true;  // what follows is nothing of ours
  } else {
    stop("a section is of no known kind");
  }
}

bool SnapshotReader::take_pool(std::string_view payload) {
  ByteReader reader(payload);
  SnapshotPool pool;
  pool.name = reader.text(kNameBytesMax);
  pool.secret = reader.get<std::uint64_t>();
  pool.tokenizer = reader.get<std::uint64_t>();
  pool.block_tokens = reader.get<std::uint32_t>();
  pool.key_probe = reader.get<std::uint64_t>();
  if (!reader.at_end() || content_.pools.size() >= kPoolsMax) return false;
  content_.pools.push_back({std::move(pool), {}});
  return true;
}

bool SnapshotReader::take_engine(std::string_view payload) {
  ByteReader reader(payload);
  SnapshotEngine engine;
  engine.name = reader.text(kNameBytesMax);
  engine.mark.seq = PublisherSeq(reader.get<std::uint64_t>());
  engine.mark.digest = reader.get<std::uint64_t>();
  const auto trust = reader.get<std::uint8_t>();
  engine.mark.trust = static_cast<blocks::PublisherState>(trust);
  engine.mark.unreadable_seen = reader.get<std::uint8_t>() != 0;
  engine.mark.other_tiers_seen = reader.get<std::uint8_t>() != 0;
  engine.started_at_s = reader.get<double>();
  engine.blocks = reader.get<std::uint64_t>();
  parts_left_ = reader.get<std::uint32_t>();
  if (!reader.at_end() || trust > static_cast<std::uint8_t>(blocks::PublisherState::kSuspect)) return false;
  engine_ = std::move(engine);
  if (parts_left_ == 0) end_engine();
  return true;
}

void SnapshotReader::end_engine() { content_.pools.back().engines.push_back(*std::exchange(engine_, std::nullopt)); }

void SnapshotReader::refuse_engine(std::string_view why) {
  engine_.reset();
  ++content_.engines_refused;
  note(why);
}

bool SnapshotReader::stop(std::string_view why) {
  stopped_ = true;
  note(why);
  return false;
}

void SnapshotReader::note(std::string_view why) {
  if (content_.why.empty()) content_.why = why;
}

SnapshotContent SnapshotReader::finish() {
  if (engine_) refuse_engine("it ends amid an engine's blocks");
  // Too short to have been judged.
  if (!begun_ && !stopped_ && !kMagic.starts_with(std::string_view(pending_).substr(0, kMagic.size()))) {
    content_.foreign = true;
    note(kForeign);
  }
  if (!content_.complete) note("it ends before its end");
  stopped_ = true;
  pending_ = {};
  return std::exchange(content_, {});
}

}  // namespace warmpath::index
