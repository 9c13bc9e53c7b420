#include "proxy/pool.h"

#include <array>
#include <atomic>
#include <map>
#include <mutex>

#include "proxy/effect_sink.h"
#include "proxy/engine_ids.h"
#include "proxy/model_table.h"

namespace warmpath::proxy {
namespace {

constexpr unsigned kThreadShift = 48;
// Inputs that belong to requests already admitted are never refused: there are a handful for each of them, and the core
// bounds the requests. This is where a bug would show.
constexpr std::size_t kInboxMax = 4u << 20;

RequestId request_of(const route::Effect& effect) {
  if (const auto* forward = std::get_if<route::Forward>(&effect)) return forward->id;
  if (const auto* reject = std::get_if<route::Reject>(&effect)) return reject->id;
  return std::get<route::Cancel>(effect).id;
}

struct EngineList {
  std::vector<std::shared_ptr<const EngineAt>> by_id;  // index = id; null: gone
};

}  // namespace

std::string_view ask_outcome_name(AskOutcome outcome) {
  static constexpr std::array<std::string_view, kAskOutcomes> kNames = {"told",  "known",     "timeout", "refused",
                                                                        "error", "no_engine", "busy",    "unsupported"};
  return kNames[static_cast<std::size_t>(outcome)];
}

std::uint64_t AskCounts::failed() const {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : by_outcome) sum += count;
  return sum - of(AskOutcome::kTold) - of(AskOutcome::kKnown);
}

RequestId request_id_of(std::uint32_t thread, std::uint64_t number) {
  return RequestId((static_cast<std::uint64_t>(thread) << kThreadShift) | number);
}
std::uint32_t thread_of(RequestId id) { return static_cast<std::uint32_t>(id.value() >> kThreadShift); }

struct Pool::Impl : std::enable_shared_from_this<Impl> {
  Impl(PoolOptions o, observe::Registry& r, io::Loop& t)
      : options(std::move(o)), registry(r), timers(t), inbox(kInboxMax), list(std::make_shared<EngineList>()) {
    models = std::make_shared<ModelTable>(options, std::span<const std::shared_ptr<const EngineAt>>());
    const observe::Labels label = {{"pool", options.name}};
    if (options.ask.when != AskEngine::kNever) {
      engine_ids = std::make_unique<EngineIds>(options.ask, options.name, registry);
    }
    inbox_gauge = &registry.gauge("warmpath_brain_inbox_depth", "Inputs waiting for the brain.", label);
    dropped = &registry.counter("warmpath_samples_dropped_total", "Load samples dropped as the inbox was full.", label);
    inflight = &registry.gauge("warmpath_pool_requests_in_flight", "Requests forwarded and not ended.", label);
    decisions = &registry.counter("warmpath_decisions_total", "Engines chosen, second attempts included.", label);
    rejected = &registry.counter("warmpath_rejected_total", "Requests that the brain refused or gave up.", label);
    retries = &registry.counter("warmpath_retries_total", "Requests sent to another engine after a failure.", label);
  }

  // ---- the brain ----
  bool submit(route::Input input) {
    if (std::holds_alternative<route::Arrived>(input) &&
        waiting.load(std::memory_order_relaxed) >= options.arrivals_max) {
      return false;
    }
    if (!core_mutex.try_lock()) {
      waiting.fetch_add(1, std::memory_order_relaxed);
      WP_CHECK(inbox.push(std::move(input)) != BoundedQueue<route::Input>::Push::kFull);
      pump();
      return true;
    }
    std::vector<route::Effect> effects;
    if (waiting.load(std::memory_order_relaxed) != 0) step_all(effects);
    step(input, effects);
    core_mutex.unlock();
    deliver(std::move(effects));
    pump();
    return true;
  }

  // Steps what waits, unless another thread is at it: it looks again after it let go of the lock, so nothing is left.
  void pump() {
    while (inbox.size() != 0 && core_mutex.try_lock()) {
      std::vector<route::Effect> effects;
      step_all(effects);
      core_mutex.unlock();
      deliver(std::move(effects));
    }
  }

  void step_all(std::vector<route::Effect>& effects) {  // core_mutex held
    batch.clear();
    inbox.drain(batch);
    waiting.fetch_sub(batch.size(), std::memory_order_relaxed);
    for (const route::Input& input : batch) step(input, effects);
  }

  void step(const route::Input& input, std::vector<route::Effect>& effects) {  // core_mutex held
    if (core) core->step(input, timers.now(), effects);
  }

