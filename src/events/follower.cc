#include "events/follower.h"

#include <algorithm>
#include <bit>

namespace warmpath::events {
namespace {

using blocks::PublisherState;

std::uint64_t mix(std::uint64_t state, std::uint64_t value) {
  state = (state ^ value) * 0x9e3779b97f4a7c15u;
  return state ^ state >> 29;
}

PublisherSeq after(PublisherSeq seq) { return PublisherSeq(seq.value() + 1); }

bool other_tier(const std::optional<std::string>& medium) {
  return medium && blocks::tier_of_medium(std::string_view(*medium)) != blocks::Tier::kGpu;
}

}  // namespace

// Two batches of one sequence are the same if time, hashes and counts are. The engine's clock tells two lives apart
// even where they did the same.
Follower::Digest Follower::digest_of(const Batch& batch) {
  Digest digest = mix(std::bit_cast<std::uint64_t>(batch.ts), batch.events.size());
  for (const blocks::KvEvent& event : batch.events) {
    digest = mix(digest, event.index());
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      digest = mix(digest, stored->token_ids.size());
      for (const blocks::WireHash& hash : stored->block_hashes) digest = mix(digest, hash.value.value());
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      for (const blocks::WireHash& hash : removed->block_hashes) digest = mix(digest, hash.value.value());
    }
  }
  return digest;
}

Follower::Follower(FollowerOptions options, std::uint64_t jitter_seed)
    : options_(options), random_(jitter_seed, "follower") {}

std::uint64_t Follower::lag_batches() const {
  if (!live_last_) return 0;
  if (!last_applied_) return parked_.size();
  return *live_last_ > *last_applied_ ? live_last_->value() - last_applied_->value() : 0;
}

std::optional<FollowerMark> Follower::mark() const {
  const bool around_hole = hole_ && extent_ == Extent::kFull;
  if (!last_applied_ || around_hole || trail_.empty() || !trail_.back()) return std::nullopt;
  return FollowerMark{*last_applied_, *trail_.back(), trust_, unreadable_seen_, other_tiers_seen_};
}

void Follower::resume(const FollowerMark& mark, Instant now, Effects& out) {
  WP_CHECK(!connected_ && !last_applied_);
  last_applied_ = mark.seq;
  trail_.assign(1, mark.digest);
  trust_ = mark.trust;
  unreadable_seen_ = mark.unreadable_seen;
  other_tiers_seen_ = mark.other_tiers_seen;
  extent_ = Extent::kContinue;
  resumed_until_ = now + kResumeConnectMax;
  settle(out);
}

void Follower::step(FollowerInput input, Instant now, std::vector<FollowerEffect>& out) {
  std::visit([&](auto& kind) { on(kind, now, out); }, input);
  settle(out);
}

// Timer and state follow from where the step ended. The timer is moved only when it would be late: a reply does not
// re-arm it, an early Timeout does.
void Follower::settle(Effects& out) {
  std::optional<Instant> deadline;
  if (exchange_ == Exchange::kBackoff) deadline = retry_at_;
  if (exchange_ == Exchange::kInFlight) {
    deadline = std::min(replied_at_ + options_.replay_idle_max, asked_at_ + options_.replay_total_max);
  }
  if (resumed_until_) deadline = resumed_until_;
  if (!deadline && armed_) {
    armed_.reset();
    out.emplace_back(DisarmTimer{});
  } else if (deadline && (!armed_ || *armed_ > *deadline)) {
    armed_ = deadline;
    out.emplace_back(ArmTimer{*deadline});
  }

  PublisherState state = trust_;
  if (!connected_) {
    state = resumed_until_ ? PublisherState::kSuspect : PublisherState::kLost;
  } else if (parking()) {
    state = last_applied_ ? PublisherState::kSuspect : PublisherState::kPartial;
  } else if (hole_) {
    state = PublisherState::kSuspect;
  }
  if (state != state_) {
    state_ = state;
    out.emplace_back(StateChanged{state});
  }
}

void Follower::on(const Connected&, Instant now, Effects& out) {
  stop_exchange(out);
  drop_parked();
  connected_ = true;
  resumed_until_.reset();
  failures_ = 0;
  live_last_.reset();  // it may be another life of the engine
  if (!options_.can_replay) {
    // What was missed, or whether it is still the same engine, nobody can tell.
    trust_ = last_applied_ ? PublisherState::kSuspect : PublisherState::kPartial;
    return;
  }
  const bool around_hole = hole_ && extent_ == Extent::kFull;
  hole_ = last_applied_.has_value();
  hold_live(now);
  ask(last_applied_ && !around_hole ? Extent::kContinue : Extent::kFull, now, out);
}

