#include "kernels/cpu/operators.h"
#include "kernels/cpu/product.h"

namespace msmoe::kernels::cpu {

void run(const Gemm& operation, const Check& check) {
  const auto& [a, b, c, transpose_a, transpose_b, accumulate, sms] = operation;
  check.matrix("a", a);
  const std::int64_t m = transpose_a ? a.columns : a.rows, k = transpose_a ? a.rows : a.columns;
  check.matrix("b", b, transpose_b ? kAny : k, transpose_b ? k : kAny);
  check.matrix("c", c, m, transpose_b ? b.rows : b.columns);
  check.value("sms", sms, 0, INT32_MAX);
  multiply({m, c.columns, k}, {a.as<float>(), a.columns, transpose_a}, {b.as<float>(), b.columns, transpose_b},
           {c.as<float>(), c.columns, accumulate});
}

void run(const GroupedGemm& operation, const Check& check) {
  const auto& [pass, rows, weights, out, offsets, accumulate, sms] = operation;
  check.integers("offsets", offsets, 1, kAny);
  check.positive("the number of offsets", offsets.columns);
  const std::int64_t experts = offsets.columns - 1;
  check.matrix("rows", rows);
  switch (pass) {
    case GroupedPass::kForward:
      check.matrix("out", out, rows.rows);
      check.matrix("weights", weights, experts * out.columns, rows.columns);
      break;
    case GroupedPass::kInputGradient:
      check.matrix("weights", weights, experts * rows.columns);
      check.matrix("out", out, rows.rows, weights.columns);
      break;
    case GroupedPass::kWeightGradient:
      check.matrix("weights", weights, rows.rows);
      check.matrix("out", out, experts * rows.columns, weights.columns);
      break;
  }
  check.that(!accumulate || pass == GroupedPass::kWeightGradient, "accumulate is set",
             "false but for weight gradients");
  check.value("sms", sms, 0, INT32_MAX);
  check.offsets("offsets", offsets, rows.rows);

  for (std::int64_t expert = 0; expert < experts; ++expert) {
    const std::int64_t first = offsets.as<std::int32_t>()[expert];
    const std::int64_t count = offsets.as<std::int32_t>()[expert + 1] - first;
    const Extents by_row{count, out.columns, rows.columns};
    switch (pass) {
      case GroupedPass::kForward:
        multiply(by_row, {row(rows, first), rows.columns},
                 {row(weights, expert * out.columns), weights.columns, /*transposed=*/true},
                 {row(out, first), out.columns});
        break;
      case GroupedPass::kInputGradient:
        multiply(by_row, {row(rows, first), rows.columns}, {row(weights, expert * rows.columns), weights.columns},
                 {row(out, first), out.columns});
        break;
      case GroupedPass::kWeightGradient:
        multiply({rows.columns, out.columns, count}, {row(rows, first), rows.columns, /*transposed=*/true},
                 {row(weights, first), weights.columns}, {row(out, expert * rows.columns), out.columns, accumulate});
        break;
    }
  }
}

}  // namespace msmoe::kernels::cpu
