// Bytes become inputs and passing time. Whatever comes: one exchange at a time, asks bounded, timers sane, states told.
#include <cstddef>
#include <cstdint>

#include "events/events.h"
#include "events/test_follower_driver.h"

namespace {

using namespace warmpath;          // NOLINT(google-build-using-namespace)
using namespace warmpath::events;  // NOLINT(google-build-using-namespace)
using std::chrono::milliseconds;
using testing::Driver;

Result<Batch> batch_of(std::uint8_t seq, std::uint8_t kind) {
  if (kind == 0) return Error{ErrorKind::kInvalid, "broken"};
  Batch batch;
  batch.ts = seq + 1000.0 * (kind >> 6);
  if (kind == 1) batch.events_malformed = 1;
  if (kind == 2) batch.events.emplace_back(blocks::AllBlocksCleared{});
  return batch;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  Driver driver({.can_replay = (data[0] & 7) != 0,
                 .parked_batches_max = data[1] & 15u,
                 .parked_events_max = 1u + (data[1] >> 4)});
  if ((data[0] & 0x18) == 0x18) {
    driver.resume({.seq = PublisherSeq(data[1]),
                   .digest = data[0],
                   .trust = (data[0] & 0x20) != 0 ? blocks::PublisherState::kExact : blocks::PublisherState::kPartial});
  }
  for (std::size_t i = 2; i + 2 < size; i += 3) {
    const std::uint8_t seq = data[i + 1];
    const std::uint8_t kind = data[i + 2];
    const PublisherSeq wide = seq < 250 ? PublisherSeq(seq) : PublisherSeq(UINT64_MAX - (seq - 250));
    switch (data[i] % 11) {
      case 0: driver.step(Connected{}); break;
      case 1: driver.step(Disconnected{}); break;
      case 2:
      case 3: driver.step(LiveBatch{wide, batch_of(seq, kind)}); break;
      case 4: driver.step(LiveBroken{}); break;
      case 5:
      case 6: driver.step(ReplayBatch{wide, batch_of(seq, kind)}); break;
      case 7: driver.step(ReplayEnd{}); break;
      case 8: driver.step(ReplayBroken{}); break;
      case 9: driver.pass(milliseconds(seq) * kind); break;
      case 10: driver.step(Curtailed{}); break;
    }
    if (data[i] >= 230) driver.expire();
  }
  // Left alone with a dead endpoint it goes on, but ever more slowly.
  for (int i = 0; i < 20 && driver.expire(); ++i) {
  }
  return 0;
}
