#include "world.h"

#include <algorithm>
#include <cstdio>

namespace warmpath::faults {
namespace {

using blocks::PublisherState;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint32_t kRouterBlockTokens = 16;
constexpr Duration kTrafficAfter = seconds(4);  // requests go on for so long after the faults
constexpr std::size_t kAskBurst = 4;            // the Follower's word: asks in any 4 s

// " S parent: hashes" and " R hashes", 16 bits of each.
std::string shown(const events::Batch& batch) {
  std::string out;
  char text[16];
  const auto add = [&](EngineHash hash) {
    std::snprintf(text, sizeof text, " %04x", static_cast<unsigned>(hash.value() & 0xffff));
    out += text;
  };
  for (std::size_t i = 0; i < batch.events.size() && i < 20; ++i) {
    const blocks::KvEvent& event = batch.events[i];
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      out += "; S";
      if (stored->parent_block_hash) add(stored->parent_block_hash->value);
      out += " :";
      for (const blocks::WireHash& hash : stored->block_hashes) add(hash.value);
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      out += "; R";
      for (const blocks::WireHash& hash : removed->block_hashes) add(hash.value);
    } else {
      out += "; clear";
    }
  }
  return out;
}

}  // namespace

World::World(const Schedule& schedule, Plant plant, Trace trace)
    : schedule_(schedule),
      plant_(plant),
      trace_(trace == Trace::kYes),
      random_(schedule.seed, "faults.world"),
      space_(schedule.seed, "faults", kRouterBlockTokens),
      index_(fresh_index()) {}

std::unique_ptr<index::Index> World::fresh_index() const {
  return std::make_unique<index::Index>(index::IndexOptions{.space = space_, .bytes_max = schedule_.index_bytes_max});
}

Outcome World::run() {
  for (const AddressPlan& plan : schedule_.addresses) addresses_.push_back({.plan = plan});
  for (std::uint32_t i = 0; i < addresses_.size(); ++i) begin_address(i);
  for (const Fault& fault : schedule_.faults) at(start_ + fault.at, [this, &fault] { begin(fault); });
  const bool restarts =
      std::ranges::any_of(schedule_.faults, [](const Fault& fault) { return fault.kind == Kind::kGatewayRestart; });
  if (restarts) after(milliseconds(random_.below(800)), [this] { write_snapshot(); });
  at(start_ + kFaultsEnd + kTrafficAfter, [this] { quieten(); });
  const Instant end = start_ + kFaultsEnd + kCalm;
  while (!queue_.empty() && queue_.top().at <= end && outcome_.faults.empty()) {
    const Item item = queue_.top();
    queue_.pop();
    now_ = item.at;
    actions_.extract(item.number).mapped()();
  }
  if (outcome_.faults.empty()) check();
  return std::move(outcome_);
}

void World::fault(const std::string& what) {
  outcome_.faults.push_back("at " + std::to_string(to_seconds(now_ - start_)) + " s: " + what);
}

void World::at(Instant when, std::function<void()> action) {
  queue_.push({when, next_number_});
  actions_.emplace(next_number_++, std::move(action));
}

bool World::active(Kind kind, std::uint32_t address, double* strength) const {
  for (const Fault& fault : schedule_.faults) {
    if (fault.kind != kind || fault.address != address) continue;
    if (now_ < start_ + fault.at || now_ >= start_ + fault.until) continue;
    if (strength != nullptr) *strength = fault.strength;
    return true;
  }
  return false;
}

bool World::chance(Kind kind, std::uint32_t address, double most) {
  double strength = 0;
  return active(kind, address, &strength) && random_.unit() < strength * most;
}

// ---- the engines ----

void World::begin_address(std::uint32_t number) {
  Address& address = addresses_[number];
  address.delay = milliseconds(1 + random_.below(40));
  start_process(number, address.plan.ranks);
  for (std::uint32_t rank = 0; rank < address.ranks.size(); ++rank) {
    Process& process = *address.ranks[rank];
    for (int tries = 0; tries < 1'000 && process.next_seq() < address.plan.batches_before; ++tries) {
      process.add_request(now_);
      process.step(now_ - seconds(1), Duration{});
    }
    subscribe(number, rank);
  }
}

