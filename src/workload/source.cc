#include <algorithm>
#include <map>
#include <unordered_map>

#include "workload/population.h"
#include "workload/workload.h"

namespace warmpath::workload {
namespace {

// A session about to ask its next turn.
struct Waiting {
  std::uint64_t session = 0;
  std::uint32_t turn = 0;
  std::vector<Message> history;
};

class TimedSource : public Source {
 public:
  TimedSource(const Options& options, std::span<const TokenId> vocabulary)
      : arrivals_(options.arrivals), random_(options.seed, "arrivals"), texts_(make_texts(options, vocabulary)) {
    const std::uint64_t all = texts_->sessions() * texts_->turns();
    requests_max_ = options.requests_max == 0 ? all : std::min(all, options.requests_max);
    if (const auto* trace = std::get_if<Trace>(&options.population)) {
      for (const TraceRow& row : trace->rows) recorded_.push_back(from_seconds(row.at_seconds * trace->time_factor));
    }
    if (const auto* closed = std::get_if<ClosedLoop>(&arrivals_)) {
      const std::uint64_t users = std::min<std::uint64_t>(closed->users, texts_->sessions());
      for (std::uint64_t i = 0; i < users; ++i) wait_until(Instant(), {.session = begun_++});
    } else {
      plan_start();
    }
  }

  void due(Instant now, std::vector<Request>& out) override {
    while (const std::optional<Instant> at = next_at()) {
      if (*at > now) return;
      if (!waiting_.empty() && waiting_.begin()->first.first == *at) {
        Waiting next = std::move(waiting_.begin()->second);
        waiting_.erase(waiting_.begin());
        out.push_back(release(*at, std::move(next)));
      } else {
        out.push_back(release(*at, {.session = begun_++, .turn = 0, .history = {}}));
        plan_start();
      }
    }
  }

  std::optional<Instant> next_at() const override {
    if (released_ == requests_max_) return std::nullopt;
    std::optional<Instant> at = next_start_;
    if (!waiting_.empty() && (!at || waiting_.begin()->first.first <= *at)) at = waiting_.begin()->first.first;
    return at;
  }

  void finished(std::uint64_t id, std::span<const TokenId> output, Instant now) override {
    const auto found = active_.find(id);
    if (found == active_.end()) return;
    Waiting session = std::move(found->second);
    active_.erase(found);
    if (session.turn + 1 < texts_->turns()) --continuing_;
    if (!output.empty() && session.turn + 1 < texts_->turns()) {
      const Instant next = now + texts_->think(session.session, session.turn);
      session.history.push_back({Role::kAssistant, {output.begin(), output.end()}});
      ++session.turn;
      wait_until(next, std::move(session));
    } else if (std::holds_alternative<ClosedLoop>(arrivals_) && begun_ < texts_->sessions()) {
      wait_until(now, {.session = begun_++});
    }
  }

  bool exhausted() const override {
    if (released_ == requests_max_) return true;
    if (next_start_ || !waiting_.empty()) return false;
    // Unfinished conversations may go on, and a closed loop's users begin what is left.
    const bool more = std::holds_alternative<ClosedLoop>(arrivals_) && begun_ < texts_->sessions();
    return continuing_ == 0 && (active_.empty() || !more);
  }

  std::optional<std::uint64_t> total() const override { return requests_max_; }

 private:
  void wait_until(Instant at, Waiting waiting) { waiting_.emplace(std::pair(at, sequence_++), std::move(waiting)); }

  Request release(Instant at, Waiting session) {
    Request request;
    request.id = released_++;
    request.at = at;
    request.turn = session.turn;
    request.messages = std::move(session.history);
    texts_->ask(session.session, session.turn, request);
    session.history.clear();
    if (session.turn + 1 < texts_->turns()) {  // the last turn needs no history
      session.history = request.messages;
      ++continuing_;
    }
    active_.emplace(request.id, std::move(session));
    return request;
  }

  // Open loops: when the next session begins.
  void plan_start() {
    next_start_.reset();
    if (begun_ == texts_->sessions()) return;
    if (!recorded_.empty()) {
      next_start_ = Instant(recorded_[begun_]);
    } else if (const auto* poisson = std::get_if<Poisson>(&arrivals_)) {
      last_start_ = last_start_ + from_seconds(random_.exponential(1 / poisson->per_second));
      next_start_ = last_start_;
    } else {
      const double rate = std::get<Constant>(arrivals_).per_second;
      next_start_ = Instant(from_seconds(static_cast<double>(begun_) / rate));
    }
  }

  const Arrivals arrivals_;
  RandomStream random_;
  const std::unique_ptr<Texts> texts_;
  std::vector<Duration> recorded_;  // by session: a trace's own times
  std::uint64_t requests_max_ = 0;
  std::uint64_t released_ = 0;
  std::uint64_t begun_ = 0;
  std::uint64_t sequence_ = 0;
  Instant last_start_;
  std::optional<Instant> next_start_;
  std::map<std::pair<Instant, std::uint64_t>, Waiting> waiting_;
  std::unordered_map<std::uint64_t, Waiting> active_;  // by request
  std::uint64_t continuing_ = 0;                       // of these, with a turn to come
};

}  // namespace

std::vector<TokenId> Request::flat() const {
  std::size_t size = 0;
  for (const Message& message : messages) size += message.ids.size();
  std::vector<TokenId> ids;
  ids.reserve(size);
  for (const Message& message : messages) ids.insert(ids.end(), message.ids.begin(), message.ids.end());
  return ids;
}

Result<std::unique_ptr<Source>> Source::create(const Options& options, std::span<const TokenId> vocabulary) {
  std::string text;
  for (const std::string& fault : faults(options, vocabulary)) {
    if (!text.empty()) text += "; ";
    text += fault;
  }
  if (!text.empty()) return Error{ErrorKind::kInvalid, "workload: " + text};
  return std::unique_ptr<Source>(std::make_unique<TimedSource>(options, vocabulary));
}

}  // namespace warmpath::workload