  // ---- before start() ----
  void note_early(const route::Input& input) {  // core_mutex held
    if (const auto* change = std::get_if<route::EngineChanged>(&input)) {
      if (const auto* added = std::get_if<fleet::Added>(&change->change)) {
        early_infos[added->info.id] = added->info;
      } else if (const auto* removed = std::get_if<fleet::Removed>(&change->change)) {
        early_infos.erase(removed->engine);
        early_liveness.erase(removed->engine);
        early_publishers.erase(removed->engine);
      } else {
        const auto& liveness = std::get<fleet::LivenessChanged>(change->change);
        early_liveness[liveness.engine] = liveness.liveness;
      }
    } else if (const auto* publisher = std::get_if<route::PublisherChanged>(&input)) {
      early_publishers[publisher->engine] = publisher->state;
    }  // a load sample is out of date by the time the core starts
  }

  void step_early_news(std::vector<route::Effect>& effects) {  // core_mutex held
    for (auto& [id, info] : early_infos) step(route::EngineChanged{fleet::Added{std::move(info)}}, effects);
    for (const auto& [id, liveness] : early_liveness) {
      step(route::EngineChanged{fleet::LivenessChanged{id, liveness}}, effects);
    }
    for (const auto& [id, state] : early_publishers) step(route::PublisherChanged{id, state}, effects);
  }

  // ---- effects ----
  struct Outlet {
    io::Loop* loop = nullptr;
    EffectSink* sink = nullptr;
    // Touched on the loop's thread only: an effect may lead to a submit(), whose effects wait for their turn.
    bool delivering = false;
    std::vector<route::Effect> pending;
  };

  void deliver(std::vector<route::Effect> effects) {
    while (!effects.empty()) {
      // Nearly always one effect, or all for one thread.
      std::vector<route::Effect> same, rest;
      std::optional<std::uint32_t> thread;
      for (route::Effect& effect : effects) {
        if (const auto* timer = std::get_if<route::ArmTimer>(&effect)) {
          arm(timer->at);
          continue;
        }
        const std::uint32_t owner = thread_of(request_of(effect));
        if (!thread) thread = owner;
        (owner == *thread ? same : rest).push_back(std::move(effect));
      }
      if (thread) deliver_to(*thread, std::move(same));
      effects = std::move(rest);
    }
  }

  void deliver_to(std::uint32_t thread, std::vector<route::Effect> effects) {
    WP_CHECK(thread < kThreadsMax);
    std::unique_lock lock(outlets_mutex);
    Outlet& outlet = outlets[thread];
    if (outlet.loop == nullptr) return;
    if (!outlet.loop->on_this_thread()) {
      auto shared = std::make_shared<std::vector<route::Effect>>(std::move(effects));
      outlet.loop->post([self = shared_from_this(), thread, shared] { self->hand_over(thread, std::move(*shared)); });
      return;
    }
    lock.unlock();
    hand_over(thread, std::move(effects));
  }

  void hand_over(std::uint32_t thread, std::vector<route::Effect> effects) {  // on the outlet's thread
    Outlet& outlet = outlets[thread];
    if (outlet.sink == nullptr) return;
    for (route::Effect& effect : effects) outlet.pending.push_back(std::move(effect));
    if (outlet.delivering) return;
    outlet.delivering = true;
    while (!outlet.pending.empty() && outlet.sink != nullptr) {
      std::vector<route::Effect> now;
      now.swap(outlet.pending);
      for (route::Effect& effect : now) outlet.sink->on_effect(std::move(effect));
    }
    outlet.delivering = false;
  }

  void arm(Instant at) {
    timers.post([weak = weak_from_this(), timer = timer_slot, at] {
      const auto self = weak.lock();
      if (!self) return;
      if (timer->armed() && self->timer_at <= at) return;
      self->timer_at = at;
      *timer = self->timers.after(std::max(Duration(0), at - self->timers.now()), [weak] {
        if (const auto pool = weak.lock()) (void)pool->submit(route::TimerFired{});
      });
    });
  }

  // ---- engines ----
  template <class F>
  void edit_engines(F&& edit) {
    const std::lock_guard lock(tables_mutex);
    auto next = std::make_shared<EngineList>(*list);
    edit(*next);
    list = next;
    std::vector<std::shared_ptr<const EngineAt>> present;
    for (const auto& engine : next->by_id) {
      if (engine) present.push_back(engine);
    }
    models = std::make_shared<ModelTable>(options, present);
  }

  std::shared_ptr<const EngineList> engine_list() const {
    const std::lock_guard lock(tables_mutex);
    return list;
  }

  const PoolOptions options;
  observe::Registry& registry;
  io::Loop& timers;

  std::mutex core_mutex;  // never waited for by submit()
  std::unique_ptr<route::Core> core;
  std::vector<route::Input> batch;
  BoundedQueue<route::Input> inbox;
  std::atomic<std::size_t> waiting{0};
  std::atomic<bool> alive{false};
  // The last word on each engine, for news that comes before the core does; core_mutex.
  std::map<EngineId, fleet::EngineInfo> early_infos;
  std::map<EngineId, fleet::Liveness> early_liveness;
  std::map<EngineId, blocks::PublisherState> early_publishers;