void World::start_process(std::uint32_t number, std::uint32_t ranks) {
  Address& address = addresses_[number];
  ++address.life;
  address.ranks.clear();
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    address.ranks.push_back(std::make_unique<Process>(address.plan, schedule_.seed, next_process_++, rank));
    after(milliseconds(random_.below(30)), [this, number, rank, life = address.life] { traffic(number, rank, life); });
    after(milliseconds(random_.below(30)), [this, number, rank, life = address.life] { steps(number, rank, life); });
  }
}

void World::traffic(std::uint32_t number, std::uint32_t rank, std::uint64_t life) {
  Address& address = addresses_[number];
  if (quiet_ || life != address.life) return;
  address.ranks[rank]->add_request(now_);
  after(milliseconds(60 + random_.below(240)), [this, number, rank, life] { traffic(number, rank, life); });
}

void World::steps(std::uint32_t number, std::uint32_t rank, std::uint64_t life) {
  Address& address = addresses_[number];
  if (life != address.life) return;
  if (const auto message = address.ranks[rank]->step(now_, address.ts_offset)) {
    for (Subscription* one : address.subscriptions) {
      if (one->rank == rank) send(*one, *message);
    }
  }
  after(milliseconds(15 + random_.below(10)), [this, number, rank, life] { steps(number, rank, life); });
}

// No requests any more but one small one each, so that a lost last message shows.
void World::quieten() {
  quiet_ = true;
  for (Address& address : addresses_) {
    for (auto& process : address.ranks) {
      process->abort_all();
      process->add_request(now_);
    }
  }
}

