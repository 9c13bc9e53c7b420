// Where a brain's effects go: the I/O thread that owns the request. Private to proxy.
#pragma once

#include "route/route.h"

namespace warmpath::proxy {

class EffectSink {
 public:
  virtual ~EffectSink() = default;
  // On the sink's own loop thread. Never Forward or Reject for a request that ended.
  virtual void on_effect(route::Effect effect) = 0;
};

}  // namespace warmpath::proxy
