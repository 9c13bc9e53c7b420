// Rank: one engine model driven by the loop: begin a step, wait for its duration, finish it, hand out what came.
//
// The engine's clock is the loop's less the slip: what the process was too late to keep up with. Within a step it never
// runs past the step's end, so that a busy process delays answers but does not distort the times it tells.
// Thread rule: the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/base.h"
#include "engine/engine.h"
#include "engine_server/publisher.h"
#include "io/io.h"

namespace warmpath::engine_server {

class Rank {
 public:
  struct Callbacks {
    // `now` in the engine's clock.
    std::function<void(const engine::Emitted& emitted, Instant now)> emitted;
    std::function<void(const engine::StepPlan& plan)> stepped;
  };
  // `publisher` may be null: no events.
  Rank(io::Loop& loop, std::unique_ptr<engine::Model> model, std::unique_ptr<Publisher> publisher, Duration lag_max,
       Callbacks callbacks);

  // Adds, as of `at` (one now() for all prompts of a request); nothing starts before wake(at), so that they start
  // together.
  Result<void> add(engine::Request request, Instant at) { return model_->add(std::move(request), at); }
  void wake(Instant at);
  bool abort(std::uint64_t id) { return model_->abort(id); }
  bool reset_prefix_cache() { return model_->reset_prefix_cache(); }

  Instant now() const;
  const engine::Model& model() const { return *model_; }
  const Publisher* publisher() const { return publisher_.get(); }
  // All lag that was let go, in wall time.
  Duration slipped() const { return slip_; }

 private:
  void begin(Instant at);
  void finish();

  io::Loop& loop_;
  std::unique_ptr<engine::Model> model_;
  std::unique_ptr<Publisher> publisher_;
  const Duration lag_max_;
  Callbacks callbacks_;
  engine::StepPlan plan_;
  engine::StepResult result_;
  Instant step_end_;
  Duration slip_{0};
  io::Timer timer_;
};

}  // namespace warmpath::engine_server
