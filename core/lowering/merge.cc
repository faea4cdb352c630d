#include "core/lowering/merge.h"

#include <algorithm>

namespace msmoe {
namespace {

bool is_weight_part(const Operator& op) {
  return op.pass == Pass::kBackwardWeight ||
         (op.pass == Pass::kSync && op.transfer.collective == Collective::kReduceScatter);
}

// The operators at these places of a pass, in this order. Waits for others are dropped: they ran before.
std::vector<Operator> select(const std::vector<Operator>& pass, const std::vector<std::size_t>& places) {
  std::vector<std::int16_t> new_place(pass.size(), -1);
  std::vector<Operator> selected;
  selected.reserve(places.size());
  for (const std::size_t place : places) {
    new_place[place] = static_cast<std::int16_t>(selected.size());
    selected.push_back(pass[place]);
    std::vector<std::int16_t>& waits = selected.back().waits;
    for (std::int16_t& wait : waits) wait = new_place[static_cast<std::size_t>(wait)];
    std::erase(waits, std::int16_t{-1});
  }
  return selected;
}

std::vector<Operator> part_of(const Module& module, bool weights) {
  std::vector<std::size_t> places;
  for (std::size_t place = 0; place < module.backward.size(); ++place)
    if (is_weight_part(module.backward[place]) == weights) places.push_back(place);
  return select(module.backward, places);
}

std::vector<Operator> with_weights_last(const Module& module) {
  std::vector<std::size_t> places;
  for (const bool weights : {false, true})
    for (std::size_t place = 0; place < module.backward.size(); ++place)
      if (is_weight_part(module.backward[place]) == weights) places.push_back(place);
  return select(module.backward, places);
}

// Where a piece that starts at `begin` ends: after the next exchange, or with the pass.
std::size_t end_of_piece(const std::vector<Operator>& pass, std::size_t begin) {
  const auto exchange = std::find_if(pass.begin() + static_cast<std::ptrdiff_t>(begin), pass.end(),
                                     [](const Operator& op) { return op.stream == Stream::kCommunication; });
  return static_cast<std::size_t>(exchange - pass.begin()) + (exchange == pass.end() ? 0 : 1);
}

// One of the two passes on its way into the merged list.
struct Source {
  const std::vector<Operator>& pass;
  std::size_t next = 0;
  std::vector<std::int16_t> new_place;

  void move_piece(std::vector<Operator>& merged) {
    for (const std::size_t end = end_of_piece(pass, next); next < end; ++next) {
      new_place.push_back(static_cast<std::int16_t>(merged.size()));
      merged.push_back(pass[next]);
      for (std::int16_t& wait : merged.back().waits) wait = new_place[static_cast<std::size_t>(wait)];
    }
  }
};

}  // namespace

std::vector<Operator> input_gradients(const Module& module) { return part_of(module, false); }
std::vector<Operator> weight_gradients(const Module& module) { return part_of(module, true); }

PartedMemory parted_memory(const Module& module) {
  const std::vector<Operator> input = input_gradients(module);
  std::vector<bool> held(module.tensors.size(), false);
  PartedMemory memory;
  for (const Operator& op : module.backward) {
    if (!is_weight_part(op)) continue;
    for (const std::int16_t id : op.reads) {
      if (!held[static_cast<std::size_t>(id)]) memory.held += module.tensors[static_cast<std::size_t>(id)].size;
      held[static_cast<std::size_t>(id)] = true;
    }
  }
  // As ModuleBuilder sweeps a pass, but that what is held never ends.
  std::vector<std::size_t> first(module.tensors.size(), input.size()), last(module.tensors.size(), 0);
  for (std::size_t place = 0; place < input.size(); ++place) {
    for (const std::int16_t id : input[place].writes) {
      first[static_cast<std::size_t>(id)] = std::min(first[static_cast<std::size_t>(id)], place);
      last[static_cast<std::size_t>(id)] = place;
    }
    for (const std::int16_t id : input[place].reads) last[static_cast<std::size_t>(id)] = place;
  }
  std::vector<double> change(input.size() + 1, 0);
  for (std::size_t id = 0; id < module.tensors.size(); ++id) {
    const bool passes = static_cast<std::int16_t>(id) == module.input_gradient;
    if (first[id] == input.size() || passes || module.tensors[id].kept) continue;
    change[first[id]] += module.tensors[id].size.count;
    if (!held[id]) change[last[id] + 1] -= module.tensors[id].size.count;
  }
  double live = 0;
  for (const double step : change) memory.input_peak = std::max(memory.input_peak, Bytes{live += step});
  return memory;
}

std::vector<Operator> merge_passes(const Module& forward, const Module& backward, bool delay_weight_gradients) {
  const std::vector<Operator> reordered =
      delay_weight_gradients ? with_weights_last(backward) : std::vector<Operator>{};
  Source forwards{forward.forward, 0, {}}, backwards{delay_weight_gradients ? reordered : backward.backward, 0, {}};
  std::vector<Operator> merged;
  merged.reserve(forwards.pass.size() + backwards.pass.size());
  while (forwards.next < forwards.pass.size() || backwards.next < backwards.pass.size()) {
    backwards.move_piece(merged);
    forwards.move_piece(merged);
  }
  return merged;
}

}  // namespace msmoe
