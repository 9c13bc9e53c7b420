// EngineIds: prompts' ids as an engine itself tells them (/render, else /tokenize), for pools whose own are not known
// to be the same. Private to proxy.
//
// It asks one engine a prompt, remembers what was told (bounded in bytes and in age: templates print dates), and counts
// why nothing was told; such a prompt is then matched approximately. The asking itself is the relay's.
// Thread rule: every call from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/api.h"
#include "proxy/plan.h"
#include "proxy/pool.h"

namespace warmpath::proxy {

class EngineIds {
 public:
  EngineIds(AskOptions options, const std::string& pool, observe::Registry& registry);

  const AskOptions& options() const { return options_; }
  // Whether this prompt's plan is to be replaced by what an engine tells.
  bool wants(const api::Request& request, const Plan& plan) const;

  // The prompt and all that shapes its ids, under the pool's secret.
  BlockKey key_of(const api::Request& request, std::string_view engine_model, const blocks::KeySpace& space) const;
  using Ids = std::shared_ptr<const std::vector<TokenId>>;
  Ids find(BlockKey key, Instant now);  // null: not known
  void keep(BlockKey key, Ids ids, Instant now);

  // One exchange with an engine: where, and what is sent.
  struct Question {
    std::shared_ptr<const EngineAt> engine;
    bool render = false;
    std::string target;
    std::shared_ptr<const std::string> body;
  };
  // nullopt, and `why` set: nobody can be asked ("no_engine"), it cannot be asked so ("unsupported"), or kAsksMax are
  // in flight ("busy"). Otherwise ended() must follow.
  std::optional<Question> begin(const api::Request& request, std::string_view engine_model,
                                std::shared_ptr<const std::string> body, const Pool& pool, Instant now,
                                AskOutcome& why);
  void ended(const Question& question, AskOutcome outcome, Instant now);
  // What an answer means: ids, or why not. kForbidden: /render is switched off there; ask again.
  struct Told {
    AskOutcome outcome = AskOutcome::kError;
    bool ask_again = false;
    Ids ids;
  };
  Told read(const Question& question, const Result<http::HttpClient::Whole>& answer, Instant now);

  void count(AskOutcome outcome);
  AskCounts counts() const;

  static constexpr std::size_t kAsksMax = 256;  // in flight
  static constexpr Duration kKeptMax = std::chrono::minutes(10);
  static constexpr Duration kAvoided = std::chrono::seconds(5);     // an engine that did not answer
  static constexpr Duration kRenderOff = std::chrono::seconds(60);  // until /render is tried there again

 private:
  struct Kept {
    Ids ids;
    Instant at;
    std::list<BlockKey>::iterator place;
  };
  struct Trouble {
    Instant avoided_until;
    Instant render_off_until;
  };
  void drop_last();

  const AskOptions options_;
  std::array<observe::Counter*, kAskOutcomes> counters_{};
  std::array<std::atomic<std::uint64_t>, kAskOutcomes> counts_{};
  std::atomic<std::size_t> in_flight_{0};
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;  // the rest
  std::unordered_map<BlockKey, Kept> kept_;
  std::list<BlockKey> order_;  // latest first
  std::size_t kept_bytes_ = 0;
  std::map<EngineId, Trouble> troubles_;  // at most one an engine
};

}  // namespace warmpath::proxy
