#include <algorithm>
#include <array>
#include <deque>
#include <unordered_map>
#include <utility>

#include "http/client.h"
#include "http/parser.h"

namespace warmpath::http {
namespace {

constexpr int kInformationalMax = 8;
constexpr Duration kSweepInterval = std::chrono::seconds(1);

class Pool;
class Call;

// One connection to an engine, running a call or idle in the pool.
class EngineConnection final : public io::StreamSink, public std::enable_shared_from_this<EngineConnection> {
 public:
  EngineConnection(Pool& pool, std::string key, std::shared_ptr<io::Stream> stream)
      : pool_(pool), key_(std::move(key)), stream_(std::move(stream)) {
    stream_->set_sink(this);
  }
  ~EngineConnection() override {
    stream_->set_sink(nullptr);
    stream_->close();
  }

  void attach(std::shared_ptr<Call> call);
  void close() {
    stream_->set_sink(nullptr);
    stream_->close();
    call_.reset();
  }
  io::Stream& stream() { return *stream_; }
  const std::string& key() const { return key_; }

  void on_data(std::string_view bytes) override;
  void on_end() override;
  void on_drained() override {}
  void on_closed(const Error& why) override;

  Instant idle_since;
  bool used_before = false;  // it has carried a call: it may be stale

 private:
  void broken(const Error& why);
  Pool& pool_;
  std::string key_;
  std::shared_ptr<io::Stream> stream_;
  std::shared_ptr<Call> call_;
};

// The state of one request, shared by its handle and its connection.
class Call final : public std::enable_shared_from_this<Call> {
 public:
  Call(Pool& pool, Origin origin, ClientRequest request, ResponseSink& sink)
      : pool_(pool), origin_(std::move(origin)), request_(std::move(request)), sink_(&sink) {}

  void begin();
  void cancel();
  void pause() {
    if (connection_) connection_->stream().pause_reading();
    paused_ = true;
  }
  void resume() {
    paused_ = false;
    if (connection_) connection_->stream().resume_reading();
    if (head_seen_ && !over()) arm(request_.timeouts.idle);
  }

  void feed(std::string_view bytes);
  Result<std::string_view> decode(std::string_view& bytes);
  void ended();                       // the engine sent FIN
  void broken(const Error& why);      // the connection failed
  bool over() const { return sink_ == nullptr; }

 private:
  void connect();
  void send_on(std::shared_ptr<EngineConnection> connection);
  bool read_head(std::string_view& bytes);
  void finish();
  void fail(const Error& error);
  void arm(Duration delay);
  void deadline_passed();
  bool try_again();
  void drop_connection();

  Pool& pool_;
  Origin origin_;
  ClientRequest request_;
  ResponseSink* sink_;  // null: finished, failed or cancelled
  std::unique_ptr<io::Pending> connecting_;
  std::shared_ptr<EngineConnection> connection_;
  std::string head_bytes_;
  ResponseHead head_;
  std::unique_ptr<BodyReader> reader_;
  int informational_ = 0;
  bool any_byte_ = false;
  bool head_seen_ = false;
  bool sent_ = false;
  bool retried_ = false;
  bool paused_ = false;
  bool keep_alive_ = true;
  io::Timer timer_;
  Instant deadline_;
  Instant armed_for_;
};

class Pool final : public HttpClient {
 public:
  Pool(io::Loop& loop, ClientOptions options) : loop_(loop), options_(std::move(options)) {}
  ~Pool() override { WP_CHECK(calls_ == 0); }

  std::unique_ptr<ClientCall> start(const Origin& origin, ClientRequest request, ResponseSink& sink) override;
  std::unique_ptr<ClientCall> fetch(const Origin& origin, ClientRequest request, Duration deadline,
                                    std::function<void(Result<Whole>)> done) override;
  void forget(const io::Address& address) override {
    const std::string prefix = address.text() + "|";
    std::erase_if(idle_, [&](const auto& entry) { return entry.first.starts_with(prefix); });
  }

  static std::string key_of(const Origin& origin) {
    std::string key = origin.address.text() + "|";
    if (origin.tls) key += origin.host + "|" + std::to_string(reinterpret_cast<std::uintptr_t>(origin.tls.get()));
    return key;
  }

  std::shared_ptr<EngineConnection> take_idle(const std::string& key) {
    const auto it = idle_.find(key);
    if (it == idle_.end() || it->second.empty()) return nullptr;
    if (it->second.back()->idle_since <= loop_.now() - options_.idle_max) return nullptr;  // the sweep takes it
    auto connection = std::move(it->second.back());  // the most recent: least likely stale
    it->second.pop_back();
    return connection;
  }

