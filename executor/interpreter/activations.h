// Activations: the memory of one stage's tensors: one arena, laid out before the first step (core/memory_layout.h).
//
//   blocks      of each module, chunk and micro-batch: what is kept from forward to backward; and, with a backward in
//               two parts, what the second one reads. Each lies where it is alone from its first pass to its last.
//   workspace   of the pass that runs, as large as the worst module's
//   between     hidden states and gradients on their way from module to module
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "core/memory_layout.h"
#include "core/program.h"
#include "executor/backend/backend.h"
#include "executor/interpreter/arena_meter.h"

namespace msmoe::executor {

class Activations {
 public:
  Activations(const Program& program, const Stage& stage, Backend& backend);
  // The meter refers to the layouts.
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  // Where the tensors of a module are during a pass of it; null: not there. What passes between modules is left to
  // whoever runs them.
  std::vector<std::byte*> places(const Pair& pair, std::size_t position, PassPart part) const;
  // Of a kept tensor.
  std::byte* kept(const Pair& pair, std::size_t position, std::int16_t tensor) const;
  // Of what the second part of a backward reads and the first does not make: it has passed. Null: none of it.
  std::byte* made_for_weights(const Pair& pair, std::size_t position, std::int16_t tensor) const;
  std::byte* between(int which) const { return between_[static_cast<std::size_t>(which)]; }
  std::size_t passed_bytes() const { return passed_bytes_; }

  // NaNs wherever this pass, and the module after it, should find nothing. For tests.
  void scribble(const Pair& pair, std::size_t position, PassPart part);

  // Larger than what lives at its peak by alignment, and by what lies unused between tensors of unequal lives.
  std::int64_t arena_bytes() const { return arena_bytes_; }
  ArenaMeter& meter() { return meter_; }
  const ArenaMeter& meter() const { return meter_; }

 private:
  // Of one module and pair: offsets in the arena; -1: nowhere.
  struct Blocks {
    std::int64_t kept = -1, kept_for_weights = -1, made_for_weights = -1;
  };
  std::int64_t place_blocks();
  const ModuleLayout& layout(int chunk, std::size_t position) const;
  std::byte* in_block(const Places& places, std::int64_t block, std::int16_t tensor) const;

  const Stage& stage_;
  Backend& backend_;
  std::vector<ModuleLayout> layouts_;           // by module of the program
  std::map<Pair, std::vector<Blocks>> blocks_;  // by module of the chunk
  std::byte* arena_ = nullptr;
  std::byte* workspace_ = nullptr;
  std::int64_t workspace_bytes_ = 0;
  std::array<std::byte*, 2> between_{};
  std::size_t passed_bytes_ = 0;
  std::int64_t arena_bytes_ = 0;
  ArenaMeter meter_;
};

}  // namespace msmoe::executor
