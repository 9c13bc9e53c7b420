#include "blocks/engine_hashes.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace warmpath::blocks {
namespace {

std::vector<std::vector<std::string>> read_table(const std::string& name) {
  std::ifstream file(std::string(WARMPATH_SOURCE_DIR) + "/tests/golden/blocks/" + name);
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

std::vector<TokenId> parse_tokens(std::string_view csv) {
  std::vector<TokenId> tokens;
  for (const std::string_view part : split(csv, ',')) tokens.push_back(static_cast<TokenId>(*parse_u64(part)));
  return tokens;
}

std::string hex(const Digest& digest) { return to_hex(digest.view()); }

std::vector<TokenId> ids(TokenId first, TokenId last) {
  std::vector<TokenId> out;
  for (TokenId id = first; id <= last; ++id) out.push_back(id);
  return out;
}

struct GoldenChain {
  HashOptions options;
  std::vector<TokenId> tokens;
};

GoldenChain parse_chain(const std::vector<std::string>& row) {
  GoldenChain chain;
  chain.options.form = row[2] == "bare" ? ExtraKeyForm::kBare : ExtraKeyForm::kTagged;
  chain.options.block_tokens = static_cast<std::uint32_t>(*parse_u64(row[3]));
  chain.options.lora_name = row[4];
  chain.options.lora_path = row[5];
  chain.options.salt = row[6];
  if (!row[7].empty()) {
    for (const std::string_view item : split(row[7], ';')) {
      const std::size_t at = item.find('@');
      const std::size_t plus = item.find('+');
      chain.options.items.push_back({std::string(item.substr(0, at)), *parse_u64(item.substr(at + 1, plus - at - 1)),
                                     *parse_u64(item.substr(plus + 1))});
    }
  }
  chain.tokens = parse_tokens(row[8]);
  return chain;
}

TEST(EngineHashes, EveryVectorOfVllm032) {
  std::map<std::string, GoldenChain> chains;
  int roots = 0;
  int digests = 0;
  for (const auto& row : read_table("vllm_hashes.tsv")) {
    if (row[0] == "chain") {
      chains[row[1]] = parse_chain(row);
      continue;
    }
    HashOptions options;
    if (row[0] == "digests") options = chains.at(row[3]).options;
    ASSERT_TRUE(parse_scheme(row[1])) << row[1];
    options.scheme = *parse_scheme(row[1]);
    if (row[2] != "-") options.seed = row[2];
    auto hasher = EngineHasher::create(options);
    ASSERT_TRUE(hasher.ok()) << hasher.error().message;
    if (row[0] == "root") {
      EXPECT_EQ(hex(hasher->root()), row[3]) << row[1] << " seed " << row[2];
      ++roots;
      continue;
    }
    const std::vector<Digest> chain = hasher->chain(chains.at(row[3]).tokens);
    const auto expected = split(row[4], ',');
    const auto events = split(row[5], ',');
    ASSERT_EQ(chain.size(), expected.size()) << row[3];
    for (std::size_t i = 0; i < chain.size(); ++i) {
      EXPECT_EQ(hex(chain[i]), expected[i]) << row[1] << " seed " << row[2] << ": " << row[3] << " block " << i;
      EXPECT_EQ(event_hash(options.scheme, chain[i]).value(), *parse_u64(events[i])) << row[3];
      ++digests;
    }
  }
  EXPECT_EQ(roots, 10);
  EXPECT_EQ(digests, 250);
}

// Frames, memo references and wide integers, against CPython itself.
TEST(EngineHashes, PickleIsCpythons) {
  int cases = 0;
  for (const auto& row : read_table("cpython_pickles.tsv")) {
    const auto number = [&](std::size_t column) { return *parse_u64(row[column]); };
    const auto text = [](std::uint64_t length) {
      std::string out;
      for (std::uint64_t i = 0; i < length; ++i) out += "abcdefghij"[i % 10];
      return out;
    };
    std::vector<TokenId> tokens;
    for (std::uint64_t i = 0; i < number(1); ++i) {
      tokens.push_back(static_cast<TokenId>((i * 2654435761u + 12345) & number(2)));
    }
    HashOptions options{.scheme = Scheme::kVllmSha256, .block_tokens = static_cast<std::uint32_t>(number(1))};
    const std::uint64_t index = std::uint64_t{1} << 40;  // far from block 0, so that offsets can be very negative
    const std::uint64_t begin = index * options.block_tokens;
    std::vector<HashMmItem> items;
    if (!row[6].empty()) {
      for (const std::string_view item : split(row[6], ';')) {
        const std::size_t at = item.find('@');
        const auto offset = static_cast<std::uint64_t>(*parse_i64(item.substr(at + 1)));
        items.push_back({text(*parse_u64(item.substr(0, at))), begin + offset, std::uint64_t{1} << 40});
      }
    }
    const std::string lora = text(number(3));
    const std::string path = text(number(4));
    const std::string salt = text(number(5));
    auto hasher = EngineHasher::create(options);
    ASSERT_TRUE(hasher.ok());
    Digest parent;
    parent.size = 32;
    for (std::uint8_t i = 0; i < 32; ++i) parent.bytes[i] = i;
    // Salts belong to block 0; the cases with a salt have no negative offsets.
    const std::uint64_t block = salt.empty() ? index : 0;
    if (block == 0) {
      for (HashMmItem& item : items) item.offset -= begin;
    }
    EXPECT_EQ(hex(hasher->block(parent, block, tokens, {lora, path, salt, items})), row[7]) << row[0];
    ++cases;
  }
  EXPECT_EQ(cases, 11);
}

struct Pair {
  Scheme scheme;
  std::optional<std::string> seed;
  std::string_view root, a, b;
  std::uint64_t a_event, b_event;
};

TEST(EngineHashes, VllmRootsAndFirstBlocks) {
  const Pair pairs[] = {
      {Scheme::kVllmSha256Cbor, "0", "4e1195df020de59e0d65a33a4279f1183e7ae4e5d980e309f8b55adff2e61c3e",
       "202da172482d928bbc42ab25b0151e2b895f13f41002e27b2ceabcfae6d332ea",
       "4a0a393805c6d2f0ed831000d41bb65980336c4c04895d5e26470bbec927f5bf", 3236607068019569386u, 2758186210834249151u},
      {Scheme::kVllmSha256Cbor, std::nullopt, "9bd96a485ad84efdafb72ee48a1d7a69bcead0f8f0433173941b276b9581eef0",
       "cd7c51bc5a8fc8643f383a2b9e01522fba7473c669e9270c7b0bf7bf7fd01682",
       "2533ea50426b36e9e4d68296cac6bce8cf602e46957d0fe40b368b33d87bf3bf", 8866452693264111234u, 807986237951177663u},
      {Scheme::kVllmSha256, "0", "1973e23848344dc43a988a9b478663803cfffe1243480253f9a3cf004b14aa7c",
       "bea72b7d33de03c1aa715efbb492d0e0d3801f00c1f985756896072ae8b31325",
       "2744667f6645310ff670b0c5d7c64987ffa5940de5a549f17d92dcbb5b559e31", 7536218907325174565u, 9048537298590080561u},
      {Scheme::kVllmSha256, std::nullopt, "066b1e8987e027138e98701c46128929378935f9b6cd1549105ae6b4f0d71198",
       "7b255da405e1d722823892e4fef187b4d8ac78215d7f0dd2137bb037547f4caf",
       "8e717becdc2054b7a3223b7b844f462c0db0ac86287b752b16d077ad0843c577", 1403909460543360175u, 1643945449041937783u},
  };
  for (const Pair& pair : pairs) {
    auto hasher = EngineHasher::create({.scheme = pair.scheme, .block_tokens = 16, .seed = pair.seed});
    ASSERT_TRUE(hasher.ok());
    EXPECT_EQ(hex(hasher->root()), pair.root);
    const auto chain = hasher->chain(ids(1, 33));
    ASSERT_EQ(chain.size(), 2u) << "a partial block has no digest";
    EXPECT_EQ(hex(chain[0]), pair.a);
    EXPECT_EQ(event_hash(pair.scheme, chain[0]).value(), pair.a_event);
    EXPECT_EQ(event_hash(pair.scheme, chain[1]).value(), pair.b_event);
    EXPECT_EQ(hex(chain[1]), pair.b);
  }
}

TEST(EngineHashes, BareExtraKeys) {
  const HashOptions bare{.scheme = Scheme::kVllmSha256Cbor, .block_tokens = 16, .seed = "0", .form = ExtraKeyForm::kBare};
  const auto first_event = [](HashOptions options) {
    auto hasher = EngineHasher::create(std::move(options));
    return event_hash(Scheme::kVllmSha256Cbor, hasher->chain(ids(1, 16)).at(0)).value();
  };
  HashOptions options = bare;
  options.lora_name = "my-lora";
  EXPECT_EQ(first_event(options), 15444946753610453501u);
  options.items = {{"img-abc", 4, 3}};
  options.salt = "salt-1";
  EXPECT_EQ(first_event(options), 4740773714879057100u);
  options = bare;
  options.salt = "salt-1";
  EXPECT_EQ(first_event(options), 14196867505284063976u);

  auto hasher = EngineHasher::create(bare);
  ASSERT_TRUE(hasher.ok());
  const HashMmItem earlier[] = {{"img-abc", 4, 13}};
  EXPECT_EQ(event_hash(Scheme::kVllmSha256Cbor, hasher->block(hasher->root(), 1, ids(1, 16), {{}, {}, {}, earlier}))
                .value(),
            11862625689285539480u);
}

TEST(EngineHashes, ItemsTouchOnlyTheBlocksTheyOverlapInOrder) {
  auto hasher = EngineHasher::create({.block_tokens = 16, .seed = "0"});
  ASSERT_TRUE(hasher.ok());
  const auto block = [&](std::uint64_t index, std::vector<HashMmItem> items) {
    return hasher->block(hasher->root(), index, ids(1, 16), {{}, {}, {}, items});
  };
  const Digest plain = block(2, {});
  EXPECT_EQ(block(2, {{"x", 0, 32}}), plain) << "ends before the block";
  EXPECT_EQ(block(2, {{"x", 48, 1}}), plain) << "starts behind the block";
  EXPECT_EQ(block(2, {{"x", 40, 0}}), block(2, {{"x", 40, 1}})) << "an item stands where it stands, however long";
  EXPECT_NE(block(2, {{"x", 0, 33}}), plain);
  EXPECT_NE(block(2, {{"x", 47, UINT64_MAX}}), plain);
  EXPECT_EQ(block(2, {{"y", 40, 2}, {"x", 34, 2}}), block(2, {{"x", 34, 2}, {"y", 40, 2}}));
  EXPECT_NE(block(2, {{"y", 34, 2}, {"x", 40, 2}}), block(2, {{"x", 34, 2}, {"y", 40, 2}}));
}

TEST(EngineHashes, Sglang) {
  auto hasher = EngineHasher::create({.scheme = Scheme::kSglang, .block_tokens = 16});
  ASSERT_TRUE(hasher.ok());
  const auto chain = hasher->chain(ids(1, 32));
  EXPECT_EQ(hex(chain.at(0)), "77d735ce838418aa151bd96b5b1e78ee63860892e0a95c00fe34178442be9b07");
  EXPECT_EQ(event_hash(Scheme::kSglang, chain[0]).value(), 8635429971592222890u);
  EXPECT_EQ(hex(chain.at(1)), "1170426cf2449cebf4d17f087ce5bb43b6a910ce91b3f40922868e913e8ee91d");
  EXPECT_EQ(event_hash(Scheme::kSglang, chain[1]).value(), 1256577331724852459u);

  auto salted = EngineHasher::create({.scheme = Scheme::kSglang, .block_tokens = 16, .salt = "salt-1"});
  ASSERT_TRUE(salted.ok());
  EXPECT_EQ(event_hash(Scheme::kSglang, salted->chain(ids(1, 16)).at(0)).value(), 5836291587149776920u);

  // Page size 1, token 7: recorded from SGLang 0.5.23, there as the signed -1702009526849766914.
  auto single = EngineHasher::create({.scheme = Scheme::kSglang, .block_tokens = 1});
  ASSERT_TRUE(single.ok());
  EXPECT_EQ(static_cast<std::int64_t>(event_hash(Scheme::kSglang, single->chain(ids(7, 7)).at(0)).value()),
            -1702009526849766914);
}

TEST(EngineHashes, CopiesWorkApart) {
  auto hasher = EngineHasher::create({.block_tokens = 2, .seed = "7"});
  ASSERT_TRUE(hasher.ok());
  EngineHasher copy = *hasher;
  const auto expected = hasher->chain(ids(1, 8));
  EXPECT_EQ(copy.chain(ids(1, 8)), expected);
  EngineHasher moved = std::move(copy);
  copy = moved;
  EXPECT_EQ(copy.chain(ids(1, 8)), expected);
  EXPECT_EQ(moved.chain(ids(1, 8)), expected);
}

TEST(EngineHashes, RefusesWhatNoEngineCanHave) {
  auto zero = EngineHasher::create({.block_tokens = 0});
  ASSERT_FALSE(zero.ok());
  EXPECT_EQ(zero.error().kind, ErrorKind::kInvalid);
  for (const Scheme scheme : {Scheme::kVllmXxhash, Scheme::kVllmXxhashCbor}) {
    auto random_root = EngineHasher::create({.scheme = scheme});
    ASSERT_FALSE(random_root.ok());
    EXPECT_NE(random_root.error().message.find("PYTHONHASHSEED"), std::string::npos);
  }
}

TEST(EngineHashes, SchemeNamesRoundTrip) {
  EXPECT_EQ(scheme_names().size(), 5u);
  for (const std::string_view name : scheme_names()) {
    ASSERT_TRUE(parse_scheme(name));
    EXPECT_EQ(scheme_name(*parse_scheme(name)), name);
  }
  EXPECT_FALSE(parse_scheme("sha256"));
  EXPECT_FALSE(parse_scheme(""));
}

}  // namespace
}  // namespace warmpath::blocks
