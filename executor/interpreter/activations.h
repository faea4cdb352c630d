// Activations: the memory of one stage's tensors: one arena, laid out before the first step (core/memory_layout.h).
//
//   kept        of each micro-batch in flight, what its forward leaves for its backward; and, with a backward in two
//               parts, what the first leaves for the second. Each tensor lies where it is alone while it lives.
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
  // Of a tensor that one pass leaves for another; null: none does.
  std::byte* kept(const Pair& pair, std::size_t position, std::int16_t tensor) const;
  std::byte* between(int which) const { return between_[static_cast<std::size_t>(which)]; }
  std::size_t passed_bytes() const { return passed_bytes_; }

  // For tests: NaNs all over the workspace.
  void scribble();

  // Larger than what lives at its peak by alignment, and by what lies unused between tensors of unequal lives.
  std::int64_t arena_bytes() const { return arena_bytes_; }
  ArenaMeter& meter() { return meter_; }
  const ArenaMeter& meter() const { return meter_; }

 private:
  std::int64_t place_kept();
  const Module& module(int chunk, std::size_t position) const;
  const ModuleLayout& layout(int chunk, std::size_t position) const;

  const Program& program_;
  const Stage& stage_;
  Backend& backend_;
  std::vector<ModuleLayout> layouts_;  // by module of the program
  // By module of the chunk and tensor: where in the arena it is kept; -1: it is not.
  std::map<Pair, std::vector<std::vector<std::int64_t>>> kept_;
  std::byte* arena_ = nullptr;
  std::byte* workspace_ = nullptr;
  std::int64_t workspace_bytes_ = 0;
  std::array<std::byte*, 2> between_{};
  std::size_t passed_bytes_ = 0;
  std::int64_t arena_bytes_ = 0;
  ArenaMeter meter_;
};

}  // namespace msmoe::executor
