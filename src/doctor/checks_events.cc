// Do the engine's KV events reach us?
#include <algorithm>
#include <string>

#include "doctor/checks.h"

namespace warmpath::doctor {
namespace {

constexpr const char* kTurnOn =
    R"(start the engine with --kv-events-config '{"enable_kv_cache_events":true,"publisher":"zmq",)"
    R"("replay_endpoint":"tcp://*:5558"}')";
constexpr const char* kGive = "say where they are: --engine URL,kv=tcp://HOST:PORT,replay=tcp://HOST:PORT";

bool told_off(const Evidence& evidence) {
  return evidence.sources_status == 200 && std::ranges::none_of(evidence.told, &ingest::RankTold::enabled);
}

const ingest::RankTold* told_of(const Evidence& evidence, std::uint32_t rank) {
  const auto it = std::ranges::find(evidence.told, rank, &ingest::RankTold::rank);
  return it == evidence.told.end() || !it->enabled ? nullptr : &*it;
}

const SourceSeen* seen_of(const Evidence& evidence, std::uint32_t rank) {
  const auto it = std::ranges::find(evidence.sources, rank, &SourceSeen::rank);
  return it == evidence.sources.end() ? nullptr : &*it;
}

// Where the user gave another address than the engine tells.
std::string told_elsewhere(const Evidence& evidence, const SourceSeen& seen) {
  const ingest::RankTold* told = evidence.sources_given ? told_of(evidence, seen.rank) : nullptr;
  if (told == nullptr || told->events == seen.events) return {};
  return "; the engine says " + told->events;
}

bool any_prompt_answered(const Evidence& evidence) {
  return std::ranges::any_of(evidence.answers, [](const Answered& answer) { return answer.error.empty(); });
}

}  // namespace

Finding check_events(const Reading& reading) {
  const Evidence& e = reading.evidence;
  if (told_off(e)) {
    const bool other = std::ranges::any_of(e.told, [](const ingest::RankTold& told) {
      return !told.publisher.empty() && told.publisher != "zmq" && told.publisher != "null";
    });
    return fault("events_disabled",
                 other ? "the engine publishes by '" + e.told.front().publisher + "', not by zmq"
                       : std::string("the engine publishes no KV events"),
                 kTurnOn);
  }
  if (!e.sources.empty()) {
    return ok((e.sources_given ? "given: " : "told: ") + e.sources.front().events +
              (e.sources.size() > 1 ? " and " + std::to_string(e.sources.size() - 1) + " more" : ""));
  }
  return fault("events_unknown", "the engine cannot say where its KV events are (older than vLLM 0.32, SGLang 0.5.23)",
               kGive);
}

Finding check_stream(const Reading& reading) {
  const Evidence& e = reading.evidence;
  if (e.sources.empty()) return not_tested("no KV events are known of");
  for (const SourceSeen& seen : e.sources) {
    if (!seen.unusable.empty()) return fault("events_address", seen.events + ": " + seen.unusable, kGive);
    if (!seen.connected && !seen.bound) {
      return fault("events_address", "nothing answers at " + seen.events + told_elsewhere(e, seen),
                   "open the port (firewall, container ports), or " + std::string(kGive));
    }
  }
  if (e.heard_too_much) return not_tested("the engine is so busy that events had to be dropped: try again");
  if (!any_prompt_answered(e)) return not_tested("no probe was answered");
  if (!reading.own.empty()) {
    std::uint64_t batches = 0;
    for (const SourceSeen& seen : e.sources) batches += seen.batches;
    return ok(std::to_string(reading.own.all().size()) + " blocks of the probes came, in " + std::to_string(batches) +
              " batches with others'");
  }
  if (reading.caching_off()) return not_tested("without prefix caching an engine stores no blocks");
  const SourceSeen& first = e.sources.front();
  const bool others = std::ranges::any_of(e.sources, [](const SourceSeen& seen) { return seen.batches > 0; });
  const bool unreadable = std::ranges::any_of(e.sources, [](const SourceSeen& seen) { return seen.unreadable > 0; });
  if (unreadable && !others) {
    return fault("events_unreadable",
                 "what comes from " + first.events + " are no KV events" + told_elsewhere(e, first), kGive);
  }
  if (others) {
    return fault("events_address",
                 "events come from " + first.events + ", but none of the probes': it is another engine's publisher" +
                     told_elsewhere(e, first),
                 kGive);
  }
  return fault("events_address", first.events + " takes the connection and sends nothing" + told_elsewhere(e, first),
               first.bound ? "let the engine's publisher dial this address" : kGive);
}

Finding check_topic(const Reading& reading) {
  const Evidence& e = reading.evidence;
  for (const SourceSeen& seen : e.sources) {
    const ingest::RankTold* told = told_of(e, seen.rank);
    if (told == nullptr || seen.topics.empty()) continue;
    for (const std::string& topic : seen.topics) {
      if (topic == told->topic) continue;
      return warning("events_topic",
                     "events come under the topic '" + topic + "', the engine tells '" + told->topic + "'",
                     "Warmpath takes every topic, but who filters by the one told hears nothing: correct the topic in "
                     "--kv-events-config");
    }
    return ok("'" + told->topic + "'");
  }
  return not_tested("no event came, or the engine tells no topic");
}

Finding check_replay(const Reading& reading) {
  const Evidence& e = reading.evidence;
  if (e.sources.empty()) return not_tested("no KV events are known of");
  for (const SourceSeen& seen : e.sources) {
    if (seen.replays == SourceSeen::Replay::kSilent) {
      return warning("replay", "nobody replays at " + seen.replay,
                     "lost events stay lost: open the port of replay_endpoint in --kv-events-config");
    }
    if (seen.replays == SourceSeen::Replay::kNone) {
      return warning("replay", "the engine replays no events: after a lost one the map of it stays incomplete",
                     kTurnOn);
    }
  }
  return ok("answers at " + e.sources.front().replay);
}

Finding check_ranks(const Reading& reading) {
  const Evidence& e = reading.evidence;
  if (e.ranks <= 1) return ok("one");
  if (reading.own.empty()) return not_tested("no block of a probe came");
  for (const auto& [hash, block] : reading.own.all()) {
    if (block.rank == 0) continue;
    return fault("ranks",
                 "a probe for rank 0 was stored by the publisher of rank " + std::to_string(block.rank) + " of " +
                     std::to_string(e.ranks),
                 "the header X-data-parallel-rank does not reach the engine, or event ports are not base plus rank");
  }
  const SourceSeen* last = seen_of(e, e.ranks - 1);
  if (last == nullptr) {
    return fault("ranks",
                 std::to_string(e.ranks) + " ranks, but events of " + std::to_string(e.sources.size()) + " known",
                 kGive);
  }
  return ok(std::to_string(e.ranks) + ", pinned by X-data-parallel-rank");
}

}  // namespace warmpath::doctor
