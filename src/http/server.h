// HttpListener: accepts connections, reads whole requests under limits, hands out Exchanges.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/base.h"
#include "http/message.h"
#include "io/io.h"

namespace warmpath::http {

// One request and its response. Held by shared_ptr; when the client is gone, writes are dropped silently.
// Exactly one of: respond(), or start() then write()* then end(), or abort().
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const RequestHead& head() const = 0;
  virtual const std::string& body() const = 0;  // whole, decoded
  virtual std::string take_body() = 0;
  virtual io::Address client() const = 0;
  virtual Instant received_at() const = 0;  // last byte of the request

  virtual void respond(int status, Headers headers, std::string_view body) = 0;
  // Chunked unless `length` is given (or until-close towards HTTP/1.0).
  virtual void start(int status, Headers headers, std::optional<std::uint64_t> length) = 0;
  virtual void write(std::string_view bytes) = 0;
  virtual void end() = 0;
  virtual void abort() = 0;  // closes the connection: the client sees a broken body

  virtual bool started() const = 0;      // a head was sent
  virtual bool gone() const = 0;         // client hung up
  virtual bool above_high() const = 0;   // output queue above its watermark: stop feeding
  virtual void on_gone(std::function<void()> call) = 0;
  virtual void on_drained(std::function<void()> call) = 0;
};

// Writes the answer to what could not even be parsed (so that errors have the API's form). Returns body and sets
// content type in headers.
using ErrorWriter = std::function<std::string(const Error& error, int& status, Headers& headers)>;

struct ServerOptions {
  Limits limits;
  io::ListenOptions listen;
  ErrorWriter errors;  // required
};

struct ServerCounters {
  std::uint64_t connections_open = 0;
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_refused = 0;  // above connections_max
  std::uint64_t requests = 0;
  std::uint64_t requests_malformed = 0;
};

class HttpListener {
 public:
  virtual ~HttpListener() = default;
  // `serve` gets every complete request. A request whose declared body is above the limit is answered 413 without
  // reading it. Expect: 100-continue is honoured.
  static Result<std::unique_ptr<HttpListener>> open(io::Loop& loop, const io::Address& address, ServerOptions options,
                                                    std::function<void(std::shared_ptr<Exchange>)> serve);
  virtual io::Address address() const = 0;
  virtual ServerCounters counters() const = 0;
  // Stops accepting, closes idle connections, lets running exchanges end (with Connection: close); `done` when none.
  virtual void drain(std::function<void()> done) = 0;
};

}  // namespace warmpath::http
