#include "http/connection.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace warmpath::http {
namespace {

constexpr Duration kLingerTime = std::chrono::seconds(2);
constexpr std::size_t kLingerBytesMax = 4u << 20;
constexpr int kRequestsATurn = 32;                      // of one client that pipelines
constexpr std::size_t kBodyReserveBytesMax = 1u << 20;  // a declared length is a claim, not memory

bool has_token(const Headers& headers, std::string_view name, std::string_view token) {
  for (const Header& header : headers.all()) {
    if (!equals_ignoring_case(header.name, name)) continue;
    for (const std::string_view part : split(header.value, ',')) {
      if (equals_ignoring_case(trim(part), token)) return true;
    }
  }
  return false;
}

}  // namespace

Connection::Connection(std::shared_ptr<ListenerShared> shared, std::shared_ptr<io::Stream> stream)
    : shared_(std::move(shared)), stream_(std::move(stream)) {}

Connection::~Connection() {
  stream_->set_sink(nullptr);
  stream_->close();
}

void Connection::open() {
  arm(shared_->options.limits.head_timeout);
  stream_->set_sink(this);
}

void Connection::refuse() {
  stream_->set_sink(this);
  keep_alive_ = false;
  answer_error({ErrorKind::kUnavailable,
                "too many connections: this listener takes " +
                    std::to_string(shared_->options.limits.connections_max) + "; try again later"});
}

void Connection::drain() {
  if (state_ == State::kHead && in_.empty()) {
    if (stream_->pending() == 0) return close_now();
    linger();  // the last answer is still on its way
  } else {
    keep_alive_ = false;
    if (const auto exchange = exchange_.lock()) exchange->keep_alive_ = false;
  }
}

void Connection::close_now() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  timer_.cancel();
  stream_->set_sink(nullptr);
  stream_->close();
  if (const auto exchange = exchange_.lock()) exchange->lose_connection();
  shared_->closed(this);
}

void Connection::arm(Duration delay) {
  deadline_ = shared_->loop.now() + delay;
  if (timer_.armed() && armed_for_ <= deadline_) return;
  armed_for_ = deadline_;
  timer_ = shared_->loop.after(delay, [this] { deadline_passed(); });
}

void Connection::deadline_passed() {
  const auto self = shared_from_this();
  const Instant now = shared_->loop.now();
  if (now < deadline_) {
    armed_for_ = deadline_;
    timer_ = shared_->loop.after(deadline_ - now, [this] { deadline_passed(); });
    return;
  }
  const Limits& limits = shared_->options.limits;
  switch (state_) {
    case State::kHead:
      if (stream_->pending() > 0) return watch_output(limits.write_stall);
      if (in_.empty()) return close_now();  // idle between requests, or never said a word
      return answer_error({ErrorKind::kTimeoutClient, "the request's head did not arrive in time"});
    case State::kBody:
      return answer_error({ErrorKind::kTimeoutClient, "the request's body did not arrive in time"});
    case State::kRespond: return watch_output(limits.write_stall);
    case State::kLinger:
      if (stream_->pending() > 0) return watch_output(kLingerTime);
      return close_now();
    case State::kClosed: return;
  }
}

// A client that takes nothing for write_stall is cut off; one that reads slowly is not.
void Connection::watch_output(Duration period) {
  const Duration write_stall = shared_->options.limits.write_stall;
  const Instant now = shared_->loop.now();
  if (stream_->pending() == 0 || stream_->sent() != sent_at_check_) {
    sent_at_check_ = stream_->sent();
    moved_at_ = now;
  } else if (now - moved_at_ >= write_stall) {
    return close_now();
  }
  arm(std::min(period, write_stall));
}

void Connection::on_data(std::string_view bytes) {
  const auto self = shared_from_this();
  if (state_ == State::kLinger) {
    lingered_bytes_ += bytes.size();
    if (lingered_bytes_ > kLingerBytesMax) close_now();
    return;
  }
  if (state_ == State::kRespond) {
    in_ += bytes;
    if (in_.size() > shared_->options.limits.head_bytes_max) stream_->pause_reading();
    return;
  }
  take_input(bytes);
}

// Mostly a whole request stands in `bytes`: it is parsed where it lies, and only what is left over is kept.
void Connection::take_input(std::string_view bytes) {
  if (in_.empty()) {
    consume(bytes);
    if (state_ != State::kLinger && state_ != State::kClosed) in_ = bytes;
  } else {
    std::string held = std::move(in_);
    in_.clear();
    held += bytes;
    std::string_view rest = held;
    consume(rest);
    if (state_ != State::kLinger && state_ != State::kClosed) {
      held.erase(0, held.size() - rest.size());
      in_ = std::move(held);
    }
  }
  if (in_.empty()) {
    in_ = std::string();
  } else if (state_ == State::kHead && !head_began_) {
    head_began_ = true;
    arm(shared_->options.limits.head_timeout);
  }
}