  void put_idle(std::shared_ptr<EngineConnection> connection) {
    auto& line = idle_[connection->key()];
    connection->idle_since = loop_.now();
    connection->used_before = true;
    if (line.size() >= options_.idle_per_origin_max) line.pop_front();
    line.push_back(std::move(connection));
    if (!sweep_.armed()) sweep_ = loop_.after(kSweepInterval, [this] { sweep(); });
  }

  void remove_idle(EngineConnection* connection) {
    const auto it = idle_.find(connection->key());
    if (it == idle_.end()) return;
    std::erase_if(it->second, [&](const auto& one) { return one.get() == connection; });
  }

  io::Loop& loop() { return loop_; }
  std::string& join_buffer() { return join_; }
  const ClientOptions& options() const { return options_; }
  void call_began() { ++calls_; }
  void call_gone() { --calls_; }

 private:
  void sweep() {
    const Instant oldest = loop_.now() - options_.idle_max;
    bool any = false;
    for (auto& [key, line] : idle_) {
      while (!line.empty() && line.front()->idle_since <= oldest) line.pop_front();
      any = any || !line.empty();
    }
    std::erase_if(idle_, [](const auto& entry) { return entry.second.empty(); });
    if (any) sweep_ = loop_.after(kSweepInterval, [this] { sweep(); });
  }

  io::Loop& loop_;
  ClientOptions options_;
  std::unordered_map<std::string, std::deque<std::shared_ptr<EngineConnection>>> idle_;
  io::Timer sweep_;
  std::string join_;  // at most one read of a stream
  std::size_t calls_ = 0;
};

// The handle that the user holds. Calls do not outlive the client.
class Handle final : public ClientCall {
 public:
  Handle(Pool& pool, std::shared_ptr<Call> call) : pool_(pool), call_(std::move(call)) { pool_.call_began(); }
  ~Handle() override {
    call_->cancel();
    pool_.call_gone();
  }
  void cancel() override { call_->cancel(); }
  void pause() override { call_->pause(); }
  void resume() override { call_->resume(); }

