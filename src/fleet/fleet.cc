#include "fleet/fleet.h"

#include <algorithm>
#include <cmath>

namespace warmpath::fleet {
namespace {

bool serves(const EngineInfo& info, std::string_view model) {
  return info.models.empty() || std::find(info.models.begin(), info.models.end(), model) != info.models.end();
}

bool is_aside(const EngineView& view, const std::optional<Instant>& until, Instant now) {
  return view.liveness != Liveness::kDown && until && now < *until;
}

}  // namespace

std::string_view liveness_name(Liveness liveness) {
  switch (liveness) {
    case Liveness::kUnknown: return "unknown";
    case Liveness::kUp: return "up";
    case Liveness::kDown: return "down";
    case Liveness::kDraining: return "draining";
  }
  return "unknown";
}

const Fleet::Entry* Fleet::find(EngineId engine) const {
  const auto at = std::lower_bound(engines_.begin(), engines_.end(), engine,
                                   [](const Entry& entry, EngineId id) { return entry.info.id < id; });
  return at != engines_.end() && at->info.id == engine ? &*at : nullptr;
}

Fleet::Entry* Fleet::find(EngineId engine) { return const_cast<Entry*>(std::as_const(*this).find(engine)); }

void Fleet::apply(const Change& change, Instant /*now*/) {
  if (const auto* added = std::get_if<Added>(&change)) {
    Entry* entry = find(added->info.id);
    if (entry == nullptr) {
      const auto at = std::lower_bound(engines_.begin(), engines_.end(), added->info.id,
                                       [](const Entry& e, EngineId id) { return e.info.id < id; });
      entry = &*engines_.insert(at, Entry{});
      entry->view.id = added->info.id;
    }
    entry->info = added->info;
    entry->view.block_tokens = added->info.block_tokens;
    entry->view.kv_tokens = added->info.kv_tokens;
    entry->view.has_events = added->info.has_events;
  } else if (const auto* removed = std::get_if<Removed>(&change)) {
    const Entry* entry = find(removed->engine);
    if (entry != nullptr) engines_.erase(engines_.begin() + (entry - engines_.data()));
  } else if (const auto* changed = std::get_if<LivenessChanged>(&change)) {
    Entry* entry = find(changed->engine);
    if (entry == nullptr) return;
    entry->view.liveness = changed->liveness;
    if (changed->liveness == Liveness::kUp) {
      entry->aside_until.reset();
      entry->failures_in_a_row = 0;
    }
  }
}

void Fleet::apply(const Sample& sample, Instant now) {
  Entry* entry = find(sample.engine);
  if (entry == nullptr) return;
  bool any = false;
  if (sample.running) {
    entry->view.running = *sample.running;
    any = true;
  }
  if (sample.waiting) {
    entry->view.waiting = *sample.waiting;
    entry->view.inflight_since_sample = 0;
    ++entry->sample_epoch;
    any = true;
  }
  if (sample.kv_usage && std::isfinite(*sample.kv_usage) && *sample.kv_usage >= 0) {
    entry->view.kv_usage = std::min(*sample.kv_usage, 1.0);
    any = true;
  }
  if (any) entry->sampled_at = now;
}

void Fleet::forwarded(EngineId engine, RequestId request, std::uint64_t prompt_tokens, std::uint64_t uncached_tokens,
                      Instant now) {
  Entry* entry = find(engine);
  WP_CHECK(entry != nullptr);
  EngineView& view = entry->view;
  const std::uint64_t uncached = std::min(uncached_tokens, prompt_tokens);
  ++view.inflight_requests;
  ++view.inflight_since_sample;
  view.inflight_tokens += prompt_tokens;
  view.inflight_prefill_tokens += uncached;
  view.prefill_tokens_recent = recent_of(*entry, now) + static_cast<double>(uncached);
  entry->recent_at = now;
  const auto [at, inserted] = bookings_.emplace(request, Booking{.engine = engine,
                                                                 .prompt_tokens = prompt_tokens,
                                                                 .uncached_tokens = uncached,
                                                                 .prefill_tokens_there = view.inflight_prefill_tokens,
                                                                 .sample_epoch = entry->sample_epoch,
                                                                 .at = now});
  WP_CHECK(inserted);
}

// The request does not wait for its first byte any more.
void Fleet::leave_queue(Entry& entry, const Booking& booking) {
  WP_CHECK(entry.view.inflight_prefill_tokens >= booking.uncached_tokens);
  entry.view.inflight_prefill_tokens -= booking.uncached_tokens;
  if (booking.sample_epoch == entry.sample_epoch) {
    WP_CHECK(entry.view.inflight_since_sample > 0);
    --entry.view.inflight_since_sample;
  }
}

void Fleet::first_byte(RequestId request, Instant now) {
  const auto at = bookings_.find(request);
  if (at == bookings_.end() || at->second.first_byte_seen) return;
  Booking& booking = at->second;
  booking.first_byte_seen = true;
  Entry* entry = find(booking.engine);
  if (entry == nullptr) return;
  leave_queue(*entry, booking);
  if (booking.prefill_tokens_there < options_.lesson_tokens_min || now < booking.at) return;
  const double lesson = to_ms(now - booking.at) / static_cast<double>(booking.prefill_tokens_there);
  double& learned = entry->view.ttft_ms_per_prefill_token;
  learned = learned == 0 ? lesson : learned + options_.lesson_weight * (lesson - learned);
}

void Fleet::released(RequestId request, Instant /*now*/) {
  const auto at = bookings_.find(request);
  if (at == bookings_.end()) return;
  const Booking& booking = at->second;
  if (Entry* entry = find(booking.engine)) {
    if (!booking.first_byte_seen) leave_queue(*entry, booking);
    WP_CHECK(entry->view.inflight_requests > 0);
    WP_CHECK(entry->view.inflight_tokens >= booking.prompt_tokens);
    --entry->view.inflight_requests;
    entry->view.inflight_tokens -= booking.prompt_tokens;
  }
  bookings_.erase(at);
}

void Fleet::failed(EngineId engine, Instant now) {
  Entry* entry = find(engine);
  if (entry == nullptr) return;
  if (entry->failures_in_a_row < options_.failures_before_down) ++entry->failures_in_a_row;
  if (entry->failures_in_a_row >= options_.failures_before_down) entry->aside_until = now + options_.aside_for;
}

void Fleet::succeeded(EngineId engine, Instant /*now*/) {
  Entry* entry = find(engine);
  if (entry == nullptr) return;
  entry->failures_in_a_row = 0;
  entry->aside_until.reset();
}

const EngineInfo* Fleet::info(EngineId engine) const {
  const Entry* entry = find(engine);
  return entry == nullptr ? nullptr : &entry->info;
}

std::optional<EngineId> Fleet::engine_of(RequestId request) const {
  const auto at = bookings_.find(request);
  if (at == bookings_.end()) return std::nullopt;
  return at->second.engine;
}

double Fleet::recent_of(const Entry& entry, Instant now) const {
  if (now <= entry.recent_at) return entry.view.prefill_tokens_recent;
  return entry.view.prefill_tokens_recent * std::exp2(-to_ms(now - entry.recent_at) / to_ms(options_.recent_half_life));
}

EngineView Fleet::view_of(const Entry& entry, Instant now) const {
  EngineView view = entry.view;
  view.prefill_tokens_recent = recent_of(entry, now);
  if (entry.sampled_at) view.sample_age = now - *entry.sampled_at;
  if (is_aside(view, entry.aside_until, now)) view.liveness = Liveness::kDown;
  return view;
}

void Fleet::candidates(std::string_view model, Instant now, std::vector<EngineView>& out) const {
  out.clear();
  std::size_t serving = 0;
  std::size_t aside = 0;
  for (const Entry& entry : engines_) {
    if (!serves(entry.info, model)) continue;
    const Liveness liveness = entry.view.liveness;
    if (liveness == Liveness::kDown || liveness == Liveness::kDraining) continue;
    ++serving;
    if (is_aside(entry.view, entry.aside_until, now)) ++aside;
    out.push_back(view_of(entry, now));
  }
  const auto standing = static_cast<double>(serving - aside);
  const bool obey = standing > 0 && standing >= options_.standing_share_min * static_cast<double>(serving);
  if (aside > 0 && obey) std::erase_if(out, [](const EngineView& view) { return view.liveness == Liveness::kDown; });
}

void Fleet::all(Instant now, std::vector<EngineView>& out) const {
  out.clear();
  for (const Entry& entry : engines_) out.push_back(view_of(entry, now));
}

std::size_t Fleet::inflight_total() const { return bookings_.size(); }

}  // namespace warmpath::fleet
