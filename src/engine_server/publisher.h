// Publisher: one rank's KV events on the wire, as vLLM 0.32's: PUB [topic, seq, payload], and a ROUTER that replays
// what is buffered. Thread rule: the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/base.h"
#include "blocks/blocks.h"
#include "io/io.h"

namespace warmpath::engine_server {

class Publisher {
 public:
  struct Options {
    std::string ip;          // to bind to
    std::uint16_t port = 0;  // 0: a free one
    std::uint16_t replay_port = 0;
    std::string topic;
    std::uint32_t rank = 0;
    std::uint32_t buffer_steps = 10'000;
  };
  // kConflict: a port is taken.
  static Result<std::unique_ptr<Publisher>> open(io::Loop& loop, Options options);

  // One batch; nothing for no events.
  void publish(const std::vector<blocks::KvEvent>& events);

  const std::string& endpoint() const { return endpoint_; }
  const std::string& replay_endpoint() const { return replay_endpoint_; }
  std::uint64_t published() const { return next_seq_; }
  std::uint64_t dropped() const { return dropped_; }

 private:
  explicit Publisher(Options options) : options_(std::move(options)) {}
  void replay(const std::vector<std::string>& frames);

  Options options_;
  std::string endpoint_;
  std::string replay_endpoint_;
  std::unique_ptr<io::ZmqSocket> live_;
  std::unique_ptr<io::ZmqSocket> replays_;
  struct Kept {
    std::uint64_t seq = 0;
    std::vector<std::uint8_t> payload;
  };
  std::deque<Kept> kept_;  // at most buffer_steps
  std::uint64_t next_seq_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace warmpath::engine_server
