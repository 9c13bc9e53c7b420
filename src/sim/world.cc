#include "sim/world.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace warmpath::sim {
namespace {

constexpr std::string_view kModelName = "sim";
// Generated ids come from a range of their own, so that an answer never equals a prompt by chance.
constexpr TokenId kOutputIdFirst = 1'000'000;
constexpr std::uint64_t kOutputIds = 50'000;

std::uint64_t mix(std::uint64_t value) {  // splitmix64's finalizer
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::uint32_t router_block(const SimOptions& options) {
  if (options.block_tokens != 0) return options.block_tokens;
  const std::uint32_t engine_block = options.engine.profile.block_tokens;
  return index::router_block_tokens({&engine_block, 1});
}

route::CoreOptions core_options(const SimOptions& options, const schedule::Policy* policy) {
  route::CoreOptions out;
  out.policy = policy;
  out.seed = options.seed;
  out.block_tokens = router_block(options);
  return out;
}

// Nearest rank: the smallest value with at least `share` of all at or below it. `sorted` not empty.
double percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

double ratio(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

World::World(const SimOptions& options, const schedule::Policy* policy, std::unique_ptr<workload::Source> source,
             std::vector<Machine> machines)
    : options_(options),
      policy_(policy),
      source_(std::move(source)),
      machines_(std::move(machines)),
      space_(options.seed, kModelName, router_block(options)),
      index_({.space = space_}),
      core_(core_options(options, policy), &index_),
      outputs_(options.seed, "sim.outputs"),
      links_(options.seed, "sim.links") {
  totals_.policy = options.policy;
  totals_.requests_by_engine.assign(machines_.size(), 0);
}

Result<Report> World::run() {
  start();
  while (!queue_.empty() && !drained()) {
    if (queue_.next_at().since_zero() > options_.virtual_time_max) {
      return Error{ErrorKind::kExhausted, "the run has not ended after " +
                                              std::to_string(to_seconds(options_.virtual_time_max)) +
                                              " s of virtual time; raise virtual_time_max or lower the load"};
    }
    now_ = queue_.next_at();
    Item item = queue_.pop();
    std::visit([this](auto& one) { on(one); }, item);
  }
  WP_CHECK(drained());  // nothing left to happen and requests open: something of ours was lost
  Report out = report();
  if (options_.index_check == IndexCheck::kAgainstEngines) {
    settle();
    out.index_truth = compare();
  }
  return out;
}

void World::start() {
  const engine::Profile& profile = options_.engine.profile;
  for (std::uint32_t i = 0; i < machines_.size(); ++i) {
    const EngineId id(i);
    fleet::EngineInfo info;
    info.id = id;
    info.name = "engine-" + std::to_string(i);
    info.url = "sim://" + info.name;
    info.block_tokens = profile.block_tokens;
    info.kv_tokens = profile.kv_blocks * profile.block_tokens;
    info.has_events = has_events(id);
    tell_core(route::EngineChanged{fleet::Added{std::move(info)}});
    tell_core(route::EngineChanged{fleet::LivenessChanged{id, fleet::Liveness::kUp}});
    subscriptions_.push_back({events::Follower({}, options_.seed + i)});
  }
  for (std::uint32_t i = options_.engines_without_events; i < machines_.size(); ++i) {
    tell_follower(EngineId(i), events::Connected{});
  }
  queue_.push(now_, ScrapeDue{});
  schedule_workload();
}

// Clients.

void World::schedule_workload() {
  const std::optional<Instant> next = source_->next_at();
  if (!next || (workload_at_ && *workload_at_ <= *next)) return;
  workload_at_ = std::max(*next, now_);
  queue_.push(*workload_at_, WorkloadDue{});
}

void World::on(WorkloadDue&) {
  if (!workload_at_ || *workload_at_ > now_) return;  // an earlier one took its place
  workload_at_.reset();
  std::vector<workload::Request> due;
  source_->due(now_, due);
  for (workload::Request& request : due) arrive(std::move(request));
  schedule_workload();
}

void World::arrive(workload::Request&& request) {
  const RequestId id(request.id);
  Client client;
  client.at = request.at;
  client.prompt = request.flat();
  client.salt = request.salt;
  for (std::uint32_t i = 0; i < request.output_tokens; ++i) {
    client.output.push_back(kOutputIdFirst + static_cast<TokenId>(outputs_.below(kOutputIds)));
  }
  const blocks::ChainContext context{.salt = client.salt};
  route::Arrived arrived;
  arrived.id = id;
  arrived.model = std::string(kModelName);
  arrived.chain = space_.chain(client.prompt, context);
  if (policy_->guess_block_bytes() > 0) {
    arrived.guessed_chain =
        space_.id_guess_chain(client.prompt, policy_->guess_block_bytes(), policy_->guess_blocks_max(), context);
  }
  arrived.prompt_tokens = static_cast<std::uint32_t>(client.prompt.size());
  if (prompts_.size() < kCheckedPromptsMax && options_.index_check != IndexCheck::kNone) {
    prompts_.push_back({client.prompt, client.salt});
  }
  ++totals_.requests;
  clients_.emplace(id, std::move(client));
  tell_core(arrived);
}

// The request is over, as its client sees it.
void World::end(RequestId request, std::uint32_t cached_tokens) {
  const auto at = clients_.find(request);
  WP_CHECK(at != clients_.end());
  remember(cached_tokens);
  const std::vector<TokenId> output = std::move(at->second.output);
  clients_.erase(at);
  ended_at_ = now_;
  totals_.output_tokens += output.size();
  source_->finished(request.value(), output, now_);
  schedule_workload();
}

// Router.

void World::tell_core(const route::Input& input) {
  std::vector<route::Effect> effects;
  core_.step(input, now_, effects);
  for (const route::Effect& effect : effects) obey(effect);
}

void World::obey(const route::Effect& effect) {
  if (const auto* forward = std::get_if<route::Forward>(&effect)) {
    remember(forward->id.value());
    remember(forward->engine.value());
    remember(forward->predicted_cached_tokens);
    ++totals_.requests_by_engine[forward->engine.value()];
    const Client& client = clients_.at(forward->id);
    engine::Request body;
    body.id = forward->id.value();
    body.prompt = client.prompt;
    body.output = client.output;
    body.salt = client.salt;
    queue_.push(now_ + options_.link.request_delay, AtEngine{forward->engine, forward->id, std::move(body)});
  } else if (const auto* reject = std::get_if<route::Reject>(&effect)) {
    ++totals_.failed;
    clients_.erase(reject->id);
    source_->finished(reject->id.value(), {}, now_);
    schedule_workload();
  }
  // Cancel follows a client that left and ArmTimer is not sent: neither happens here.
}

void World::on(Answer& item) {
  Client& client = clients_.at(item.request);
  if (item.first && !client.first_seen) {
    client.first_seen = true;
    ttft_ms_.push_back(to_ms(now_ - client.at) * options_.engine.speed);
    tell_core(route::FirstByte{item.request});
  }
  if (!item.finished) return;
  tell_core(route::Finished{item.request, route::Usage{.prompt_tokens = client.prompt.size(),
                                                       .completion_tokens = client.output.size(),
                                                       .cached_tokens = item.cached_tokens}});
  end(item.request, item.cached_tokens);
}

// The engine says that it cannot take the request: its answer is final and no fault of the engine.
void World::on(Refused& item) {
  route::Failed failed;
  failed.id = item.request;
  failed.engine = item.engine;
  failed.kind = ErrorKind::kInvalid;
  failed.retry = route::Failed::Retry::kMayNot;
  failed.blame = route::Failed::Blame::kNone;
  tell_core(failed);
}

// Engines.

void World::on(AtEngine& item) {
  if (!machine(item.engine).model().add(std::move(item.body), now_).ok()) {
    queue_.push(now_ + options_.link.request_delay, Refused{item.request, item.engine});
    return;
  }
  begin_step(item.engine);
}

void World::begin_step(EngineId engine) {
  engine::Model& model = machine(engine).model();
  if (model.in_step()) return;
  if (const auto plan = model.begin_step(now_)) queue_.push(now_ + plan->duration, StepEnds{engine});
}

void World::on(StepEnds& item) {
  step_.emitted.clear();
  step_.events.clear();
  machine(item.engine).model().finish_step(now_, step_);
  for (const engine::Emitted& emitted : step_.emitted) {
    if (!emitted.first && !emitted.finished) continue;
    if (!clients_.contains(RequestId(emitted.id))) continue;  // settle()'s own
    remember(static_cast<std::uint64_t>(now_.since_zero().count()));
    queue_.push(now_ + options_.link.request_delay,
                Answer{RequestId(emitted.id), emitted.first, emitted.finished, emitted.cached_tokens});
  }
  if (has_events(item.engine)) {
    send_frames(item.engine, machine(item.engine).publish(std::move(step_.events), now_));
  }
  begin_step(item.engine);
}

void World::on(ScrapeDue&) {
  for (std::uint32_t i = 0; i < machines_.size(); ++i) {
    const engine::Stats stats = machines_[i].model().stats();
    fleet::Sample sample;
    sample.engine = EngineId(i);
    sample.running = stats.running;
    sample.waiting = stats.waiting;
    sample.kv_usage = stats.kv_usage;
    sample.prefix_queries_tokens = static_cast<double>(stats.prefix_queries_tokens);
    sample.prefix_hits_tokens = static_cast<double>(stats.prefix_hits_tokens);
    queue_.push(now_ + options_.link.request_delay, SampleArrives{sample});
  }
  queue_.push(now_ + options_.scrape_interval, ScrapeDue{});
}

// Event links.

void World::send_frames(EngineId engine, std::vector<events::Frame> frames) {
  if (frames.empty()) return;
  const bool lost = !links_healed_ && links_.unit() < options_.link.event_loss;
  const bool doubled = !links_healed_ && links_.unit() < options_.link.event_duplicate;
  if (doubled) {
    const double late = 1 + 4 * links_.unit();
    queue_.push(now_ + from_seconds(late * to_seconds(options_.link.event_delay)), Frames{engine, frames});
  }
  if (lost) {
    ++totals_.frames_lost;
    return;
  }
  queue_.push(now_ + options_.link.event_delay, Frames{engine, std::move(frames)});
}

void World::on(Frames& item) {
  const auto live = events::parse_live(item.frames);
  if (!live.ok()) return tell_follower(item.engine, events::LiveBroken{});
  tell_follower(item.engine, events::LiveBatch{live->seq, events::decode_batch(live->payload)});
}

void World::on(ReplayAsked& item) {
  for (std::vector<events::Frame>& frames : machine(item.engine).replay(item.frames)) {
    queue_.push(now_ + options_.link.event_delay, ReplayReply{item.engine, item.exchange, std::move(frames)});
  }
}

void World::on(ReplayReply& item) {
  if (item.exchange != subscriptions_[item.engine.value()].exchange) return;  // of a replay given up
  const auto reply = events::parse_replay_reply(item.frames);
  if (!reply.ok()) return tell_follower(item.engine, events::ReplayBroken{});
  if (reply->end) return tell_follower(item.engine, events::ReplayEnd{});
  tell_follower(item.engine, events::ReplayBatch{reply->seq, events::decode_batch(reply->payload)});
}

void World::on(FollowerDeadline& item) {
  if (item.generation == subscriptions_[item.engine.value()].generation) tell_follower(item.engine, events::Timeout{});
}

void World::tell_follower(EngineId engine, events::FollowerInput input) {
  std::vector<events::FollowerEffect> effects;
  subscriptions_[engine.value()].follower.step(std::move(input), now_, effects);
  for (events::FollowerEffect& effect : effects) obey(engine, effect);
}

void World::obey(EngineId engine, events::FollowerEffect& effect) {
  Subscription& subscription = subscriptions_[engine.value()];
  if (const auto* apply = std::get_if<events::Apply>(&effect)) {
    index_.apply(engine, apply->batch.events);
  } else if (std::holds_alternative<events::ForgetAll>(effect)) {
    index_.forget(engine);
  } else if (const auto* ask = std::get_if<events::AskReplay>(&effect)) {
    std::vector<events::Frame> frames = events::make_replay_request(ask->start);
    frames.insert(frames.begin(), "router");  // the identity, as the engine's ROUTER socket puts it in front
    queue_.push(now_ + options_.link.event_delay, ReplayAsked{engine, ++subscription.exchange, std::move(frames)});
  } else if (std::holds_alternative<events::StopReplay>(effect)) {
    ++subscription.exchange;
  } else if (const auto* arm = std::get_if<events::ArmTimer>(&effect)) {
    queue_.push(std::max(arm->at, now_), FollowerDeadline{engine, ++subscription.generation});
  } else if (std::holds_alternative<events::DisarmTimer>(effect)) {
    ++subscription.generation;
  } else if (const auto* changed = std::get_if<events::StateChanged>(&effect)) {
    index_.set_state(engine, changed->state);
    tell_core(route::PublisherChanged{engine, changed->state});
  }
}

// The end.

// The links heal and every engine computes one small prompt of its own, so that a lost last frame shows as a gap. Then
// everything but the scrapes runs out.
void World::settle() {
  links_healed_ = true;
  EventQueue<Item> rest;
  std::swap(rest, queue_);
  while (!rest.empty()) {
    const Instant at = rest.next_at();
    Item item = rest.pop();
    if (!std::holds_alternative<ScrapeDue>(item)) queue_.push(at, std::move(item));
  }
  for (std::uint32_t i = 0; i < machines_.size(); ++i) {
    engine::Request probe;
    probe.id = ~std::uint64_t{0} - i;
    for (std::uint32_t t = 0; t <= options_.engine.profile.block_tokens; ++t) probe.prompt.push_back(2'000'000 + t);
    probe.output.push_back(1);
    queue_.push(now_, AtEngine{EngineId(i), RequestId(probe.id), std::move(probe)});
  }
  while (!queue_.empty() && queue_.next_at().since_zero() <= options_.virtual_time_max) {
    now_ = queue_.next_at();
    Item item = queue_.pop();
    std::visit([this](auto& one) { on(one); }, item);
  }
}

IndexTruth World::compare() const {
  IndexTruth truth;
  const auto stat = index_.stat();
  for (const index::EngineStat& engine : stat.engines) truth.blocks_indexed += engine.blocks_held;
  const engine::ModelOptions& model = options_.engine;
  for (std::uint32_t i = options_.engines_without_events; i < machines_.size(); ++i) {
    const std::vector<EngineHash> cached = machines_[i].model().cached_hashes();
    truth.blocks_cached += cached.size();
    const std::unordered_set<EngineHash> set(cached.begin(), cached.end());
    for (const Prompt& prompt : prompts_) {
      const auto hasher = blocks::EngineHasher::create({.scheme = model.scheme,
                                                        .block_tokens = model.profile.block_tokens,
                                                        .seed = model.hash_seed,
                                                        .salt = prompt.salt});
      WP_CHECK(hasher.ok());
      std::uint32_t depth = 0;
      for (const blocks::Digest& digest : hasher->chain(prompt.ids)) {
        if (!set.contains(blocks::event_hash(model.scheme, digest))) break;
        ++depth;
      }
      index::MatchTable match;
      index_.match(space_.chain(prompt.ids, {.salt = prompt.salt}), match);
      const index::MatchRow* row = match.find(EngineId(i));
      const std::uint32_t matched = row == nullptr ? 0 : row->depth(blocks::Tier::kGpu);
      ++truth.chains;
      truth.chains_nonzero += depth > 0 ? 1 : 0;
      truth.chains_equal += matched == depth * model.profile.block_tokens / space_.block_tokens() ? 1 : 0;
    }
  }
  return truth;
}

void World::remember(std::uint64_t value) {
  totals_.digest = mix(totals_.digest ^ mix(value ^ static_cast<std::uint64_t>(now_.since_zero().count())));
}

Report World::report() const {
  Report out = totals_;
  std::uint64_t queries = 0;
  std::uint64_t hits = 0;
  for (const Machine& one : machines_) {
    const engine::Stats stats = one.model().stats();
    queries += stats.prefix_queries_tokens;
    hits += stats.prefix_hits_tokens;
    out.prefill_tokens_computed += stats.prefill_tokens_computed;
    out.prefill_tokens_saved += stats.prompt_cached_tokens;
    out.prompt_tokens += stats.prompt_tokens;
    out.preemptions += stats.preemptions;
    out.frames_published += one.frames_published();
  }
  out.prefix_hit_ratio = ratio(hits, queries);
  for (const Subscription& one : subscriptions_) out.replays_asked += one.follower.counters().replays_asked;
  const route::Snapshot picture = core_.snapshot(now_, 0);
  out.inflight_left = picture.inflight;
  for (const fleet::EngineView& view : picture.engines) out.inflight_left += view.inflight_requests;
  for (const route::EngineProof& proof : picture.proofs) {
    out.predictions += proof.requests;
    out.predictions_equal += proof.requests_equal;
  }
  out.seconds = to_seconds(ended_at_.since_zero()) * options_.engine.speed;
  if (out.seconds > 0) out.output_tokens_per_s = static_cast<double>(out.output_tokens) / out.seconds;
  if (!ttft_ms_.empty()) {
    std::vector<double> sorted = ttft_ms_;
    std::sort(sorted.begin(), sorted.end());
    out.ttft_ms.p50 = percentile(sorted, 0.50);
    out.ttft_ms.p90 = percentile(sorted, 0.90);
    out.ttft_ms.p99 = percentile(sorted, 0.99);
    for (const double value : sorted) out.ttft_ms.mean += value / static_cast<double>(sorted.size());
  }
  return out;
}

}  // namespace warmpath::sim
