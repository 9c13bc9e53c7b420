#include "workload/population.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace warmpath::workload {
namespace {

std::string name_of(std::string_view kind, std::uint64_t a) { return std::string(kind) + ' ' + std::to_string(a); }
std::string name_of(std::string_view kind, std::uint64_t a, std::uint64_t b) {
  return name_of(kind, a) + ' ' + std::to_string(b);
}

std::vector<std::uint32_t> shuffled(std::uint64_t seed, std::size_t count) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  RandomStream random(seed, "order");
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

class SharedPrefixTexts : public Texts {
 public:
  SharedPrefixTexts(const SharedPrefix& shape, std::uint64_t requests_max, Writer writer)
      : shape_(shape),
        writer_(std::move(writer)),
        order_(shuffled(writer_.seed(), std::size_t{shape.groups} * shape.prompts_per_group)),
        sessions_(requests_max == 0 ? order_.size() : requests_max) {}

  std::uint64_t sessions() const override { return sessions_; }
  void ask(std::uint64_t session, std::uint32_t, Request& request) const override {
    const std::uint32_t prompt = order_[session % order_.size()];
    const std::uint32_t group = prompt / shape_.prompts_per_group;
    request.tenant = "group-" + std::to_string(group);
    request.output_tokens = shape_.output_tokens;
    if (shape_.system_prompt_tokens > 0) {
      request.messages.push_back(writer_.message(Role::kSystem, name_of("system", group), shape_.system_prompt_tokens));
    }
    request.messages.push_back(writer_.message(Role::kUser, name_of("question", prompt), shape_.question_tokens));
  }

 private:
  const SharedPrefix shape_;
  const Writer writer_;
  const std::vector<std::uint32_t> order_;
  const std::uint64_t sessions_;
};

class MultiTurnTexts : public Texts {
 public:
  MultiTurnTexts(const MultiTurn& shape, Writer writer)
      : shape_(shape),
        writer_(std::move(writer)),
        order_(shuffled(writer_.seed(), std::size_t{shape.tenants} * shape.conversations_per_tenant)) {}

  std::uint64_t sessions() const override { return order_.size(); }
  std::uint32_t turns() const override { return shape_.turns; }
  void ask(std::uint64_t session, std::uint32_t turn, Request& request) const override {
    const std::uint32_t conversation = order_[session];
    const std::uint32_t tenant = conversation / shape_.conversations_per_tenant;
    request.tenant = "tenant-" + std::to_string(tenant);
    if (shape_.salt_per_tenant) request.salt = "salt-" + request.tenant;
    if (turn == 0 && shape_.system_prompt_tokens > 0) {
      request.messages.push_back(
          writer_.message(Role::kSystem, name_of("system", tenant), shape_.system_prompt_tokens));
    }
    const std::string text = name_of("user", conversation, turn);
    request.messages.push_back(
        writer_.message(Role::kUser, text, writer_.length(text + " length", shape_.user_tokens)));
    request.output_tokens = writer_.length(name_of("output", conversation, turn), shape_.output_tokens);
  }
  Duration think(std::uint64_t session, std::uint32_t turn) const override {
    if (shape_.think_seconds <= 0) return Duration(0);
    RandomStream random(writer_.seed(), name_of("think", order_[session], turn));
    return from_seconds(random.exponential(shape_.think_seconds));
  }

 private:
  const MultiTurn shape_;
  const Writer writer_;
  const std::vector<std::uint32_t> order_;
};

class TraceTexts : public Texts {
 public:
  TraceTexts(const Trace& trace, Writer writer)
      : trace_(trace), writer_(std::move(writer)), block_tokens_(scaled(kTraceBlockTokens)) {}

  std::uint64_t sessions() const override { return trace_.rows.size(); }
  void ask(std::uint64_t session, std::uint32_t, Request& request) const override {
    const TraceRow& row = trace_.rows[session];
    const std::uint64_t blocks = row.hash_ids.size();
    const std::uint64_t input =
        std::clamp(scaled(row.input_tokens), (blocks - 1) * block_tokens_ + 1, blocks * block_tokens_);
    Message prompt{.role = Role::kUser, .ids = {}};
    prompt.ids.reserve(input);
    for (const std::uint32_t block : row.hash_ids) {
      writer_.write(name_of("block", block), std::min(block_tokens_, input - prompt.ids.size()), prompt.ids);
    }
    request.messages.push_back(std::move(prompt));
    request.output_tokens = static_cast<std::uint32_t>(scaled(row.output_tokens));
  }

 private:
  std::uint64_t scaled(std::uint32_t tokens) const {
    return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(tokens * trace_.length_factor)));
  }

  const Trace trace_;
  const Writer writer_;
  const std::uint64_t block_tokens_;
};

}  // namespace

void Writer::write(std::string_view name, std::uint64_t count, std::vector<TokenId>& out) const {
  RandomStream random(seed_, name);
  for (std::uint64_t i = 0; i < count; ++i) out.push_back(vocabulary_[random.below(vocabulary_.size())]);
}

Message Writer::message(Role role, std::string_view name, std::uint64_t count) const {
  Message message{.role = role, .ids = {}};
  message.ids.reserve(count);
  write(name, count, message.ids);
  return message;
}

std::uint32_t Writer::length(std::string_view name, std::uint32_t mean) const {
  RandomStream random(seed_, name);
  const std::uint32_t low = std::max(1u, (mean + 1) / 2);
  const std::uint32_t high = std::max(low, mean + mean / 2);
  return low + static_cast<std::uint32_t>(random.below(high - low + 1));
}

Duration Texts::think(std::uint64_t, std::uint32_t) const { return Duration(0); }

std::unique_ptr<Texts> make_texts(const Options& options, std::span<const TokenId> vocabulary) {
  Writer writer(options.seed, vocabulary);
  if (const auto* shared = std::get_if<SharedPrefix>(&options.population)) {
    return std::make_unique<SharedPrefixTexts>(*shared, options.requests_max, std::move(writer));
  }
  if (const auto* turns = std::get_if<MultiTurn>(&options.population)) {
    return std::make_unique<MultiTurnTexts>(*turns, std::move(writer));
  }
  return std::make_unique<TraceTexts>(std::get<Trace>(options.population), std::move(writer));
}

}  // namespace warmpath::workload
