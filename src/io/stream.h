// Stream: one TCP or TLS connection, nonblocking, with watermarks. Listener, connect, resolve.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"
#include "io/loop.h"
#include "io/tls.h"

namespace warmpath::io {

// A numeric address: "127.0.0.1:80", "[::1]:80".
struct Address {
  std::string ip;
  std::uint16_t port = 0;
  std::string text() const;
  friend bool operator==(const Address&, const Address&) = default;
};
// "host:port", "[v6]:port", ":port" (host empty). kInvalid with what is expected.
struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};
Result<HostPort> parse_host_port(std::string_view text);

// What a stream tells its owner. Called on the loop's thread, never from inside one of the owner's own calls.
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  virtual void on_data(std::string_view bytes) = 0;  // valid during the call
  virtual void on_end() = 0;                         // the peer will send no more (half-close); writing may go on
  // The peer shut down or reset, noticed at once, also while reading is paused and bytes are still unread. At most once.
  virtual void on_hangup() {}
  virtual void on_drained() = 0;                     // queued output fell to the low watermark after being above high
  virtual void on_closed(const Error& why) = 0;      // broken: reset, TLS failure, …; last call
};

// Owned through shared_ptr by whoever uses it; dropping it closes the socket without further calls.
class Stream {
 public:
  virtual ~Stream() = default;
  // Until a sink is set nothing is read. The sink must outlive the stream, or be cleared with nullptr.
  virtual void set_sink(StreamSink* sink) = 0;
  // Queues bytes; writes at once what the socket takes. `pending()` says what is left.
  virtual void write(std::string_view bytes) = 0;
  virtual void write_parts(std::span<const std::string_view> parts) = 0;  // one system call when possible; at most 8
  virtual std::size_t pending() const = 0;
  virtual std::uint64_t sent() const = 0;  // bytes the socket has taken since it opened: tells a stall from progress
  virtual void set_watermarks(std::size_t low, std::size_t high) = 0;  // default 16 KiB, 64 KiB
  virtual bool above_high() const = 0;
  virtual void pause_reading() = 0;   // while paused the peer feels back-pressure; on_hangup still comes
  virtual void resume_reading() = 0;
  virtual void finish() = 0;          // flush, then shut down the sending side
  virtual void close() = 0;           // now; no further calls to the sink
  virtual void reset() = 0;           // close with RST
  virtual Address peer() const = 0;
};

struct ListenOptions {
  int backlog = 4096;
  bool reuse_port = false;  // several loops, one listener each
};
class Listener {
 public:
  virtual ~Listener() = default;
  virtual Address address() const = 0;  // the real port when 0 was asked
  virtual void pause() = 0;             // stop accepting; connections stay in the backlog
  virtual void resume() = 0;
  virtual void close() = 0;
};
// Accepted streams are handed to `accept`. Running out of file descriptors pauses and retries; it never spins.
// kConflict "… is in use …; choose another with --listen" when the port is taken.
Result<std::unique_ptr<Listener>> listen(Loop& loop, const Address& address, const ListenOptions& options,
                                         std::function<void(std::shared_ptr<Stream>)> accept);

// Cancels its operation when destroyed.
class Pending {
 public:
  virtual ~Pending() = default;
};

// TCP (and TLS when `tls` is given; `host` is the SNI and certificate name) under one deadline.
struct ConnectOptions {
  Duration timeout = std::chrono::seconds(5);
  std::shared_ptr<TlsClientContext> tls;
  std::string host;
};
[[nodiscard]] std::unique_ptr<Pending> connect(Loop& loop, const Address& address, const ConnectOptions& options,
                                               std::function<void(Result<std::shared_ptr<Stream>>)> done);

// Every address of a name, system resolver, off the loop's thread; numeric hosts answer at once (still by callback).
[[nodiscard]] std::unique_ptr<Pending> resolve(Loop& loop, std::string host, std::uint16_t port, Duration timeout,
                                               std::function<void(Result<std::vector<Address>>)> done);

}  // namespace warmpath::io
