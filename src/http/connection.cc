#include "http/connection.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace warmpath::http {
namespace {

constexpr Duration kLingerTime = std::chrono::seconds(2);
constexpr std::size_t kLingerBytesMax = 4u << 20;

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
    close_now();
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
      if (in_.empty()) return close_now();  // idle between requests, or never said a word
      return answer_error({ErrorKind::kTimeoutClient, "the request's head did not arrive in time"});
    case State::kBody:
      return answer_error({ErrorKind::kTimeoutClient, "the request's body did not arrive in time"});
    case State::kRespond: {
      const std::uint64_t sent = queued_bytes_ - stream_->pending();
      if (stream_->pending() > 0 && sent == sent_at_check_) return close_now();  // a client that reads nothing
      sent_at_check_ = sent;
      return arm(limits.write_stall);
    }
    case State::kLinger: return close_now();
    case State::kClosed: return;
  }
}

void Connection::on_data(std::string_view bytes) {
  const auto self = shared_from_this();
  if (state_ == State::kLinger) {
    lingered_bytes_ += bytes.size();
    if (lingered_bytes_ > kLingerBytesMax) close_now();
    return;
  }
  if (state_ == State::kHead && in_.empty()) arm(shared_->options.limits.head_timeout);
  in_ += bytes;
  if (state_ == State::kRespond) {
    if (in_.size() > shared_->options.limits.head_bytes_max) stream_->pause_reading();
    return;
  }
  advance();
}

void Connection::advance() {
  while (state_ == State::kHead || state_ == State::kBody) {
    if (state_ == State::kHead && !read_head()) return;
    if (state_ == State::kBody && !read_body()) return;
  }
}

bool Connection::keeps_alive(const RequestHead& head) const {
  if (shared_->draining || requests_ >= shared_->options.limits.requests_per_connection_max) return false;
  if (head.minor == 0) return has_token(head.headers, "connection", "keep-alive");
  return !has_token(head.headers, "connection", "close");
}

bool Connection::read_head() {
  const Limits& limits = shared_->options.limits;
  if (in_.empty()) return false;
  auto size = parse_request_head(in_, limits, head_, framing_);
  if (!size.ok()) {
    keep_alive_ = false;
    answer_error(size.error());
    return false;
  }
  if (*size == 0) return false;
  in_.erase(0, *size);
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
    if (in_.empty() && head_.minor == 1) stream_->write("HTTP/1.1 100 Continue\r\n\r\n");
  }
  body_.clear();
  body_reader_ = std::make_unique<BodyReader>(framing_);
  state_ = State::kBody;
  if (!body_reader_->done()) arm(limits.body_timeout);
  return true;
}

bool Connection::read_body() {
  std::string_view bytes = in_;
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
  in_.erase(0, in_.size() - bytes.size());
  if (!body_reader_->done()) return false;
  dispatch();
  return false;
}

void Connection::dispatch() {
  state_ = State::kRespond;
  body_reader_.reset();
  if (in_.empty()) in_ = std::string();
  sent_at_check_ = queued_bytes_ - stream_->pending();
  arm(shared_->options.limits.write_stall);
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
  linger();
}

// Closing with unread input would reset the connection and may destroy the answer on its way: read on for a moment.
void Connection::linger() {
  state_ = State::kLinger;
  in_ = std::string();
  stream_->finish();
  stream_->resume_reading();
  timer_.cancel();
  arm(kLingerTime);
}

void Connection::exchange_ended(bool keep_alive) {
  if (state_ != State::kRespond) return;
  exchange_.reset();
  if (!keep_alive || !keep_alive_ || shared_->draining) return linger();
  state_ = State::kHead;
  arm(in_.empty() ? shared_->options.limits.keep_alive : shared_->options.limits.head_timeout);
  stream_->resume_reading();
  if (in_.empty()) return;
  shared_->loop.post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->advance();
  });
}

void Connection::peer_gone() {
  const auto self = shared_from_this();
  close_now();
}

// FIN before the answer counts as a client that left (as nginx and HAProxy's abortonclose take it): an engine computing
// for nobody is dearer than a client that half-closes.
void Connection::on_hangup() {
  if (state_ == State::kRespond && in_.empty()) peer_gone();
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

void ServerExchange::send(std::span<const std::string_view> parts) {
  for (const std::string_view part : parts) connection_->queued_bytes_ += part.size();
  connection_->stream_->write_parts(parts);
}

void ServerExchange::respond(int status, Headers headers, std::string_view body) {
  WP_CHECK(!started_ && !ended_);
  if (!connection_) return;
  const bool bodiless = status == 204 || status == 304;
  const std::string text =
      head_text(status, std::move(headers), bodiless ? Framing{} : Framing{Framing::Kind::kLength, body.size()});
  const std::array<std::string_view, 2> parts{text, head_.method == "HEAD" || bodiless ? std::string_view{} : body};
  send(parts);
  finish_exchange();
}

void ServerExchange::start(int status, Headers headers, std::optional<std::uint64_t> length) {
  WP_CHECK(!started_ && !ended_);
  if (!connection_) return;
  Framing framing{Framing::Kind::kChunked, 0};
  if (length) {
    framing = {Framing::Kind::kLength, *length};
  } else if (head_.minor == 0) {
    framing = {Framing::Kind::kUntilClose, 0};
  }
  const std::string text = head_text(status, std::move(headers), framing);
  const std::array<std::string_view, 1> parts{text};
  send(parts);
}

void ServerExchange::write(std::string_view bytes) {
  if (!connection_ || bytes.empty()) return;
  WP_CHECK(started_ && !ended_);
  if (head_.method == "HEAD") return;
  if (framing_.kind != Framing::Kind::kChunked) {
    if (framing_.kind == Framing::Kind::kLength) {
      WP_CHECK(bytes.size() <= left_);
      left_ -= bytes.size();
    }
    send({&bytes, 1});
    return;
  }
  char size_line[20];
  char* end = std::to_chars(size_line, size_line + 17, bytes.size(), 16).ptr;
  *end++ = '\r';
  *end++ = '\n';
  const std::array<std::string_view, 3> parts{std::string_view(size_line, static_cast<std::size_t>(end - size_line)),
                                              bytes, "\r\n"};
  send(parts);
}

void ServerExchange::end() {
  if (!connection_) return;
  WP_CHECK(started_ && !ended_);
  if (head_.method != "HEAD") {
    if (framing_.kind == Framing::Kind::kLength && left_ > 0) return abort();
    const std::string_view last = "0\r\n\r\n";
    if (framing_.kind == Framing::Kind::kChunked) send({&last, 1});
  }
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
