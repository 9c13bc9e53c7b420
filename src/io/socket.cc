#include "io/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace warmpath::io {
namespace {

constexpr std::size_t kPartsMax = 8;
constexpr int kReadsATurn = 8;  // 512 KiB, then the other connections

}  // namespace

Socket::Socket(Loop& loop, int fd, Address peer) : loop_(loop.impl().shared_from_this()), fd_(fd), peer_(std::move(peer)) {
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Socket::~Socket() { close(); }

void Socket::open(bool connected, std::unique_ptr<TlsSession> session, std::function<void(Result<void>)> ready) {
  tls_ = std::move(session);
  ready_ = std::move(ready);
  state_ = connected ? (tls_ ? State::kHandshaking : State::kOpen) : State::kConnecting;
  id_ = loop_->add(fd_, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this);
}

void Socket::opened(Result<void> result) {
  if (result.ok()) state_ = State::kOpen;
  if (ready_) std::exchange(ready_, nullptr)(std::move(result));
}

void Socket::advance_opening() {
  if (state_ == State::kConnecting) {
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      opened(Error{ErrorKind::kUnavailable, system_message("connect to " + peer_.text(), error)});
      return;
    }
    if (!tls_) {
      opened({});
      return;
    }
    state_ = State::kHandshaking;
  }
  std::string why;
  switch (tls_->handshake(why)) {
    case TlsSession::Step::kAgain: return;
    case TlsSession::Step::kDone: opened({}); return;
    case TlsSession::Step::kFailed:
      opened(Error{ErrorKind::kUnavailable, peer_.text() + ": " + why});
      return;
  }
}

void Socket::on_events(std::uint32_t events) {
  const auto self = shared_from_this();  // a callback may let go of the last other owner
  if (state_ == State::kConnecting || state_ == State::kHandshaking) {
    if (state_ == State::kConnecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return;
    advance_opening();
    if (state_ != State::kOpen) return;
    readable_ = true;  // what came during the handshake has no edge of its own
  }
  if (state_ != State::kOpen) return;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & EPOLLOUT) != 0 || tls_) flush();
  if (state_ != State::kOpen || dropped()) return;
  if (peer_finished_) note_hangup();
  if (state_ == State::kOpen && readable_ && !paused_) read_some();
}

// A callback let go of the stream: only the caller's own reference is left, and the sink may be gone.
bool Socket::dropped() const { return weak_from_this().use_count() <= 1; }

void Socket::note_hangup() {
  if (hangup_told_ || sink_ == nullptr) return;
  hangup_told_ = true;
  sink_->on_hangup();
}

void Socket::set_sink(StreamSink* sink) {
  sink_ = sink;
  if (sink_ != nullptr && state_ == State::kOpen && !paused_) read_later();
}

void Socket::set_watermarks(std::size_t low, std::size_t high) {
  low_ = low;
  high_ = high;
}

void Socket::resume_reading() {
  paused_ = false;
  if (readable_) read_later();
}

void Socket::read_later() {
  if (read_posted_) return;
  read_posted_ = true;
  loop_->post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->read_posted_ = false;
    if (self->state_ != State::kOpen || self->sink_ == nullptr) return;
    if (self->peer_finished_) self->note_hangup();
    if (self->state_ == State::kOpen && self->readable_ && !self->paused_) self->read_some();
  });
}

void Socket::read_some() {
  std::string& buffer = loop_->read_buffer;
  for (int round = 0; round < kReadsATurn; ++round) {
    if (sink_ == nullptr || paused_ || end_told_ || state_ != State::kOpen || dropped()) return;
    std::string why;
    ssize_t got = 0;
    if (tls_) {
      got = tls_->read(buffer.data(), buffer.size(), why);
      if (got == -2) return fail({ErrorKind::kUpstream, peer_.text() + ": " + why});
    } else {
      got = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        return fail({ErrorKind::kUpstream, system_message("read from " + peer_.text(), errno)});
      }
    }
    if (got < 0) {
      readable_ = false;
      return;
    }
    if (got == 0) {
      readable_ = false;
      end_told_ = true;
      note_hangup();
      if (state_ == State::kOpen && sink_ != nullptr && !dropped()) sink_->on_end();
      return;
    }
    // Less than asked: the socket is empty, unless its end is behind it. TLS keeps decrypted bytes of its own.
    const bool emptied = !tls_ && static_cast<std::size_t>(got) < buffer.size() && !peer_finished_;
    if (emptied) readable_ = false;
    sink_->on_data({buffer.data(), static_cast<std::size_t>(got)});
    if (emptied) return;
  }
  if (state_ == State::kOpen && readable_) read_later();
}

