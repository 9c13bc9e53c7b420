#include <algorithm>
#include <utility>

#include "ingest/ingest.h"
#include "ingest/rank_source.h"

namespace warmpath::ingest {
namespace {

class Surveyor final : public io::Pending {
 public:
  Surveyor(io::Loop& loop, std::function<void(Survey)> done)
      : loop_(loop), client_(http::HttpClient::create(loop, {})), done_(std::move(done)) {}

  void begin(const std::vector<EngineAddress>& engines, Duration deadline) {
    timer_ = loop_.after(deadline, [this] { finish(); });
    asks_.reserve(engines.size());
    for (const EngineAddress& engine : engines) {
      asks_.push_back(std::make_unique<Ask>());
      asks_.back()->engine = engine;
    }
    open_ = asks_.size();
    if (open_ == 0) return finish_later();
    for (auto& ask : asks_) resolve(*ask);
  }

 private:
  struct Ask {
    EngineAddress engine;
    io::Address address;
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
                                  ask.address = found->front();
                                  ask_page(ask);
                                });
  }

  void get(Ask& ask, std::string_view path, std::function<void(Result<http::HttpClient::Whole>)> answer) {
    http::ClientRequest request;
    request.target = ask.engine.url.path + std::string(path);
    ask.call = client_->fetch({ask.address, ask.engine.url.host_header(), ask.engine.tls}, std::move(request),
                              kAskTimeout, std::move(answer));
  }

  void ask_page(Ask& ask) {
    get(ask, "/metrics", [this, &ask](Result<http::HttpClient::Whole> answer) {
      if (!answer.ok()) return again(ask);
      const auto block = read_page(answer->body, std::nullopt).block_tokens;
      block ? answered(ask, block) : ask_server_info(ask);
    });
  }

  void ask_server_info(Ask& ask) {
    get(ask, "/server_info", [this, &ask](Result<http::HttpClient::Whole> answer) {
      if (!answer.ok()) return again(ask);
      const auto told = read_server_info(answer->body, ask.address.ip);
      answered(ask, told.ok() ? told->block_tokens : std::nullopt);
    });
  }

  void answered(Ask& ask, std::optional<std::uint32_t> block_tokens) {
    ask.answered = true;
    if (block_tokens) survey_.block_tokens.push_back(*block_tokens);
    if (--open_ == 0) finish_later();
  }

  void again(Ask& ask) {
    ask.retry = loop_.after(kRetry, [this, &ask] { resolve(ask); });
  }

  void finish_later() {
    timer_ = loop_.after(Duration{0}, [this] { finish(); });
  }

  void finish() {
    for (const auto& ask : asks_) {
      if (!ask->answered) survey_.unanswered.push_back(ask->engine.url.text());
    }
    asks_.clear();
    // The last: the handle may go with it.
    const auto done = std::move(done_);
    Survey survey = std::move(survey_);
    done(std::move(survey));
  }

  io::Loop& loop_;
  std::unique_ptr<http::HttpClient> client_;
  std::function<void(Survey)> done_;
  std::vector<std::unique_ptr<Ask>> asks_;
  std::size_t open_ = 0;
  Survey survey_;
  io::Timer timer_;
};

}  // namespace

std::unique_ptr<io::Pending> survey(io::Loop& loop, const std::vector<EngineAddress>& engines, Duration deadline,
                                    std::function<void(Survey)> done) {
  auto surveyor = std::make_unique<Surveyor>(loop, std::move(done));
  surveyor->begin(engines, deadline);
  return surveyor;
}

}  // namespace warmpath::ingest
