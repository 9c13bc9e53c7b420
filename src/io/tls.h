// TLS towards engines (client side).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/base.h"

namespace warmpath::io {

// Certificates are verified against the system's authorities, or `ca_pem` alone when given.
// Thread rule: immutable, shared by loops.
class TlsClientContext {
 public:
  virtual ~TlsClientContext() = default;
  static Result<std::shared_ptr<TlsClientContext>> create(const std::optional<std::string>& ca_pem);
};

}  // namespace warmpath::io
