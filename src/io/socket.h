// Private to io: the one Stream, over TCP or TLS.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "io/reactor.h"
#include "io/stream.h"
#include "io/tls_session.h"

namespace warmpath::io {

// Edge-triggered: registered once, no system call to change interest. A read that filled less than its buffer has
// emptied the socket, so a relayed chunk costs one epoll_wait, one recv and one send.
class Socket final : public Stream, public Source, public std::enable_shared_from_this<Socket> {
 public:
  Socket(Loop& loop, int fd, Address peer);
  ~Socket() override;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // `ready` once connected (and the TLS handshake is through), or why not. With a session the handshake starts.
  void open(bool connected, std::unique_ptr<TlsSession> session, std::function<void(Result<void>)> ready);

  void set_sink(StreamSink* sink) override;
  void write(std::string_view bytes) override { write_parts({&bytes, 1}); }
  void write_parts(std::span<const std::string_view> parts) override;
  std::size_t pending() const override { return out_.size() - out_sent_; }
  std::uint64_t sent() const override { return sent_; }
  void set_watermarks(std::size_t low, std::size_t high) override;
  bool above_high() const override { return above_high_; }
  void pause_reading() override { paused_ = true; }
  void resume_reading() override;
  void finish() override;
  void close() override;
  void reset() override;
  Address peer() const override { return peer_; }

  void on_events(std::uint32_t events) override;

 private:
  enum class State : std::uint8_t { kNew, kConnecting, kHandshaking, kOpen, kClosed };
  void advance_opening();
  void opened(Result<void> result);
  void read_some();
  void flush();
  void sent_some();
  void note_hangup();
  bool dropped() const;
  void fail(Error why);
  void fail_later(Error why);
  void read_later();
  // Bytes sent (0: would block), or -1 with errno-like failure in `why`.
  ssize_t send_parts(std::span<const std::string_view> parts, std::string& why);

  std::shared_ptr<Loop::Impl> loop_;
  int fd_;
  SourceId id_;
  Address peer_;
  State state_ = State::kNew;
  std::unique_ptr<TlsSession> tls_;
  std::function<void(Result<void>)> ready_;
  StreamSink* sink_ = nullptr;
  std::string out_;
  std::size_t out_sent_ = 0;
  std::uint64_t sent_ = 0;
  std::size_t low_ = 16u << 10;
  std::size_t high_ = 64u << 10;
  bool above_high_ = false;
  bool paused_ = false;
  bool readable_ = false;      // an edge came that was not read to its end
  bool peer_finished_ = false;  // RDHUP seen: read until 0
  bool hangup_told_ = false;
  bool end_told_ = false;
  bool finishing_ = false;
  bool failed_ = false;
  bool read_posted_ = false;
};

}  // namespace warmpath::io
