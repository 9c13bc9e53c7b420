#include "process.h"

#include <algorithm>

namespace warmpath::faults {
namespace {

constexpr std::string_view kTopic = "kv-events";
constexpr std::uint64_t kFamilies = 5;
constexpr std::size_t kPromptsKept = 24;
constexpr double kUnixStart = 1.7e9;

}  // namespace

Process::Process(const AddressPlan& plan, std::uint64_t seed, std::uint64_t number, std::uint32_t rank)
    : plan_(plan), random_(seed ^ (number << 32), "faults.process") {
  engine::ModelOptions options;
  options.profile.name = "faults";
  options.profile.block_tokens = plan.block_tokens;
  options.profile.kv_blocks = plan.kv_blocks;
  options.profile.batched_tokens_max = 128;
  options.profile.sequences_max = 4;
  options.profile.model_tokens_max = plan.block_tokens * (plan.kv_blocks - 2);
  options.rank = rank;
  options.scheme = blocks::Scheme::kVllmXxhashCbor;
  options.hash_seed = std::to_string(number);  // every process its own, as engines without PYTHONHASHSEED
  options.requests_max = 8;
  auto model = engine::Model::create(options);
  WP_CHECK(model.ok());
  model_ = std::move(model).value();
  auto hasher = blocks::EngineHasher::create(
      {.scheme = options.scheme, .block_tokens = plan.block_tokens, .seed = options.hash_seed});
  WP_CHECK(hasher.ok());
  hasher_.emplace(std::move(hasher).value());
}

// Shared heads of a few families, own tails. Never a single block: its second computation would look like the
// announcement of a reused prefix (index: a copied tail may be thought gone).
std::vector<TokenId> Process::draw_prompt() {
  const auto family = static_cast<TokenId>(random_.below(kFamilies));
  const std::uint64_t head = plan_.block_tokens * 2 + random_.below(120);
  const std::uint64_t tail = random_.below(60);
  std::vector<TokenId> prompt;
  for (std::uint64_t i = 0; i < head; ++i) prompt.push_back(1'000 + family * 1'000 + static_cast<TokenId>(i));
  for (std::uint64_t i = 0; i < tail; ++i) prompt.push_back(100'000 + static_cast<TokenId>(random_.below(50'000)));
  return prompt;
}

void Process::add_request(Instant now) {
  engine::Request request;
  request.id = next_request_++;
  request.prompt = draw_prompt();
  for (std::uint64_t i = 1 + random_.below(30); i > 0; --i) {
    request.output.push_back(200'000 + static_cast<TokenId>(random_.below(50'000)));
  }
  if (plan_.reports_full && random_.below(3) == 0) request.report = engine::ReportMode::kFull;
  prompts_.push_back(request.prompt);
  if (prompts_.size() > kPromptsKept) prompts_.erase(prompts_.begin());
  const std::uint64_t id = request.id;
  if (model_->add(std::move(request), now).ok()) open_.push_back(id);
}

void Process::abort_all() {
  for (const std::uint64_t id : open_) model_->abort(id);
  open_.clear();
}

std::optional<Message> Process::step(Instant now, Duration ts_offset) {
  const auto plan = model_->begin_step(now);
  if (!plan) return std::nullopt;
  engine::StepResult result;
  model_->finish_step(now + plan->duration, result);
  for (const engine::Emitted& emitted : result.emitted) {
    if (emitted.finished) std::erase(open_, emitted.id);
  }
  if (result.events.empty()) return std::nullopt;
  events::Batch batch;
  batch.ts = kUnixStart + to_seconds(now.since_zero()) + to_seconds(ts_offset);
  batch.rank = model_->options().rank;
  batch.events = std::move(result.events);
  for (; huge_ > 0; --huge_) {
    blocks::BlockRemoved removed;
    removed.block_hashes.push_back({EngineHash(random_.next()), ""});
    batch.events.emplace_back(std::move(removed));
  }
  const PublisherSeq seq(next_seq_++);
  std::vector<std::uint8_t> payload =
      events::encode_batch(batch, plan_.arrays ? events::Encoding::kArrays : events::Encoding::kMaps);
  Message message{seq, events::make_live(kTopic, seq, payload)};
  ring_.push_back({seq, std::move(payload)});
  if (ring_.size() > plan_.replay_batches) ring_.pop_front();
  return message;
}

std::vector<std::vector<events::Frame>> Process::replay(PublisherSeq start) const {
  std::vector<std::vector<events::Frame>> replies;
  const auto answer = [&](std::vector<events::Frame> frames) {
    frames.erase(frames.begin());                        // the identity
    if (plan_.arrays) frames.erase(frames.begin() + 1);  // vLLM up to 0.25 sends no topic
    replies.push_back(std::move(frames));
  };
  for (const Kept& kept : ring_) {
    if (kept.seq >= start) answer(events::make_replay_reply("router", kTopic, kept.seq, kept.payload));
  }
  answer(events::make_replay_end("router"));
  return replies;
}

std::uint32_t Process::truth_depth(const std::vector<TokenId>& prompt) const {
  const std::vector<EngineHash> cached = truth();
  std::uint32_t depth = 0;
  for (const blocks::Digest& digest : hasher_->chain(prompt)) {
    const EngineHash hash = blocks::event_hash(hasher_->options().scheme, digest);
    if (!std::ranges::binary_search(cached, hash)) break;
    ++depth;
  }
  return depth;
}

}  // namespace warmpath::faults
