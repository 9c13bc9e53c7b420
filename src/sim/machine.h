// One engine with its publisher: what stands at the other end of the links.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "events/events.h"

namespace warmpath::sim {

class Machine {
 public:
  Machine(std::unique_ptr<engine::Model> model, std::uint32_t replay_buffer_batches)
      : model_(std::move(model)), buffer_max_(replay_buffer_batches) {}

  engine::Model& model() { return *model_; }
  const engine::Model& model() const { return *model_; }

  // The step's events as the frames of one live message, kept for replay. Empty when there are none.
  std::vector<events::Frame> publish(std::vector<blocks::KvEvent> step_events, Instant now);
  // What the replay socket answers to a request's frames (as its ROUTER sees them), in order, the end marker last;
  // without the identity frame, as the asker's DEALER receives them. A request that cannot be read gets no answer.
  std::vector<std::vector<events::Frame>> replay(const std::vector<events::Frame>& asked) const;
  std::uint64_t frames_published() const { return next_seq_; }

 private:
  struct Kept {
    PublisherSeq seq;
    std::vector<std::uint8_t> payload;
  };
  std::unique_ptr<engine::Model> model_;
  std::size_t buffer_max_;
  std::uint64_t next_seq_ = 0;
  std::deque<Kept> buffer_;
};

}  // namespace warmpath::sim