void Follower::on(const Disconnected&, Instant, Effects& out) {
  stop_exchange(out);
  drop_parked();
  connected_ = false;
  resumed_until_.reset();
}

void Follower::on(LiveBatch& live, Instant now, Effects& out) {
  if (!connected_) on(Connected{}, now, out);
  if (!live.batch.ok()) ++counters_.batches_malformed;
  if (parking()) {
    park(live.seq, std::move(live.batch), now, out);
  } else {
    accept(live.seq, std::move(live.batch), now, out);
  }
}

void Follower::on(const LiveBroken&, Instant now, Effects& out) {
  ++counters_.batches_malformed;
  if (!connected_) return;
  if (parking()) {
    recheck_ = true;
    return;
  }
  ++counters_.gaps;
  if (!options_.can_replay) {
    trust_ = PublisherState::kSuspect;
  } else if (exchange_ == Exchange::kNone) {
    begin_repair(now, out);
  } else {
    hole_ = last_applied_.has_value();
  }
}

bool Follower::is_copy(PublisherSeq seq, const Result<Batch>& batch) const {
  const std::uint64_t back = last_applied_->value() - seq.value();
  if (!batch.ok() || back >= trail_.size()) return false;
  const std::optional<Digest>& known = trail_[trail_.size() - 1 - back];
  return !known || *known == digest_of(*batch);
}

// A live batch that need not wait.
void Follower::accept(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out) {
  if (last_applied_ && seq <= *last_applied_) {
    if (is_copy(seq, batch)) {
      ++counters_.batches_duplicate;
      return;
    }
    if (batch.ok() || !options_.can_replay) {
      restart(now, out);
      if (parking()) return park(seq, std::move(batch), now, out);
    }
  }
  live_last_ = std::max(live_last_.value_or(seq), seq);
  const bool repairable = options_.can_replay && exchange_ == Exchange::kNone;
  const bool expected = last_applied_ ? seq == after(*last_applied_) : seq.value() == 0;
  const bool readable = clean(batch) || unreadable_seen_;
  if ((!expected && last_applied_) || !readable) ++counters_.gaps;
  if (repairable && (!expected || !readable)) {
    begin_repair(now, out);
    return park(seq, std::move(batch), now, out);
  }
  if (last_applied_ && seq <= *last_applied_) return;  // unreadable, out of place, and a replay is under way
  apply_around_hole(seq, std::move(batch), out);
  if (exchange_ != Exchange::kNone && trust_ == PublisherState::kExact && !hole_) {
    stop_exchange(out);
    caught_up();
  }
}

// Applies what may not follow what was applied: with nothing to ask, or while a replay does not come.
void Follower::apply_around_hole(PublisherSeq seq, Result<Batch> batch, Effects& out) {
  if (!last_applied_) {
    trust_ = seq.value() == 0 ? PublisherState::kExact : PublisherState::kPartial;
  } else if (seq != after(*last_applied_)) {
    if (options_.can_replay) {
      hole_ = true;
    } else {
      trust_ = PublisherState::kSuspect;
    }
  }
  if (hole_) extent_ = Extent::kFull;
  apply(seq, std::move(batch), out);
}

void Follower::apply(PublisherSeq seq, Result<Batch> batch, Effects& out) {
  if (last_applied_ && seq != after(*last_applied_)) trail_.clear();
  last_applied_ = seq;
  trail_.push_back(batch.ok() ? std::optional(digest_of(*batch)) : std::nullopt);
  if (trail_.size() > kTrailMax) trail_.pop_front();
  if (!clean(batch)) content_lost();
  if (!batch.ok()) return;
  judge(*batch);
  ++counters_.batches_applied;
  out.emplace_back(Apply{*std::move(batch)});
}

// Something that cannot be read was applied. While it is not proven that the engine itself sends it so, another replay
// may bring it whole: all is read anew.
void Follower::content_lost() {
  if (!options_.can_replay || unreadable_seen_) {
    trust_ = PublisherState::kSuspect;
    return;
  }
  hole_ = true;
  extent_ = Extent::kFull;
}

void Follower::judge(const Batch& batch) {
  counters_.events_unknown += batch.events_unknown;
  counters_.events_malformed += batch.events_malformed;
  bool cleared = false;
  for (const blocks::KvEvent& event : batch.events) {
    if (const auto* stored = std::get_if<blocks::BlockStored>(&event)) {
      other_tiers_seen_ = other_tiers_seen_ || other_tier(stored->medium);
    } else if (const auto* removed = std::get_if<blocks::BlockRemoved>(&event)) {
      other_tiers_seen_ = other_tiers_seen_ || other_tier(removed->medium);
    } else {
      cleared = true;
    }
  }
  // vLLM 0.32: a clear empties the GPU cache; offload tiers may survive it.
  if (cleared && batch.events_malformed == 0 && !other_tiers_seen_) {
    trust_ = PublisherState::kExact;
    hole_ = false;
  }
}

