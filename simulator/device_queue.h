// Which device has the next event: a winner tree over (time, device), so that changing a device's time costs one walk
// from its leaf, which stops where somebody else wins as before (Knuth, The Art of Computer Programming, 5.4.1).
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

namespace msmoe::simulator {

inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

class DeviceQueue {
 public:
  // All devices start at kNever.
  explicit DeviceQueue(std::size_t num_devices)
      : num_leaves_(std::bit_ceil(num_devices)), time_(num_leaves_, kNever), winner_(2 * num_leaves_) {
    for (std::size_t leaf = 0; leaf < num_leaves_; ++leaf)
      winner_[num_leaves_ + leaf] = static_cast<std::int32_t>(leaf);
    for (std::size_t node = num_leaves_ - 1; node > 0; --node) winner_[node] = winner_[2 * node];
  }

  // The device with the earliest event, the lowest of those if several have one then.
  std::int32_t first() const { return winner_[1]; }
  std::int64_t first_time() const { return time_[winner_[1]]; }
  std::int64_t time(std::int32_t device) const { return time_[device]; }

  void set(std::int32_t device, std::int64_t time) {
    if (time_[device] == time) return;
    time_[device] = time;
    for (std::size_t node = (num_leaves_ + device) / 2; node > 0; node /= 2) {
      const std::int32_t left = winner_[2 * node], right = winner_[2 * node + 1];
      const std::int32_t winner = time_[right] < time_[left] ? right : left;
      if (winner == winner_[node] && winner != device) return;
      winner_[node] = winner;
    }
  }

 private:
  std::size_t num_leaves_;
  std::vector<std::int64_t> time_;
  std::vector<std::int32_t> winner_;  // of each node's subtree; node 1 is the root, leaves follow num_leaves_
};

}  // namespace msmoe::simulator