 private:
  Pool& pool_;
  std::shared_ptr<Call> call_;
};

void EngineConnection::attach(std::shared_ptr<Call> call) { call_ = std::move(call); }

void EngineConnection::on_data(std::string_view bytes) {
  const auto self = shared_from_this();
  if (!call_) return broken({ErrorKind::kUpstream, "bytes without a request"});
  const auto call = call_;
  call->feed(bytes);
  if (call->over() && call_ == call) call_.reset();
}

void EngineConnection::on_end() {
  const auto self = shared_from_this();
  if (!call_) return broken({ErrorKind::kUpstream, "closed while idle"});
  const auto call = call_;
  call->ended();
}

void EngineConnection::on_closed(const Error& why) {
  const auto self = shared_from_this();
  broken(why);
}

void EngineConnection::broken(const Error& why) {
  const auto call = std::move(call_);
  if (!call) {
    stream_->set_sink(nullptr);
    stream_->close();
    pool_.remove_idle(this);
    return;
  }
  call->broken(why);
}

void Call::begin() {
  if (auto idle = pool_.take_idle(Pool::key_of(origin_))) {
    send_on(std::move(idle));
  } else {
    connect();
  }
}

void Call::connect() {
  io::ConnectOptions options;
  options.timeout = request_.timeouts.connect;
  options.tls = origin_.tls;
  options.host = origin_.host.substr(0, origin_.host.rfind(':') == std::string::npos || origin_.host.ends_with(']')
                                            ? std::string::npos
                                            : origin_.host.rfind(':'));
  if (options.host.starts_with('[') && options.host.ends_with(']')) {
    options.host = options.host.substr(1, options.host.size() - 2);
  }
  connecting_ = io::connect(pool_.loop(), origin_.address, options,
                            [weak = weak_from_this()](Result<std::shared_ptr<io::Stream>> stream) {
                              const auto self = weak.lock();
                              if (!self || self->over()) return;
                              self->connecting_.reset();
                              if (!stream.ok()) return self->fail(stream.error());
                              self->send_on(std::make_shared<EngineConnection>(
                                  self->pool_, Pool::key_of(self->origin_), std::move(stream).value()));
                            });
}

void Call::send_on(std::shared_ptr<EngineConnection> connection) {
  connection_ = std::move(connection);
  connection_->attach(shared_from_this());
  if (paused_) connection_->stream().pause_reading();
  RequestHead head;
  head.method = request_.method;
  head.target = request_.target;
  head.headers.add("Host", origin_.host);
  for (const Header& header : request_.headers.all()) {
    if (!equals_ignoring_case(header.name, "host") && !equals_ignoring_case(header.name, "connection")) {
      head.headers.add(header.name, header.value);
    }
  }
  Framing framing;
  if (request_.body || request_.method == "POST" || request_.method == "PUT") {
    framing = {Framing::Kind::kLength, request_.body ? request_.body->size() : 0};
  }
  const std::string text = write_request_head(head, framing);
  const std::array<std::string_view, 2> parts{text, request_.body ? std::string_view(*request_.body) : std::string_view{}};
  sent_ = true;
  arm(request_.timeouts.first_byte);
  connection_->stream().write_parts(parts);
}

void Call::arm(Duration delay) {
  deadline_ = pool_.loop().now() + delay;
  if (timer_.armed() && armed_for_ <= deadline_) return;
  armed_for_ = deadline_;
  timer_ = pool_.loop().after(delay, [this] { deadline_passed(); });
}

void Call::deadline_passed() {
  const auto self = shared_from_this();
  const Instant now = pool_.loop().now();
  // While the reader holds us back, silence is not the engine's.
  if (now < deadline_ || (paused_ && head_seen_)) {
    const Instant next = std::max(deadline_, now + request_.timeouts.idle);
    armed_for_ = now < deadline_ ? deadline_ : next;
    timer_ = pool_.loop().after(armed_for_ - now, [this] { deadline_passed(); });
    return;
  }
  fail({ErrorKind::kTimeoutEngine, head_seen_ ? "the engine stopped in the middle of its answer"
                                              : "the engine did not begin to answer in time"});
}

void Call::feed(std::string_view bytes) {
  any_byte_ = true;
  if (!head_seen_ && (!read_head(bytes) || over())) return;
  arm(request_.timeouts.idle);
  const Result<std::string_view> content = decode(bytes);
  if (content.ok() && !content->empty()) sink_->on_body(*content);
  if (over()) return;
  if (!content.ok()) return fail({ErrorKind::kUpstream, "the engine's answer is broken: " + content.error().message});
  if (!reader_->done()) return;
  // Bytes beyond the answer: whatever they are, they must not become the next answer.
  if (!bytes.empty()) keep_alive_ = false;
  finish();
}

// Everything that one read brought, as one piece: what the engine sent in several chunks leaves in one system call.
Result<std::string_view> Call::decode(std::string_view& bytes) {
  std::string_view first;
  bool joined = false;
  std::string& join = pool_.join_buffer();
  while (!bytes.empty() && !reader_->done()) {
    auto piece = reader_->feed(bytes);
    if (!piece.ok()) return piece.error();
    if (piece->empty()) continue;
    if (first.empty()) {
      first = *piece;
      continue;
    }
    if (!joined) join = first;
    joined = true;
    join += *piece;
  }
  return joined ? std::string_view(join) : first;
}

// Collects and parses the head; false when more is needed or the call is over.
bool Call::read_head(std::string_view& bytes) {
  for (;;) {
    std::string_view source = bytes;
    const bool collected = !head_bytes_.empty();
    if (collected) {
      head_bytes_ += bytes;
      source = head_bytes_;
    }
    Framing framing;
    auto size = parse_response_head(source, pool_.options().limits, head_, framing);
    if (!size.ok()) {
      fail({ErrorKind::kUpstream, "the engine's answer is broken: " + size.error().message});
      return false;
    }
    if (*size == 0) {
      if (!collected) head_bytes_ = bytes;
      return false;
    }
    const std::size_t before = source.size() - bytes.size();  // collected earlier: the head ends in `bytes`
    bytes.remove_prefix(*size - before);
    head_bytes_.clear();
    if (head_.status < 200) {
      if (++informational_ > kInformationalMax || head_.status == 101) {
        fail({ErrorKind::kUpstream, "the engine sent too many interim answers"});
        return false;
      }
      if (bytes.empty()) return false;
      continue;
    }
    if (request_.method == "HEAD") framing = {};
    keep_alive_ = head_.minor == 1 && framing.kind != Framing::Kind::kUntilClose;
    for (const Header& header : head_.headers.all()) {
      if (!equals_ignoring_case(header.name, "connection")) continue;
      for (const std::string_view token : split(header.value, ',')) {
        if (equals_ignoring_case(trim(token), "close")) keep_alive_ = false;
      }
    }
    reader_ = std::make_unique<BodyReader>(framing);
    head_seen_ = true;
    sink_->on_head(head_);
    return true;
  }
}

void Call::drop_connection() {
  connecting_.reset();
  timer_.cancel();
  if (connection_) std::exchange(connection_, nullptr)->close();
}

void Call::finish() {
  timer_.cancel();
  auto connection = std::exchange(connection_, nullptr);
  ResponseSink* sink = std::exchange(sink_, nullptr);
  if (keep_alive_ && connection->stream().pending() == 0) {
    connection->attach(nullptr);
    connection->stream().resume_reading();
    pool_.put_idle(std::move(connection));
  } else {
    connection->close();
  }
  sink->on_done();
}

void Call::fail(const Error& error) {
  if (over()) return;
  const bool sent = sent_;
  drop_connection();
  ResponseSink* sink = std::exchange(sink_, nullptr);
  sink->on_failed(error, head_seen_, sent);
}

// A pooled connection that dies before the first byte of the answer was stale: the engine closed it as we sent.
bool Call::try_again() {
  if (any_byte_ || retried_ || !connection_ || !connection_->used_before) return false;
  retried_ = true;
  drop_connection();
  pool_.loop().post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && !self->over()) self->connect();
  });
  return true;
}

