#include "io/zmq.h"

#include <zmq.h>

#include <atomic>
#include <cerrno>

#include "io/reactor.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
// The packaged libzmq is not instrumented: its own synchronisation is invisible to the thread sanitizer.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:libzmq.so\n"; }
#endif
#endif

namespace warmpath::io {
namespace {

constexpr int kMessagesATurn = 256;
constexpr int kDiscardedATurn = 16'384;
constexpr int kSocketsMax = 20'000;
constexpr std::size_t kFramesMax = 64;  // of one message; our protocols have at most 5

// One context a process: libzmq's own thread does the network. It is never torn down: a socket may outlive main's
// statics.
void* context() {
  static void* const instance = [] {
    void* made = zmq_ctx_new();
    WP_CHECK(made != nullptr);
    zmq_ctx_set(made, ZMQ_MAX_SOCKETS, kSocketsMax);
    zmq_ctx_set(made, ZMQ_BLOCKY, 0);
    return made;
  }();
  return instance;
}

int type_of(ZmqKind kind) {
  switch (kind) {
    case ZmqKind::kPub: return ZMQ_PUB;
    case ZmqKind::kSub: return ZMQ_SUB;
    case ZmqKind::kRouter: return ZMQ_ROUTER;
    case ZmqKind::kDealer: return ZMQ_DEALER;
  }
  return ZMQ_SUB;
}

// A libzmq socket as a loop source. Its descriptor only says "look again": after every call the events have to be asked
// for until there are none, or a wake-up is lost.
class RawSocket final : public Source {
 public:
  // `behind_max`: messages that may be read in a row without the queue ever being empty; 0 no limit.
  RawSocket(Loop& loop, void* socket, int behind_max)
      : loop_(loop.impl().shared_from_this()), socket_(socket), behind_max_(behind_max) {}
  ~RawSocket() override { close(); }

  using Message = std::function<void(std::vector<std::string>&&)>;
  void watch(Message message) {
    message_ = std::make_shared<const Message>(std::move(message));
    std::size_t size = sizeof fd_;
    WP_CHECK(zmq_getsockopt(socket_, ZMQ_FD, &fd_, &size) == 0);
    id_ = loop_->add(fd_, EPOLLIN, this);
    look_later();
  }

  void close() {
    if (socket_ == nullptr) return;
    if (fd_ >= 0) loop_->remove(fd_, id_);
    zmq_close(socket_);
    socket_ = nullptr;
    life_.reset();
  }

  void* get() const { return socket_; }

  void look_later() {
    if (posted_) return;
    posted_ = true;
    loop_->post([this, alive = std::weak_ptr<int>(life_)] {
      if (alive.expired()) return;
      posted_ = false;
      on_events(0);
    });
  }

  void on_events(std::uint32_t) override {
    const std::weak_ptr<int> alive = life_;
    for (int delivered = 0, discarded = 0; delivered < kMessagesATurn && discarded < kDiscardedATurn;) {
      int events = 0;
      std::size_t size = sizeof events;
      if (zmq_getsockopt(socket_, ZMQ_EVENTS, &events, &size) != 0 || (events & ZMQ_POLLIN) == 0) {
        behind_ = 0;
        return;
      }
      std::vector<std::string> frames;
      if (!receive(frames)) {
        behind_ = 0;
        return;
      }
      if (behind_max_ > 0 && ++behind_ > behind_max_) {
        behind_ = behind_max_ + 1;
        ++discarded;
        continue;
      }
      ++delivered;
      const auto message = message_;
      (*message)(std::move(frames));
      if (alive.expired()) return;
    }
    look_later();
  }

 private:
  bool receive(std::vector<std::string>& frames) {
    for (;;) {
      zmq_msg_t part;
      zmq_msg_init(&part);
      const int got = zmq_msg_recv(&part, socket_, ZMQ_DONTWAIT);
      if (got < 0) {
        zmq_msg_close(&part);
        return false;
      }
      const bool more = zmq_msg_more(&part) != 0;
      if (frames.size() < kFramesMax) {
        frames.emplace_back(static_cast<const char*>(zmq_msg_data(&part)), zmq_msg_size(&part));
      }
      zmq_msg_close(&part);
      if (!more) return true;
    }
  }

  std::shared_ptr<Loop::Impl> loop_;
  void* socket_;
  int fd_ = -1;
  SourceId id_;
  std::shared_ptr<const Message> message_;  // held during a call: it may close this socket
  bool posted_ = false;
  const int behind_max_;
  int behind_ = 0;  // read since the queue was empty
  std::shared_ptr<int> life_ = std::make_shared<int>(0);
};

class Zmq final : public ZmqSocket {
 public:
  Zmq(Loop& loop, void* socket, int behind_max) : loop_(loop), socket_(loop, socket, behind_max) {}
  ~Zmq() override {
    zmq_socket_monitor(socket_.get(), nullptr, 0);
    if (monitor_) monitor_->close();
    socket_.close();
  }

  // False: no more sockets or descriptors are to be had.
  bool start(Callbacks callbacks) {
    callbacks_ = std::make_shared<const Callbacks>(std::move(callbacks));
    if ((callbacks_->connected || callbacks_->disconnected) && !start_monitor()) return false;
    socket_.watch([this](std::vector<std::string>&& frames) {
      const auto held = callbacks_;
      if (held->message) held->message(std::move(frames));
    });
    return true;
  }

  bool send(const std::vector<std::string>& frames) override {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      const int flags = ZMQ_DONTWAIT | (i + 1 < frames.size() ? ZMQ_SNDMORE : 0);
      if (zmq_send(socket_.get(), frames[i].data(), frames[i].size(), flags) < 0) {
        socket_.look_later();
        return false;
      }
    }
    socket_.look_later();  // a send may have swallowed the wake-up of something received
    return true;
  }

