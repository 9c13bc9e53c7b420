#include "app/scribe.h"

#include <algorithm>
#include <future>
#include <utility>

#include "io/files.h"

namespace warmpath::app {
namespace {

constexpr int kCopyTries = 3;  // an engine whose events do not wait long enough is left out
constexpr std::size_t kTasksMax = 64;

// Asks on the control thread, waits for the answer. The loop runs as long as the Scribe lives.
template <class Ask>
auto on_control(io::Loop& control, Ask ask) {
  std::promise<decltype(ask())> answer;
  control.post([&] { answer.set_value(ask()); });
  return answer.get_future().get();
}

}  // namespace

std::optional<std::string> SnapshotMaker::next() {
  if (ended_) return std::nullopt;
  if (!std::exchange(begun_, true)) return writer_.begin(io::unix_time_ms());
  while (pool_ < pools_.size()) {
    if (!std::exchange(pool_open_, true)) {
      if (std::string out = begin_pool(); !out.empty()) return out;
    }
    if (name_ < names_.size()) {
      std::string out;
      add_engine(names_[name_++], out);
      if (!out.empty()) return out;
      continue;
    }
    ++pool_;
    pool_open_ = false;
  }
  ended_ = true;
  return writer_.end();
}

std::string SnapshotMaker::begin_pool() {
  names_.clear();
  name_ = 0;
  const auto pool = on_control(control_, [&] {
    auto about = pools_[pool_]->snapshot_pool();
    if (!about) return about;
    ingest::Ingest& ingest = pools_[pool_]->snapshot_ingest();
    names_ = ingest.followed();
    const std::vector<std::string> awaited = ingest.awaited();
    names_.insert(names_.end(), awaited.begin(), awaited.end());
    return about;
  });
  return pool ? writer_.pool(*pool) : std::string();
}

void SnapshotMaker::add_engine(const std::string& name, std::string& out) {
  SnapshotSource& pool = *pools_[pool_];
  // What was read of it at start is written again as it was, until the engine itself says what became of it.
  if (const auto as_read = on_control(control_, [&] { return pool.snapshot_ingest().as_restored(name); })) {
    if (!writer_.engine(*as_read, out)) ++engines_skipped_;
    return;
  }
  for (int tries = 0; tries < kCopyTries; ++tries) {
    auto held = on_control(control_, [&] { return pool.snapshot_ingest().hold(name); });
    if (!held) break;
    auto blocks = pool.snapshot_index().copy(held->engine, held->point);
    on_control(control_, [&] {
      pool.snapshot_ingest().release(name);
      return true;
    });
    if (!blocks) continue;
    index::SnapshotEngine& engine = held->standing;
    engine.blocks = blocks->blocks;
    engine.parts = std::move(blocks->parts);
    if (!blocks->whole && engine.mark.trust == blocks::PublisherState::kExact) {
      engine.mark.trust = blocks::PublisherState::kPartial;
    }
    if (!writer_.engine(engine, out)) break;
    return;
  }
  ++engines_skipped_;
}

void Scribe::Queue::push(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex);
    if (ending) return;
    WP_CHECK(tasks.size() < kTasksMax);  // a few writes, and one piece a stream
    tasks.push_back(std::move(task));
  }
  news.notify_all();
}

bool Scribe::Queue::ended() {
  const std::lock_guard lock(mutex);
  return ending;
}

void Scribe::work(Queue& queue) {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(queue.mutex);
      queue.news.wait(lock, [&] { return queue.ending || !queue.tasks.empty(); });
      if (queue.ending) return;
      task = std::move(queue.tasks.front());
      queue.tasks.pop_front();
    }
    task();
  }
}

// A snapshot for another router: made on the Scribe's thread, a piece whenever one is wanted. Who hangs up frees its
// place only when the piece under way is done: so there is one task a place.
class Scribe::Stream final : public admin::SnapshotStream {
 public:
  explicit Stream(Scribe& scribe)
      : control_(scribe.control_),
        queue_(scribe.queue_),
        work_(new Work{SnapshotMaker(scribe.control_, scribe.pools_)}, [count = scribe.streams_](Work* work) {
          delete work;
          --*count;
        }) {
    ++*scribe.streams_;
  }

  void next(std::function<void(std::optional<std::string>)> done) override {
    queue_->push([work = work_, &control = control_, done = std::move(done)] {
      control.post([piece = work->maker.next(), done] { done(piece); });
    });
  }

