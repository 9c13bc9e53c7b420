#include <algorithm>
#include <utility>

#include "ingest/ingest.h"

namespace warmpath::ingest {
namespace {

// Lives until its callback was called.
class Surveyor : public std::enable_shared_from_this<Surveyor> {
 public:
  Surveyor(io::Loop& loop, std::function<void(Survey)> done)
      : loop_(loop), client_(http::HttpClient::create(loop, {})), done_(std::move(done)) {}

  void begin(const std::vector<EngineAddress>& engines, Duration deadline) {
    self_ = shared_from_this();
    timer_ = loop_.after(deadline, [this] { finish(); });
    asks_.reserve(engines.size());
    for (const EngineAddress& engine : engines) asks_.push_back(std::make_unique<Ask>(Ask{engine, {}, {}, {}, false}));
    open_ = asks_.size();
    if (open_ == 0) return finish_later();
    for (auto& ask : asks_) resolve(*ask);
  }

 private:
  struct Ask {
    EngineAddress engine;
    std::unique_ptr<io::Pending> resolving;
    std::unique_ptr<http::ClientCall> call;
    io::Timer retry;
    bool answered = false;
  };
  static constexpr Duration kRetry = std::chrono::milliseconds(200);
  static constexpr Duration kAskTimeout = std::chrono::seconds(3);

  void resolve(Ask& ask) {
    ask.resolving = io::resolve(loop_, ask.engine.url.host, ask.engine.url.port, kAskTimeout,
                                [this, &ask](Result<std::vector<io::Address>> found) {
                                  if (!found.ok() || found->empty()) return again(ask);
                                  fetch(ask, found->front());
                                });
  }

  void fetch(Ask& ask, const io::Address& address) {
    http::ClientRequest request;
    request.target = ask.engine.url.path + "/metrics";
    ask.call = client_->fetch({address, ask.engine.url.host_header(), ask.engine.tls}, std::move(request), kAskTimeout,
                              [this, &ask](Result<http::HttpClient::Whole> answer) {
                                if (!answer.ok()) return again(ask);
                                ask.answered = true;
                                if (const auto block = read_page(answer->body, std::nullopt).block_tokens) {
                                  survey_.block_tokens.push_back(*block);
                                }
                                if (--open_ == 0) finish_later();
                              });
  }

  void again(Ask& ask) {
    ask.retry = loop_.after(kRetry, [this, &ask] { resolve(ask); });
  }

  void finish_later() {
    timer_ = loop_.after(Duration{0}, [this] { finish(); });
  }

  void finish() {
    const auto self = std::exchange(self_, nullptr);
    for (const auto& ask : asks_) {
      if (!ask->answered) survey_.unanswered.push_back(ask->engine.url.text());
    }
    asks_.clear();
    const auto done = std::move(done_);
    done(std::move(survey_));
  }

  io::Loop& loop_;
  std::unique_ptr<http::HttpClient> client_;
  std::function<void(Survey)> done_;
  std::vector<std::unique_ptr<Ask>> asks_;
  std::size_t open_ = 0;
  Survey survey_;
  io::Timer timer_;
  std::shared_ptr<Surveyor> self_;
};

}  // namespace

void survey(io::Loop& loop, const std::vector<EngineAddress>& engines, Duration deadline,
            std::function<void(Survey)> done) {
  std::make_shared<Surveyor>(loop, std::move(done))->begin(engines, deadline);
}

}  // namespace warmpath::ingest
