#include <algorithm>

#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {
namespace {

void add_multiple(float factor, const float* in, float* out, std::int64_t columns) {
  for (std::int64_t i = 0; i < columns; ++i) out[i] += factor * in[i];
}

}  // namespace

void run(const SortByExpert& operation, const Check& check) {
  const auto& [experts, offsets, row_of, assignment_of, first_expert] = operation;
  check.integers("experts", experts, kAny, kAny);
  check.integers("offsets", offsets, 1, kAny);
  check.positive("the number of offsets", offsets.columns);
  check.integers("row_of", row_of, experts.rows, experts.columns);
  check.integers("assignment_of", assignment_of, 1, experts.size());

  const std::int64_t experts_here = offsets.columns - 1;
  const std::int64_t assignments = experts.size();
  std::fill_n(row_of.as<std::int32_t>(), assignments, -1);
  std::fill_n(assignment_of.as<std::int32_t>(), assignments, -1);
  std::int32_t next = 0;
  for (std::int64_t expert = 0; expert < experts_here; ++expert) {
    offsets.as<std::int32_t>()[expert] = next;
    for (std::int64_t i = 0; i < assignments; ++i) {
      if (experts.as<std::int32_t>()[i] != first_expert + expert) continue;
      row_of.as<std::int32_t>()[i] = next;
      assignment_of.as<std::int32_t>()[next++] = static_cast<std::int32_t>(i);
    }
  }
  offsets.as<std::int32_t>()[experts_here] = next;
}

void run(const SortArrivals& operation, const Check& check) {
  const auto& [counts, offsets, source_of, arrives_at] = operation;
  check.integers("counts", counts, kAny, kAny);
  check.integers("offsets", offsets, 1, counts.columns + 1);
  check.integers("source_of", source_of, 1, kAny);
  check.integers("arrives_at", arrives_at, 1, source_of.columns);
  std::int64_t arrived = 0;
  for (std::int64_t i = 0; i < counts.size(); ++i) {
    check.value("a count", counts.as<std::int32_t>()[i], 0, INT32_MAX);
    arrived += counts.as<std::int32_t>()[i];
  }
  check.value("the number of arrived rows", arrived, 0, source_of.columns);

  std::fill_n(source_of.as<std::int32_t>(), source_of.columns, -1);
  std::fill_n(arrives_at.as<std::int32_t>(), source_of.columns, -1);
  const std::int32_t* count = counts.as<std::int32_t>();
  std::int32_t next = 0;
  for (std::int64_t expert = 0; expert < counts.columns; ++expert) {
    offsets.as<std::int32_t>()[expert] = next;
    std::int32_t block = 0;  // where the rows of a rank for an expert begin among those that arrived
    for (std::int64_t i = 0; i < counts.size(); block += count[i++]) {
      if (i % counts.columns != expert) continue;
      for (std::int32_t source = block; source < block + count[i]; ++source) {
        source_of.as<std::int32_t>()[next] = source;
        arrives_at.as<std::int32_t>()[source] = next++;
      }
    }
  }
  offsets.as<std::int32_t>()[counts.columns] = next;
}

void run(const GatherRows& operation, const Check& check) {
  const auto& [in, source_of, weights, out, fan_out] = operation;
  check.matrix("in", in);
  check.matrix("out", out, kAny, in.columns);
  check.integers("source_of", source_of, 1, out.rows);
  check.positive("fan_out", fan_out);
  if (weights) check.matrix("weights", weights, 1, in.rows * fan_out);
  check.indices("source_of", source_of, -1, in.rows * fan_out - 1);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    const std::int64_t source = source_of.as<std::int32_t>()[r];
    std::fill_n(row(out, r), out.columns, 0.0F);
    if (source < 0) continue;
    add_multiple(weights ? weights.as<float>()[source] : 1, row(in, source / fan_out), row(out, r), out.columns);
  }
}

void run(const CombineRows& operation, const Check& check) {
  const auto& [in, row_of, weights, out] = operation;
  check.matrix("in", in);
  check.matrix("out", out, kAny, in.columns);
  check.integers("row_of", row_of, out.rows, kAny);
  if (weights) check.matrix("weights", weights, row_of.rows, row_of.columns);
  check.indices("row_of", row_of, -1, in.rows - 1);
  for (std::int64_t token = 0; token < out.rows; ++token) {
    std::fill_n(row(out, token), out.columns, 0.0F);
    for (std::int64_t i = token * row_of.columns; i < (token + 1) * row_of.columns; ++i) {
      const std::int64_t source = row_of.as<std::int32_t>()[i];
      if (source < 0) continue;
      add_multiple(weights ? weights.as<float>()[i] : 1, row(in, source), row(out, token), out.columns);
    }
  }
}

void run(const CombineWeightGradient& operation, const Check& check) {
  const auto& [in, row_of, out_gradient, weight_gradient] = operation;
  check.matrix("in", in);
  check.matrix("out_gradient", out_gradient, kAny, in.columns);
  check.integers("row_of", row_of, out_gradient.rows, kAny);
  check.matrix("weight_gradient", weight_gradient, row_of.rows, row_of.columns);
  check.indices("row_of", row_of, -1, in.rows - 1);
  for (std::int64_t i = 0; i < row_of.size(); ++i) {
    const std::int64_t source = row_of.as<std::int32_t>()[i];
    double product = 0;
    for (std::int64_t j = 0; source >= 0 && j < in.columns; ++j)
      product += static_cast<double>(row(in, source)[j]) * row(out_gradient, i / row_of.columns)[j];
    weight_gradient.as<float>()[i] = static_cast<float>(product);
  }
}

void run(const GatherScalars& operation, const Check& check) {
  const auto& [in, row_of, out] = operation;
  check.matrix("in", in, 1);
  check.integers("row_of", row_of, kAny, kAny);
  check.matrix("out", out, row_of.rows, row_of.columns);
  check.indices("row_of", row_of, -1, in.columns - 1);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const std::int64_t source = row_of.as<std::int32_t>()[i];
    out.as<float>()[i] = source < 0 ? 0 : in.as<float>()[source];
  }
}

}  // namespace msmoe::kernels::cpu
