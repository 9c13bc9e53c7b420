#include "ingest/publisher_feed.h"

#include <cmath>
#include <utility>

namespace warmpath::ingest {

PublisherFeed::PublisherFeed(io::Loop& loop, Setup setup, index::Index& index, observe::Registry& registry,
                             std::function<void(blocks::PublisherState)> state_changed)
    : loop_(loop),
      setup_(std::move(setup)),
      index_(index),
      state_changed_(std::move(state_changed)),
      follower_(
          [&] {
            events::FollowerOptions options = setup_.follower;
            options.can_replay = !setup_.source.replay.empty();
            return options;
          }(),
          setup_.seed),
      counters_{[&] {
        const observe::Labels labels{{"pool", setup_.pool}, {"engine", setup_.name}};
        const auto counter = [&](std::string_view name, std::string_view help) -> observe::Counter& {
          return registry.counter(name, help, labels);
        };
        return Counters{
            counter("warmpath_kv_batches_total", "KV-event batches applied."),
            counter("warmpath_kv_blocks_stored_total", "Blocks that engines said they stored."),
            counter("warmpath_kv_blocks_removed_total", "Blocks that engines said they removed."),
            counter("warmpath_kv_stores_parked_total", "Stored events kept aside as their parent is not known."),
            counter("warmpath_kv_stores_dropped_total", "Stored events that could not be kept."),
            counter("warmpath_kv_blocks_evicted_total", "Blocks forgotten to keep the index below its cap."),
            counter("warmpath_kv_batches_duplicate_total", "Batches received twice."),
            counter("warmpath_kv_batches_malformed_total", "Batches that could not be decoded."),
            counter("warmpath_kv_events_malformed_total", "Events with a field of the wrong kind."),
            counter("warmpath_kv_events_unknown_total", "Events of a type not known."),
            counter("warmpath_kv_gaps_total", "Holes in the sequence of batches."),
            counter("warmpath_kv_replays_total", "Replays asked."),
            counter("warmpath_kv_replays_failed_total", "Replays that brought nothing or broke off."),
            counter("warmpath_kv_restarts_total", "Engine restarts noticed in the event stream."),
            counter("warmpath_kv_batches_dropped_total", "Live batches beyond what may wait for a replay."),
            registry.gauge("warmpath_kv_publisher_state", "0 exact, 1 partial, 2 suspect, 3 lost.", labels),
            registry.gauge("warmpath_kv_lag_batches", "Batches known to be out that are not applied.", labels)};
      }()} {
  counters_.state.set(static_cast<double>(follower_.state()));
}

PublisherFeed::~PublisherFeed() = default;

// Sockets of ours may be on the stack: they go with the next turn.
void PublisherFeed::hurry() {
  if (connected() || setup_.source.side == EventSource::Side::kBind) return;
  if (live_) loop_.post([gone = std::shared_ptr<io::ZmqSocket>(std::move(live_))] {});
  (void)open();  // the same address opened before
}

Result<void> PublisherFeed::open() {
  io::ZmqOptions options;
  options.kind = io::ZmqKind::kSub;
  options.endpoint = setup_.source.events;
  options.attach =
      setup_.source.side == EventSource::Side::kBind ? io::ZmqOptions::Attach::kBind : io::ZmqOptions::Attach::kConnect;
  options.receive_high_water = setup_.live_queue_max;
  options.topics = {""};  // identity comes from the connection, not from a topic's text
  // What an older socket still has to say is not heard.
  live_life_ = std::make_shared<int>(0);
  const std::weak_ptr<int> alive = live_life_;
  auto socket = io::ZmqSocket::open(loop_, options,
                                    {.message =
                                         [this, alive](std::vector<std::string>&& frames) {
                                           if (!alive.expired()) on_live(std::move(frames));
                                         },
                                     .connected =
                                         [this, alive] {
                                           if (alive.expired()) return;
                                           heard_ = false;
                                           step(events::Connected{});
                                         },
                                     .disconnected =
                                         [this, alive] {
                                           if (!alive.expired()) step(events::Disconnected{});
                                         }});
  if (!socket.ok()) return socket.error();
  live_ = std::move(socket).value();
  return {};
}

void PublisherFeed::on_live(std::vector<std::string>&& frames) {
  auto message = events::parse_live(frames);
  if (!message.ok()) return step(events::LiveBroken{});
  heard_ = true;
  step(events::LiveBatch{message->seq, events::decode_batch(message->payload)});
}

void PublisherFeed::on_reply(std::vector<std::string>&& frames) {
  auto reply = events::parse_replay_reply(frames);
  if (!reply.ok()) return step(events::ReplayBroken{});
  if (reply->end) {
    // Over, unless the Follower asks anew: that is a socket of its own.
    stop_replay();
    return step(events::ReplayEnd{});
  }
  heard_ = true;
  step(events::ReplayBatch{reply->seq, events::decode_batch(reply->payload)});
}

// The index may forget this engine's blocks for the sake of another's, at any time.
void PublisherFeed::note_evictions(std::uint64_t evicted) {
  const std::uint64_t before = std::exchange(evicted_, evicted);
  if (evicted <= before) return;
  counters_.evicted.add(evicted - before);
  curtailed_ = true;
}

void PublisherFeed::look_for_evictions() {
  curtailed_ = false;
  note_evictions(index_.blocks_evicted(setup_.engine));
  if (curtailed_) step(events::Curtailed{});
}

Result<std::uint64_t> PublisherFeed::restore(index::SnapshotEngine from, std::optional<double> started_at_s) {
  const bool both_tell = from.started_at_s > 0 && started_at_s.value_or(0) > 0;
  constexpr double kSameStart = 1;  // engines round it
  if (both_tell && std::abs(from.started_at_s - *started_at_s) > kSameStart) {
    return Error{ErrorKind::kConflict, "the engine was restarted meanwhile"};
  }
  if (setup_.source.replay.empty() && !both_tell) {
    return Error{ErrorKind::kConflict,
                 "without a replay socket or process_start_time_seconds nothing tells whether it was restarted"};
  }
  auto adopted = index_.adopt(setup_.engine, from.parts);
  if (!adopted.ok()) return adopted.error();
  events::FollowerMark mark{from.mark.seq, from.mark.digest, from.mark.trust, from.mark.unreadable_seen,
                            from.mark.other_tiers_seen};
  if (!adopted->whole && mark.trust == blocks::PublisherState::kExact) mark.trust = blocks::PublisherState::kPartial;
  std::vector<events::FollowerEffect> effects;
  follower_.resume(mark, loop_.now(), effects);
  obey(effects);
  return adopted->blocks;
}

std::optional<index::SnapshotEngine> PublisherFeed::standing() const {
  const auto mark = follower_.mark();
  if (!mark) return std::nullopt;
  index::SnapshotEngine out;
  out.name = setup_.name;
  out.mark = {mark->seq, mark->digest, mark->trust, mark->unreadable_seen, mark->other_tiers_seen};
  return out;
}

void PublisherFeed::release() {
  held_ = false;
  const std::weak_ptr<int> alive = life_;
  for (events::FollowerInput& input : std::exchange(waiting_, {})) {
    step(std::move(input));
    if (alive.expired()) return;
  }
}

void PublisherFeed::step(events::FollowerInput input) {
  if (held_) {
    waiting_.push_back(std::move(input));
    if (waiting_.size() > kWaitingMax) release();
    return;
  }
  std::vector<events::FollowerEffect> effects;
  follower_.step(std::move(input), loop_.now(), effects);
  obey(effects);
}

void PublisherFeed::obey(std::vector<events::FollowerEffect>& effects) {
  const std::weak_ptr<int> alive = life_;
  curtailed_ = false;
  for (events::FollowerEffect& effect : effects) {
    perform(effect);
    if (alive.expired()) return;
  }
  if (curtailed_) return step(events::Curtailed{});  // has no effect but a state: ends here
  publish_counters();
}

void PublisherFeed::perform(events::FollowerEffect& effect) {
  if (auto* apply = std::get_if<events::Apply>(&effect)) {
    const index::Applied applied = index_.apply(setup_.engine, apply->batch.events);
    counters_.stored.add(applied.blocks_stored);
    counters_.removed.add(applied.blocks_removed);
    counters_.parked.add(applied.stores_parked);
    counters_.dropped.add(applied.stores_dropped);
    curtailed_ = curtailed_ || applied.stores_dropped > 0;
    note_evictions(applied.engine_blocks_evicted);
  } else if (std::holds_alternative<events::ForgetAll>(effect)) {
    index_.forget(setup_.engine);
    index_.set_state(setup_.engine, follower_.state());
  } else if (const auto* ask = std::get_if<events::AskReplay>(&effect)) {
    ask_replay(ask->start);
  } else if (std::holds_alternative<events::StopReplay>(effect)) {
    stop_replay();
  } else if (const auto* arm = std::get_if<events::ArmTimer>(&effect)) {
    timer_ = loop_.after(arm->at - loop_.now(), [this] { step(events::Timeout{}); });
  } else if (std::holds_alternative<events::DisarmTimer>(effect)) {
    timer_.cancel();
  } else if (const auto* changed = std::get_if<events::StateChanged>(&effect)) {
    index_.set_state(setup_.engine, changed->state);
    counters_.state.set(static_cast<double>(changed->state));
    state_changed_(changed->state);
  }
}

void PublisherFeed::stop_replay() {
  exchange_life_.reset();
  if (replay_) loop_.post([gone = std::shared_ptr<io::ZmqSocket>(std::move(replay_))] {});
}

// A fresh socket for each exchange: late replies of an older one die with its socket.
void PublisherFeed::ask_replay(PublisherSeq start) {
  stop_replay();
  exchange_life_ = std::make_shared<int>(0);
  io::ZmqOptions options;
  options.kind = io::ZmqKind::kDealer;
  options.endpoint = setup_.source.replay;
  options.receive_high_water = 0;  // vLLM up to 0.32 drops what a slow reader leaves: read without limit, and fast
  auto socket =
      io::ZmqSocket::open(loop_, options,
                          {.message =
                               [this, alive = std::weak_ptr<int>(exchange_life_)](std::vector<std::string>&& frames) {
                                 if (!alive.expired()) on_reply(std::move(frames));
                               },
                           .connected = {},
                           .disconnected = {}});
  if (!socket.ok()) return;  // the Follower's deadline passes and it asks again
  replay_ = std::move(socket).value();
  replay_->send(events::make_replay_request(start));
}

void PublisherFeed::publish_counters() {
  const events::FollowerCounters& c = follower_.counters();
  const auto raise = [](observe::Counter& counter, std::uint64_t now, std::uint64_t& before) {
    if (now > before) counter.add(now - before);
    before = now;
  };
  raise(counters_.batches, c.batches_applied, published_.batches_applied);
  raise(counters_.duplicate, c.batches_duplicate, published_.batches_duplicate);
  raise(counters_.malformed_batches, c.batches_malformed, published_.batches_malformed);
  raise(counters_.malformed_events, c.events_malformed, published_.events_malformed);
  raise(counters_.unknown_events, c.events_unknown, published_.events_unknown);
  raise(counters_.gaps, c.gaps, published_.gaps);
  raise(counters_.replays, c.replays_asked, published_.replays_asked);
  raise(counters_.replays_failed, c.replays_failed, published_.replays_failed);
  raise(counters_.restarts, c.restarts, published_.restarts);
  raise(counters_.batches_dropped, c.batches_dropped, published_.batches_dropped);
  counters_.lag.set(static_cast<double>(follower_.lag_batches()));
}

}  // namespace warmpath::ingest
