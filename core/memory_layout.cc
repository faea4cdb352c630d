#include "core/memory_layout.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/lowering/merge.h"

namespace msmoe {
namespace {

struct Life {
  std::int16_t tensor = 0;
  std::int64_t bytes = 0;
  int first = 0, last = 0;
};

std::int64_t aligned(double bytes) {
  const auto whole = static_cast<std::int64_t>(std::ceil(bytes));
  return (whole + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

bool passes(const Module& module, std::int16_t id) {
  return id == module.output || id == module.output_gradient || id == module.input_gradient;
}

// Lives of the tensors that this pass writes, but for those elsewhere.
template <class Elsewhere>
std::vector<Life> lives_in(const Module& module, const std::vector<Operator>& pass, Elsewhere elsewhere) {
  std::vector<Life> lives(module.tensors.size(), Life{.first = -1});
  for (std::size_t place = 0; place < pass.size(); ++place) {
    const int now = static_cast<int>(place);
    for (const std::int16_t id : pass[place].writes) {
      Life& life = lives[static_cast<std::size_t>(id)];
      if (life.first < 0) life.first = now;
      life.last = now;
    }
    for (const std::int16_t id : pass[place].reads) lives[static_cast<std::size_t>(id)].last = now;
  }
  for (std::size_t id = 0; id < lives.size(); ++id) {
    lives[id].tensor = static_cast<std::int16_t>(id);
    lives[id].bytes = aligned(module.tensors[id].size.count);
  }
  std::erase_if(lives, [&](const Life& life) {
    return life.first < 0 || module.tensors[static_cast<std::size_t>(life.tensor)].kept ||
           passes(module, life.tensor) || elsewhere(life.tensor);
  });
  return lives;
}

Places place(const Module& module, std::vector<Life> lives) {
  Places places{.offset = std::vector<std::int64_t>(module.tensors.size(), -1)};
  std::stable_sort(lives.begin(), lives.end(), [](const Life& a, const Life& b) { return a.bytes > b.bytes; });
  std::vector<Life> placed;  // by offset
  for (const Life& life : lives) {
    std::int64_t offset = 0;
    for (const Life& other : placed) {
      const bool meets = other.first <= life.last && life.first <= other.last;
      const std::int64_t begin = places.offset[static_cast<std::size_t>(other.tensor)];
      if (!meets || begin + other.bytes <= offset) continue;
      if (offset + life.bytes <= begin) break;
      offset = begin + other.bytes;
    }
    places.offset[static_cast<std::size_t>(life.tensor)] = offset;
    places.extent = std::max(places.extent, offset + life.bytes);
    const auto at = std::find_if(placed.begin(), placed.end(), [&](const Life& other) {
      return places.offset[static_cast<std::size_t>(other.tensor)] > offset;
    });
    placed.insert(at, life);
  }
  return places;
}

// One after another.
template <class Wanted>
Places place_all(const Module& module, Wanted wanted) {
  Places places{.offset = std::vector<std::int64_t>(module.tensors.size(), -1)};
  for (std::size_t id = 0; id < module.tensors.size(); ++id) {
    if (!wanted(static_cast<std::int16_t>(id))) continue;
    places.offset[id] = places.extent;
    places.extent += aligned(module.tensors[id].size.count);
  }
  return places;
}

}  // namespace

ModuleLayout lay_out(const Module& module) {
  const auto nowhere = [](std::int16_t) { return false; };
  const auto is_kept = [&](std::int16_t id) { return module.tensors[static_cast<std::size_t>(id)].kept; };
  ModuleLayout layout;
  layout.kept = place_all(module, is_kept);
  layout.forward = place(module, lives_in(module, module.forward, nowhere));
  layout.backward = place(module, lives_in(module, module.backward, nowhere));

  const std::vector<Operator> input = input_gradients(module), weights = weight_gradients(module);
  std::vector<bool> read(module.tensors.size(), false);
  for (const Operator& op : weights)
    for (const std::int16_t id : op.reads) read[static_cast<std::size_t>(id)] = true;
  layout.held = place_all(module, [&](std::int16_t id) { return read[static_cast<std::size_t>(id)] && !is_kept(id); });
  const auto is_held = [&](std::int16_t id) { return layout.held.has(id); };
  layout.input = place(module, lives_in(module, input, is_held));
  layout.weights = place(module, lives_in(module, weights, is_held));
  return layout;
}

}  // namespace msmoe
