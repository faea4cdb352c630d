// ArenaMeter: how much of a stage's arena lives, operator by operator as they run, and the most of it.
//
// Counted are the tensors' own sizes: what is kept once it is written, until the pass is done that needs it last; what
// is of one pass from its first writer to the last that touches it. Fused operators are one: all that they read and
// write is there at once.
#pragma once

#include <map>
#include <vector>

#include "core/memory_layout.h"
#include "core/program.h"
#include "executor/interpreter/pass.h"

namespace msmoe::executor {

// In the rows of the memory plan (core/memory_plan.h): each at its own worst moment.
struct ArenaPeak {
  Bytes activations;
  Bytes workspace;  // of layers and embedding, and what passes between modules
  Bytes logits;     // of the head, beyond the layers' workspace
};

class ArenaMeter {
 public:
  // layouts: by module of the program, there as long as the meter.
  ArenaMeter(const Program& program, const Stage& stage, const std::vector<ModuleLayout>& layouts)
      : program_(program), stage_(stage), layouts_(layouts) {}

  // A chunk's input arrives, or the gradient of its output.
  void receive_input(const Pair& pair);
  void receive_gradient(const Pair& pair);
  // Its output, or the gradient of its input, is gone.
  void leave() { passing_ = {}; }
  // A pair ends, whatever it still has.
  void end(const Pair& pair);

  // A pass over one module of a chunk, and the operators of it.
  void begin_pass(const Pair& pair, std::size_t position, PassPart part, const std::vector<Operator>& operators);
  void begin(const Operator& op);
  void end(const Operator& op);
  void end_pass();

  ArenaPeak peak() const;

 private:
  struct Kept {
    Bytes until_input_gradients, until_weight_gradients;
  };
  const Module& module(int chunk, std::size_t position) const {
    return program_.modules[static_cast<std::size_t>(module_idx(chunk, position))];
  }
  std::int16_t module_idx(int chunk, std::size_t position) const {
    return stage_.chunks[static_cast<std::size_t>(chunk)].modules[position];
  }
  std::vector<Kept>& kept_of(const Pair& pair);
  void keep(const Pair& pair, std::size_t position, std::int16_t tensor);
  void release(Bytes& kept);
  void add(Bytes& sum, Bytes& most, Bytes bytes);

  const Program& program_;
  const Stage& stage_;
  const std::vector<ModuleLayout>& layouts_;
  std::map<Pair, std::vector<Kept>> kept_;  // by module of the chunk

  // Of the pass that runs.
  Pair pair_{};
  std::size_t position_ = 0;
  PassPart part_ = PassPart::kForward;
  const Module* module_ = nullptr;
  const ModuleLayout* layout_ = nullptr;
  std::vector<int> touches_;  // by tensor, yet to come
  std::vector<bool> lives_;   // by tensor: written in this pass

  Bytes activations_, transient_, passing_;
  Bytes most_activations_, most_of_layers_, most_of_head_, most_passing_;
};

}  // namespace msmoe::executor
