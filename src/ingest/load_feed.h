// Private to ingest: one rank's pushed load (SGLang), instead of what its metrics page says.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "events/events.h"
#include "ingest/engine_answers.h"
#include "io/io.h"

namespace warmpath::ingest {

// Thread rule: the loop's thread. It may be destroyed inside `told`.
class LoadFeed {
 public:
  LoadFeed(io::Loop& loop, LoadSource source, std::function<void(const events::LoadStat&)> told);
  LoadFeed(const LoadFeed&) = delete;
  LoadFeed& operator=(const LoadFeed&) = delete;

  // kInvalid: the address cannot be used.
  Result<void> open();
  const LoadSource& source() const { return source_; }
  // It spoke a moment ago, so it stands for the page. SGLang 0.5.23 sends every second at least.
  bool fresh() const { return heard_at_ && loop_.now() - *heard_at_ <= kFreshMax; }
  std::uint64_t malformed() const { return malformed_; }

 private:
  static constexpr Duration kFreshMax = std::chrono::milliseconds(2'500);

  void on_message(const std::vector<std::string>& frames);

  io::Loop& loop_;
  LoadSource source_;
  std::function<void(const events::LoadStat&)> told_;
  std::unique_ptr<io::ZmqSocket> socket_;
  std::optional<Instant> heard_at_;
  std::uint64_t malformed_ = 0;
};

}  // namespace warmpath::ingest
