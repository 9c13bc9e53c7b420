// Private to io: one TLS connection over a nonblocking socket.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "io/tls.h"

namespace warmpath::io {

class TlsSession {
 public:
  virtual ~TlsSession() = default;
  static std::unique_ptr<TlsSession> create(TlsClientContext& context, int fd, const std::string& host);

  enum class Step : std::uint8_t { kDone, kAgain, kFailed };
  virtual Step handshake(std::string& why) = 0;
  // > 0 bytes; 0: the peer ended properly; -1: would block; -2: failed with `why`.
  virtual ssize_t read(char* into, std::size_t size, std::string& why) = 0;
  // > 0 bytes; -1: would block; -2: failed.
  virtual ssize_t write(std::string_view bytes, std::string& why) = 0;
  virtual void shut_down() = 0;
};

}  // namespace warmpath::io
