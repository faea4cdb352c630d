// Geometry: the sizes of one rank's operators under a plan, as whole numbers (core/lowering/layer_context.h), and which
// tokens of a micro-batch are this rank's.
//
// Context ranks, C of them, cut each sequence into 2 C slices; rank c has slices c and 2 C - 1 - c, so that causal
// attention costs all of them the same. What a context rank has, sequence after sequence, is cut evenly between its
// tensor or Ulysses ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model.h"
#include "core/plan.h"
#include "executor/communication/mesh.h"

namespace msmoe::executor {

struct Geometry {
  Geometry(const Model& model, const Plan& plan, const MeshPlace& place);

  std::int64_t hidden = 0;
  std::int64_t sequences = 0, seq_len = 0;  // of a micro-batch
  std::int64_t context_tokens = 0;          // of this rank's context
  std::int64_t shard_tokens = 0;            // of this rank between operators
  std::int64_t dense_rows = 0;              // that its dense GEMMs work on
  std::int64_t query_rows = 0;              // that it attends for
  int tensor_ranks = 1;                     // that split weights
  int ulysses_ranks = 1;                    // that exchange tokens for heads
  int ring_ranks = 1, ring_rank = 0;        // that gather keys and values
  GroupKind ring_group = GroupKind::kContext;
  std::int64_t slice_tokens = 0;  // of a slice of a sequence; seq_len where there is no ring

  // Tokens of the micro-batch, numbered sequence * seq_len + position: of the context, and of this rank's shard.
  std::vector<std::int32_t> context_ids, shard_ids;
  const std::vector<std::int32_t>& dense_ids() const { return tensor_ranks > 1 ? context_ids : shard_ids; }
  // Whose tokens a context rank has.
  std::vector<std::int32_t> ids_of_context(int context_rank) const;

  // Rows of the shard that belong to one sequence.
  struct Segment {
    std::int64_t sequence = 0, first_row = 0, rows = 0;
  };
  std::vector<Segment> segments;
};

// Heads and widths of one kind of layer on this rank.
struct AttentionSizes {
  AttentionSizes(const Attention& attention, const Geometry& geometry);

  std::int64_t heads = 0, kv_heads = 0;              // of the projections here
  std::int64_t inner_heads = 0, inner_kv_heads = 0;  // inside attention here
  std::int64_t width = 0, value_width = 0;           // of a head
  std::int64_t rotary = 0, plain = 0;                // columns of a head with positions, and without
  std::int64_t query_rank = 0, kv_rank = 0;          // of latent attention
};

}  // namespace msmoe::executor
