// Against a loop that looks at one value at a time, at every length, with what is no small integer anywhere.
#include "events/small_integers.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/base.h"

namespace warmpath::events::msgpack {
namespace {

struct Expected {
  std::vector<std::uint32_t> values;
  std::size_t bytes = 0;
};

Expected one_at_a_time(const std::vector<std::uint8_t>& data, std::size_t count) {
  Expected out;
  while (out.values.size() < count && out.bytes < data.size()) {
    const std::uint8_t head = data[out.bytes];
    const std::size_t width = head < 0x80 ? 1 : head == 0xcc ? 2 : head == 0xcd ? 3 : head == 0xce ? 5 : 0;
    if (width == 0 || data.size() - out.bytes < width) break;
    std::uint32_t value = width == 1 ? head : 0;
    for (std::size_t i = 1; i < width; ++i) value = value << 8 | data[out.bytes + i];
    out.values.push_back(value);
    out.bytes += width;
  }
  return out;
}

// `narrow` of 8: how many are of one or two bytes.
std::vector<std::uint8_t> list(RandomStream& random, std::size_t count, std::uint64_t narrow, std::uint64_t strange) {
  std::vector<std::uint8_t> data;
  for (std::size_t i = 0; i < count; ++i) {
    if (strange > 0 && random.below(strange) == 0) {
      data.push_back(static_cast<std::uint8_t>(random.below(256)));
      continue;
    }
    const std::uint64_t kind = random.below(8) < narrow ? random.below(2) : 2 + random.below(2);
    constexpr std::uint8_t kHeads[] = {0, 0xcc, 0xcd, 0xce};
    constexpr std::size_t kWidths[] = {0, 1, 2, 4};
    if (kind == 0) data.push_back(static_cast<std::uint8_t>(random.below(128)));
    if (kind != 0) data.push_back(kHeads[kind]);
    // Contents look like heads as often as not.
    for (std::size_t b = 0; b < kWidths[kind]; ++b) {
      data.push_back(random.below(2) == 0 ? kHeads[random.below(4)] : static_cast<std::uint8_t>(random.below(256)));
    }
  }
  return data;
}

using Decode = SmallRun (*)(const std::uint8_t*, const std::uint8_t*, std::uint32_t*, std::size_t);

void compare(Decode decode, const std::vector<std::uint8_t>& data, std::size_t count) {
  const Expected expected = one_at_a_time(data, count);
  std::vector<std::uint32_t> got(count);
  // Exactly as large as they are: sanitizers see a byte too far.
  const std::vector<std::uint8_t> exact(data.begin(), data.end());
  const SmallRun run = decode(exact.data(), exact.data() + exact.size(), got.data(), count);
  got.resize(run.taken);
  ASSERT_EQ(got, expected.values);
  ASSERT_EQ(static_cast<std::size_t>(run.at - exact.data()), expected.bytes);
}

class SmallIntegers : public testing::TestWithParam<Decode> {};

TEST_P(SmallIntegers, EveryLength) {
  RandomStream random(1, "small");
  for (std::size_t count = 0; count < 300; ++count) {
    for (const std::uint64_t narrow : {0, 1, 8}) {
      const auto data = list(random, count, narrow, 0);
      compare(GetParam(), data, count);
      compare(GetParam(), data, count / 2);
      compare(GetParam(), data, count + 3);
    }
  }
}

TEST_P(SmallIntegers, AnythingAnywhere) {
  RandomStream random(2, "small");
  for (int round = 0; round < 4'000; ++round) {
    auto data = list(random, random.below(500), random.below(9), 1 + random.below(400));
    if (!data.empty() && random.below(2) == 0) data.resize(random.below(data.size()));
    compare(GetParam(), data, random.below(600));
  }
}

INSTANTIATE_TEST_SUITE_P(Events, SmallIntegers, testing::Values(&decode_small, &decode_small_portable));

}  // namespace
}  // namespace warmpath::events::msgpack
