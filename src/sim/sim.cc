#include "sim/sim.h"

#include <algorithm>

#include "sim/world.h"

namespace warmpath::sim {
namespace {

// Enough different ids that texts do not repeat each other by chance.
constexpr std::size_t kVocabulary = 32'000;

std::vector<TokenId> vocabulary() {
  std::vector<TokenId> ids(kVocabulary);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
  return ids;
}

bool is_share(double value) { return value >= 0 && value <= 1; }

std::vector<std::string> faults_of(const SimOptions& options) {
  std::vector<std::string> faults;
  const auto expect = [&](bool holds, std::string fault) {
    if (!holds) faults.push_back(std::move(fault));
  };
  expect(options.engines >= 1 && options.engines <= kEnginesMax,
         "engines must be 1 to " + std::to_string(kEnginesMax) + ", not " + std::to_string(options.engines));
  expect(options.engines_without_events <= options.engines, "engines_without_events must be at most engines");
  expect(options.scrape_interval > Duration(0), "scrape_interval must be above 0");
  expect(options.link.request_delay >= Duration(0), "link.request_delay must not be negative");
  expect(options.link.event_delay >= Duration(0), "link.event_delay must not be negative");
  expect(is_share(options.link.event_loss), "link.event_loss must be 0 to 1");
  expect(is_share(options.link.event_duplicate), "link.event_duplicate must be 0 to 1");
  expect(options.virtual_time_max > Duration(0), "virtual_time_max must be above 0");
  return faults;
}

}  // namespace

Result<Report> run(const SimOptions& options) {
  std::vector<std::string> faults = faults_of(options);
  const auto policy = schedule::find_policy(options.policy);
  if (!policy.ok()) faults.push_back(policy.error().message);
  auto source = workload::Source::create(options.workload, vocabulary());
  if (!source.ok()) faults.push_back(source.error().message);
  std::vector<Machine> machines;
  for (std::uint32_t i = 0; i < std::min(options.engines, kEnginesMax); ++i) {
    engine::ModelOptions model_options = options.engine;
    model_options.rank = 0;
    auto model = engine::Model::create(std::move(model_options));
    if (!model.ok()) {
      faults.push_back(model.error().message);
      break;
    }
    machines.emplace_back(*std::move(model), options.replay_buffer_batches);
  }
  if (!faults.empty()) {
    std::string text;
    for (const std::string& fault : faults) text += (text.empty() ? "" : "; ") + fault;
    return Error{ErrorKind::kInvalid, text};
  }
  return World(options, *policy, *std::move(source), std::move(machines)).run();
}

}  // namespace warmpath::sim