void Call::ended() {
  if (over() || try_again()) return;
  if (head_seen_ && reader_->end_of_input().ok()) {
    keep_alive_ = false;
    return finish();
  }
  fail({ErrorKind::kUpstream, head_seen_ ? "the connection ended before the answer did"
                                         : "the engine closed the connection without an answer"});
}

void Call::broken(const Error& why) {
  if (over() || try_again()) return;
  fail({ErrorKind::kUpstream, why.message});
}

void Call::cancel() {
  if (over()) return;
  sink_ = nullptr;
  drop_connection();
}

std::unique_ptr<ClientCall> Pool::start(const Origin& origin, ClientRequest request, ResponseSink& sink) {
  auto call = std::make_shared<Call>(*this, origin, std::move(request), sink);
  call->begin();
  return std::make_unique<Handle>(*this, std::move(call));
}

// Collects a whole answer under one deadline.
class Fetch final : public ClientCall, public ResponseSink {
 public:
  Fetch(Pool& pool, std::function<void(Result<HttpClient::Whole>)> done) : pool_(pool), done_(std::move(done)) {}

  void begin(const Origin& origin, ClientRequest request, Duration deadline) {
    request.timeouts.connect = std::min(request.timeouts.connect, deadline);
    deadline_ = pool_.loop().after(deadline, [this] {
      tell(Error{ErrorKind::kTimeoutEngine, "no whole answer in time"});
    });
    call_ = pool_.start(origin, std::move(request), *this);
  }

  void cancel() override {
    deadline_.cancel();
    done_ = nullptr;
    if (call_) call_->cancel();
  }
  void pause() override { call_->pause(); }
  void resume() override { call_->resume(); }

  void on_head(const ResponseHead& head) override {
    whole_.head = head;
    // A body of known size is not copied as it grows.
    const std::string* length = head.headers.find("content-length");
    const std::size_t size = length == nullptr ? 0 : parse_u64(*length).value_or(0);
    if (size <= pool_.options().whole_body_bytes_max) whole_.body.reserve(size);
  }
  void on_body(std::string_view bytes) override {
    if (whole_.body.size() + bytes.size() > pool_.options().whole_body_bytes_max) {
      return tell(Error{ErrorKind::kTooLarge, "the answer is larger than " +
                                                  std::to_string(pool_.options().whole_body_bytes_max) + " bytes"});
    }
    whole_.body += bytes;
  }
  void on_done() override { tell(std::move(whole_)); }
  void on_failed(const Error& error, bool, bool) override { tell(error); }

 private:
  // The user may destroy this object from inside `done`.
  void tell(Result<HttpClient::Whole> result) {
    deadline_.cancel();
    if (!done_) return;
    call_->cancel();
    const auto done = std::exchange(done_, nullptr);
    done(std::move(result));
  }

  Pool& pool_;
  std::function<void(Result<HttpClient::Whole>)> done_;
  std::unique_ptr<ClientCall> call_;
  io::Timer deadline_;
  HttpClient::Whole whole_;
};

std::unique_ptr<ClientCall> Pool::fetch(const Origin& origin, ClientRequest request, Duration deadline,
                                        std::function<void(Result<Whole>)> done) {
  auto fetch = std::make_unique<Fetch>(*this, std::move(done));
  fetch->begin(origin, std::move(request), deadline);
  return fetch;
}

}  // namespace

std::unique_ptr<HttpClient> HttpClient::create(io::Loop& loop, ClientOptions options) {
  return std::make_unique<Pool>(loop, std::move(options));
}

}  // namespace warmpath::http