  std::string bound_endpoint() const override {
    char text[256] = "";
    std::size_t size = sizeof text;
    if (zmq_getsockopt(socket_.get(), ZMQ_LAST_ENDPOINT, text, &size) != 0) return {};
    return text;
  }

  void* get() const { return socket_.get(); }

 private:
  bool start_monitor() {
    static std::atomic<std::uint64_t> number{0};
    const std::string name = "inproc://warmpath-monitor-" + std::to_string(number.fetch_add(1));
    if (zmq_socket_monitor(socket_.get(), name.c_str(), ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) != 0) {
      return false;
    }
    void* pair = zmq_socket(context(), ZMQ_PAIR);
    if (pair == nullptr) return false;
    WP_CHECK(zmq_connect(pair, name.c_str()) == 0);
    monitor_ = std::make_unique<RawSocket>(loop_, pair, 0);
    monitor_->watch([this](std::vector<std::string>&& frames) {
      if (frames.empty() || frames[0].size() < 2) return;
      const auto event = static_cast<unsigned>(static_cast<unsigned char>(frames[0][0])) |
                         static_cast<unsigned>(static_cast<unsigned char>(frames[0][1])) << 8;
      const auto callbacks = callbacks_;  // a callback may close this socket
      if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        ++peers_;
        if (callbacks->connected) callbacks->connected();
      } else if (event == ZMQ_EVENT_DISCONNECTED && peers_ > 0) {  // also told of handshakes that never succeeded
        --peers_;
        if (callbacks->disconnected) callbacks->disconnected();
      }
    });
    return true;
  }

  Loop& loop_;
  RawSocket socket_;
  std::unique_ptr<RawSocket> monitor_;
  std::shared_ptr<const Callbacks> callbacks_;
  std::uint64_t peers_ = 0;
};

// libzmq 4.3.4 takes any number for a port, cut to 16 bits.
bool is_port_sane(const std::string& endpoint) {
  const auto port = std::string_view(endpoint).substr(endpoint.rfind(':') + 1);
  return port == "*" || parse_u64(port).value_or(65'536) <= 65'535;
}

template <class T>
void set_option(void* socket, int option, T value) {
  WP_CHECK(zmq_setsockopt(socket, option, &value, sizeof value) == 0);
}

}  // namespace

Result<std::unique_ptr<ZmqSocket>> ZmqSocket::open(Loop& loop, const ZmqOptions& options, Callbacks callbacks) {
  if (!options.endpoint.starts_with("tcp://") || !is_port_sane(options.endpoint)) {
    return Error{ErrorKind::kInvalid, "'" + options.endpoint + "' is no ZMQ endpoint; expected tcp://host:port"};
  }
  void* raw = zmq_socket(context(), type_of(options.kind));
  if (raw == nullptr) {
    return Error{ErrorKind::kExhausted, std::string("ZMQ socket: ") + zmq_strerror(zmq_errno())};
  }
  auto socket = std::make_unique<Zmq>(loop, raw, options.receive_high_water);
  set_option(raw, ZMQ_LINGER, 0);
  // libzmq 4.3.4 aborts the process when a connection is replaced while its receive queue is full (_input_stopped), and
  // its own heartbeats break connections that wait so. So its queue is never full: RawSocket discards instead.
  set_option(raw, ZMQ_RCVHWM, 0);
  set_option(raw, ZMQ_SNDHWM, options.send_high_water);
  set_option(raw, ZMQ_MAXMSGSIZE, options.message_bytes_max);
  // With it on, libzmq takes a name's IPv6 address alone, where engines listen on IPv4 (libzmq 4.3.4).
  if (options.endpoint.find('[') != std::string::npos) set_option(raw, ZMQ_IPV6, 1);
  const auto heartbeat_ms = static_cast<int>(duration_cast<std::chrono::milliseconds>(options.heartbeat).count());
  set_option(raw, ZMQ_HEARTBEAT_IVL, heartbeat_ms);
  set_option(raw, ZMQ_HEARTBEAT_TIMEOUT, heartbeat_ms * 3);
  set_option(raw, ZMQ_RECONNECT_IVL, 100);
  set_option(raw, ZMQ_RECONNECT_IVL_MAX, 5'000);
  if (options.kind == ZmqKind::kRouter) set_option(raw, ZMQ_ROUTER_MANDATORY, 1);
  for (const std::string& topic : options.topics) {
    WP_CHECK(zmq_setsockopt(raw, ZMQ_SUBSCRIBE, topic.data(), topic.size()) == 0);
  }
  // The monitor listens before the first connection can be up.
  if (!socket->start(std::move(callbacks))) {
    return Error{ErrorKind::kExhausted, std::string("ZMQ socket: ") + zmq_strerror(zmq_errno()) +
                                            "; raise the limit of open files (ulimit -n)"};
  }
  const bool bind = options.attach == ZmqOptions::Attach::kBind;
  const int result = bind ? zmq_bind(raw, options.endpoint.c_str()) : zmq_connect(raw, options.endpoint.c_str());
  if (result != 0) {
    const int code = zmq_errno();
    const std::string message = (bind ? "bind " : "connect ") + options.endpoint + ": " + zmq_strerror(code);
    if (code == EADDRINUSE) return Error{ErrorKind::kConflict, message + "; choose another port"};
    return Error{ErrorKind::kInvalid, message + "; expected tcp://host:port"};
  }
  return std::unique_ptr<ZmqSocket>(std::move(socket));
}

}  // namespace warmpath::io