void Connection::consume(std::string_view& bytes) {
  consuming_ = true;
  int budget = kRequestsATurn;
  while (state_ == State::kHead || state_ == State::kBody) {
    if (state_ == State::kHead) {
      if (budget-- == 0) {
        shared_->loop.post([weak = weak_from_this()] {
          const auto self = weak.lock();
          if (self && self->state_ == State::kHead) self->take_input({});
        });
        break;
      }
      if (!read_head(bytes)) break;
    }
    if (!read_body(bytes)) break;
  }
  consuming_ = false;
}

bool Connection::keeps_alive(const RequestHead& head) const {
  if (shared_->draining || requests_ >= shared_->options.limits.requests_per_connection_max) return false;
  if (head.minor == 0) return has_token(head.headers, "connection", "keep-alive");
  return !has_token(head.headers, "connection", "close");
}

bool Connection::read_head(std::string_view& bytes) {
  const Limits& limits = shared_->options.limits;
  if (bytes.empty()) return false;
  head_request_ = false;
  auto size = parse_request_head(bytes, limits, head_, framing_);
  if (!size.ok()) {
    keep_alive_ = false;
    answer_error(size.error());
    return false;
  }
  if (*size == 0) return false;
  bytes.remove_prefix(*size);
  head_began_ = false;
  ++requests_;
  keep_alive_ = keeps_alive(head_);
  head_request_ = head_.method == "HEAD";
  if (framing_.kind == Framing::Kind::kLength && framing_.length > limits.body_bytes_max) {
    answer_error({ErrorKind::kTooLarge, "the body has " + std::to_string(framing_.length) + " bytes; at most " +
                                            std::to_string(limits.body_bytes_max) + " are taken"});
    return false;
  }
  if (const std::string* expect = head_.headers.find("expect")) {
    if (!equals_ignoring_case(*expect, "100-continue")) {
      answer_error({ErrorKind::kInvalid, "only Expect: 100-continue is understood"});
      return false;
    }
    if (bytes.empty() && head_.minor == 1 && framing_.kind != Framing::Kind::kNone) {
      stream_->write("HTTP/1.1 100 Continue\r\n\r\n");
    }
  }
  body_.clear();
  if (framing_.kind == Framing::Kind::kLength) {
    body_.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(framing_.length, kBodyReserveBytesMax)));
  }
  body_reader_.emplace(framing_);
  state_ = State::kBody;
  if (!body_reader_->done()) arm(limits.body_timeout);
  return true;
}

// True when the request was answered at once and the next one may be read.
bool Connection::read_body(std::string_view& bytes) {
  while (!body_reader_->done() && !bytes.empty()) {
    auto piece = body_reader_->feed(bytes);
    if (!piece.ok()) {
      answer_error(piece.error());
      return false;
    }
    if (body_.size() + piece->size() > shared_->options.limits.body_bytes_max) {
      answer_error({ErrorKind::kTooLarge, "the body is larger than " +
                                              std::to_string(shared_->options.limits.body_bytes_max) + " bytes"});
      return false;
    }
    body_ += *piece;
  }
  if (!body_reader_->done()) return false;
  dispatch();
  return state_ == State::kHead;
}

void Connection::dispatch() {
  state_ = State::kRespond;
  body_reader_.reset();
  sent_at_check_ = stream_->sent();
  arm(shared_->options.limits.write_stall);
  moved_at_ = deadline_ - shared_->options.limits.write_stall;
  ++shared_->counters.requests;
  auto exchange =
      std::make_shared<ServerExchange>(shared_from_this(), std::move(head_), std::move(body_), keep_alive_);
  head_ = {};
  body_ = {};
  exchange_ = exchange;
  shared_->serve(std::move(exchange));
}

void Connection::answer_error(const Error& error) {
  ++shared_->counters.requests_malformed;
  int status = 400;
  ResponseHead head;
  const std::string body = shared_->options.errors(error, status, head.headers);
  head.status = status;
  head.headers.set("Connection", "close");
  const std::string text = write_response_head(head, {Framing::Kind::kLength, body.size()});
  const std::array<std::string_view, 2> parts{text, head_request_ ? std::string_view{} : std::string_view(body)};
  stream_->write_parts(parts);
  body_ = {};
  body_reader_.reset();
  linger();
}

// Closing with unread input would reset the connection and may destroy the answer on its way: read on for a moment.
void Connection::linger() {
  state_ = State::kLinger;
  in_ = std::string();
  stream_->finish();
  stream_->resume_reading();
  sent_at_check_ = stream_->sent();
  moved_at_ = shared_->loop.now();
  arm(kLingerTime);
}

void Connection::exchange_ended(bool keep_alive) {
  if (state_ != State::kRespond) return;
  exchange_.reset();
  if (!keep_alive || !keep_alive_ || shared_->draining) return linger();
  state_ = State::kHead;
  arm(shared_->options.limits.keep_alive);
  stream_->resume_reading();
  if (in_.empty() || consuming_) return;
  shared_->loop.post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && self->state_ == State::kHead) self->take_input({});
  });
}

