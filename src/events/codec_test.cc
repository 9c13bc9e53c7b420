#include "events/codec.h"

#include <gtest/gtest.h>

#include <fstream>

#include "events/batch_json.h"
#include "events/frames.h"
#include "events/msgpack.h"

namespace warmpath::events {
namespace {

using blocks::BlockRemoved;
using blocks::BlockStored;
using msgpack::Writer;

constexpr std::uint64_t kHash = 0x9121a015df011ebau;
constexpr std::string_view kDigest = "6269bce2c83eb47604236f5bb1ba5a90563026ec214b29729121a015df011eba";

std::vector<std::uint8_t> bytes(std::string_view hex) {
  std::string packed(hex);
  std::erase(packed, ' ');
  const auto out = from_hex(packed);
  EXPECT_TRUE(out) << hex;
  return out.value_or(std::vector<std::uint8_t>{});
}

std::string text_of(std::string_view hex) {
  const auto raw = bytes(hex);
  return {raw.begin(), raw.end()};
}

Batch decode(std::span<const std::uint8_t> payload) {
  auto batch = decode_batch(payload);
  EXPECT_TRUE(batch.ok()) << batch.error().message;
  return batch.ok() ? *std::move(batch) : Batch{};
}

std::string json(const Batch& batch) {
  JsonWriter out;
  write_json(out, batch);
  return out.take();
}

std::vector<std::vector<std::string>> read_table(const std::string& name) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/events/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::vector<std::vector<std::string>> rows;
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with('#')) continue;
    std::vector<std::string> row;
    for (const std::string_view part : split(line, '\t')) row.emplace_back(part);
    rows.push_back(std::move(row));
  }
  return rows;
}

TEST(CodecGolden, EveryRecordedPayloadDecodesToWhatStandsBesideIt) {
  int rows = 0;
  for (const auto& row : read_table("batches.tsv")) {
    const auto payload = bytes(row[2]);
    const Batch batch = decode(payload);
    EXPECT_EQ(json(batch), row[3]) << row[0] << " " << row[1];
    // vLLM 0.32's own bytes come back, to the bit.
    if (!row[0].starts_with("sglang")) EXPECT_EQ(encode_batch(batch, Encoding::kMaps), payload) << row[1];
    if (row[1] != "-") {
      const auto head = split(row[1], ',');
      const std::vector<Frame> frames{text_of(head[0]), text_of(head[1]), {payload.begin(), payload.end()}};
      const auto live = parse_live(frames);
      ASSERT_TRUE(live.ok());
      EXPECT_EQ(make_live(live->topic, live->seq, live->payload), frames);
    }
    ++rows;
  }
  EXPECT_EQ(rows, 185);
}

TEST(CodecGolden, EveryRecordedReplayReply) {
  const auto batches = read_table("batches.tsv");
  int ends = 0;
  int replies = 0;
  for (const auto& row : read_table("replays.tsv")) {
    std::vector<Frame> frames;
    for (const std::string_view frame : split(row[2], ',')) frames.push_back(text_of(frame));
    frames.push_back(row[3] == "end" ? Frame() : text_of(batches.at(*parse_u64(row[3]))[2]));
    const auto reply = parse_replay_reply(frames);
    ASSERT_TRUE(reply.ok()) << reply.error().message;
    EXPECT_EQ(reply->end, row[3] == "end");
    if (reply->end) {
      EXPECT_EQ(make_replay_end("x"), (std::vector<Frame>{"x", frames[0], frames[1], frames[2], frames[3]}));
      ++ends;
      continue;
    }
    const auto& live = batches.at(*parse_u64(row[3]))[1];
    EXPECT_EQ(reply->seq.value(), std::stoull(std::string(split(live, ',')[1]), nullptr, 16));
    std::vector<Frame> sent = make_replay_reply("x", frames[1], reply->seq, reply->payload);
    EXPECT_EQ(sent.front(), "x");
    sent.erase(sent.begin());  // what the ROUTER socket takes off
    EXPECT_EQ(sent, frames);
    ++replies;
  }
  EXPECT_EQ(ends, 9);
  EXPECT_EQ(replies, 90);
}

