// Scribe: writes the pools' indexes down, into a file now and then and to other routers that ask. Private to app.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "admin/admin.h"
#include "app/log.h"
#include "config/gateway_config.h"
#include "index/index.h"
#include "ingest/ingest.h"

namespace warmpath::app {

// What of one pool is written down. Called on the control thread; `index` from any, while the Scribe lives.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  // False: it will keep an index and has none yet. What an earlier life wrote down of it is all there is.
  virtual bool snapshot_due() const = 0;
  // nullopt: the pool keeps no index (yet).
  virtual std::optional<index::SnapshotPool> snapshot_pool() const = 0;
  virtual const index::Index& snapshot_index() const = 0;
  virtual ingest::Ingest& snapshot_ingest() = 0;
};

// One snapshot, piece by piece: at most one engine is in memory. Engines are held one at a time, and only while their
// blocks are copied. Thread rule: made and used on a thread of its own beside a control loop that runs.
class SnapshotMaker {
 public:
  SnapshotMaker(io::Loop& control, const std::vector<SnapshotSource*>& pools) : control_(control), pools_(pools) {}
  std::optional<std::string> next();  // nullopt: that was all
  std::uint64_t engines_skipped() const { return engines_skipped_; }

 private:
  std::string begin_pool();
  void add_engine(const std::string& name, std::string& out);

  io::Loop& control_;
  const std::vector<SnapshotSource*> pools_;
  index::SnapshotWriter writer_;
  bool begun_ = false;
  bool ended_ = false;
  std::size_t pool_ = 0;
  bool pool_open_ = false;
  std::vector<std::string> names_;
  std::size_t name_ = 0;
  std::uint64_t engines_skipped_ = 0;
};

// Thread rule: the control loop's thread; the work is done on one of its own. end() is called from another thread while
// the loop runs; the Scribe is destroyed when the loop has ended, as its last words are posted there.
class Scribe {
 public:
  static constexpr std::size_t kStreamsMax = 2;
  Scribe(io::Loop& control, std::vector<SnapshotSource*> pools, const config::IndexConfig& config,
         observe::Registry& registry, Log* log);
  ~Scribe();
  Scribe(const Scribe&) = delete;
  Scribe& operator=(const Scribe&) = delete;

  void end();    // what is under way is given up, nothing more begins
  void start();  // writes every config.snapshot_every, where there is a path
  void stop_timer();
  // Now; `done` on the control thread, whatever came of it. While a pool has no index yet the file stays as it is.
  void write(std::function<void()> done);
  void restored_from(std::int64_t written_at_ms);  // the age of what there is, until something is written
  void refresh_metrics();
  // For a router that asks; null: kStreamsMax are under way.
  std::shared_ptr<admin::SnapshotStream> stream();

 private:
  class Stream;
  struct Written {
    Result<std::uint64_t> bytes;
    std::uint64_t engines_skipped = 0;
  };
  // Outlives the Scribe in the streams' hands: what comes after the end is dropped.
  struct Queue {
    std::mutex mutex;
    std::condition_variable news;
    std::deque<std::function<void()>> tasks;
    bool ending = false;
    void push(std::function<void()> task);
    bool ended();
  };
  static void work(Queue& queue);
  bool due() const;
  Written write_file();
  void wrote(const Written& written);
  void arm();

  io::Loop& control_;
  const std::vector<SnapshotSource*> pools_;
  const config::IndexConfig config_;
  Log* log_;
  observe::Gauge& bytes_;
  observe::Gauge& age_;
  observe::Gauge& skipped_;
  observe::Counter& failures_;
  std::optional<std::int64_t> written_at_ms_;
  bool failing_ = false;
  io::Timer timer_;
  std::shared_ptr<std::atomic<std::size_t>> streams_ = std::make_shared<std::atomic<std::size_t>>(0);

  std::shared_ptr<Queue> queue_ = std::make_shared<Queue>();
  std::thread thread_;
};

inline constexpr std::size_t kSnapshotBytesMax = std::size_t{4} << 30;  // read from a file or a peer
// What is in a snapshot file; nothing, and why, where there is none.
index::SnapshotContent read_snapshot_file(const std::string& path);

}  // namespace warmpath::app
