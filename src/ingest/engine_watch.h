// Private to ingest: one HTTP server at one address, with all its data-parallel ranks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ingest/discovery.h"
#include "ingest/publisher_feed.h"

namespace warmpath::ingest {

// What all watches share.
struct WatchShared {
  io::Loop& loop;
  http::HttpClient& client;
  const IngestOptions& options;
  index::Index* index;
  Sink& sink;
  observe::Registry& registry;
};

// Asks what the engine is (models, event sources, sizes), announces its ranks, then watches health and load. An engine
// that went away is asked everything again when it is back: it may be another one. Thread rule: the loop's thread.
class EngineWatch {
 public:
  EngineWatch(WatchShared& shared, EngineAddress engine, io::Address address, std::string name);
  ~EngineWatch();
  EngineWatch(const EngineWatch&) = delete;
  EngineWatch& operator=(const EngineWatch&) = delete;

  void start();
  const io::Address& address() const { return address_; }
  void append_status(std::vector<EngineStatus>& out) const;

 private:
  enum class State : std::uint8_t { kAsking, kUp, kDown };
  struct Rank {
    EngineId id;
    std::string name;
    std::unique_ptr<PublisherFeed> feed;
    std::string events;  // where from, or why not
  };

  using Answer = std::function<void(Result<http::HttpClient::Whole>)>;
  void get(std::string_view path, Answer answer);
  void ask_models();
  void ask_sources();
  void ask_server_info();
  void ask_page();
  void announce();
  void announce_rank(std::uint32_t rank, std::uint32_t count);
  void follow(Rank& rank, std::uint32_t number);
  void failed(const std::string& why);
  void set_liveness(fleet::Liveness liveness);
  void next_health();
  void check_health();
  void next_scrape();
  void scrape();
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
  std::string no_events_;  // why there are none
  PageFigures figures_;
  std::string page_;
  std::map<std::uint32_t, Rank> ranks_;
  Duration backoff_{0};
  RandomStream random_;
  std::unique_ptr<http::ClientCall> call_;         // of asking and health
  std::unique_ptr<http::ClientCall> scrape_call_;
  io::Timer timer_;         // of asking and health
  io::Timer scrape_timer_;
  observe::Gauge& up_;
  observe::Counter& scrapes_failed_;
};

}  // namespace warmpath::ingest