TEST(Codec, StoredInBothEncodings) {
  const auto map = bytes(
      "93 cb41d954fc40200000 91 8b a474797065 ab426c6f636b53746f726564 ac626c6f636b5f686173686573 91cf9121a015df011eba "
      "b1706172656e745f626c6f636b5f68617368 c0 a9746f6b656e5f696473 940102cd012cce0002505c aa626c6f636b5f73697a65 04 "
      "a76c6f72615f6964 c0 a66d656469756d a3475055 a96c6f72615f6e616d65 c0 aa65787472615f6b657973 91c0 "
      "a967726f75705f696478 00 b26b765f63616368655f737065635f6b696e64 ae66756c6c5f617474656e74696f6e 00");
  const auto array = bytes(
      "93cb41d954fc40200000919bab426c6f636b53746f72656491cf9121a015df011ebac0940102cd012cce0002505c04c0a3475055c091c000"
      "ae66756c6c5f617474656e74696f6e00");
  const Batch from_map = decode(map);
  const Batch from_array = decode(array);
  EXPECT_EQ(from_map.ts, 1700000000.5);
  EXPECT_EQ(from_map.rank, 0u);
  ASSERT_EQ(from_map.events.size(), 1u);
  EXPECT_EQ(from_map.events, from_array.events);
  const auto& event = std::get<BlockStored>(from_map.events[0]);
  EXPECT_EQ(event.block_hashes, (std::vector<blocks::WireHash>{{EngineHash(kHash), ""}}));
  EXPECT_EQ(event.parent_block_hash, std::nullopt);
  EXPECT_EQ(event.token_ids, (std::vector<TokenId>{1, 2, 300, 151644}));
  EXPECT_EQ(event.block_size, 4u);
  EXPECT_EQ(event.medium, "GPU");
  EXPECT_EQ(event.extra_keys, (std::vector<std::vector<blocks::ExtraKey>>{{}}));
  EXPECT_EQ(event.group_idx, 0u);
  EXPECT_EQ(event.kv_cache_spec_kind, "full_attention");
  EXPECT_EQ(encode_batch(from_map, Encoding::kMaps), map);
  EXPECT_EQ(encode_batch(from_map, Encoding::kArrays), array);
}

TEST(Codec, ByteHashesEndInTheirInteger) {
  const Batch batch = decode(
      bytes("93cb41d954fc402000009197ab426c6f636b53746f72656491c4206269bce2c83eb47604236f5bb1ba5a90563026ec214b2972"
            "9121a015df011ebac0940102cd012cce0002505c04c0a347505500"));
  const auto& event = std::get<BlockStored>(batch.events.at(0));
  EXPECT_EQ(event.block_hashes.at(0).value.value(), kHash);
  EXPECT_EQ(event.block_hashes.at(0).bytes, text_of(kDigest));
  EXPECT_EQ(event.lora_name, std::nullopt);
  EXPECT_EQ(json(batch),
            R"({"ts":1700000000.5,"rank":0,"events":[{"type":"BlockStored","block_hashes":[")" + std::string(kDigest) +
                R"("],"parent_block_hash":null,"token_ids":[1,2,300,151644],"block_size":4,"lora_id":null,)"
                R"("medium":"GPU"}]})");
}

TEST(Codec, RemovedAndClearedInBothEncodings) {
  const auto map = bytes(
      "93cb41d954fc404000009284a474797065ac426c6f636b52656d6f766564ac626c6f636b5f68617368657391cf9121a015df011ebaa66d65"
      "6469756da3475055a967726f75705f6964780081a474797065b0416c6c426c6f636b73436c656172656400");
  const auto array = bytes(
      "93cb41d954fc404000009294ac426c6f636b52656d6f76656491cf9121a015df011ebaa34750550091b0416c6c426c6f636b73436c6561"
      "72656400");
  const Batch batch = decode(map);
  EXPECT_EQ(batch.events, decode(array).events);
  ASSERT_EQ(batch.events.size(), 2u);
  EXPECT_EQ(std::get<BlockRemoved>(batch.events[0]).block_hashes.at(0).value.value(), kHash);
  EXPECT_TRUE(std::holds_alternative<blocks::AllBlocksCleared>(batch.events[1]));
  EXPECT_EQ(encode_batch(batch, Encoding::kMaps), map);
  EXPECT_EQ(encode_batch(batch, Encoding::kArrays), array);
}

// A payload whose one event is written by `event`.
template <class Event>
std::vector<std::uint8_t> payload_of(Event event) {
  Writer out;
  out.array(3);
  out.number(1.5);
  out.array(1);
  event(out);
  out.integer(0);
  return out.take();
}

