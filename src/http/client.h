// HttpClient: requests to engines over pooled keep-alive connections.
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

// Where to send: a resolved address; `host` goes into the Host header (and SNI with tls).
struct Origin {
  io::Address address;
  std::string host;
  std::shared_ptr<io::TlsClientContext> tls;
};

struct ClientTimeouts {
  Duration connect = std::chrono::seconds(5);
  Duration first_byte = std::chrono::seconds(120);  // request sent -> response head
  Duration idle = std::chrono::seconds(60);         // between body bytes
};

struct ClientRequest {
  std::string method = "GET";
  std::string target = "/";
  Headers headers;  // Host, Content-Length and Connection are set by the client
  std::shared_ptr<const std::string> body;  // may be null; shared so that a retry needs no copy
  ClientTimeouts timeouts;
};

// What happened, in order: on_head, on_body*, then exactly one of on_done or on_failed. Called on the loop's thread,
// never from inside start().
struct ResponseSink {
  virtual ~ResponseSink() = default;
  virtual void on_head(const ResponseHead& head) = 0;
  virtual void on_body(std::string_view bytes) = 0;
  virtual void on_done() = 0;
  // kUnavailable: could not connect; kUpstream: broke or nonsense; kTimeoutEngine. `head_seen` says whether on_head
  // was called; `sent` whether any byte of the request may have reached the engine.
  virtual void on_failed(const Error& error, bool head_seen, bool sent) = 0;
};

class ClientCall {
 public:
  virtual ~ClientCall() = default;  // destroying cancels
  virtual void cancel() = 0;        // closes the connection at once: the engine sees the hang-up; no further calls
  virtual void pause() = 0;         // stop reading the response (back-pressure)
  virtual void resume() = 0;
};

struct ClientOptions {
  std::size_t idle_per_origin_max = 64;
  Duration idle_max = std::chrono::seconds(4);  // below uvicorn's 5 s keep-alive
  Limits limits;                                // of response heads
  std::size_t whole_body_bytes_max = 8u << 20;  // fetch()
};

class HttpClient {
 public:
  virtual ~HttpClient() = default;
  static std::unique_ptr<HttpClient> create(io::Loop& loop, ClientOptions options);
  // A pooled connection that turns out closed before the first response byte is replaced by a fresh one silently,
  // once per pooled connection (uvicorn closes idle ones as we send).
  [[nodiscard]] virtual std::unique_ptr<ClientCall> start(const Origin& origin, ClientRequest request,
                                                          ResponseSink& sink) = 0;
  // The whole response under one deadline.
  struct Whole {
    ResponseHead head;
    std::string body;
  };
  [[nodiscard]] virtual std::unique_ptr<ClientCall> fetch(const Origin& origin, ClientRequest request,
                                                          Duration deadline,
                                                          std::function<void(Result<Whole>)> done) = 0;
  virtual void forget(const io::Address& address) = 0;  // closes idle connections to it
};

// "http://host:8000", "https://host/prefix": kInvalid with what is expected.
struct Url {
  bool tls = false;
  std::string host;  // without brackets
  std::uint16_t port = 80;
  std::string path;  // "" or "/prefix", no trailing slash
  std::string host_header() const;
  std::string text() const;
};
Result<Url> parse_url(std::string_view text);

}  // namespace warmpath::http
