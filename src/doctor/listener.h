// Listener: hears the KV events of every rank of an engine, and asks each replay socket whether it answers. Private to
// doctor. Thread rule: the loop's thread.
#pragma once

#include <memory>
#include <vector>

#include "doctor/evidence.h"
#include "doctor/own_filter.h"
#include "io/io.h"

namespace warmpath::doctor {

class Listener {
 public:
  // What is heard goes into `evidence.sources` (filled in by the caller: rank, events, replay, bound) and
  // `evidence.heard`, of events the probes' alone; both must outlive the Listener.
  Listener(io::Loop& loop, Evidence& evidence, const tokens::Tokenizer& tokenizer);
  void open();
  bool all_connected() const;
  bool all_replays_answered() const;

 private:
  void open_live(std::size_t source);
  void open_replay(std::size_t source);
  void on_live(std::size_t source, const std::vector<std::string>& frames);

  io::Loop& loop_;
  Evidence& evidence_;
  OwnFilter filter_;
  std::size_t tokens_ = 0;
  std::vector<std::unique_ptr<io::ZmqSocket>> sockets_;
};

}  // namespace warmpath::doctor
