// EngineFeed: engines as configured, found by name and watched by /health and /v1/models, for pools whose KV events and
// load nobody follows. Private to app; the same shape as ingest::Ingest.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ingest/ingest.h"

namespace warmpath::app {

// Thread rule: one loop (the control loop). Bounds: one check an engine at a time.
class EngineFeed {
 public:
  EngineFeed(io::Loop& loop, ingest::IngestOptions options, ingest::Sink& sink);
  ~EngineFeed();
  EngineFeed(const EngineFeed&) = delete;
  EngineFeed& operator=(const EngineFeed&) = delete;

  void add(ingest::EngineAddress engine);  // before start()
  void start();
  std::vector<ingest::EngineStatus> status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::app