  std::mutex outlets_mutex;
  std::array<Outlet, kThreadsMax> outlets;
  std::shared_ptr<io::Timer> timer_slot = std::make_shared<io::Timer>();  // on the timers' thread
  Instant timer_at;                                                       // there too

  mutable std::mutex tables_mutex;
  std::shared_ptr<const EngineList> list;
  std::shared_ptr<const ModelTable> models;
  std::shared_ptr<const prompt::Encoder> encoder;
  std::atomic<std::uint32_t> next_engine{0};
  std::atomic<std::uint64_t> removals{0};

  std::unique_ptr<EngineIds> engine_ids;
  observe::Gauge* inbox_gauge = nullptr;
  observe::Gauge* inflight = nullptr;
  observe::Counter* dropped = nullptr;
  observe::Counter* decisions = nullptr;
  observe::Counter* rejected = nullptr;
  observe::Counter* retries = nullptr;
};

Pool::Pool(PoolOptions options, observe::Registry& registry, io::Loop& timers)
    : impl_(std::make_shared<Impl>(std::move(options), registry, timers)) {}

Pool::~Pool() {
  // The timer belongs to its loop's thread; the slot keeps it alive until then.
  impl_->timers.post([slot = impl_->timer_slot] { slot->cancel(); });
}

const PoolOptions& Pool::options() const { return impl_->options; }

void Pool::start(route::CoreOptions core, const index::Index* index, std::shared_ptr<const prompt::Encoder> encoder) {
  {
    const std::lock_guard lock(impl_->tables_mutex);
    impl_->encoder = std::move(encoder);
  }
  std::vector<route::Effect> effects;
  {
    const std::lock_guard lock(impl_->core_mutex);
    WP_CHECK(!impl_->core);
    impl_->core = std::make_unique<route::Core>(core, index);
    impl_->step_early_news(effects);
  }
  impl_->alive.store(true, std::memory_order_release);
  impl_->deliver(std::move(effects));
  impl_->pump();
}

bool Pool::started() const { return impl_->alive.load(std::memory_order_acquire); }

EngineId Pool::next_engine_id() { return EngineId(impl_->next_engine.fetch_add(1)); }

void Pool::engine_added(EngineAt engine) {
  const fleet::EngineInfo info = engine.info;
  WP_CHECK(info.id.value() < impl_->next_engine.load());
  impl_->edit_engines([&](EngineList& list) {
    const std::size_t at = info.id.value();
    if (list.by_id.size() <= at) list.by_id.resize(at + 1);
    engine.calls = list.by_id[at] ? list.by_id[at]->calls : std::make_shared<std::atomic<std::uint32_t>>(0);
    list.by_id[at] = std::make_shared<const EngineAt>(std::move(engine));
  });
  (void)submit(route::EngineChanged{fleet::Added{info}});
}

void Pool::changed(const fleet::Change& change) {
  WP_CHECK(!std::holds_alternative<fleet::Added>(change));
  if (const auto* removed = std::get_if<fleet::Removed>(&change)) {
    std::string name;
    impl_->edit_engines([&](EngineList& list) {
      const std::size_t at = removed->engine.value();
      if (at >= list.by_id.size() || !list.by_id[at]) return;
      name = list.by_id[at]->info.name;
      list.by_id[at].reset();
    });
    if (!name.empty()) {
      impl_->registry.remove("engine", name);
      impl_->removals.fetch_add(1, std::memory_order_release);
    }
  }
  (void)submit(route::EngineChanged{change});
}

void Pool::sampled(const fleet::Sample& sample) {
  if (inbox_depth() >= impl_->options.arrivals_max) {
    impl_->dropped->add();
    return;
  }
  (void)submit(route::Sampled{sample});
}

void Pool::publisher_changed(EngineId engine, blocks::PublisherState state) {
  (void)submit(route::PublisherChanged{engine, state});
}

std::shared_ptr<const EngineAt> Pool::engine(EngineId id) const {
  const auto list = impl_->engine_list();
  return id.value() < list->by_id.size() ? list->by_id[id.value()] : nullptr;
}

std::vector<std::shared_ptr<const EngineAt>> Pool::engines() const {
  std::vector<std::shared_ptr<const EngineAt>> out;
  const auto list = impl_->engine_list();
  for (const auto& engine : list->by_id) {
    if (engine) out.push_back(engine);
  }
  return out;
}

std::shared_ptr<const prompt::Encoder> Pool::encoder() const {
  const std::lock_guard lock(impl_->tables_mutex);
  return impl_->encoder;
}

