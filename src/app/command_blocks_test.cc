#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "app/commands.h"
#include "app/test_run.h"

namespace warmpath::app {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;
using testing::outcome_of;

Outcome blocks(const std::vector<std::string>& args) { return outcome_of(run_blocks, args); }

std::string ids(int last) {
  std::string out;
  for (int id = 1; id <= last; ++id) out += (id > 1 ? "," : "") + std::to_string(id);
  return out;
}

TEST(BlocksCommand, JsonIsAListOfDigests) {
  const auto run = blocks({"--scheme", "vllm-sha256-cbor", "--block-size", "16", "--seed", "0", "--ids", ids(35)});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.out,
            "{\"blocks\":[\"202da172482d928bbc42ab25b0151e2b895f13f41002e27b2ceabcfae6d332ea\","
            "\"4a0a393805c6d2f0ed831000d41bb65980336c4c04895d5e26470bbec927f5bf\"]}\n");
  EXPECT_EQ(run.err, "");
}

TEST(BlocksCommand, AdapterItemsAndSalt) {
  const auto run = blocks({"--scheme", "vllm-sha256-cbor", "--seed", "0", "--lora", "my-lora", "--mm", "img-abc@4",
                           "--salt", "salt-1", "--extra-keys", "bare", "--ids", ids(16), "--format", "json"});
  EXPECT_EQ(run.out, "{\"blocks\":[\"003937d8a8261a1db927b361aec57055a96f4e3d1309778841ca9c9373e00ccc\"]}\n");
  // The path counts in the tagged form.
  const std::vector<std::string> common = {"--seed", "0", "--ids", ids(16), "--format", "json", "--lora"};
  auto with = common;
  with.emplace_back("my-lora,/adapters/my-lora");
  auto without = common;
  without.emplace_back("my-lora");
  EXPECT_NE(blocks(with).out, blocks(without).out);
}

TEST(BlocksCommand, TableNamesTheRest) {
  const auto run = blocks({"--scheme", "sglang", "--block-size", "1", "--ids", "7", "--format", "table"});
  EXPECT_THAT(run.out, HasSubstr("-1702009526849766914"));
  EXPECT_THAT(blocks({"--seed", "0", "--ids", ids(20), "--format", "table"}).out,
              HasSubstr("4 tokens at the end: no full block"));
}

TEST(BlocksCommand, BadInputIsExplained) {
  const auto ids_bad = blocks({"--ids", "1,2,x"});
  EXPECT_EQ(ids_bad.code, 1);
  EXPECT_THAT(ids_bad.err, HasSubstr("byte 4"));
  EXPECT_EQ(blocks({"--ids", "4294967296"}).code, 1);
  EXPECT_EQ(blocks({}).code, 2);
  EXPECT_EQ(blocks({"--scheme", "md5", "--ids", "1"}).code, 2);
  EXPECT_EQ(blocks({"--block-size", "0", "--ids", "1"}).code, 2);
  EXPECT_EQ(blocks({"--mm", "img", "--ids", "1"}).code, 2);
  EXPECT_EQ(blocks({"--mm", "img@1+0", "--ids", "1"}).code, 2);
  const auto seedless = blocks({"--scheme", "vllm-xxhash", "--ids", ids(16)});
  EXPECT_EQ(seedless.code, 2);
  EXPECT_THAT(seedless.err, HasSubstr("PYTHONHASHSEED"));
  EXPECT_EQ(blocks({"--scheme", "sglang", "--seed", "0", "--ids", "1"}).code, 2);
}

}  // namespace
}  // namespace warmpath::app
