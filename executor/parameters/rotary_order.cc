#include "executor/parameters/rotary_order.h"

namespace msmoe::executor {
namespace {

struct Rows {
  std::int64_t head = 0;    // rows of a head, or all there are
  std::int64_t rotary = 0;  // the last of them; 0: none
};

Rows rows_of(RotaryOrder order, const Model& model, const Parameter& parameter) {
  if (order == RotaryOrder::kHalves || parameter.layer < 0) return {};
  const bool is_predict_layer = parameter.layer >= model.num_layers();
  const LayerKind& kind = is_predict_layer ? model.kinds[static_cast<std::size_t>(model.predict_kind)]
                                           : model.layer(static_cast<std::size_t>(parameter.layer));
  const Attention& attention = kind.attention;
  if (attention.kind != AttentionKind::kLatent) return {};
  switch (parameter.part) {
    case Part::kQuery:
    case Part::kQueryUp: return {attention.head_dim, attention.rope_dim};
    case Part::kKvDown:
    case Part::kKvDownBias: return {attention.kv_rank + attention.rope_dim, attention.rope_dim};
    default: return {};
  }
}

}  // namespace

std::int64_t row_in_file(RotaryOrder order, const Model& model, const Parameter& parameter, std::int64_t row) {
  const Rows rows = rows_of(order, model, parameter);
  if (rows.rotary == 0) return row;
  const std::int64_t in_head = row % rows.head, first = rows.head - rows.rotary, half = rows.rotary / 2;
  if (in_head < first) return row;
  const std::int64_t i = in_head - first;
  return row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

std::int64_t row_from_file(RotaryOrder order, const Model& model, const Parameter& parameter, std::int64_t file_row) {
  const Rows rows = rows_of(order, model, parameter);
  if (rows.rotary == 0) return file_row;
  const std::int64_t in_head = file_row % rows.head, first = rows.head - rows.rotary, half = rows.rotary / 2;
  if (in_head < first) return file_row;
  const std::int64_t i = in_head - first;
  return file_row - i + i / 2 + (i % 2) * half;
}

}  // namespace msmoe::executor
