// One rank of one engine process: the engine model, whose cache is the truth, and its publisher.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "events/events.h"
#include "schedule.h"

namespace warmpath::faults {

struct Message {
  PublisherSeq seq;
  std::vector<events::Frame> frames;
};

class Process {
 public:
  // `number` is unique in the world: it seeds the prompts.
  Process(const AddressPlan& plan, std::uint64_t seed, std::uint64_t number, std::uint32_t rank);

  // A request of one of a few prompt families arrives.
  void add_request(Instant now);
  // One step of the engine; its events, when it had any, as a live message. `ts_offset` is added to its clock.
  std::optional<Message> step(Instant now, Duration ts_offset);
  void abort_all();
  void reset_prefix_cache() { model_->reset_prefix_cache(); }
  // The next message is of thousands of events: removals of blocks that the engine never announced.
  void make_huge(std::uint32_t events) { huge_ = events; }
  // What the replay socket answers from `start` on, as a DEALER receives it, the end marker last.
  std::vector<std::vector<events::Frame>> replay(PublisherSeq start) const;

  std::vector<EngineHash> truth() const { return model_->cached_hashes(); }
  // Leading blocks of `prompt` that are cached.
  std::uint32_t truth_depth(const std::vector<TokenId>& prompt) const;
  std::uint64_t next_seq() const { return next_seq_; }
  const std::vector<std::vector<TokenId>>& prompts() const { return prompts_; }

 private:
  std::vector<TokenId> draw_prompt();

  const AddressPlan plan_;
  RandomStream random_;
  std::unique_ptr<engine::Model> model_;
  std::optional<blocks::EngineHasher> hasher_;
  std::uint64_t next_request_ = 1;
  std::uint64_t next_seq_ = 0;
  std::uint32_t huge_ = 0;
  struct Kept {
    PublisherSeq seq;
    std::vector<std::uint8_t> payload;
  };
  std::deque<Kept> ring_;
  std::vector<std::uint64_t> open_;
  std::vector<std::vector<TokenId>> prompts_;  // the latest ones
};

}  // namespace warmpath::faults
