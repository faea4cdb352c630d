#include "core/memory_layout.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "core/lowering/merge.h"

namespace msmoe {
namespace {

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}
std::int64_t bytes_of(const Tensor& tensor) { return static_cast<std::int64_t>(std::ceil(tensor.size.count)); }

bool passes(const Module& module, std::int16_t id) {
  return id == module.output || id == module.output_gradient || id == module.input_gradient;
}

// The tensors that this pass writes, but for those elsewhere.
template <class Elsewhere>
Places place_of_pass(const Module& module, const std::vector<Operator>& pass, Elsewhere elsewhere) {
  std::vector<Life> all(module.tensors.size(), Life{.first = -1});
  for (std::size_t position = 0; position < pass.size(); ++position) {
    const int now = static_cast<int>(position);
    for (const std::int16_t id : pass[position].writes) {
      Life& life = all[static_cast<std::size_t>(id)];
      if (life.first < 0) life.first = now;
      life.last = now;
    }
    for (const std::int16_t id : pass[position].reads) all[static_cast<std::size_t>(id)].last = now;
  }
  std::vector<Life> lives;
  std::vector<std::size_t> tensors;
  for (std::size_t id = 0; id < all.size(); ++id) {
    const auto tensor = static_cast<std::int16_t>(id);
    if (all[id].first < 0 || module.tensors[id].kept || passes(module, tensor) || elsewhere(tensor)) continue;
    all[id].bytes = bytes_of(module.tensors[id]);
    lives.push_back(all[id]);
    tensors.push_back(id);
  }
  const Placement placement = place(lives);
  Places places{.offset = std::vector<std::int64_t>(module.tensors.size(), -1), .extent = placement.extent};
  for (std::size_t i = 0; i < tensors.size(); ++i) places.offset[tensors[i]] = placement.offset[i];
  return places;
}

}  // namespace

Placement place(const std::vector<Life>& lives) {
  Placement placement{.offset = std::vector<std::int64_t>(lives.size(), 0)};
  std::vector<std::size_t> order(lives.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lives[a].bytes > lives[b].bytes; });
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t which : order) {
    const Life& life = lives[which];
    const std::int64_t bytes = aligned(life.bytes);
    std::int64_t offset = 0;
    for (const std::size_t other_idx : placed) {
      const Life& other = lives[other_idx];
      const bool meets = other.first <= life.last && life.first <= other.last;
      const std::int64_t begin = placement.offset[other_idx], end = begin + aligned(other.bytes);
      if (!meets || end <= offset) continue;
      if (offset + bytes <= begin) break;
      offset = end;
    }
    placement.offset[which] = offset;
    placement.extent = std::max(placement.extent, offset + bytes);
    const auto at = std::upper_bound(placed.begin(), placed.end(), offset, [&](std::int64_t value, std::size_t other) {
      return value < placement.offset[other];
    });
    placed.insert(at, which);
  }
  return placement;
}

Placement place_in_order(const std::vector<Life>& lives) {
  Placement placement{.offset = std::vector<std::int64_t>(lives.size(), 0)};
  std::vector<std::size_t> order(lives.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return lives[a].first != lives[b].first ? lives[a].first < lives[b].first : lives[a].bytes > lives[b].bytes;
  });
  std::map<std::int64_t, std::int64_t> gaps = {{0, std::numeric_limits<std::int64_t>::max()}};  // offset to end
  std::multimap<int, std::size_t> alive;                                                        // by last moment
  const auto release = [&](std::size_t which) {
    auto gap = gaps.emplace(placement.offset[which], placement.offset[which] + aligned(lives[which].bytes)).first;
    if (const auto next = std::next(gap); next != gaps.end() && next->first == gap->second) {
      gap->second = next->second;
      gaps.erase(next);
    }
    if (gap == gaps.begin()) return;
    if (const auto before = std::prev(gap); before->second == gap->first) {
      before->second = gap->second;
      gaps.erase(gap);
    }
  };
  for (const std::size_t which : order) {
    const std::int64_t bytes = aligned(lives[which].bytes);
    if (bytes == 0) continue;
    for (; !alive.empty() && alive.begin()->first < lives[which].first; alive.erase(alive.begin()))
      release(alive.begin()->second);
    // The last gap has no end.
    auto best = std::prev(gaps.end());
    for (auto gap = gaps.begin(); gap != gaps.end(); ++gap) {
      const std::int64_t room = gap->second - gap->first;
      if (room >= bytes && room < best->second - best->first) best = gap;
    }
    const auto [offset, end] = *best;
    gaps.erase(best);
    if (offset + bytes < end) gaps.emplace(offset + bytes, end);
    placement.offset[which] = offset;
    placement.extent = std::max(placement.extent, offset + bytes);
    alive.emplace(lives[which].last, which);
  }
  return placement;
}

ModuleLayout lay_out(const Module& module) {
  ModuleLayout layout;
  layout.read_by_weight_gradients.resize(module.tensors.size());
  for (const Operator& op : weight_gradients(module))
    for (const std::int16_t id : op.reads) layout.read_by_weight_gradients[static_cast<std::size_t>(id)] = true;
  const auto nowhere = [](std::int16_t) { return false; };
  layout.forward = place_of_pass(module, module.forward, nowhere);
  layout.backward = place_of_pass(module, module.backward, nowhere);
  layout.input_gradients =
      place_of_pass(module, input_gradients(module), [&](std::int16_t id) { return layout.is_for_weights(id); });
  return layout;
}

}  // namespace msmoe