TEST(Codec, IntegersOfEveryWidthAndSign) {
  // 7 in every form, and the same hash signed and unsigned.
  for (const std::string_view token :
       {"07", "cc07", "cd0007", "ce00000007", "cf0000000000000007", "d007", "d10007", "d200000007",
        "d30000000000000007"}) {
    const Batch batch = decode(bytes("93 00 91 96 ab426c6f636b53746f726564 91" + std::string(token) + "c0 91" +
                                     std::string(token) + std::string(token) + std::string(token) + "00"));
    const auto& event = std::get<BlockStored>(batch.events.at(0));
    EXPECT_EQ(event.block_hashes.at(0).value.value(), 7u) << token;
    EXPECT_EQ(event.token_ids.at(0), 7u);
    EXPECT_EQ(event.block_size, 7u);
    EXPECT_EQ(event.lora_id, 7);
  }
  const std::pair<std::string_view, std::int64_t> negatives[] = {
      {"ff", -1}, {"e0", -32}, {"d0df", -33}, {"d1ff00", -256}, {"d280000000", INT32_MIN}, {"d38000000000000000", INT64_MIN}};
  for (const auto& [hash, value] : negatives) {
    const Batch batch = decode(bytes("93 00 91 92 ac426c6f636b52656d6f766564 91" + std::string(hash) + "00"));
    EXPECT_EQ(std::get<BlockRemoved>(batch.events.at(0)).block_hashes.at(0).value.value(),
              static_cast<std::uint64_t>(value))
        << hash;
  }
  EXPECT_EQ(decode(bytes("92 ca3fc00000 90")).ts, 1.5);
  EXPECT_EQ(decode(bytes("92 d0ff 90")).ts, -1);
  EXPECT_EQ(decode(bytes("92 c0 90")).ts, 0) << "ts is informative only";
}

TEST(Codec, UnknownFieldsTypesAndTrailingElementsAreSkipped) {
  const auto payload = bytes(
      "95 00 95"
      "81 a474797065 a3466f6f"                                         // {"type":"Foo"}
      "93 a3466f6f 01 d6ff00000000"                                    // ["Foo", 1, ext]
      "82 a178 81a17901 a474797065 b0416c6c426c6f636b73436c6561726564"  // type last, a map before it
      "94 b0416c6c426c6f636b73436c6561726564 01 c3 90"
      "97 ac426c6f636b52656d6f766564 9105 a3435055 02 c2 c2 c2"
      "03 a3666f6f c1");
  EXPECT_FALSE(decode_batch(payload).ok()) << "0xc1 is no value";
  auto fine = payload;
  fine.back() = 0xc0;
  const Batch batch = decode(fine);
  EXPECT_EQ(batch.events_unknown, 2u);
  EXPECT_EQ(batch.events_malformed, 0u);
  ASSERT_EQ(batch.events.size(), 3u);
  const auto& removed = std::get<BlockRemoved>(batch.events[2]);
  EXPECT_EQ(removed.medium, "CPU");
  EXPECT_EQ(removed.group_idx, 2u);
  EXPECT_EQ(batch.rank, 3u);
}

TEST(Codec, MalformedEventsAreCountedOneByOne) {
  const std::string good = "92 ac426c6f636b52656d6f766564 9105";
  const std::string_view bad[] = {
      "05",                                                            // no event at all
      "90",                                                            // no tag
      "9105",                                                          // tag is no text
      "80",                                                            // no type
      "81 a474797065 05",                                              // type is no text
      "91 ac426c6f636b52656d6f766564",                                 // no hashes
      "92 ac426c6f636b52656d6f766564 05",                              // hashes are no list
      "92 ac426c6f636b52656d6f766564 91c0",                            // a nil hash
      "92 ac426c6f636b52656d6f766564 91c400",                          // an empty hash
      "93 ac426c6f636b52656d6f766564 9105 07",                         // medium is a number
      "95 ab426c6f636b53746f726564 9105 c0 91ff 01",                   // a negative token
      "95 ab426c6f636b53746f726564 9105 c0 91cf0000000100000000 01",   // a token beyond 32 bits
      "95 ab426c6f636b53746f726564 9105 c0 9190 01",                   // an empty token pair
      "95 ab426c6f636b53746f726564 9105 c0 9101 a131",                 // block size as text
      "94 ab426c6f636b53746f726564 9105 c0 9101",                      // no block size
      "82 a474797065 ac426c6f636b52656d6f766564 a178 01",              // map without hashes
      "84 a474797065 ab426c6f636b53746f726564 ac626c6f636b5f686173686573 9105 a9746f6b656e5f696473 9101 "
      "aa626c6f636b5f73697a65 01",                                     // map without a parent: not the same as nil
  };
  for (const std::string_view event : bad) {
    const Batch batch = decode(bytes("93 00 93" + good + std::string(event) + good + "01"));
    EXPECT_EQ(batch.events_malformed, 1u) << event;
    EXPECT_EQ(batch.events.size(), 2u) << event;
    EXPECT_EQ(batch.rank, 1u) << event;
  }
}

