#include "proxy/model_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::proxy {
namespace {

std::shared_ptr<const EngineAt> engine(std::vector<api::ModelEntry> models) {
  auto one = std::make_shared<EngineAt>();
  one->models = std::move(models);
  return one;
}

PoolOptions options(std::string model, std::vector<std::string> aliases = {}) {
  PoolOptions out;
  out.name = "pool";
  out.model = std::move(model);
  out.aliases = std::move(aliases);
  return out;
}

std::vector<std::string> ids(const ModelTable& table) {
  std::vector<std::string> out;
  for (const auto& entry : table.entries()) out.push_back(entry.id);
  return out;
}

const api::ModelEntry kBase{"qwen", "Qwen/Qwen3", std::nullopt, 4096};
const api::ModelEntry kAdapter{"lora-a", "/adapters/a", "qwen", std::nullopt};

TEST(ModelTable, NothingKnownTakesEveryName) {
  const ModelTable table(options(""), {});
  const auto resolved = table.resolve("whatever");
  ASSERT_TRUE(resolved);
  EXPECT_EQ(resolved->engine_model, "whatever");
  EXPECT_EQ(resolved->label, "other");  // never a label from outside
  EXPECT_FALSE(resolved->rewrite);
  EXPECT_TRUE(table.entries().empty());
}

TEST(ModelTable, EnginesNameTheModel) {
  const std::vector<std::shared_ptr<const EngineAt>> engines = {engine({kBase, kAdapter})};
  const ModelTable table(options("", {"fast"}), engines);
  EXPECT_THAT(ids(table), ::testing::ElementsAre("fast", "lora-a", "qwen"));
  EXPECT_EQ(table.resolve("qwen")->engine_model, "qwen");
  EXPECT_EQ(table.resolve("")->engine_model, "qwen");
  EXPECT_FALSE(table.resolve("")->rewrite);
  const auto alias = table.resolve("fast");
  EXPECT_TRUE(alias->rewrite);
  EXPECT_EQ(alias->engine_model, "qwen");
  EXPECT_EQ(alias->label, "qwen");
  const auto adapter = table.resolve("lora-a");
  EXPECT_EQ(adapter->adapter, "lora-a");
  EXPECT_FALSE(adapter->rewrite);
  EXPECT_FALSE(table.resolve("nope"));
}

TEST(ModelTable, AConfiguredNameThatNoEngineKnowsIsRewritten) {
  const std::vector<std::shared_ptr<const EngineAt>> engines = {engine({kBase})};
  const ModelTable table(options("house-model"), engines);
  const auto resolved = table.resolve("house-model");
  ASSERT_TRUE(resolved);
  EXPECT_TRUE(resolved->rewrite);
  EXPECT_EQ(resolved->engine_model, "qwen");
  EXPECT_EQ(resolved->label, "house-model");
  EXPECT_EQ(table.resolve("qwen")->label, "house-model");
  EXPECT_FALSE(table.resolve("qwen")->rewrite);
}

TEST(ModelTable, AConfiguredNameServesBeforeAnyEngineIsKnown) {
  const ModelTable table(options("qwen", {"fast"}), {});
  EXPECT_EQ(table.resolve("fast")->engine_model, "qwen");
  EXPECT_FALSE(table.resolve("other"));
  EXPECT_THAT(ids(table), ::testing::ElementsAre("fast", "qwen"));
}

TEST(ModelTable, TheShortestContextCounts) {
  api::ModelEntry shorter = kBase;
  shorter.max_model_len = 2048;
  const std::vector<std::shared_ptr<const EngineAt>> engines = {engine({kBase}), engine({shorter})};
  const ModelTable table(options("qwen"), engines);
  ASSERT_EQ(table.entries().size(), 1u);
  EXPECT_EQ(table.entries()[0].max_model_len, 2048u);
  EXPECT_EQ(table.entries()[0].root, "Qwen/Qwen3");
  EXPECT_EQ(table.resolve("qwen")->model_tokens_max, 2048u);
  EXPECT_EQ(table.resolve("")->model_tokens_max, 2048u) << "the base model";
}

}  // namespace
}  // namespace warmpath::proxy
