// Relay: one exchange from the client's request to the end of its answer. Private to proxy.
//
//   begin ─▶ encoding ─▶ deciding ─▶ calling ─▶ answering ─▶ done
//                           ▲           │ failed, nothing sent yet
//                           └───────────┘
//
// Thread rule: its I/O thread only. The I/O thread keeps it alive until it is done; inside callbacks of the engine's
// call nothing is destroyed: ended calls and relays go through IoThread::retire().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proxy/plan.h"
#include "proxy/proxy.h"
#include "proxy/stream_filter.h"

namespace warmpath::proxy {

class IoThread;

class Relay final : public http::ResponseSink, public std::enable_shared_from_this<Relay> {
 public:
  Relay(IoThread& io, std::shared_ptr<http::Exchange> client, RequestId id);

  void begin(api::Endpoint endpoint);
  void on_effect(route::Effect effect);
  // The gateway ends: what can still be said to the client is said, and the access log gets its line.
  void cut_off();
  RequestId id() const { return id_; }

 private:
  enum class Phase : std::uint8_t { kStarting, kEncoding, kDeciding, kCalling, kAnswering, kDone };
  // How the engine's present answer is treated.
  enum class Answer : std::uint8_t { kNone, kStream, kWhole, kRaw, kBusy };
  // An engine's refusal that is passed on when no other engine takes the request.
  struct Held {
    http::ResponseHead head;
    std::string body;
  };

  // http::ResponseSink
  void on_head(const http::ResponseHead& head) override;
  void on_body(std::string_view bytes) override;
  void on_done() override;
  void on_failed(const Error& error, bool head_seen, bool sent) override;

  // Before the engine.
  void take_request_id();
  bool choose_pool(const std::string& model);
  void encode(std::shared_ptr<const api::Request> request);
  void encoded(std::shared_ptr<const api::Request> request, Plan plan);
  void ask_for_ids(std::shared_ptr<const api::Request> request, std::shared_ptr<const std::string> body,
                   std::shared_ptr<Plan> plan, BlockKey key);
  void not_told(Plan plan, AskOutcome why);
  void planned(Plan plan);
  void forward(const route::Forward& forward);
  void rejected(const route::Reject& reject);

  // The engine's answer.
  void stream_body(std::string_view bytes);
  void whole_body(std::string_view bytes);
  void start_answer(std::optional<std::uint64_t> length);
  void send(std::string_view bytes);
  void broke(const Error& error);
  void break_answer(const Error& shown);
  void end_call();
  void retry(ErrorKind kind, route::Failed::Blame blame);
  bool let_go();
  void client_gone();
  void client_drained();

  // Ends.
  void refuse(const Error& error, std::string_view param = {}, Duration retry_after = Duration(0));
  void respond(int status, http::Headers headers, std::string_view body);
  void finished(std::optional<api::Usage> usage, std::string_view outcome);
  void end(std::string_view outcome);
  void submit(route::Input input);

  IoThread& io_;
  std::shared_ptr<http::Exchange> client_;
  const RequestId id_;
  Pool* pool_ = nullptr;
  Pool::Resolved model_;
  std::shared_ptr<const std::string> body_;     // as received
  std::shared_ptr<const std::string> to_send_;  // as engines get it
  api::Endpoint endpoint_{};
  bool strip_usage_ = false;
  bool client_wants_stream_ = false;

  Phase phase_ = Phase::kStarting;
  // A place at an engine, given back when the call ends.
  class Place {
   public:
    explicit Place(std::shared_ptr<std::atomic<std::uint32_t>> calls) : calls_(std::move(calls)) {}
    ~Place() { calls_->fetch_sub(1, std::memory_order_relaxed); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    std::shared_ptr<std::atomic<std::uint32_t>> calls_;
  };

  std::unique_ptr<http::ClientCall> call_;
  std::unique_ptr<http::ClientCall> asking_;  // for ids
  std::function<void()> asking_given_up_;     // what the asking is owed when nobody waits for it any more
  std::optional<Place> place_;
  EngineId engine_;
  Answer answer_ = Answer::kNone;
  http::ResponseHead head_;
  std::string whole_;
  std::optional<StreamFilter> filter_;
  std::optional<Held> held_;
  bool busy_seen_ = false;
  bool paused_ = false;
  AccessRecord record_;
};

}  // namespace warmpath::proxy
