#include "schedule.h"

#include <algorithm>
#include <cstdio>

namespace warmpath::faults {
namespace {

using std::chrono::milliseconds;

bool lasts(Kind kind) {
  switch (kind) {
    case Kind::kBreak:
    case Kind::kRestart:
    case Kind::kRestartPassed:
    case Kind::kRankCount:
    case Kind::kHugeBatch:
    case Kind::kClear:
    case Kind::kEngineClock:
    case Kind::kRouterClock:
    case Kind::kGatewayRestart: return false;
    default: return true;
  }
}

}  // namespace

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kLoss: return "loss";
    case Kind::kDuplicate: return "duplicate";
    case Kind::kCorrupt: return "corrupt";
    case Kind::kDelay: return "delay";
    case Kind::kBreak: return "break";
    case Kind::kRestart: return "restart";
    case Kind::kRestartPassed: return "restart_passed";
    case Kind::kRankCount: return "rank_count";
    case Kind::kHugeBatch: return "huge_batch";
    case Kind::kClear: return "clear";
    case Kind::kReplayRefused: return "replay_refused";
    case Kind::kReplayCut: return "replay_cut";
    case Kind::kReplayMarkerless: return "replay_markerless";
    case Kind::kReplayHole: return "replay_hole";
    case Kind::kReplayEndless: return "replay_endless";
    case Kind::kReplayCorrupt: return "replay_corrupt";
    case Kind::kReplayOnlyEnd: return "replay_only_end";
    case Kind::kEngineClock: return "engine_clock";
    case Kind::kRouterClock: return "router_clock";
    case Kind::kGatewayRestart: return "gateway_restart";
  }
  return "?";
}

Schedule draw_schedule(std::uint64_t seed) {
  RandomStream random(seed, "faults.schedule");
  Schedule out;
  out.seed = seed;
  out.addresses.resize(1 + random.below(3));
  for (AddressPlan& address : out.addresses) {
    address.ranks = 1 + static_cast<std::uint32_t>(random.below(3) == 0);
    address.block_tokens = 8u << random.below(3);
    address.kv_blocks = 640 / address.block_tokens;
    address.replay_batches = random.below(8) == 0 ? 0 : 5u << random.below(7);
    address.batches_before = random.below(2) == 0 ? 0 : static_cast<std::uint32_t>(random.below(60));
    address.arrays = random.below(3) == 0;
    address.reports_full = random.below(4) == 0;
  }
  out.index_bytes_max = random.below(8) == 0 ? 10'000 + random.below(40'000) : 64u << 20;
  out.parked_batches_max = random.below(4) == 0 ? 1 + random.below(20) : 10'000;
  out.parked_events_max = random.below(4) == 0 ? 1 + random.below(200) : 1'000'000;
  const std::uint64_t count = 1 + random.below(14);
  for (std::uint64_t i = 0; i < count; ++i) {
    Fault fault;
    fault.kind = static_cast<Kind>(random.below(kKinds));
    fault.address = static_cast<std::uint32_t>(random.below(out.addresses.size()));
    fault.at = milliseconds(random.below(9'500));
    fault.until =
        lasts(fault.kind) ? std::min<Duration>(kFaultsEnd, fault.at + milliseconds(random.below(6'000))) : fault.at;
    fault.strength = random.unit();
    out.faults.push_back(fault);
  }
  std::stable_sort(out.faults.begin(), out.faults.end(), [](const Fault& a, const Fault& b) { return a.at < b.at; });
  return out;
}

std::string Schedule::text() const {
  std::string out = "seed " + std::to_string(seed) + ", index_bytes_max " + std::to_string(index_bytes_max) +
                    ", parked_batches_max " + std::to_string(parked_batches_max) + ", parked_events_max " +
                    std::to_string(parked_events_max) + "\n";
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const AddressPlan& address = addresses[i];
    out += "  address " + std::to_string(i) + ": ranks " + std::to_string(address.ranks) + ", block_tokens " +
           std::to_string(address.block_tokens) + ", kv_blocks " + std::to_string(address.kv_blocks) +
           ", replay_batches " + std::to_string(address.replay_batches) + ", batches_before " +
           std::to_string(address.batches_before) + (address.arrays ? ", arrays" : ", maps") +
           (address.reports_full ? ", report mode full" : "") + "\n";
  }
  for (const Fault& fault : faults) {
    char line[160];
    std::snprintf(line, sizeof line, "  %6.3f s  address %u  %s, strength %.2f", to_seconds(fault.at), fault.address,
                  kind_name(fault.kind), fault.strength);
    out += line;
    if (lasts(fault.kind)) {
      std::snprintf(line, sizeof line, ", until %.3f s", to_seconds(fault.until));
      out += line;
    }
    out += '\n';
  }
  return out;
}

}  // namespace warmpath::faults
