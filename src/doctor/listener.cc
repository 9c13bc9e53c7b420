#include "doctor/listener.h"

#include <algorithm>

#include "doctor/told.h"
#include "events/events.h"

namespace warmpath::doctor {
namespace {

// Behind every batch there can be: the answer is the end marker alone.
constexpr std::uint64_t kBeyond = std::uint64_t{1} << 62;

std::size_t tokens_of(const blocks::KvEvent& event) {
  const auto* stored = std::get_if<blocks::BlockStored>(&event);
  return stored == nullptr ? 1 : stored->token_ids.size() + 1;
}

}  // namespace

Listener::Listener(io::Loop& loop, Evidence& evidence, const tokens::Tokenizer& tokenizer)
    : loop_(loop), evidence_(evidence), filter_(tokenizer, evidence.nonce) {}

void Listener::open() {
  for (std::size_t i = 0; i < evidence_.sources.size(); ++i) {
    open_live(i);
    if (!evidence_.sources[i].replay.empty()) open_replay(i);
  }
}

void Listener::open_live(std::size_t source) {
  SourceSeen& seen = evidence_.sources[source];
  io::ZmqOptions options;
  options.kind = io::ZmqKind::kSub;
  options.endpoint = seen.events;
  options.attach = seen.bound ? io::ZmqOptions::Attach::kBind : io::ZmqOptions::Attach::kConnect;
  options.topics = {""};
  io::ZmqSocket::Callbacks callbacks;
  callbacks.message = [this, source](std::vector<std::string>&& frames) { on_live(source, frames); };
  callbacks.connected = [this, source] { evidence_.sources[source].connected = true; };
  auto socket = io::ZmqSocket::open(loop_, options, std::move(callbacks));
  if (!socket.ok()) {
    seen.unusable = socket.error().message;
    return;
  }
  sockets_.push_back(*std::move(socket));
}

void Listener::open_replay(std::size_t source) {
  SourceSeen& seen = evidence_.sources[source];
  seen.replays = SourceSeen::Replay::kSilent;
  io::ZmqOptions options;
  options.kind = io::ZmqKind::kDealer;
  options.endpoint = seen.replay;
  io::ZmqSocket::Callbacks callbacks;
  callbacks.message = [this, source](std::vector<std::string>&& frames) {
    if (events::parse_replay_reply(frames).ok()) {
      evidence_.sources[source].replays = SourceSeen::Replay::kAnswered;
    }
  };
  auto socket = io::ZmqSocket::open(loop_, options, std::move(callbacks));
  if (!socket.ok()) return;
  (void)(*socket)->send(events::make_replay_request(PublisherSeq(kBeyond)));
  sockets_.push_back(*std::move(socket));
}

bool Listener::all_connected() const {
  return std::ranges::all_of(
      evidence_.sources, [](const SourceSeen& seen) { return seen.connected || seen.bound || !seen.unusable.empty(); });
}

bool Listener::all_replays_answered() const {
  return std::ranges::none_of(evidence_.sources,
                              [](const SourceSeen& seen) { return seen.replays == SourceSeen::Replay::kSilent; });
}

void Listener::on_live(std::size_t source, const std::vector<std::string>& frames) {
  SourceSeen& seen = evidence_.sources[source];
  const auto message = events::parse_live(frames);
  if (!message.ok()) {
    ++seen.unreadable;
    return;
  }
  auto batch = events::decode_batch(message->payload);
  if (!batch.ok()) {
    ++seen.unreadable;
    return;
  }
  ++seen.batches;
  seen.unreadable += batch->events_malformed;
  if (seen.topics.size() < kTopicsMax) seen.topics.insert(printable(message->topic));
  for (blocks::KvEvent& any : batch->events) {
    for (blocks::KvEvent& event : filter_.take(std::move(any))) {
      const std::size_t tokens = tokens_of(event);
      if (evidence_.heard.size() >= kHeardEventsMax || tokens_ + tokens > kHeardTokensMax) {
        evidence_.heard_too_much = true;
        return;
      }
      tokens_ += tokens;
      evidence_.heard.push_back({seen.rank, std::move(event)});
    }
  }
}

}  // namespace warmpath::doctor