TEST(Codec, BrokenBatchesAreRefusedWithTheirPosition) {
  const std::pair<std::string_view, std::string_view> bad[] = {
      {"", "byte 0"},
      {"93", "longer than what is left (byte 0)"},
      {"05", "neither"},
      {"91 00", "fewer than"},
      {"92 00 05", "no array"},
      {"92 00 91", "longer than what is left (byte 2)"},
      {"92 00 dcffff", "longer than what is left (byte 2)"},
      {"92 00 ddffffffff", "longer than what is left (byte 2)"},
      {"92 00 91 dfffffffff", "longer than what is left (byte 3)"},
      {"92 00 91 92 ac426c6f636b52656d6f766564 ddffffffff", "longer than what is left"},
      {"92 00 91 92 ac426c6f636b52656d6f766564 91 c6ffffffff 00", "claims more bytes"},
      {"92 00 91 92 dbffffffff 00", "text longer"},
      {"92 00 91 c9ffffffff 00", "extension longer"},
      {"92 00 91 c1", "0xc1"},
      {"92 00 90 00", "behind its end (byte 3)"},
      {"80", "no events"},
      {"82 a2747300 a66576656e747300", "no array"},
      {"92 cb00", "middle of a value (byte 1)"},
  };
  for (const auto& [hex, message] : bad) {
    const auto batch = decode_batch(bytes(hex));
    ASSERT_FALSE(batch.ok()) << hex;
    EXPECT_EQ(batch.error().kind, ErrorKind::kInvalid) << hex;
    EXPECT_NE(batch.error().message.find(message), std::string::npos) << hex << ": " << batch.error().message;
  }
  std::vector<std::uint8_t> deep = bytes("92 00 91");
  deep.insert(deep.end(), 1'000'000, 0x91);
  const auto nested = decode_batch(deep);
  ASSERT_FALSE(nested.ok());
  EXPECT_NE(nested.error().message.find("too deep"), std::string::npos);
}

TEST(Codec, EveryTruncationIsRefusedAndEveryFlipIsSurvived) {
  const auto rows = read_table("batches.tsv");
  const auto payload = bytes(rows.at(1)[2]);
  for (std::size_t size = 0; size < payload.size(); ++size) {
    EXPECT_FALSE(decode_batch(std::span(payload).first(size)).ok()) << size;
  }
  for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
    auto flipped = payload;
    flipped[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    const auto batch = decode_batch(flipped);
    if (batch.ok()) EXPECT_LE(batch->events.size() + batch->events_malformed + batch->events_unknown, payload.size());
  }
}

TEST(Codec, LimitsBoundMemory) {
  const auto payload = bytes("93 00 91 92 ac426c6f636b52656d6f766564 9105 00");
  const auto long_payload = decode_batch(payload, {.payload_bytes_max = payload.size() - 1});
  ASSERT_FALSE(long_payload.ok());
  EXPECT_EQ(long_payload.error().kind, ErrorKind::kTooLarge);
  EXPECT_TRUE(decode_batch(payload, {.payload_bytes_max = payload.size()}).ok());

  // A million one-byte hashes unfold to 40 MB: refused by the limit on what is decoded.
  const auto many = payload_of([](Writer& out) {
    out.array(2);
    out.text("BlockRemoved");
    out.array(1'000'000);
    for (int i = 0; i < 1'000'000; ++i) out.integer(1);
  });
  EXPECT_TRUE(decode_batch(many).ok());
  const auto refused = decode_batch(many, {.decoded_bytes_max = 10u << 20});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::kTooLarge);
}