ssize_t Socket::send_parts(std::span<const std::string_view> parts, std::string& why) {
  if (tls_) {
    ssize_t sent = 0;
    for (const std::string_view part : parts) {
      std::string_view left = part;
      while (!left.empty()) {
        const ssize_t put = tls_->write(left, why);
        if (put == -2) return -1;
        if (put < 0) return sent;
        sent += put;
        left.remove_prefix(static_cast<std::size_t>(put));
      }
    }
    return sent;
  }
  std::array<iovec, kPartsMax> vectors{};
  std::size_t count = 0;
  for (const std::string_view part : parts) {
    if (part.empty()) continue;
    vectors[count++] = {const_cast<char*>(part.data()), part.size()};
  }
  if (count == 0) return 0;
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = count;
  for (;;) {
    const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    why = system_message("write to " + peer_.text(), errno);
    return -1;
  }
}

void Socket::write_parts(std::span<const std::string_view> parts) {
  WP_CHECK(parts.size() <= kPartsMax);
  if (state_ != State::kOpen || failed_ || finishing_) return;
  std::size_t sent = 0;
  if (pending() == 0) {
    std::string why;
    const ssize_t put = send_parts(parts, why);
    if (put < 0) return fail_later({ErrorKind::kUpstream, std::move(why)});
    sent = static_cast<std::size_t>(put);
    sent_ += sent;
  }
  for (std::string_view part : parts) {
    const std::size_t skip = std::min(sent, part.size());
    sent -= skip;
    part.remove_prefix(skip);
    out_ += part;
  }
  if (pending() > high_) above_high_ = true;
}

void Socket::flush() {
  if (pending() == 0) return;
  std::string why;
  const std::string_view left = std::string_view(out_).substr(out_sent_);
  const ssize_t put = send_parts({&left, 1}, why);
  if (put < 0) return fail({ErrorKind::kUpstream, std::move(why)});
  out_sent_ += static_cast<std::size_t>(put);
  sent_ += static_cast<std::uint64_t>(put);
  sent_some();
}

void Socket::sent_some() {
  if (pending() == 0) {
    out_sent_ = 0;
    // An idle connection holds no buffer.
    if (out_.capacity() > 4096) {
      out_ = std::string();
    } else {
      out_.clear();
    }
    if (finishing_) {
      if (tls_) tls_->shut_down();
      ::shutdown(fd_, SHUT_WR);
    }
  } else if (out_sent_ > (64u << 10) && out_sent_ > out_.size() / 2) {
    out_.erase(0, out_sent_);
    out_sent_ = 0;
  }
  if (above_high_ && pending() <= low_) {
    above_high_ = false;
    if (sink_ != nullptr) sink_->on_drained();
  }
}

void Socket::finish() {
  if (state_ != State::kOpen || finishing_) return;
  finishing_ = true;
  if (pending() == 0) sent_some();
}

void Socket::close() {
  if (state_ == State::kClosed) return;
  if (state_ != State::kNew) loop_->remove(fd_, id_);
  state_ = State::kClosed;
  sink_ = nullptr;
  ready_ = nullptr;
  if (tls_) tls_->shut_down();
  tls_.reset();
  ::close(fd_);
  out_ = std::string();
  out_sent_ = 0;
}

void Socket::reset() {
  if (state_ == State::kClosed) return;
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  tls_.reset();
  close();
}

void Socket::fail(Error why) {
  StreamSink* sink = sink_;
  failed_ = true;
  close();
  if (sink != nullptr) sink->on_closed(why);
}

void Socket::fail_later(Error why) {
  failed_ = true;
  loop_->post([weak = weak_from_this(), why = std::move(why)] {
    const auto self = weak.lock();
    if (self && self->state_ == State::kOpen) self->fail(why);
  });
}

}  // namespace warmpath::io
