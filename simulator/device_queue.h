// Which device has the next event: a winner tree over (time, device). Changing a device's time walks from its leaf to
// the root, meeting at each level the best of the other half (Knuth, The Art of Computer Programming, 5.4.1).
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
  explicit DeviceQueue(std::size_t num_devices) : num_leaves_(std::bit_ceil(num_devices)), nodes_(2 * num_leaves_) {
    for (std::size_t leaf = 0; leaf < num_leaves_; ++leaf) {
      nodes_[num_leaves_ + leaf].device = static_cast<std::int32_t>(leaf);
    }
    for (std::size_t node = num_leaves_ - 1; node > 0; --node) nodes_[node] = nodes_[2 * node];
  }

  // The device with the earliest event, the lowest of those if several have one then.
  std::int32_t first() const { return nodes_[1].device; }
  std::int64_t first_time() const { return nodes_[1].time; }
  std::int64_t time(std::int32_t device) const { return nodes_[num_leaves_ + device].time; }

  void set(std::int32_t device, std::int64_t time) {
    std::size_t node = num_leaves_ + device;
    Node best{time, device};
    nodes_[node] = best;
    for (; node > 1; node /= 2) {
      const Node other = nodes_[node ^ 1];
      // No branch: who wins cannot be predicted.
      const bool other_wins = (other.time < best.time) | ((other.time == best.time) & (other.device < best.device));
      best.time = other_wins ? other.time : best.time;
      best.device = other_wins ? other.device : best.device;
      nodes_[node / 2] = best;
    }
  }

 private:
  struct Node {
    std::int64_t time = kNever;
    std::int32_t device = 0;
  };
  std::size_t num_leaves_;
  std::vector<Node> nodes_;  // the best of each subtree: nodes_[1] is the root, nodes_[num_leaves_ + d] is device d
};

}  // namespace msmoe::simulator
