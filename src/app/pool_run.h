// PoolRun: one pool of a running gateway: tokenizer, index, brain, news of its engines. Private to app.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/admin.h"
#include "app/log.h"
#include "app/model_folder.h"
#include "app/scribe.h"
#include "config/gateway_config.h"
#include "ingest/ingest.h"
#include "proxy/proxy.h"

namespace warmpath::app {

// Thread rule: made by the opener, then start() and everything else on the control loop's thread; pool() from any.
class PoolRun final : public ingest::Sink, public SnapshotSource {
 public:
  // Loads the tokenizer (or takes it from `models`), certificates and secret. `name` is unique in the gateway.
  static Result<std::unique_ptr<PoolRun>> create(const config::GatewayConfig& gateway, const config::PoolConfig& config,
                                                 std::string name, ModelFolders& models, io::Loop& control,
                                                 observe::Registry& registry, Log* log);
  ~PoolRun() override;

  proxy::Pool& pool() { return *pool_; }
  // `known`: what a peer or an earlier life knew of the pool of this name, the best first; the first that can be used
  // is.
  void start(std::vector<index::SnapshotContent::Pool> known);
  admin::PoolReport report(std::size_t decisions_max) const;
  void refresh_metrics();
  const std::string& name() const { return name_; }
  // What the pool's index knows (admin). dump: kNotFound for an engine that is not there. All but the first: kNotFound
  // when the pool keeps no index, with the reason.
  admin::IndexPool index_report() const;
  Result<admin::IndexDump> index_dump(std::string_view engine) const;
  Result<admin::IndexWho> index_who(const api::Request& request) const;

 private:
  PoolRun(const config::GatewayConfig& gateway, const config::PoolConfig& config, io::Loop& control,
          observe::Registry& registry, Log* log);
  Result<void> load(std::string name, ModelFolders& models);
  Result<void> load_engines();
  // After the survey of block sizes, where one is needed.
  void start_with(std::uint32_t block_tokens);
  void start_brain(std::uint32_t block_tokens);
  std::string take_seed(const index::SnapshotPool& from, std::uint32_t block_tokens);
  void choose_restored(std::uint32_t block_tokens);
  bool follows_events() const;
  std::string why_no_index() const;
  std::string encoder_in_words() const;
  std::string key_model() const { return config_.model.empty() ? name_ : config_.model; }
  blocks::KeySpace space(std::uint32_t block_tokens) const { return {secret_, key_model(), block_tokens}; }
  void watch_proofs();
  void tell(const ingest::EngineStatus& status);
  void tell_inexact();
  std::string asking_text() const;
  void watch_asking();
  void watch_engines();

  // ingest::Sink
  EngineId next_engine_id() override { return pool_->next_engine_id(); }
  void engine_found(ingest::Found engine) override;
  void changed(const fleet::Change& change) override;
  void sampled(const fleet::Sample& sample) override { pool_->sampled(sample); }
  void publisher_changed(EngineId engine, blocks::PublisherState state) override {
    pool_->publisher_changed(engine, state);
  }
  void warned(std::string_view event, std::string_view engine, std::string_view text) override;
  void restored(std::string_view engine, const Result<std::uint64_t>& blocks) override;

  // SnapshotSource
  bool snapshot_due() const override { return index_ != nullptr || !follows_events(); }
  std::optional<index::SnapshotPool> snapshot_pool() const override;
  const index::Index& snapshot_index() const override { return *index_; }
  ingest::Ingest& snapshot_ingest() override { return *ingest_; }

  const config::GatewayConfig gateway_;
  const config::PoolConfig config_;
  io::Loop& control_;
  observe::Registry& registry_;
  Log* log_;
  std::string name_;
  std::string mode_;  // the policy's name, or what it fell to and why
  const schedule::Policy* policy_ = nullptr;
  std::shared_ptr<const tokens::Tokenizer> tokenizer_;
  std::vector<std::string> inexact_;    // prompts that cannot be exact, one sentence each
  std::uint64_t asks_failed_told_ = 0;  // of the pool's count: in the log already
  Instant asks_failed_told_at_;
  std::vector<ingest::EngineAddress> engines_;
  std::uint64_t secret_ = 0;
  std::uint64_t tokenizer_print_ = 0;                // of the tokenizer's files; 0: none
  std::vector<index::SnapshotContent::Pool> known_;  // before the start
  std::optional<index::SnapshotContent::Pool> restored_;
  std::uint64_t blocks_restored_ = 0;
  std::unique_ptr<index::Index> index_;
  std::unique_ptr<proxy::Pool> pool_;
  std::unique_ptr<io::Pending> survey_;
  std::unique_ptr<ingest::Ingest> ingest_;
  std::map<std::string, std::string> told_;  // by engine name: the last line of the summary about it
  struct Doubt {
    bool differs = false;
    Instant warned_at;
  };
  std::map<EngineId, Doubt> doubts_;
  io::Timer proof_timer_, engine_timer_;
};

}  // namespace warmpath::app