TEST(Codec, SglangForms) {
  // The interim array with a map at position 7, and EAGLE's token pairs.
  const Batch batch = decode(payload_of([](Writer& out) {
    out.array(8);
    out.text("BlockStored");
    out.array(1);
    out.signed_integer(-5);
    out.nil();
    out.array(2);
    for (const std::uint64_t token : {10u, 11u}) {
      out.array(2);
      out.integer(token);
      out.integer(token + 1);
    }
    out.integer(2);
    out.nil();
    out.text("CPU_PINNED");
    out.map(2);
    out.text("cache_salt");
    out.text("s1");
    out.text("later_field");
    out.array(0);
  }));
  EXPECT_EQ(batch.events_malformed, 0u);
  const auto& event = std::get<BlockStored>(batch.events.at(0));
  EXPECT_EQ(event.block_hashes.at(0).value.value(), static_cast<std::uint64_t>(-5));
  EXPECT_EQ(event.token_ids, (std::vector<TokenId>{10, 11}));
  EXPECT_EQ(event.cache_salt, "s1");
  EXPECT_EQ(event.lora_name, std::nullopt);
  EXPECT_EQ(event.medium, "CPU_PINNED");
}

TEST(Codec, OffloadPlaceholder) {
  const Batch batch = decode(payload_of([](Writer& out) {
    out.array(7);
    out.text("BlockStored");
    out.array(1);
    out.integer(kHash);
    out.nil();
    out.array(0);
    out.integer(0);
    out.nil();
    out.text("CPU");
  }));
  const auto& event = std::get<BlockStored>(batch.events.at(0));
  EXPECT_TRUE(event.token_ids.empty());
  EXPECT_EQ(event.block_size, 0u);
  EXPECT_EQ(event.medium, "CPU");
}

TEST(Codec, ExtraKeysOfEveryShape) {
  const Batch batch = decode(payload_of([](Writer& out) {
    out.array(9);
    out.text("BlockStored");
    out.array(3);
    for (int i = 0; i < 3; ++i) out.integer(static_cast<std::uint64_t>(i));
    out.nil();
    out.array(0);
    out.integer(16);
    out.nil();
    out.nil();
    out.text("adapter-x");
    out.array(3);
    out.array(3);
    out.text("adapter-x");
    out.array(2);
    out.text("img");
    out.signed_integer(-12);
    out.bytes("\x01\x02");
    out.nil();
    out.array(3);
    out.integer(5);  // an old adapter id
    out.array(3);    // a tagged key, as no event carries it today
    out.text("mm");
    out.text("img");
    out.integer(4);
    out.map(1);
    out.text("type");
    out.text("lora");
  }));
  ASSERT_EQ(batch.events_malformed, 0u);
  const auto& keys = *std::get<BlockStored>(batch.events.at(0)).extra_keys;
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys[0], (std::vector<blocks::ExtraKey>{blocks::ExtraText{"adapter-x"}, blocks::ExtraItem{"img", -12},
                                                    blocks::ExtraBytes{"\x01\x02"}}));
  EXPECT_TRUE(keys[1].empty());
  // Keys of no known shape stay apart from each other.
  ASSERT_EQ(keys[2].size(), 3u);
  EXPECT_EQ(keys[2][0], blocks::ExtraKey(blocks::ExtraBytes{"\x05"}));
  EXPECT_EQ(keys[2][1], blocks::ExtraKey(blocks::ExtraBytes{"\x93\xa2mm\xa3img\x04"}));
  EXPECT_EQ(keys[2][2], blocks::ExtraKey(blocks::ExtraBytes{"\x81\xa4type\xa4lora"}));
}

TEST(Codec, TheBatchItselfAsAMap) {
  const Batch batch = decode(bytes("84 a6 6576656e7473 91 91b0416c6c426c6f636b73436c6561726564 a178 90 a2 7473 01"
                                   "b2646174615f706172616c6c656c5f72616e6b 02"));
  EXPECT_EQ(batch.ts, 1);
  EXPECT_EQ(batch.rank, 2u);
  EXPECT_EQ(batch.events.size(), 1u);
}

