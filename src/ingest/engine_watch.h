// Private to ingest: one HTTP server at one address, with all its data-parallel ranks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ingest/load_feed.h"
#include "ingest/publisher_feed.h"
#include "ingest/rank_source.h"

namespace warmpath::ingest {

// What all watches share.
struct WatchShared {
  io::Loop& loop;
  http::HttpClient& client;
  const IngestOptions& options;
  index::Index* index;
  Sink& sink;
  observe::Registry& registry;
  std::map<std::string, index::SnapshotEngine, std::less<>> restored;  // by engine name, until it is found
};

// Asks what the engine is (models, event sources, sizes), announces its ranks, then watches health and load. An engine
// that went away is asked everything again when it is back: it may be another one. Thread rule: the loop's thread.
//
//            /v1/models, /kv_event_sources or /server_info, /metrics
//   asking ──────────────────────────────────────────────────────────► up ──┐ /health, /metrics
//     ▲ └── refused, wrong model ──► down ◄──── refused, not 200 ───────┘ ▲  │
//     └────────── back-off ───────────┘                                   └──┘
class EngineWatch {
 public:
  EngineWatch(WatchShared& shared, EngineAddress engine, io::Address address, std::string name);
  ~EngineWatch();
  EngineWatch(const EngineWatch&) = delete;
  EngineWatch& operator=(const EngineWatch&) = delete;

  void start();
  void append_status(std::vector<EngineStatus>& out) const;
  // As Ingest's, where the rank of that name is here.
  std::optional<Ingest::Held> hold(std::string_view name);
  void release(std::string_view name);

 private:
  enum class State : std::uint8_t { kAsking, kUp, kDown };
  struct Rank {
    EngineId id;
    std::string name;
    std::unique_ptr<PublisherFeed> feed;
    std::unique_ptr<LoadFeed> load;
    std::string events;  // where from, or why not
    std::uint32_t block_tokens = 0;
    std::uint64_t kv_tokens = 0;
  };

  using Answer = std::function<void(Result<http::HttpClient::Whole>)>;
  void get(std::string_view path, Answer answer);
  void ask_models();
  std::optional<std::string> take_models(const http::HttpClient::Whole& answer);
  void ask_sources();
  void ask_server_info();
  void ask_page();
  void use_given_sources();
  void announce(std::string_view page);
  std::vector<std::uint32_t> rank_numbers() const;
  void follow(Rank& rank, std::uint32_t number);
  void unfollow(Rank& rank);
  void restore(Rank& rank);
  void follow_load(Rank& rank, std::uint32_t number);
  bool all_push_load() const;
  void tell(const Rank& rank, std::uint32_t number);
  void drop_ranks();
  void take_page(std::string_view page);
  PageFigures figures_of(std::string_view page, std::uint32_t number) const;
  void failed(const std::string& why);
  void set_liveness(fleet::Liveness liveness);
  void next_health();
  void check_health();
  void healthy();
  void next_scrape();
  void scrape();
  void look_up_metrics();
  Duration jittered(Duration d);

  WatchShared& shared_;
  EngineAddress engine_;
  io::Address address_;
  std::string name_;
  http::Origin origin_;
  State state_ = State::kAsking;
  fleet::Liveness liveness_ = fleet::Liveness::kUnknown;
  std::string why_not_ = "not asked yet";
  std::vector<ServedModel> models_;
  std::map<std::uint32_t, RankSource> sources_;
  std::map<std::uint32_t, LoadSource> loads_;
  std::string no_events_;                           // why there are none
  std::optional<std::uint32_t> told_block_tokens_;  // by /server_info
  std::optional<double> started_at_s_;
  std::map<std::uint32_t, Rank> ranks_;
  std::uint32_t checks_ = 0;
  int scrapes_spared_ = 0;  // intervals in a row in which all ranks pushed their load
  bool models_hidden_ = false;
  Duration backoff_{0};
  RandomStream random_;
  std::unique_ptr<http::ClientCall> call_;  // of asking and health
  std::unique_ptr<http::ClientCall> scrape_call_;
  io::Timer timer_;  // of asking and health
  io::Timer scrape_timer_;
  observe::Gauge* up_ = nullptr;
  observe::Counter* scrapes_failed_ = nullptr;
};

}  // namespace warmpath::ingest