route::Snapshot Pool::snapshot(std::size_t decisions_max) const {
  route::Snapshot out;
  {
    const std::lock_guard lock(impl_->core_mutex);
    if (impl_->core) out = impl_->core->snapshot(impl_->timers.now(), decisions_max);
  }
  impl_->pump();  // what came meanwhile was left to us
  return out;
}

std::vector<api::ModelEntry> Pool::models() const {
  const std::lock_guard lock(impl_->tables_mutex);
  return impl_->models->entries();
}

std::optional<Pool::Resolved> Pool::resolve(std::string_view model) const {
  std::shared_ptr<const ModelTable> table;
  {
    const std::lock_guard lock(impl_->tables_mutex);
    table = impl_->models;
  }
  return table->resolve(model);
}

AskCounts Pool::asked() const { return impl_->engine_ids ? impl_->engine_ids->counts() : AskCounts(); }

EngineIds* Pool::engine_ids() const { return impl_->engine_ids.get(); }

std::size_t Pool::inbox_depth() const { return impl_->waiting.load(std::memory_order_relaxed); }

std::uint64_t Pool::engines_removed() const { return impl_->removals.load(std::memory_order_acquire); }

void Pool::refresh_metrics() {
  const route::Snapshot now = snapshot(0);
  impl_->inbox_gauge->set(static_cast<double>(inbox_depth()));
  impl_->inflight->set(static_cast<double>(now.inflight));
  impl_->decisions->raise_to(now.decisions_total);
  impl_->rejected->raise_to(now.rejected_total);
  impl_->retries->raise_to(now.retries_total);
  observe::Registry& registry = impl_->registry;
  const auto labels = [this](const std::string& engine) {
    return observe::Labels{{"pool", options().name}, {"engine", engine}};
  };
  for (std::size_t i = 0; i < now.engines.size() && i < now.infos.size(); ++i) {
    const fleet::EngineView& view = now.engines[i];
    const observe::Labels label = labels(now.infos[i].name);
    const bool up = view.liveness == fleet::Liveness::kUp;
    registry.gauge("warmpath_engine_up", "1 while the engine answers its health checks.", label).set(up ? 1 : 0);
    registry.gauge("warmpath_engine_requests_in_flight", "Requests of this gateway at the engine.", label)
        .set(view.inflight_requests);
    registry.gauge("warmpath_engine_waiting", "Requests waiting in the engine, as it last said.", label)
        .set(view.waiting);
    registry.gauge("warmpath_engine_running", "Requests running in the engine, as it last said.", label)
        .set(view.running);
    registry.gauge("warmpath_engine_kv_usage_ratio", "KV cache in use, 0 to 1, as it last said.", label)
        .set(view.kv_usage);
  }
  for (const route::EngineProof& proof : now.proofs) {
    const auto engine_at = engine(proof.engine);
    if (!engine_at) continue;
    const observe::Labels label = labels(engine_at->info.name);
    registry
        .counter("warmpath_cached_tokens_predicted_total",
                 "Prompt tokens predicted to be cached, of requests whose engine reported them.", label)
        .raise_to(proof.predicted_cached_tokens);
    registry
        .counter("warmpath_cached_tokens_reported_total", "Prompt tokens that the engine reported as cached.", label)
        .raise_to(proof.reported_cached_tokens);
    registry.counter("warmpath_proof_requests_total", "Requests whose engine reported cached tokens.", label)
        .raise_to(proof.requests);
    registry.counter("warmpath_proof_equal_total", "Of these, prediction and report were equal.", label)
        .raise_to(proof.requests_equal);
    registry.counter("warmpath_proof_prompt_tokens_total", "Prompt tokens of these requests.", label)
        .raise_to(proof.prompt_tokens);
    registry
        .gauge("warmpath_proof_error_tokens",
               "Distance between predicted and reported cached tokens, mean of about 50 requests.", label)
        .set(proof.absolute_error_tokens_recent);
  }
}

void Pool::bind(std::uint32_t thread, io::Loop* loop, EffectSink* sink) {
  WP_CHECK(thread < kThreadsMax);
  const std::lock_guard lock(impl_->outlets_mutex);
  impl_->outlets[thread].loop = loop;
  impl_->outlets[thread].sink = sink;
}

bool Pool::submit(route::Input input) {
  if (!started()) {
    const std::lock_guard lock(impl_->core_mutex);
    if (!impl_->core) {  // only news can come this early: requests are turned away before
      WP_CHECK(!std::holds_alternative<route::Arrived>(input));
      impl_->note_early(input);
      return true;
    }
  }
  return impl_->submit(std::move(input));
}

}  // namespace warmpath::proxy
