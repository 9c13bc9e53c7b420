// For ingest's tests and bench: a scripted engine on loopback (HTTP, PUB and replay ROUTER), and a Sink that remembers.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "events/events.h"
#include "http/http.h"
#include "ingest/ingest.h"
#include "io/io.h"

namespace warmpath::ingest::testing {

constexpr std::uint32_t kBlockTokens = 16;

// Block number `block` of a prompt: ids and engine hashes are made from the numbers.
inline blocks::BlockStored stored(std::uint64_t prompt, std::uint64_t first_block, std::uint64_t blocks) {
  blocks::BlockStored event;
  const auto hash = [&](std::uint64_t block) { return blocks::WireHash{EngineHash(prompt * 1'000 + block + 1), {}}; };
  if (first_block > 0) event.parent_block_hash = hash(first_block - 1);
  for (std::uint64_t block = first_block; block < first_block + blocks; ++block) {
    event.block_hashes.push_back(hash(block));
    for (std::uint64_t t = 0; t < kBlockTokens; ++t) {
      event.token_ids.push_back(static_cast<TokenId>(prompt * 100'000 + block * kBlockTokens + t));
    }
  }
  event.block_size = kBlockTokens;
  event.medium = "GPU";
  return event;
}

inline std::vector<TokenId> prompt_ids(std::uint64_t prompt, std::uint64_t blocks) {
  return stored(prompt, 0, blocks).token_ids;
}

// One rank's sockets, as vLLM 0.32 has them.
class TestPublisher {
 public:
  enum class Replay { kAnswer, kNone, kSilent, kNoMarker };

  // `endpoint` empty: binds free ports; else dials out to it, as vLLM does when its endpoint holds no wildcard.
  // `queue_max`: messages that a subscriber may be behind; beyond it they are dropped (vLLM: `hwm`).
  TestPublisher(io::Loop& loop, Replay replay, std::string endpoint = {}, int queue_max = 100'000)
      : loop_(loop), mode_(replay), dials_(!endpoint.empty()), live_at_(std::move(endpoint)), queue_max_(queue_max) {
    if (live_at_.empty()) live_at_ = "tcp://127.0.0.1:*";
    WP_CHECK(open());
  }

  const std::string& live_endpoint() const { return live_at_; }
  const std::string& replay_endpoint() const { return replay_at_; }

  // True when both sockets stand: a port closed a moment ago may not be free yet.
  bool open() {
    io::ZmqOptions live;
    live.kind = io::ZmqKind::kPub;
    live.attach = dials_ ? io::ZmqOptions::Attach::kConnect : io::ZmqOptions::Attach::kBind;
    live.endpoint = live_at_;
    live.send_high_water = queue_max_;
    if (!live_) {
      auto opened = io::ZmqSocket::open(loop_, live, {});
      if (!opened.ok()) return false;
      live_ = std::move(opened).value();
      if (!dials_) live_at_ = live_->bound_endpoint();
    }
    if (mode_ == Replay::kNone || replay_) return true;
    io::ZmqOptions replay;
    replay.kind = io::ZmqKind::kRouter;
    replay.attach = io::ZmqOptions::Attach::kBind;
    replay.endpoint = replay_at_.empty() ? "tcp://127.0.0.1:*" : replay_at_;
    auto opened = io::ZmqSocket::open(loop_, replay,
                                      {.message = [this](std::vector<std::string>&& frames) { answer(frames); },
                                       .connected = {},
                                       .disconnected = {}});
    if (!opened.ok()) return false;
    replay_ = std::move(opened).value();
    replay_at_ = replay_->bound_endpoint();
    return true;
  }
  // The process ends: what it held is lost, the sequence begins at 0 again.
  void die() {
    live_.reset();
    replay_.reset();
    kept_.clear();
    next_ = 0;
  }

  void publish(std::vector<blocks::KvEvent> events) { send(keep(std::move(events))); }
  // Published, and dropped on its way.
  void lose(std::vector<blocks::KvEvent> events) { keep(std::move(events)); }
  void send_frames(std::vector<std::string> frames) { live_->send(frames); }

  Replay mode_now() const { return mode_; }
  void set_replay(Replay mode) { mode_ = mode; }
  std::uint64_t next_seq() const { return next_; }
  std::size_t replays_asked = 0;
  std::size_t replay_pieces_max = 10'000;  // batches of one answer

 private:
  struct Kept {
    std::uint64_t seq;
    std::vector<std::uint8_t> payload;
  };
  const Kept& keep(std::vector<blocks::KvEvent> events) {
    events::Batch batch;
    batch.ts = static_cast<double>(++stamp_);
    batch.events = std::move(events);
    batch.rank = 0;
    kept_.push_back({next_++, events::encode_batch(batch, events::Encoding::kMaps)});
    return kept_.back();
  }
  void send(const Kept& kept) { live_->send(events::make_live("kv", PublisherSeq(kept.seq), kept.payload)); }
  void answer(const std::vector<std::string>& frames) {
    const auto request = events::parse_replay_request(frames);
    if (!request.ok()) return;
    ++replays_asked;
    if (mode_ == Replay::kSilent) return;
    std::size_t sent = 0;
    for (const Kept& kept : kept_) {
      if (kept.seq < request->start.value()) continue;
      if (sent++ == replay_pieces_max) return;  // and no end marker
      replay_->send(events::make_replay_reply(request->identity, "kv", PublisherSeq(kept.seq), kept.payload));
    }
    if (mode_ != Replay::kNoMarker) replay_->send(events::make_replay_end(request->identity));
  }

  io::Loop& loop_;
  Replay mode_;
  bool dials_;
  std::string live_at_, replay_at_;
  int queue_max_;
  std::unique_ptr<io::ZmqSocket> live_, replay_;
  std::deque<Kept> kept_;
  std::uint64_t next_ = 0;
  std::uint64_t stamp_ = 0;  // two lives of an engine never share a time
};

// The HTTP side: pages by path; what has none is 404.
class TestEngine {
 public:
  struct Page {
    int status = 200;
    std::string body;
  };

  explicit TestEngine(io::Loop& loop, std::string ip = "127.0.0.1", std::uint16_t port = 0)
      : loop_(loop), address_{std::move(ip), port} {
    pages["/health"] = {};
    pages["/v1/models"] = {200, models({"qwen"})};
    pages["/metrics"] = {200, page(0, 0)};
    WP_CHECK(open());
  }

  bool open() {
    http::ServerOptions options;
    options.errors = [](const Error& error, int& status, http::Headers&) {
      status = 400;
      return error.message;
    };
    auto opened =
        http::HttpListener::open(loop_, address_, std::move(options), [this](std::shared_ptr<http::Exchange> x) {
          ++asked[std::string(x->head().path())];
          const auto found = pages.find(std::string(x->head().path()));
          if (hang) {
            held.push_back(std::move(x));
          } else if (found == pages.end()) {
            x->respond(404, {}, R"({"detail":"Not Found"})");
          } else {
            x->respond(found->second.status, {}, found->second.body);
          }
        });
    if (!opened.ok()) return false;
    http_ = std::move(opened).value();
    address_ = http_->address();
    return true;
  }
  void close() {
    held.clear();
    http_.reset();
  }

  EngineAddress address() const { return at("http://" + address_.text()); }
  EngineAddress at(const std::string& url) const {
    EngineAddress made;
    made.url = http::parse_url(url).value();
    return made;
  }
  std::uint16_t port() const { return address_.port; }

  static std::string models(const std::vector<std::string>& ids) {
    std::string text = R"({"object":"list","data":[)";
    for (const std::string& id : ids) {
      if (text.back() == '}') text += ",";
      text += R"({"id":")" + id + R"(","root":"/models/)" + id + R"(","parent":null,"max_model_len":4096})";
    }
    return text + "]}";
  }
  static std::string page(int running, int waiting, std::uint32_t block_tokens = kBlockTokens, double started = 1e9) {
    return "# HELP x y\nprocess_start_time_seconds " + std::to_string(started) +
           "\nvllm:num_requests_running{engine=\"0\",model_name=\"qwen\"} " + std::to_string(running) +
           ".0\nvllm:num_requests_waiting{engine=\"0\",model_name=\"qwen\"} " + std::to_string(waiting) +
           ".0\nvllm:cache_config_info{block_size=\"" + std::to_string(block_tokens) +
           "\",engine=\"0\",kv_cache_size_tokens=\"8192\"} 1.0\n";
  }
  // /kv_event_sources of these ranks.
  static std::string sources(const std::map<std::uint32_t, const TestPublisher*>& ranks) {
    std::string text = "{";
    for (const auto& [rank, publisher] : ranks) {
      if (text.size() > 1) text += ",";
      text += "\"" + std::to_string(rank) + R"(":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":")" +
              publisher->live_endpoint() + R"(","replay_endpoint":)" +
              (publisher->replay_endpoint().empty() ? "null" : "\"" + publisher->replay_endpoint() + "\"") +
              R"(,"topic":"kv"})";
    }
    return text + "}";
  }

  std::map<std::string, Page> pages;
  std::map<std::string, int> asked;
  bool hang = false;  // requests are never answered
  std::vector<std::shared_ptr<http::Exchange>> held;

 private:
  io::Loop& loop_;
  io::Address address_;
  std::unique_ptr<http::HttpListener> http_;
};

// What a pool was told.
class TestSink final : public Sink {
 public:
  EngineId next_engine_id() override { return EngineId(next_++); }
  void engine_found(Found engine) override {
    ++found_calls;
    found[engine.info.id] = std::move(engine);
  }
  void changed(const fleet::Change& change) override {
    if (const auto* removed = std::get_if<fleet::Removed>(&change)) {
      gone.push_back(removed->engine);
      found.erase(removed->engine);
      liveness.erase(removed->engine);
    } else if (const auto* moved = std::get_if<fleet::LivenessChanged>(&change)) {
      liveness[moved->engine] = moved->liveness;
      ++liveness_calls;
    }
  }
  void sampled(const fleet::Sample& sample) override { samples[sample.engine] = sample, ++samples_calls; }
  void publisher_changed(EngineId engine, blocks::PublisherState state) override { publishers[engine] = state; }
  void warned(std::string_view event, std::string_view engine, std::string_view text) override {
    warnings.push_back(std::string(event) + " " + std::string(engine) + ": " + std::string(text));
  }

  bool up(std::uint32_t id) const {
    const auto at = liveness.find(EngineId(id));
    return at != liveness.end() && at->second == fleet::Liveness::kUp;
  }
  bool down(std::uint32_t id) const {
    const auto at = liveness.find(EngineId(id));
    return at != liveness.end() && at->second == fleet::Liveness::kDown;
  }
  bool exact(std::uint32_t id) const { return is(id, blocks::PublisherState::kExact); }
  bool is(std::uint32_t id, blocks::PublisherState state) const {
    const auto at = publishers.find(EngineId(id));
    return at != publishers.end() && at->second == state;
  }

  std::map<EngineId, Found> found;
  std::map<EngineId, fleet::Liveness> liveness;
  std::map<EngineId, fleet::Sample> samples;
  std::map<EngineId, blocks::PublisherState> publishers;
  std::vector<EngineId> gone;
  std::vector<std::string> warnings;
  int found_calls = 0, liveness_calls = 0, samples_calls = 0;

 private:
  std::uint32_t next_ = 0;
};

}  // namespace warmpath::ingest::testing
