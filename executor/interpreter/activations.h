// Activations: the memory of one stage's tensors, laid out once before the first step (core/memory_layout.h).
//
//   kept        a block for each chunk and micro-batch in flight, one module after another
//   held        with a backward in two parts, what the second reads beside: a block likewise
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

namespace msmoe::executor {

enum class PassPart : std::uint8_t { kForward, kBackward, kInputGradients, kWeightGradients };

class Activations {
 public:
  Activations(const Program& program, const Stage& stage, Backend& backend);

  using Pair = std::pair<int, int>;  // chunk, micro-batch
  // From the first pass of a pair to its last.
  void begin(const Pair& pair);
  void end(const Pair& pair);

  // Where the tensors of a module are during a pass of it; null: not there. What passes between modules is left to
  // whoever runs them.
  std::vector<std::byte*> places(const Pair& pair, std::size_t position, PassPart part) const;
  // Of a kept tensor.
  std::byte* kept(const Pair& pair, std::size_t position, std::int16_t tensor) const;
  std::byte* between(int which) const { return between_[static_cast<std::size_t>(which)]; }
  std::size_t passed_bytes() const { return passed_bytes_; }

  std::int64_t arena_bytes() const { return arena_bytes_; }

 private:
  struct ChunkMemory {
    std::vector<std::int64_t> kept_offset, held_offset;  // by module
    std::int64_t kept_bytes = 0, held_bytes = 0;
    std::vector<std::byte*> free;  // blocks of kept and held together
  };
  const ModuleLayout& layout(int chunk, std::size_t position) const;

  const Program& program_;
  const Stage& stage_;
  std::vector<ModuleLayout> layouts_;  // by module of the program
  std::vector<ChunkMemory> chunks_;
  std::map<Pair, std::byte*> blocks_;
  std::byte* workspace_ = nullptr;
  std::array<std::byte*, 3> between_{};
  std::size_t passed_bytes_ = 0;
  std::int64_t arena_bytes_ = 0;
};

}  // namespace msmoe::executor
