#include "io/stream.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <thread>

#include "io/socket.h"

namespace warmpath::io {
namespace {

constexpr int kAcceptsATurn = 64;
constexpr Duration kNoDescriptorsPause = std::chrono::milliseconds(100);
constexpr std::size_t kResolvesMax = 1'024;
constexpr unsigned kResolverThreads = 2;

bool to_sockaddr(const Address& address, sockaddr_storage& out, socklen_t& size) {
  std::memset(&out, 0, sizeof out);
  auto& v4 = reinterpret_cast<sockaddr_in&>(out);
  if (::inet_pton(AF_INET, address.ip.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(address.port);
    size = sizeof v4;
    return true;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
  if (::inet_pton(AF_INET6, address.ip.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(address.port);
    size = sizeof v6;
    return true;
  }
  return false;
}

Address from_sockaddr(const sockaddr_storage& from) {
  char text[INET6_ADDRSTRLEN] = "";
  Address address;
  if (from.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    address.port = ntohs(v4.sin_port);
  } else if (from.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    address.port = ntohs(v6.sin6_port);
  }
  address.ip = text;
  return address;
}

class SocketListener final : public Listener, public Source {
 public:
  SocketListener(Loop& loop, int fd, Address address, std::function<void(std::shared_ptr<Stream>)> accept)
      : loop_(loop), fd_(fd), address_(std::move(address)), accept_(std::move(accept)) {
    id_ = loop_.impl().add(fd_, EPOLLIN, this);
    reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  ~SocketListener() override { close(); }

  Address address() const override { return address_; }
  void pause() override {
    paused_ = true;
    interest(0);
  }
  void resume() override {
    paused_ = false;
    if (!retry_.armed()) interest(EPOLLIN);
  }
  void close() override {
    if (fd_ < 0) return;
    retry_.cancel();
    loop_.impl().remove(fd_, id_);
    ::close(fd_);
    if (reserve_ >= 0) ::close(reserve_);
    fd_ = reserve_ = -1;
  }

  void on_events(std::uint32_t) override {
    const std::weak_ptr<int> alive = life_;
    for (int i = 0; i < kAcceptsATurn; ++i) {
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const int fd = ::accept4(fd_, reinterpret_cast<sockaddr*>(&from), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) out_of_descriptors();
        return;
      }
      auto socket = std::make_shared<Socket>(loop_, fd, from_sockaddr(from));
      socket->open(true, nullptr, nullptr);
      accept_(std::move(socket));
      if (alive.expired() || fd_ < 0) return;
    }
  }

 private:
  void interest(std::uint32_t events) {
    if (fd_ >= 0) loop_.impl().modify(fd_, id_, events);
  }

  // The reserve descriptor lets one waiting client be told by a close instead of hanging; then accepting pauses, so that
  // a full table is no busy loop.
  void out_of_descriptors() {
    if (reserve_ >= 0) {
      ::close(reserve_);
      const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) ::close(fd);
      reserve_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    interest(0);
    retry_ = loop_.after(kNoDescriptorsPause, [this] {
      if (!paused_) interest(EPOLLIN);
    });
  }

  Loop& loop_;
  int fd_;
  int reserve_ = -1;
  bool paused_ = false;
  SourceId id_;
  Address address_;
  std::function<void(std::shared_ptr<Stream>)> accept_;
  Timer retry_;
  std::shared_ptr<int> life_ = std::make_shared<int>(0);
};

class Connecting final : public Pending {
 public:
  ~Connecting() override {
    if (socket && !handed_over) socket->close();
  }
  std::shared_ptr<Socket> socket;
  Timer deadline;
  bool handed_over = false;
};

// getaddrinfo blocks: two threads of the process do it, and never end (a lookup cannot be interrupted).
class Resolver {
 public:
  struct Job {
    std::string host;
    std::uint16_t port = 0;
    std::weak_ptr<Loop::Impl> loop;
    std::function<void(Result<std::vector<Address>>)> done;
  };

  static Resolver& instance() {
    static auto* const resolver = new Resolver;
    return *resolver;
  }

  bool submit(Job job) {
    const std::lock_guard lock(mutex_);
    if (jobs_.size() >= kResolvesMax) return false;
    jobs_.push_back(std::move(job));
    if (threads_ < kResolverThreads) {
      ++threads_;
      std::thread([this] { work(); }).detach();
    }
    wake_.notify_one();
    return true;
  }

 private:
  void work() {
    for (;;) {
      Job job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !jobs_.empty(); });
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      auto addresses = look_up(job.host, job.port);
      if (const auto loop = job.loop.lock()) {
        loop->post([done = std::move(job.done), addresses = std::move(addresses)] { done(addresses); });
      }
    }
  }

  static Result<std::vector<Address>> look_up(const std::string& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); code != 0) {
      return Error{ErrorKind::kUnavailable, "name " + host + " cannot be resolved: " + ::gai_strerror(code)};
    }
    std::vector<Address> addresses;
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
      sockaddr_storage storage{};
      std::memcpy(&storage, one->ai_addr, std::min<std::size_t>(one->ai_addrlen, sizeof storage));
      Address address = from_sockaddr(storage);
      address.port = port;
      if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) addresses.push_back(address);
    }
    ::freeaddrinfo(found);
    return addresses;
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  unsigned threads_ = 0;
};