void Follower::park(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out) {
  const auto same = parked_.find(seq);
  const bool applied = last_applied_ && seq <= *last_applied_;
  if (applied || same != parked_.end()) {
    if (!batch.ok()) return;
    if (applied ? is_copy(seq, batch) : digest_of(*same->second) == digest_of(*batch)) {
      ++counters_.batches_duplicate;
      return;
    }
    restart(now, out);
    if (!parking()) return accept(seq, std::move(batch), now, out);
  }
  live_last_ = std::max(live_last_.value_or(seq), seq);
  // An unreadable one does not wait: live_last_ makes the replay bring it.
  if (!batch.ok() || (!clean(batch) && !unreadable_seen_)) return;
  if (parked_.size() >= options_.parked_batches_max ||
      parked_events_ + batch->events.size() > options_.parked_events_max) {
    ++counters_.batches_dropped;
    return;
  }
  parked_events_ += batch->events.size();
  parked_.emplace(seq, std::move(batch));
}

void Follower::drop_parked() {
  parked_.clear();
  parked_events_ = 0;
}

// Applies the parked batches that follow without a hole. Those before were compared as the replay passed them.
void Follower::drain_parked(Effects& out) {
  while (!parked_.empty()) {
    const auto first = parked_.begin();
    if (first->first > after(*last_applied_)) return;
    parked_events_ -= first->second->events.size();
    auto entry = parked_.extract(first);
    if (entry.key() <= *last_applied_) continue;
    progress_ = true;
    apply(entry.key(), std::move(entry.mapped()), out);
  }
}

void Follower::flush_parked(Effects& out) {
  auto parked = std::exchange(parked_, {});
  parked_events_ = 0;
  for (auto& [seq, batch] : parked) {
    if (!last_applied_ || seq > *last_applied_) apply_around_hole(seq, std::move(batch), out);
  }
  if (last_applied_ && live_last_ && *last_applied_ < *live_last_) hole_ = true;
}

void Follower::begin_repair(Instant now, Effects& out) {
  hole_ = last_applied_.has_value();
  hold_live(now);
  ask(Extent::kContinue, now, out);
}

void Follower::forget(Effects& out) {
  if (last_applied_) out.emplace_back(ForgetAll{});
  last_applied_.reset();
  trail_.clear();
  trust_ = PublisherState::kPartial;
  hole_ = false;
  unreadable_seen_ = false;
  other_tiers_seen_ = false;
}

void Follower::restart(Instant now, Effects& out) {
  ++counters_.restarts;
  stop_exchange(out);
  drop_parked();
  forget(out);
  live_last_.reset();
  unreadable_at_.reset();
  if (!options_.can_replay) return;
  hold_live(now);
  ask(Extent::kFull, now, out);
}

void Follower::hold_live(Instant now) {
  if (!hold_live_) hold_until_ = now + options_.replay_total_max;
  hold_live_ = true;
}

void Follower::ask(Extent extent, Instant now, Effects& out) {
  extent_ = last_applied_ ? extent : Extent::kFull;
  if (asks_.size() >= kAskBurst && asks_.front() + kAskWindow > now) {
    exchange_ = Exchange::kBackoff;
    retry_at_ = asks_.front() + kAskWindow;
    return;
  }
  asks_.push_back(now);
  if (asks_.size() > kAskBurst) asks_.pop_front();
  exchange_ = Exchange::kInFlight;
  replayed_.reset();
  progress_ = false;
  asked_at_ = now;
  replied_at_ = now;
  ++counters_.replays_asked;
  if (extent_ == Extent::kContinue) {
    hold_live(now);
    out.emplace_back(AskReplay{*last_applied_});
  } else {
    out.emplace_back(AskReplay{PublisherSeq(0)});
  }
}

void Follower::stop_exchange(Effects& out) {
  if (exchange_ == Exchange::kInFlight) out.emplace_back(StopReplay{});
  exchange_ = Exchange::kNone;
  hold_live_ = false;
  recheck_ = false;
}

void Follower::caught_up() {
  exchange_ = Exchange::kNone;
  extent_ = Extent::kContinue;
  hold_live_ = false;
  hole_ = false;
  failures_ = 0;
}

Duration Follower::backoff() {
  Duration delay = options_.backoff_first;
  for (std::uint32_t i = 1; i < failures_ && delay < options_.backoff_max; ++i) delay *= 2;
  delay = std::min(delay, options_.backoff_max);
  return Duration(static_cast<Duration::rep>(static_cast<double>(delay.count()) * (0.5 + 0.5 * random_.unit())));
}