 private:
  struct Work {
    SnapshotMaker maker;
  };
  io::Loop& control_;
  std::shared_ptr<Queue> queue_;
  std::shared_ptr<Work> work_;
};

Scribe::Scribe(io::Loop& control, std::vector<SnapshotSource*> pools, const config::IndexConfig& config,
               observe::Registry& registry, Log* log)
    : control_(control),
      pools_(std::move(pools)),
      config_(config),
      log_(log),
      bytes_(registry.gauge("warmpath_index_snapshot_bytes", "Size of the snapshot file written last.")),
      age_(registry.gauge("warmpath_index_snapshot_age_seconds",
                          "Since the index was written down last; -1: never, or no file is configured.")),
      skipped_(registry.gauge("warmpath_index_snapshot_engines_skipped",
                              "Engines left out of the snapshot written last: nothing heard yet, amid a hole, gone, a "
                              "block too large, or their events came too fast to be held.")),
      failures_(registry.counter("warmpath_index_snapshot_failures_total",
                                 "Snapshots that could not be written: disk full, folder not writable.")),
      thread_([queue = queue_] { work(*queue); }) {
  age_.set(-1);
}

Scribe::~Scribe() { end(); }

void Scribe::end() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->ending = true;
    queue_->tasks.clear();
  }
  queue_->news.notify_all();
  thread_.join();
}

void Scribe::start() { arm(); }

void Scribe::stop_timer() { timer_.cancel(); }

void Scribe::arm() {
  if (config_.snapshot_path.empty()) return;
  timer_ = control_.after(config_.snapshot_every, [this] { write([this] { arm(); }); });
}

void Scribe::write(std::function<void()> done) {
  if (config_.snapshot_path.empty()) return done();
  timer_.cancel();
  // An emptier file would take the place of a good one.
  if (!due()) return control_.post(std::move(done));
  queue_->push([this, done = std::move(done)] {
    auto written = std::make_shared<Written>(write_file());
    control_.post([this, written, done] {
      wrote(*written);
      done();
    });
  });
}

bool Scribe::due() const {
  return std::ranges::all_of(pools_, [](const SnapshotSource* pool) { return pool->snapshot_due(); });
}

Scribe::Written Scribe::write_file() {
  auto file = io::FileReplacement::begin(config_.snapshot_path);
  if (!file.ok()) return {file.error()};
  SnapshotMaker maker(control_, pools_);
  std::uint64_t bytes = 0;
  while (const auto piece = maker.next()) {
    if (queue_->ended()) return {Error{ErrorKind::kCancelled, "the gateway ends"}};
    if (const auto put = file->append(*piece); !put.ok()) return {put.error()};
    bytes += piece->size();
  }
  if (const auto done = file->commit(); !done.ok()) return {done.error()};
  return {bytes, maker.engines_skipped()};
}

// Failing is said when it begins and when it ends; in between it is counted.
void Scribe::wrote(const Written& written) {
  if (written.bytes.ok()) {
    bytes_.set(static_cast<double>(*written.bytes));
    skipped_.set(static_cast<double>(written.engines_skipped));
    written_at_ms_ = io::unix_time_ms();
    if (std::exchange(failing_, false) && log_ != nullptr) log_->info("snapshot_written_again", {});
    return;
  }
  failures_.add();
  if (std::exchange(failing_, true) || log_ == nullptr) return;
  log_->warn("snapshot_failed", {{"why", std::string_view(written.bytes.error().message)},
                                 {"then", std::string_view("the last whole snapshot stays; tried again each time")}});
}

void Scribe::restored_from(std::int64_t written_at_ms) { written_at_ms_ = written_at_ms; }

void Scribe::refresh_metrics() {
  if (!written_at_ms_) return;
  age_.set(static_cast<double>(std::max<std::int64_t>(io::unix_time_ms() - *written_at_ms_, 0)) / 1e3);
}

std::shared_ptr<admin::SnapshotStream> Scribe::stream() {
  if (*streams_ >= kStreamsMax) return nullptr;
  return std::make_shared<Stream>(*this);
}

index::SnapshotContent read_snapshot_file(const std::string& path) {
  index::SnapshotReader reader(kSnapshotBytesMax);
  const auto read = io::read_file_in_pieces(path, [&](std::string_view piece) { return reader.feed(piece); });
  if (read.ok()) return reader.finish();
  index::SnapshotContent none;
  none.why = read.error().message;
  return none;
}

}  // namespace warmpath::app
