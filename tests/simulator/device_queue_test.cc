#include "simulator/device_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace msmoe::simulator {
namespace {

// Few distinct times, so that ties are many: the first of equal minima is the lowest device.
TEST(DeviceQueue, AgreesWithAScan) {
  std::mt19937_64 random(7);
  for (std::size_t num_devices : {1u, 2u, 3u, 8u, 15u, 33u, 64u}) {
    DeviceQueue queue(num_devices);
    std::vector<std::int64_t> times(num_devices, kNever);
    EXPECT_EQ(queue.first(), 0);
    for (int step = 0; step < 2000; ++step) {
      const std::size_t device = random() % num_devices;
      const std::uint64_t draw = random() % 24;
      times[device] = draw == 0 ? kNever : static_cast<std::int64_t>(draw);
      queue.set(static_cast<std::int32_t>(device), times[device]);
      const auto first = std::min_element(times.begin(), times.end());
      ASSERT_EQ(queue.first_time(), *first);
      ASSERT_EQ(queue.first(), first - times.begin());
      ASSERT_EQ(queue.time(static_cast<std::int32_t>(device)), times[device]);
    }
  }
}

}  // namespace
}  // namespace msmoe::simulator