void Follower::replay_failed(Instant now, Effects& out) {
  ++counters_.replays_failed;
  if (exchange_ == Exchange::kInFlight) out.emplace_back(StopReplay{});
  failures_ = progress_ ? 1 : failures_ + 1;
  // After a first reply the applied batches are a run again, to be continued.
  if (replayed_) extent_ = Extent::kContinue;
  exchange_ = Exchange::kBackoff;
  retry_at_ = now + backoff();
  if (!hold_live_ || (replayed_ && now < hold_until_ && failures_ < kHeldFailuresMax)) return;
  hold_live_ = false;
  hole_ = last_applied_.has_value();
  flush_parked(out);
  // All since the engine's start came live: nothing to ask for.
  if (last_applied_ && trust_ == PublisherState::kExact && !hole_) caught_up();
}

void Follower::on(ReplayBatch& reply, Instant now, Effects& out) {
  if (exchange_ != Exchange::kInFlight) return;
  if (!reply.batch.ok()) ++counters_.batches_malformed;
  if (replayed_ && reply.seq == *replayed_) {
    ++counters_.batches_duplicate;  // does not keep the exchange alive: it may go on for ever
    return;
  }
  replied_at_ = now;
  if (!replayed_) return take_first_reply(reply.seq, std::move(reply.batch), now, out);
  if (reply.seq == after(*replayed_)) {
    take_reply(reply.seq, std::move(reply.batch), now, out);
  } else {
    replay_failed(now, out);
  }
}

void Follower::take_first_reply(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out) {
  if (extent_ == Extent::kContinue && seq <= *last_applied_) {
    if (seq < *last_applied_ || (!batch.ok() && trail_.back())) return replay_failed(now, out);
    if (batch.ok() && !is_copy(seq, batch)) return restart(now, out);
    replayed_ = seq;
    return;
  }
  // From 0, or the engine's buffer begins behind what was asked for: what it holds is all there is to know.
  forget(out);
  hold_live(now);
  trust_ = seq.value() == 0 ? PublisherState::kExact : PublisherState::kPartial;
  take_reply(seq, std::move(batch), now, out);
}

void Follower::take_reply(PublisherSeq seq, Result<Batch> batch, Instant now, Effects& out) {
  if (const auto parked = parked_.find(seq); parked != parked_.end()) {
    if (!batch.ok()) {
      batch = *parked->second;
    } else if (digest_of(*batch) != digest_of(*parked->second)) {
      return restart(now, out);
    }
    parked_events_ -= parked->second->events.size();
    parked_.erase(parked);
  }
  if (!clean(batch) && !unreadable_seen_) {
    if (unreadable_at_ != seq) {
      unreadable_at_ = seq;
      return replay_failed(now, out);
    }
    unreadable_seen_ = true;
  }
  replayed_ = seq;
  progress_ = true;
  apply(seq, std::move(batch), out);
}

void Follower::on(const ReplayEnd&, Instant now, Effects& out) {
  if (exchange_ != Exchange::kInFlight) return;
  exchange_ = Exchange::kNone;
  if (!replayed_) {
    // The last applied batch is always in the buffer of the engine that sent it.
    if (extent_ == Extent::kContinue) return restart(now, out);
    if (live_last_) return replay_failed(now, out);
    trust_ = PublisherState::kExact;
    return caught_up();
  }
  drain_parked(out);
  const bool hole = live_last_ && *last_applied_ < *live_last_;
  if (hole && !progress_) {
    // An engine that has never heard of what it sent live is not the one that sent it.
    return failures_ < kHeldFailuresMax ? replay_failed(now, out) : restart(now, out);
  }
  if (hole) ++counters_.gaps;
  if (hole || recheck_) {
    recheck_ = false;
    failures_ = 0;
    return ask(Extent::kContinue, now, out);
  }
  caught_up();
}

void Follower::on(const ReplayBroken&, Instant now, Effects& out) {
  if (exchange_ == Exchange::kInFlight) replay_failed(now, out);
}

void Follower::on(const Curtailed&, Instant, Effects&) {
  if (trust_ == PublisherState::kExact) trust_ = PublisherState::kPartial;
}

void Follower::on(const Timeout&, Instant now, Effects& out) {
  armed_.reset();
  if (resumed_until_ && now >= *resumed_until_) resumed_until_.reset();
  if (exchange_ == Exchange::kBackoff && now >= retry_at_) return ask(extent_, now, out);
  if (exchange_ == Exchange::kInFlight &&
      now >= std::min(replied_at_ + options_.replay_idle_max, asked_at_ + options_.replay_total_max)) {
    replay_failed(now, out);
  }
}

}  // namespace warmpath::events
