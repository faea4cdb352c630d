#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/number_formats.h"
#include "kernels/cpu/operators.h"

namespace msmoe::kernels::cpu {
namespace {

using Array = Eigen::Map<Eigen::ArrayXf>;
Array array(const View& view) { return {view.as<float>(), view.size()}; }

constexpr std::int64_t kBlock = 128;  // elements that share a scale

std::int64_t blocks_in(std::int64_t size) { return (size + kBlock - 1) / kBlock; }

void check_scales(const View& scales, const View& values, ScaleBlocks blocks, const Check& check) {
  if (blocks == ScaleBlocks::kToken)
    check.matrix("scales", scales, values.rows, blocks_in(values.columns));
  else
    check.matrix("scales", scales, blocks_in(values.rows), values.columns);
}

// Of an element, by its index in memory.
std::int64_t scale_index(const View& values, std::int64_t index, ScaleBlocks blocks) {
  const std::int64_t r = index / values.columns, column = index % values.columns;
  return blocks == ScaleBlocks::kToken ? r * blocks_in(values.columns) + column / kBlock
                                       : r / kBlock * values.columns + column;
}

}  // namespace

void run(const AdamW& operation, const Check& check) {
  const auto& [tensors, gradient_scale, rate, beta1, beta2, epsilon, step] = operation;
  check.positive("step", step);
  if (gradient_scale) check.matrix("gradient_scale", gradient_scale, 1, 1);
  for (const AdamTensor& tensor : tensors) {
    const std::int64_t rows = tensor.master.rows, columns = tensor.master.columns;
    check.matrix("master", tensor.master);
    check.matrix("parameter", tensor.parameter, rows, columns, {Element::kFp32, Element::kBf16});
    check.matrix("gradient", tensor.gradient, rows, columns);
    check.matrix("first_moment", tensor.first_moment, rows, columns);
    check.matrix("second_moment", tensor.second_moment, rows, columns);
  }
  const float factor = gradient_scale ? *gradient_scale.as<float>() : 1;
  const auto first_correction = static_cast<float>(1 - std::pow(beta1, step));
  const auto second_correction = static_cast<float>(1 - std::pow(beta2, step));
  const auto b1 = static_cast<float>(beta1), b2 = static_cast<float>(beta2);
  const auto a1 = static_cast<float>(1 - beta1), a2 = static_cast<float>(1 - beta2);
  for (const AdamTensor& tensor : tensors) {
    const Array gradient = array(tensor.gradient);
    Array master = array(tensor.master), first = array(tensor.first_moment), second = array(tensor.second_moment);
    first = b1 * first + a1 * factor * gradient;
    second = b2 * second + a2 * (factor * gradient).square();
    master -= static_cast<float>(rate) *
              (first / first_correction / ((second / second_correction).sqrt() + static_cast<float>(epsilon)) +
               static_cast<float>(tensor.decay) * master);
    if (tensor.parameter.element == Element::kFp32)
      array(tensor.parameter) = master;
    else
      for (std::int64_t i = 0; i < master.size(); ++i) store(tensor.parameter, i, master[i]);
  }
}

void run(const SquaredNorm& operation, const Check& check) {
  for (const View& tensor : operation.tensors) check.matrix("a tensor", tensor);
  check.matrix("sum", operation.sum, 1, 1);
  double sum = 0;
  for (const View& tensor : operation.tensors)
    for (std::int64_t i = 0; i < tensor.size(); ++i)
      sum += static_cast<double>(tensor.as<float>()[i]) * tensor.as<float>()[i];
  *operation.sum.as<float>() = static_cast<float>(sum);
}

void run(const ClipScale& operation, const Check& check) {
  const auto& [squared_norm, scale, limit] = operation;
  check.matrix("squared_norm", squared_norm, 1, 1);
  check.matrix("scale", scale, 1, 1);
  const double norm = std::sqrt(static_cast<double>(*squared_norm.as<float>()));
  *scale.as<float>() = static_cast<float>(std::min(1.0, limit / (norm + 1e-6)));
}

void run(const Cast& operation, const Check& check) {
  const auto& [in, out] = operation;
  check.matrix("in", in, kAny, kAny, {Element::kFp32, Element::kBf16});
  check.matrix("out", out, in.rows, in.columns, {Element::kFp32, Element::kBf16});
  for (std::int64_t i = 0; i < in.size(); ++i) store(out, i, load(in, i));
}

void run(const Quantize& operation, const Check& check) {
  const auto& [in, out, scales, blocks] = operation;
  check.matrix("in", in, kAny, kAny, {Element::kFp32, Element::kBf16});
  check.matrix("out", out, in.rows, in.columns, {Element::kE4m3});
  check_scales(scales, in, blocks, check);
  float* scale = scales.as<float>();
  std::fill_n(scale, scales.size(), 0.0F);
  for (std::int64_t i = 0; i < in.size(); ++i) {
    float& largest = scale[scale_index(in, i, blocks)];
    largest = std::max(largest, std::fabs(load(in, i)));
  }
  for (std::int64_t i = 0; i < scales.size(); ++i) {
    scale[i] /= kLargestE4m3;
    if (scale[i] < std::numeric_limits<float>::min()) scale[i] = 1;
  }
  for (std::int64_t i = 0; i < in.size(); ++i)
    out.as<std::uint8_t>()[i] = to_e4m3(load(in, i) * (1 / scale[scale_index(in, i, blocks)]));
}

void run(const Dequantize& operation, const Check& check) {
  const auto& [in, scales, out, blocks] = operation;
  check.matrix("in", in, kAny, kAny, {Element::kE4m3});
  check.matrix("out", out, in.rows, in.columns, {Element::kFp32, Element::kBf16});
  check_scales(scales, in, blocks, check);
  for (std::int64_t i = 0; i < in.size(); ++i)
    store(out, i, from_e4m3(in.as<std::uint8_t>()[i]) * scales.as<float>()[scale_index(in, i, blocks)]);
}

void run(const SumChunks& operation, const Check& check) {
  const auto& [chunks, out, accumulate] = operation;
  check.matrix("chunks", chunks, kAny, kAny, {Element::kBf16});
  check.matrix("out", out, kAny, chunks.columns, {Element::kFp32, Element::kBf16});
  if (out.rows > 0 || chunks.rows > 0) check.multiple("the number of rows of chunks", chunks.rows, out.rows);
  const std::int64_t parts = out.rows == 0 ? 0 : chunks.rows / out.rows;
  for (std::int64_t i = 0; i < out.size(); ++i) {
    float sum = 0;
    for (std::int64_t part = 0; part < parts; ++part) sum += load(chunks, part * out.size() + i);
    store(out, i, accumulate ? load(out, i) + sum : sum);
  }
}

void run(const Zero& operation, const Check& check) {
  const View& out = operation.out;
  check.matrix("out", out, kAny, kAny, {Element::kFp32, Element::kBf16, Element::kE4m3, Element::kInt32});
  if (out.size() > 0) std::memset(out.data, 0, out.bytes());
}

}  // namespace msmoe::kernels::cpu