Batch random_batch(RandomStream& random, Encoding encoding) {
  const auto maybe = [&] { return random.below(2) == 0; };
  const auto text = [&] {
    std::string out(random.below(40), ' ');
    for (char& c : out) c = static_cast<char>('a' + random.below(26));
    return out;
  };
  const auto hash = [&] {
    blocks::WireHash out{EngineHash(random.next() >> random.below(64)), ""};
    if (!maybe()) return out;
    out.value = EngineHash(0);
    for (std::uint64_t i = 0; i < 8 + random.below(25); ++i) out.bytes += static_cast<char>(random.next());
    for (std::size_t i = out.bytes.size() - std::min<std::size_t>(8, out.bytes.size()); i < out.bytes.size(); ++i) {
      out.value = EngineHash(out.value.value() << 8 | static_cast<std::uint8_t>(out.bytes[i]));
    }
    return out;
  };
  Batch batch;
  batch.ts = random.unit() * 1e10;
  if (maybe()) batch.rank = static_cast<std::uint32_t>(random.below(300));
  for (std::uint64_t i = random.below(6); i > 0; --i) {
    const std::uint64_t kind = random.below(5);
    if (kind == 0) {
      batch.events.emplace_back(blocks::AllBlocksCleared{});
    } else if (kind == 1) {
      BlockRemoved event;
      for (std::uint64_t n = random.below(20); n > 0; --n) event.block_hashes.push_back(hash());
      if (maybe()) event.medium = text();
      if (maybe()) event.group_idx = static_cast<std::uint32_t>(random.next() >> 32);
      if (encoding == Encoding::kMaps && maybe()) event.locality = text();
      if (encoding == Encoding::kMaps && maybe()) event.ownership = text();
      batch.events.emplace_back(std::move(event));
    } else {
      BlockStored event;
      for (std::uint64_t n = random.below(20); n > 0; --n) event.block_hashes.push_back(hash());
      if (maybe()) event.parent_block_hash = hash();
      for (std::uint64_t n = random.below(200); n > 0; --n) {
        event.token_ids.push_back(static_cast<TokenId>(random.next() >> (32 + random.below(32))));
      }
      event.block_size = static_cast<std::uint32_t>(random.below(70'000));
      if (maybe()) event.lora_id = static_cast<std::int64_t>(random.next()) >> random.below(64);
      if (maybe()) event.medium = text();
      if (maybe()) event.lora_name = text();
      if (maybe()) {
        event.extra_keys.emplace(event.block_hashes.size());
        for (auto& keys : *event.extra_keys) {
          if (maybe()) keys.emplace_back(blocks::ExtraText{text()});
          if (maybe()) keys.emplace_back(blocks::ExtraItem{text(), static_cast<std::int64_t>(random.next())});
          if (maybe()) keys.emplace_back(blocks::ExtraBytes{text()});
        }
      }
      if (maybe()) event.group_idx = static_cast<std::uint32_t>(random.below(5));
      if (maybe()) event.kv_cache_spec_kind = text();
      if (maybe()) event.kv_cache_spec_sliding_window = static_cast<std::uint32_t>(random.below(9000));
      if (encoding == Encoding::kMaps) {
        if (maybe()) event.locality = text();
        if (maybe()) event.ownership = text();
        if (maybe()) event.session_id = text();
        if (maybe()) event.cache_salt = text();
        if (maybe()) event.lookahead_token_ids = {{1, 2}, {}, {70'000}};
      }
      batch.events.emplace_back(std::move(event));
    }
  }
  return batch;
}

TEST(Codec, WhatIsEncodedDecodesToTheSame) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    RandomStream random(seed, "codec");
    const Encoding encoding = seed % 2 == 0 ? Encoding::kMaps : Encoding::kArrays;
    const Batch batch = random_batch(random, encoding);
    const Batch again = decode(encode_batch(batch, encoding));
    EXPECT_EQ(again.events, batch.events);
    EXPECT_EQ(again.ts, batch.ts);
    EXPECT_EQ(again.rank, batch.rank);
    EXPECT_EQ(again.events_malformed + again.events_unknown, 0u);
  }
}

TEST(BatchJson, ShowsWhatWasSentAndKeepsJsonClean) {
  Batch batch;
  BlockStored event;
  event.lora_name = std::string("a\xff\"\xc3\xa9\xed\xa0\x80", 8);
  event.extra_keys = {{blocks::ExtraItem{"i", -3}, blocks::ExtraBytes{"\xab"}}, {}};
  batch.events.emplace_back(event);
  batch.events_malformed = 2;
  EXPECT_EQ(json(batch),
            "{\"ts\":0,\"rank\":null,\"events\":[{\"type\":\"BlockStored\",\"block_hashes\":[],\"parent_block_hash\":null,"
            "\"token_ids\":[],\"block_size\":0,\"medium\":null,\"lora_name\":\"a\xef\xbf\xbd\\\"\xc3\xa9\xef\xbf\xbd"
            "\xef\xbf\xbd\xef\xbf\xbd\",\"extra_keys\":[[[\"i\",-3],\"ab\"],null]}],\"events_malformed\":2}");
}

}  // namespace
}  // namespace warmpath::events