class Resolving final : public Pending {
 public:
  std::shared_ptr<int> life = std::make_shared<int>(0);
  Timer deadline;
};

}  // namespace

std::string Address::text() const {
  const bool v6 = ip.find(':') != std::string::npos;
  return (v6 ? "[" + ip + "]" : ip) + ":" + std::to_string(port);
}

Result<HostPort> parse_host_port(std::string_view text) {
  const auto wrong = [&] {
    return Error{ErrorKind::kInvalid, "'" + std::string(text) + "' is not host:port, [v6]:port or :port"};
  };
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong();
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 3) return wrong();
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return wrong();
  }
  const auto port = parse_u64(text.substr(colon + 1));
  if (!port || *port > 65'535) return wrong();
  return HostPort{std::string(host), static_cast<std::uint16_t>(*port)};
}

Result<std::unique_ptr<Listener>> listen(Loop& loop, const Address& address, const ListenOptions& options,
                                         std::function<void(std::shared_ptr<Stream>)> accept) {
  sockaddr_storage storage;
  socklen_t size = 0;
  if (!to_sockaddr(address, storage, size)) {
    return Error{ErrorKind::kInvalid, "'" + address.ip + "' is not an IP address to listen on"};
  }
  const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error{ErrorKind::kInternal, system_message("socket", errno)};
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (options.reuse_port) ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (storage.ss_family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&storage), size) != 0 || ::listen(fd, options.backlog) != 0) {
    const int code = errno;
    ::close(fd);
    if (code == EADDRINUSE) {
      return Error{ErrorKind::kConflict,
                   address.text() + " is in use by another process; stop it or listen on another port"};
    }
    if (code == EACCES) {
      return Error{ErrorKind::kForbidden, address.text() + ": not permitted to listen there; use a port above 1023"};
    }
    return Error{ErrorKind::kInvalid, system_message("listen on " + address.text(), code)};
  }
  sockaddr_storage bound{};
  size = sizeof bound;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size);
  return std::unique_ptr<Listener>(
      std::make_unique<SocketListener>(loop, fd, from_sockaddr(bound), std::move(accept)));
}

std::unique_ptr<Pending> connect(Loop& loop, const Address& address, const ConnectOptions& options,
                                 std::function<void(Result<std::shared_ptr<Stream>>)> done) {
  auto pending = std::make_unique<Connecting>();
  Connecting* one = pending.get();
  const auto fail_later = [&](Error why) {
    one->deadline = loop.after(Duration{0}, [done, why = std::move(why)] { done(why); });
  };
  sockaddr_storage storage;
  socklen_t size = 0;
  if (!to_sockaddr(address, storage, size)) {
    fail_later({ErrorKind::kInvalid, "'" + address.ip + "' is not an IP address"});
    return pending;
  }
  const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    fail_later({ErrorKind::kExhausted, system_message("socket", errno)});
    return pending;
  }
  const int result = ::connect(fd, reinterpret_cast<sockaddr*>(&storage), size);
  if (result != 0 && errno != EINPROGRESS) {
    const int code = errno;
    ::close(fd);
    fail_later({ErrorKind::kUnavailable, system_message("connect to " + address.text(), code)});
    return pending;
  }
  one->socket = std::make_shared<Socket>(loop, fd, address);
  auto session = options.tls ? TlsSession::create(*options.tls, fd, options.host) : nullptr;
  // `done` may destroy the Pending: nothing of it is touched after the call.
  const auto finish = [one, done](Result<void> result_in) {
    one->deadline.cancel();
    auto socket = std::move(one->socket);
    if (result_in.ok()) {
      one->handed_over = true;
      done(std::shared_ptr<Stream>(std::move(socket)));
    } else {
      socket->close();
      done(result_in.error());
    }
  };
  one->deadline = loop.after(options.timeout, [finish, address] {
    finish(Error{ErrorKind::kUnavailable, "connect to " + address.text() + ": timed out"});
  });
  // Also a connection that stands at once is reported by its first EPOLLOUT, never from inside this call.
  one->socket->open(false, std::move(session), finish);
  return pending;
}

std::unique_ptr<Pending> resolve(Loop& loop, std::string host, std::uint16_t port, Duration timeout,
                                 std::function<void(Result<std::vector<Address>>)> done) {
  auto pending = std::make_unique<Resolving>();
  Address numeric{host, port};
  sockaddr_storage storage;
  socklen_t size = 0;
  if (to_sockaddr(numeric, storage, size)) {
    pending->deadline = loop.after(Duration{0}, [numeric, done] { done(std::vector<Address>{numeric}); });
    return pending;
  }
  auto* one = pending.get();
  const std::weak_ptr<int> alive = pending->life;
  const bool queued = Resolver::instance().submit(
      {.host = host, .port = port, .loop = loop.impl().weak_from_this(), .done = [one, alive, done](auto found) {
         if (alive.expired()) return;
         one->deadline.cancel();
         one->life.reset();
         done(std::move(found));
       }});
  if (!queued) {
    pending->deadline = loop.after(Duration{0}, [host, done] {
      done(Error{ErrorKind::kExhausted, "name " + host + ": too many lookups wait"});
    });
    return pending;
  }
  pending->deadline = loop.after(timeout, [one, host, done] {
    one->life.reset();
    done(Error{ErrorKind::kUnavailable, "name " + host + " cannot be resolved: timed out"});
  });
  return pending;
}

}  // namespace warmpath::io