void World::restart(std::uint32_t number, std::uint32_t ranks, bool passed) {
  Address& address = addresses_[number];
  std::vector<std::uint64_t> before;
  for (const auto& process : address.ranks) before.push_back(process->next_seq());
  const Duration away = milliseconds(20 + random_.below(800));
  for (Subscription* one : address.subscriptions) {
    ++one->exchange;  // replies die with the process
    disconnect(*one, milliseconds(random_.below(200)));
  }
  address.down = true;
  start_process(number, ranks);
  const std::uint64_t life = address.life;
  if (passed) {
    for (std::size_t rank = 0; rank < address.ranks.size() && rank < before.size(); ++rank) {
      Process& process = *address.ranks[rank];
      const std::uint64_t target = before[rank] + random_.below(20);
      for (int tries = 0; tries < 3'000 && process.next_seq() <= target; ++tries) {
        process.add_request(now_);
        process.step(now_ + milliseconds(tries % 50), address.ts_offset);
      }
    }
  }
  after(away, [this, number, life] {
    if (addresses_[number].life == life) addresses_[number].down = false;
  });
  if (ranks == address.subscriptions.size()) return;
  after(milliseconds(200 + random_.below(1'300)), [this, number, life] {
    if (addresses_[number].life == life) notice_ranks(number);
  });
}

// As ingest does: all ranks of the address are new engines.
void World::notice_ranks(std::uint32_t number) {
  Address& address = addresses_[number];
  for (Subscription* one : address.subscriptions) {
    ++one->link;
    ++one->exchange;
    ++one->timer;
    index_->forget(one->engine);
    index_->set_state(one->engine, PublisherState::kLost);
    if (!index_->held(one->engine).empty()) fault("an engine that left still holds blocks");
    take_totals(one->follower.counters());
  }
  address.subscriptions.clear();
  for (std::uint32_t rank = 0; rank < address.ranks.size(); ++rank) subscribe(number, rank);
}

void World::begin(const Fault& fault) {
  ++outcome_.happened[fault.kind];
  Address& address = addresses_[fault.address];
  const std::size_t rank = random_.below(address.ranks.size());
  switch (fault.kind) {
    case Kind::kBreak:
      for (Subscription* one : address.subscriptions) {
        if (one->rank == rank) disconnect(*one, milliseconds(random_.below(400)));
      }
      break;
    case Kind::kRestart: restart(fault.address, static_cast<std::uint32_t>(address.ranks.size()), false); break;
    case Kind::kRestartPassed: restart(fault.address, static_cast<std::uint32_t>(address.ranks.size()), true); break;
    case Kind::kRankCount:
      restart(fault.address, address.ranks.size() == 1 ? 2 + static_cast<std::uint32_t>(random_.below(2)) : 1,
              fault.strength < 0.3);
      break;
    case Kind::kHugeBatch:
      address.ranks[rank]->make_huge(1'000 + static_cast<std::uint32_t>(fault.strength * 4'000));
      break;
    case Kind::kClear: {
      // Only when nothing is in use.
      Process& process = *address.ranks[rank];
      process.abort_all();
      process.reset_prefix_cache();
      break;
    }
    case Kind::kEngineClock: address.ts_offset += from_seconds((fault.strength - 0.5) * 2 * 365 * 86'400); break;
    case Kind::kGatewayRestart: restart_gateway(fault.strength); break;
    case Kind::kRouterClock: router_clock_ += from_seconds(fault.strength * 3'600); break;
    default: break;  // looked up where they act
  }
}

// ---- the router's own end and beginning ----

// As engines are called in a snapshot: with the rank where there are several.
std::string World::name_of(std::uint32_t number, std::uint32_t rank) const {
  std::string name = "address " + std::to_string(number);
  if (addresses_[number].ranks.size() > 1) name += "#" + std::to_string(rank);
  return name;
}

void World::write_snapshot() {
  index::SnapshotWriter writer;
  std::string bytes = writer.begin(0) + writer.pool({.name = "p", .key_probe = index::key_probe(space_)});
  for (std::uint32_t number = 0; number < addresses_.size(); ++number) {
    for (const Subscription* one : addresses_[number].subscriptions) {
      const auto mark = one->follower.mark();
      auto copy = index_->copy(one->engine);
      if (!mark || !copy) continue;
      index::SnapshotEngine engine{
          .name = one->name,
          .mark = {mark->seq, mark->digest, mark->trust, mark->unreadable_seen, mark->other_tiers_seen},
          .blocks = copy->blocks,
          .parts = std::move(copy->parts)};
      if (!copy->whole && engine.mark.trust == PublisherState::kExact) engine.mark.trust = PublisherState::kPartial;
      writer.engine(engine, bytes);
    }
  }
  snapshot_ = bytes + writer.end();
  if (now_ < start_ + kFaultsEnd) after(milliseconds(200 + random_.below(1'500)), [this] { write_snapshot(); });
}

// Killed, and begun again with the snapshot written last: whole, cut anywhere, or with a byte that is another.
void World::restart_gateway(double strength) {
  std::string bytes = snapshot_;
  if (strength < 0.3 && !bytes.empty()) bytes.resize(random_.below(bytes.size()));
  if (strength > 0.7 && !bytes.empty()) bytes[random_.below(bytes.size())] ^= static_cast<char>(1 + random_.below(255));
  index::SnapshotReader reader;
  reader.feed(bytes);
  index::SnapshotContent content = reader.finish();
  std::map<std::string, index::SnapshotEngine> known;
  for (auto& pool : content.pools) {
    if (pool.pool.key_probe != index::key_probe(space_)) fault("another pool's keys are in the snapshot");
    for (auto& engine : pool.engines) known.emplace(engine.name, std::move(engine));
  }
  for (Address& address : addresses_) {
    for (Subscription* one : address.subscriptions) {
      ++one->link;
      ++one->exchange;
      ++one->timer;
      take_totals(one->follower.counters());
    }
    address.subscriptions.clear();
  }
  index_ = fresh_index();
  for (std::uint32_t number = 0; number < addresses_.size(); ++number) {
    for (std::uint32_t rank = 0; rank < addresses_[number].ranks.size(); ++rank) {
      const auto from = known.find(name_of(number, rank));
      subscribe(number, rank, from == known.end() ? nullptr : &from->second);
    }
  }
}

void World::resume(Subscription& one, const index::SnapshotEngine& from) {
  const auto adopted = index_->adopt(one.engine, from.parts);
  if (!adopted.ok()) return fault("an engine of a checked snapshot is refused");
  outcome_.blocks_restored += adopted->blocks;
  events::FollowerMark mark{from.mark.seq, from.mark.digest, from.mark.trust, from.mark.unreadable_seen,
                            from.mark.other_tiers_seen};
  if (!adopted->whole && mark.trust == PublisherState::kExact) mark.trust = PublisherState::kPartial;
  std::vector<events::FollowerEffect> effects;
  one.follower.resume(mark, now_ + router_clock_, effects);
  if (trace_) trace(one, effects);
  for (events::FollowerEffect& effect : effects) obey(one, effect, false);
}

// ---- live links ----

void World::subscribe(std::uint32_t number, std::uint32_t rank, const index::SnapshotEngine* from) {
  Address& address = addresses_[number];
  const EngineId engine(next_engine_++);
  auto one = std::make_unique<Subscription>(Subscription{
      .engine = engine,
      .address = number,
      .rank = rank,
      .name = name_of(number, rank),
      .follower = events::Follower({.can_replay = address.plan.replay_batches > 0,
                                    .parked_batches_max = schedule_.parked_batches_max,
                                    .parked_events_max = schedule_.parked_events_max},
                                   schedule_.seed + engine.value()),
  });
  address.subscriptions.push_back(one.get());
  subscriptions_.push_back(std::move(one));
  index_->set_state(engine, PublisherState::kLost);
  // As ingest does: without a replay socket nothing would tell whether it is the same process.
  if (from != nullptr && address.plan.replay_batches > 0) resume(*subscriptions_.back(), *from);
  connect(*subscriptions_.back());
}

void World::connect(Subscription& one) {
  const Address& address = addresses_[one.address];
  const std::uint64_t link = ++one.link;
  if (address.down || one.rank >= address.ranks.size()) {
    after(milliseconds(100), [this, &one, link] {
      if (link == one.link) connect(one);
    });
    return;
  }
  one.up = true;
  one.link_free = now_;
  // The monitor tells of the connection on a socket of its own: first messages may be ahead of it.
  const Duration told = random_.below(3) == 0 ? address.delay + milliseconds(random_.below(30)) : Duration{};
  after(told, [this, &one, link] {
    if (link == one.link) step(one, events::Connected{});
  });
}

// From now on nothing arrives; it is noticed after `notice`, or only when the connection is back.
void World::disconnect(Subscription& one, Duration notice) {
  const std::uint64_t link = ++one.link;
  one.up = false;
  after(notice, [this, &one, link] {
    if (link != one.link) return;
    if (random_.below(4) != 0) step(one, events::Disconnected{});
    after(milliseconds(random_.below(800)), [this, &one, link] {
      if (link == one.link) connect(one);
    });
  });
}

void World::send(Subscription& one, const Message& message) {
  if (!one.up || chance(Kind::kLoss, one.address, 0.9)) return;
  std::vector<events::Frame> frames = message.frames;
  if (chance(Kind::kCorrupt, one.address, 0.5)) garble(frames);
  deliver(one, frames, Duration{});
  if (chance(Kind::kDuplicate, one.address, 0.8)) deliver(one, std::move(frames), milliseconds(random_.below(300)));
}

// In order on one connection, whatever the others do; `extra` is how much later a copy comes.
void World::deliver(Subscription& one, std::vector<events::Frame> frames, Duration extra) {
  Duration delay = addresses_[one.address].delay + milliseconds(random_.below(5));
  double strength = 0;
  if (active(Kind::kDelay, one.address, &strength)) delay += from_seconds(strength * 0.5);
  Instant when = now_ + delay + extra;
  if (extra == Duration{}) when = one.link_free = std::max(one.link_free, when);
  at(when, [this, &one, link = one.link, frames = std::move(frames)] {
    if (link != one.link) return;
    const auto live = events::parse_live(frames);
    if (!live.ok()) return step(one, events::LiveBroken{});
    step(one, events::LiveBatch{live->seq, events::decode_batch(live->payload)});
  });
}

// Always so that it shows: a change that decodes to other content is what checksums of the transport are for.
void World::garble(std::vector<events::Frame>& frames) {
  events::Frame& payload = frames.back();
  switch (random_.below(5)) {
    case 0: payload.resize(random_.below(payload.size())); break;
    case 1: payload[0] = static_cast<char>(0xc1); break;
    case 2: payload.push_back('\0'); break;
    case 3: frames.pop_back(); break;
    case 4: frames[frames.size() - 2].pop_back(); break;
  }
}

// ---- replays ----

World::Replies World::faulty_replay(Subscription& one, PublisherSeq start) {
  Address& address = addresses_[one.address];
  Replies out{.messages = address.ranks[one.rank]->replay(start),
              .pause = std::chrono::microseconds(random_.below(3'000))};
  auto& replies = out.messages;
  const std::size_t batches = replies.size() - 1;
  const std::size_t victim = batches == 0 ? 0 : random_.below(batches);
  const auto cut = [&](std::size_t size) { replies.resize(std::min(replies.size(), size)); };
  if (chance(Kind::kReplayOnlyEnd, one.address, 1.2)) {
    replies.erase(replies.begin(), replies.end() - 1);
  } else if (chance(Kind::kReplayCut, one.address, 1.2)) {
    cut(victim);
  } else if (chance(Kind::kReplayMarkerless, one.address, 1.2)) {
    cut(batches);
  } else if (batches > 0 && chance(Kind::kReplayHole, one.address, 1.2)) {
    replies.erase(replies.begin() + static_cast<std::ptrdiff_t>(victim));
    if (random_.below(2) == 0) cut(replies.size() - 1);
  } else if (batches > 0 && chance(Kind::kReplayEndless, one.address, 1.2)) {
    cut(batches);
    out.lasting = batches;
    for (int again = 0; again < 1'000; ++again) replies.push_back(std::vector(replies[batches - 1]));
    return out;
  } else if (batches > 0 && chance(Kind::kReplayCorrupt, one.address, 1.2)) {
    if (garbled_.insert({address.life, one.rank * 1'000'000 + address.ranks[one.rank]->next_seq() - batches + victim})
            .second) {
      garble(replies[victim]);
      ++outcome_.replies_garbled;
    }
  }
  out.lasting = replies.size();
  return out;
}

void World::serve_replay(Subscription& one, PublisherSeq start) {
  const std::uint64_t exchange = ++one.exchange;
  one.exchange_open = true;
  after(addresses_[one.address].delay, [this, &one, exchange, start] {
    const Address& address = addresses_[one.address];
    if (exchange != one.exchange || address.down || one.rank >= address.ranks.size()) return;
    if (chance(Kind::kReplayRefused, one.address, 1.5)) return;
    Duration delay = address.delay;
    Replies replies = faulty_replay(one, start);
    for (std::size_t i = 0; i < replies.messages.size(); ++i) {
      delay += i < replies.lasting ? replies.pause : milliseconds(20);
      if (i >= replies.lasting && now_ + delay >= start_ + kFaultsEnd) return;
      after(delay, [this, &one, exchange, frames = std::move(replies.messages[i])] {
        if (exchange == one.exchange) on_reply(one, frames);
      });
    }
  });
}

void World::on_reply(Subscription& one, const std::vector<events::Frame>& frames) {
  const auto reply = events::parse_replay_reply(frames);
  if (!reply.ok()) return step(one, events::ReplayBroken{});
  if (reply->end) {
    ++one.exchange;
    one.exchange_open = false;
    return step(one, events::ReplayEnd{});
  }
  step(one, events::ReplayBatch{reply->seq, events::decode_batch(reply->payload)});
}

// ---- what ingest's feed does ----

void World::step(Subscription& one, events::FollowerInput input) {
  const bool replay = std::holds_alternative<events::ReplayBatch>(input);
  std::vector<events::FollowerEffect> effects;
  if (trace_) trace(one, input);
  one.follower.step(std::move(input), now_ + router_clock_, effects);
  if (trace_) trace(one, effects);
  bool whole = true;
  for (events::FollowerEffect& effect : effects) whole = obey(one, effect, replay) && whole;
  if (whole) return;
  ++outcome_.curtailed;
  step(one, events::Curtailed{});
}

void World::trace(const Subscription& one, const events::FollowerInput& input) const {
  static constexpr const char* kNames[] = {"connected",    "disconnected", "live",    "live broken", "reply",
                                           "replay's end", "reply broken", "timeout", "curtailed"};
  std::string line = kNames[input.index()];
  const auto add = [&line](PublisherSeq seq, const Result<events::Batch>& batch) {
    line += " " + std::to_string(seq.value());
    line += !batch.ok() ? ", unreadable" : ", " + std::to_string(batch->events.size()) + " events";
    if (batch.ok() && batch->events_malformed > 0) line += ", some malformed";
  };
  if (const auto* live = std::get_if<events::LiveBatch>(&input)) add(live->seq, live->batch);
  if (const auto* reply = std::get_if<events::ReplayBatch>(&input)) add(reply->seq, reply->batch);
  std::printf("%8.3f  engine %u (address %u rank %u)  %s\n", to_seconds(now_ - start_), one.engine.value(), one.address,
              one.rank, line.c_str());
}

void World::trace(const Subscription& one, const std::vector<events::FollowerEffect>& effects) const {
  static constexpr const char* kNames[] = {"apply", "forget", "ask", "stop", "arm", "disarm", "state"};
  for (const events::FollowerEffect& effect : effects) {
    std::string line = kNames[effect.index()];
    if (const auto* apply = std::get_if<events::Apply>(&effect)) line += shown(apply->batch);
    if (const auto* ask = std::get_if<events::AskReplay>(&effect)) line += " " + std::to_string(ask->start.value());
    if (const auto* arm = std::get_if<events::ArmTimer>(&effect)) {
      line += " " + std::to_string(to_seconds(arm->at - router_clock_ - start_));
    }
    if (const auto* state = std::get_if<events::StateChanged>(&effect)) {
      line += " " + std::string(blocks::publisher_state_name(state->state));
    }
    std::printf("          engine %u    -> %s\n", one.engine.value(), line.c_str());
  }
}

// False when the index could not keep all.
bool World::obey(Subscription& one, events::FollowerEffect& effect, bool replay) {
  if (auto* apply_batch = std::get_if<events::Apply>(&effect)) return apply(one, apply_batch->batch, replay);
  if (std::holds_alternative<events::ForgetAll>(effect)) {
    const std::uint64_t restarts = one.follower.counters().restarts;
    if (plant_ == Plant::kRestartUnnoticed && restarts > one.restarts_told) {
      one.restarts_told = restarts;
      return true;
    }
    index_->forget(one.engine);
    index_->set_state(one.engine, one.follower.state());
  } else if (const auto* ask = std::get_if<events::AskReplay>(&effect)) {
    if (one.exchange_open) fault("two replays at a time");
    one.asks.push_back(now_ + router_clock_);
    const std::size_t asks = one.asks.size();
    if (asks > kAskBurst && one.asks[asks - 1] - one.asks[asks - 1 - kAskBurst] < seconds(4)) {
      fault("more than 4 asks in 4 s");
    }
    serve_replay(one, ask->start);
  } else if (std::holds_alternative<events::StopReplay>(effect)) {
    ++one.exchange;
    one.exchange_open = false;
  } else if (const auto* arm = std::get_if<events::ArmTimer>(&effect)) {
    // Our clock may jump ahead while it waits: it comes late by our clock then, as after a suspend.
    at(std::max(arm->at - router_clock_, now_), [this, &one, timer = ++one.timer] {
      if (timer == one.timer) step(one, events::Timeout{});
    });
  } else if (std::holds_alternative<events::DisarmTimer>(effect)) {
    ++one.timer;
  } else if (const auto* state = std::get_if<events::StateChanged>(&effect)) {
    index_->set_state(one.engine, state->state);
  }
  return true;
}

bool World::apply(Subscription& one, events::Batch& batch, bool replay) {
  if (plant_ == Plant::kLostRemoval) {
    std::erase_if(batch.events, [&](const blocks::KvEvent& event) {
      return std::holds_alternative<blocks::BlockRemoved>(event) && ++one.removals % 40 == 0;
    });
  }
  const index::Applied applied = index_->apply(one.engine, batch.events);
  if (plant_ == Plant::kReplayTwice && replay) index_->apply(one.engine, batch.events);
  if (applied.blocks_evicted > 0) tell_evictions(one);
  const std::uint64_t evicted = applied.engine_blocks_evicted;
  return evicted <= std::exchange(one.evicted, evicted) && applied.stores_dropped == 0;
}

// The index makes room at the expense of any engine: the other followers hear of it.
void World::tell_evictions(const Subscription& cause) {
  for (Address& address : addresses_) {
    for (Subscription* one : address.subscriptions) {
      if (one == &cause) continue;
      const std::uint64_t evicted = index_->blocks_evicted(one->engine);
      if (evicted > std::exchange(one->evicted, evicted)) step(*one, events::Curtailed{});
    }
  }
}

// ---- the verdict ----

void World::take_totals(const events::FollowerCounters& counters) {
  outcome_.totals.batches_applied += counters.batches_applied;
  outcome_.totals.batches_malformed += counters.batches_malformed;
  outcome_.totals.batches_duplicate += counters.batches_duplicate;
  outcome_.totals.batches_dropped += counters.batches_dropped;
  outcome_.totals.gaps += counters.gaps;
  outcome_.totals.replays_asked += counters.replays_asked;
  outcome_.totals.replays_failed += counters.replays_failed;
  outcome_.totals.restarts += counters.restarts;
}

void World::check() {
  for (const Address& address : addresses_) {
    for (const Subscription* one : address.subscriptions) {
      take_totals(one->follower.counters());
      ++outcome_.ends[one->follower.state()];
      check_one(*one);
    }
  }
}

void World::check_one(const Subscription& one) {
  const Address& address = addresses_[one.address];
  const Process& process = *address.ranks[one.rank];
  const PublisherState state = one.follower.state();
  const std::string name = "address " + std::to_string(one.address) + " rank " + std::to_string(one.rank) + " (" +
                           std::string(blocks::publisher_state_name(state)) + ")";
  const bool trusted = state == PublisherState::kExact || state == PublisherState::kPartial;
  if (state == PublisherState::kLost) fault(name + ": not connected in the calm");
  if (address.plan.replay_batches > 0 && !trusted) fault(name + ": not trusted again within the calm");
  if (!trusted) return;
  std::vector<EngineHash> held;
  for (const index::HeldBlock& block : index_->held(one.engine)) held.push_back(block.hash);
  const std::vector<EngineHash> truth = process.truth();
  const auto counts = [&] {
    std::vector<EngineHash> ghosts, missing;
    std::ranges::set_difference(held, truth, std::back_inserter(ghosts));
    std::ranges::set_difference(truth, held, std::back_inserter(missing));
    std::string some;
    char text[16];
    for (std::size_t i = 0; i < ghosts.size() && i < 8; ++i) {
      std::snprintf(text, sizeof text, " %04x", static_cast<unsigned>(ghosts[i].value() & 0xffff));
      some += text;
    }
    return ": the engine caches " + std::to_string(truth.size()) + " blocks, the index has " +
           std::to_string(held.size()) + ", of them " + std::to_string(ghosts.size()) + " that are not there (" + some +
           " ), and " + std::to_string(missing.size()) + " are missing";
  };
  if (state == PublisherState::kExact ? held != truth : !std::ranges::includes(truth, held)) fault(name + counts());
  if (state == PublisherState::kExact) outcome_.blocks_true += truth.size();
  for (const std::vector<TokenId>& prompt : process.prompts()) {
    index::MatchTable table;
    index_->match(space_.chain(prompt, {}), table);
    const index::MatchRow* row = table.find(one.engine);
    const std::uint32_t matched = row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
    const std::uint32_t true_tokens = process.truth_depth(prompt) * address.plan.block_tokens;
    // Whole engine blocks in whole router blocks.
    const std::uint32_t unit = std::max(kRouterBlockTokens, address.plan.block_tokens);
    const std::uint32_t depth = true_tokens / unit * unit / kRouterBlockTokens;
    if (matched == depth || (state == PublisherState::kPartial && matched < depth)) continue;
    fault(name + ": a prompt matches " + std::to_string(matched) + " blocks, the engine has " + std::to_string(depth));
    return;
  }
}

}  // namespace warmpath::faults
