// What a rank holds of a module's parameters, and where in memory.
//
// Parameters that the same ranks replicate lie in one bucket, so that one collective serves them all: a module has a
// dense one (GroupKind::kDenseData) and, where it has routed experts, an expert one (kExpertData). Slices, with n the
// attention degree of tensor parallelism (1 under the others) and h the hidden size:
//
//   queries, keys, values, up-projections of latent attention    heads: rows (elements of biases) / n
//     fewer key/value heads than n: each rank holds one, shared with its n / heads neighbours
//   attention output                                             heads: columns / n
//   dense and shared feed-forward                                gate, up: rows / n; down: columns / n
//   embedding, head                                              p = 128 ceil(vocab / (128 n)) rows, the last rank less
//   routed experts                                               experts / ep; then gate, up: rows, down: columns / etp
//   all others                                                   whole
//
// Layout of a bucket. First what all tensor ranks hold, then shared key/value heads, then the rest: what has to be
// summed over tensor ranks is one range each. Inside, vectors come before matrices. A gate lies directly above its up,
// so that operators see one matrix [2 f, h]; all local experts' [gate; up] are one matrix [experts 2 f, h], and all
// their downs another, [experts h, f]. Everything else starts at a multiple of 64 elements. Tensor ranks all have the
// same layout, a short vocabulary filled up.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/group.h"
#include "core/model.h"
#include "core/plan.h"
#include "core/program.h"
#include "executor/checkpoint/model_parameters.h"
#include "executor/communication/mesh.h"
#include "executor/parameters/box.h"

namespace msmoe::executor {

// The head's module has the final norm and the head's matrix.
struct ModuleId {
  ModuleKind kind = ModuleKind::kLayer;
  int layer = -1;  // of kLayer
  bool operator==(const ModuleId&) const = default;
};
// In the order of the forward pass: the order in which all ranks of a data group synchronize, whichever way round their
// chunks stand (DualPipe).
bool runs_before(const ModuleId& a, const ModuleId& b);

// The modules of each of a stage's chunks, first to last. REQUIRES a model without prediction layers.
std::vector<std::vector<ModuleId>> stage_modules(const Model& model, const Plan& plan, int stage);

struct LocalParameter {
  Parameter whole;
  Box slice;                // of the whole
  std::int64_t offset = 0;  // of its first element in the bucket
  int sharers = 1;          // tensor ranks that hold this same slice, neighbours of each other
  bool is_first = true;     // this rank is the first of them: norms count the slice here, checkpoints save it from here

  bool decays() const { return whole.shape.size() > 1; }  // weight decay is for matrices
};

struct LocalBucket {
  GroupKind group = GroupKind::kDenseData;
  std::vector<LocalParameter> parameters;  // by offset
  std::int64_t elements = 0;               // a multiple of 64 for each rank of the group; 0: no such bucket
  // Gradients of [0, replicated_end) are parts of a sum over all tensor ranks, those of [replicated_end, shared_end)
  // over the ranks that share a key/value head. Both 0 without tensor parallelism.
  std::int64_t replicated_end = 0, shared_end = 0;
};

struct LocalParameters {
  LocalBucket dense, expert;
  std::optional<LocalParameter> router_bias;  // whole on every rank; no gradient reaches it
};

// REQUIRES a valid plan and a module of decoder, embedding or head. A UserError where the plan needs what is not there
// yet: tied embeddings over several stages, and norms over all heads together that tensor parallelism would split.
LocalParameters local_parameters(const Model& model, const Plan& plan, const MeshPlace& place, const ModuleId& module);

// The whole of a parameter.
Box whole_box(const Parameter& parameter);

}  // namespace msmoe::executor