void Connection::peer_gone() {
  const auto self = shared_from_this();
  close_now();
}

// FIN before the answer counts as a client that left (as nginx and HAProxy's abortonclose take it): an engine computing
// for nobody is dearer than a client that half-closes.
void Connection::on_hangup() {
  if (state_ == State::kRespond) peer_gone();
}

void Connection::on_end() { peer_gone(); }

void Connection::on_drained() {
  if (const auto exchange = exchange_.lock()) exchange->drained();
}

void Connection::on_closed(const Error&) { peer_gone(); }

ServerExchange::ServerExchange(std::shared_ptr<Connection> connection, RequestHead head, std::string body,
                               bool keep_alive)
    : connection_(std::move(connection)),
      head_(std::move(head)),
      body_(std::move(body)),
      client_(connection_->stream_->peer()),
      received_at_(connection_->shared_->loop.now()),
      keep_alive_(keep_alive) {}

ServerExchange::~ServerExchange() {
  if (connection_ && !ended_) connection_->close_now();
}

std::string ServerExchange::head_text(int status, Headers headers, const Framing& framing) {
  started_ = true;
  framing_ = framing;
  left_ = framing.length;
  headers.remove("connection");
  if (!keep_alive_ || framing.kind == Framing::Kind::kUntilClose) {
    keep_alive_ = false;
    headers.add("Connection", "close");
  } else if (head_.minor == 0) {
    headers.add("Connection", "keep-alive");
  }
  ResponseHead head;
  head.status = status;
  head.headers = std::move(headers);
  return write_response_head(head, framing);
}

void ServerExchange::send(std::string_view first, std::string_view second, std::string_view third) {
  const std::array<std::string_view, 4> parts{held_head_, first, second, third};
  connection_->stream_->write_parts(parts);
  held_head_ = std::string();
}

void ServerExchange::flush_head() {
  if (connection_ && !held_head_.empty()) send({});
}

void ServerExchange::respond(int status, Headers headers, std::string_view body) {
  WP_CHECK(!started_ && !ended_);
  if (!connection_) return;
  const bool bodiless = status == 204 || status == 304;
  held_head_ = head_text(status, std::move(headers), bodiless ? Framing{} : Framing{Framing::Kind::kLength, body.size()});
  send(head_.method == "HEAD" || bodiless ? std::string_view{} : body);
  finish_exchange();
}

void ServerExchange::start(int status, Headers headers, std::optional<std::uint64_t> length) {
  WP_CHECK(!started_ && !ended_);
  if (!connection_) return;
  Framing framing{Framing::Kind::kChunked, 0};
  if (status == 204 || status == 304) {
    framing = {};
  } else if (length) {
    framing = {Framing::Kind::kLength, *length};
  } else if (head_.minor == 0) {
    framing = {Framing::Kind::kUntilClose, 0};
  }
  held_head_ = head_text(status, std::move(headers), framing);
  // A whole answer that was relayed in one turn leaves in one system call; a stream's head waits for nothing else.
  connection_->shared_->loop.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->flush_head();
  });
}

void ServerExchange::write(std::string_view bytes) {
  if (!connection_ || bytes.empty()) return;
  WP_CHECK(started_ && !ended_);
  if (head_.method == "HEAD" || framing_.kind == Framing::Kind::kNone) return;
  if (framing_.kind != Framing::Kind::kChunked) {
    if (framing_.kind == Framing::Kind::kLength) {
      WP_CHECK(bytes.size() <= left_);
      left_ -= bytes.size();
    }
    return send(bytes);
  }
  char size_line[20];
  char* end = std::to_chars(size_line, size_line + 17, bytes.size(), 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  send({size_line, static_cast<std::size_t>(end - size_line)}, bytes, "\r\n");
}

void ServerExchange::end() {
  if (!connection_) return;
  WP_CHECK(started_ && !ended_);
  if (head_.method != "HEAD") {
    if (framing_.kind == Framing::Kind::kLength && left_ > 0) return abort();
    if (framing_.kind == Framing::Kind::kChunked) send("0\r\n\r\n");
  }
  flush_head();
  finish_exchange();
}

void ServerExchange::finish_exchange() {
  ended_ = true;
  gone_call_ = nullptr;
  drained_call_ = nullptr;
  const auto connection = std::move(connection_);
  connection->exchange_ended(keep_alive_);
}

void ServerExchange::abort() {
  if (!connection_) return;
  flush_head();
  ended_ = true;
  gone_call_ = nullptr;
  drained_call_ = nullptr;
  const auto connection = std::move(connection_);
  connection->exchange_.reset();
  connection->close_now();
}

bool ServerExchange::above_high() const { return connection_ && connection_->stream_->above_high(); }

void ServerExchange::lose_connection() {
  connection_.reset();
  drained_call_ = nullptr;
  if (gone_call_) std::exchange(gone_call_, nullptr)();
}

void ServerExchange::drained() {
  if (drained_call_) drained_call_();
}

}  // namespace warmpath::http
