#include "engine_server/rank.h"

#include <algorithm>

namespace warmpath::engine_server {

Rank::Rank(io::Loop& loop, std::unique_ptr<engine::Model> model, std::unique_ptr<Publisher> publisher, Duration lag_max,
           Callbacks callbacks)
    : loop_(loop),
      model_(std::move(model)),
      publisher_(std::move(publisher)),
      lag_max_(lag_max),
      callbacks_(std::move(callbacks)) {}

Instant Rank::now() const {
  const Instant wall = loop_.now() - slip_;
  return model_->in_step() ? std::min(wall, step_end_) : wall;
}

void Rank::wake(Instant at) {
  if (!model_->in_step()) begin(at);
}

void Rank::begin(Instant at) {
  const auto plan = model_->begin_step(at);
  if (!plan) return;
  plan_ = *plan;
  step_end_ = at + plan->duration;
  const Duration late = loop_.now() - (step_end_ + slip_);
  if (late > lag_max_) slip_ += late;
  timer_ = loop_.after(std::max(-late, Duration(0)), [this] { finish(); });
}

void Rank::finish() {
  const Instant at = step_end_;
  model_->finish_step(at, result_);
  // Events first: a router that sees the answer's end may already look for its blocks.
  if (publisher_) publisher_->publish(result_.events);
  for (const engine::Emitted& emitted : result_.emitted) callbacks_.emitted(emitted, at);
  callbacks_.stepped(plan_);
  // A callback may have added a request and so begun the next step.
  if (!model_->in_step()) begin(at);
}

}  // namespace warmpath::engine_server
