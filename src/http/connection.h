// Private to http: one client's connection to our listener.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/parser.h"
#include "http/server.h"

namespace warmpath::http {

class Connection;
class ServerExchange;

// What connections need of their listener.
struct ListenerShared {
  io::Loop& loop;
  ServerOptions options;
  std::function<void(std::shared_ptr<Exchange>)> serve;
  std::function<void(Connection*)> closed;
  ServerCounters counters;
  bool draining = false;
};

// One request at a time; what a client sends ahead waits, bounded, in `in_` and then in the kernel.
class Connection final : public io::StreamSink, public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<ListenerShared> shared, std::shared_ptr<io::Stream> stream);
  ~Connection() override;

  void open();
  void refuse();     // above connections_max
  void drain();      // closes when idle, else after the running exchange
  void close_now();

  void on_data(std::string_view bytes) override;
  void on_end() override;
  void on_hangup() override;
  void on_drained() override;
  void on_closed(const Error& why) override;

 private:
  friend class ServerExchange;
  enum class State : std::uint8_t { kHead, kBody, kRespond, kLinger, kClosed };

  void take_input(std::string_view bytes);
  void consume(std::string_view& bytes);
  bool read_head(std::string_view& bytes);
  bool read_body(std::string_view& bytes);
  void dispatch();
  void answer_error(const Error& error);
  void linger();
  void exchange_ended(bool keep_alive);
  void peer_gone();
  void arm(Duration delay);
  void deadline_passed();
  void watch_output(Duration period);
  bool keeps_alive(const RequestHead& head) const;

  std::shared_ptr<ListenerShared> shared_;
  std::shared_ptr<io::Stream> stream_;
  State state_ = State::kHead;
  std::string in_;
  RequestHead head_;
  Framing framing_;
  std::optional<BodyReader> body_reader_;
  std::string body_;
  bool keep_alive_ = true;
  bool head_request_ = false;
  bool head_began_ = true;  // its deadline runs; the first one from the connection's start
  bool consuming_ = false;
  std::size_t requests_ = 0;
  std::weak_ptr<ServerExchange> exchange_;
  // One timer, moved lazily: a new deadline costs a store unless it is earlier than the armed one.
  io::Timer timer_;
  Instant deadline_;
  Instant armed_for_;
  std::uint64_t sent_at_check_ = 0;
  Instant moved_at_;  // when output was last seen to move
  std::size_t lingered_bytes_ = 0;
};

class ServerExchange final : public Exchange, public std::enable_shared_from_this<ServerExchange> {
 public:
  ServerExchange(std::shared_ptr<Connection> connection, RequestHead head, std::string body, bool keep_alive);
  ~ServerExchange() override;

  const RequestHead& head() const override { return head_; }
  const std::string& body() const override { return body_; }
  std::string take_body() override { return std::move(body_); }
  io::Address client() const override { return client_; }
  Instant received_at() const override { return received_at_; }
  void respond(int status, Headers headers, std::string_view body) override;
  void start(int status, Headers headers, std::optional<std::uint64_t> length) override;
  void write(std::string_view bytes) override;
  void end() override;
  void abort() override;
  bool started() const override { return started_; }
  bool gone() const override { return connection_ == nullptr && !ended_; }
  bool above_high() const override;
  void on_gone(std::function<void()> call) override { gone_call_ = std::move(call); }
  void on_drained(std::function<void()> call) override { drained_call_ = std::move(call); }

 private:
  friend class Connection;
  void lose_connection();  // the client went away
  void drained();
  std::string head_text(int status, Headers headers, const Framing& framing);
  void send(std::string_view first, std::string_view second = {}, std::string_view third = {});
  void flush_head();
  void finish_exchange();

  std::shared_ptr<Connection> connection_;  // null once ended or gone
  RequestHead head_;
  std::string body_;
  io::Address client_;
  Instant received_at_;
  bool keep_alive_;
  bool started_ = false;
  bool ended_ = false;
  Framing framing_;
  std::uint64_t left_ = 0;
  std::string held_head_;  // goes with the first body bytes, or at the end of this turn
  std::function<void()> gone_call_;
  std::function<void()> drained_call_;
};

}  // namespace warmpath::http
