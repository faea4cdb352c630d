// What a step does beside the layers: optimizer, gradient norm, and the formats that go over wires.
#pragma once

#include <vector>

#include "kernels/view.h"

namespace msmoe::kernels {

// AdamW (arXiv 1711.05101) on fp32 masters, over many tensors in one launch:
//   g = gradient * gradient_scale;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   master -= rate (m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + epsilon) + decay master);  parameter = master
// gradient_scale: fp32 [1, 1] or null for 1: the clipping factor, which is known on the device only.
struct AdamTensor {
  View parameter;  // bf16 or fp32
  View gradient, master, first_moment, second_moment;
  double decay = 0;
};
struct AdamW {
  std::vector<AdamTensor> tensors;
  View gradient_scale;
  double rate = 0, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  std::int64_t step = 1;
};

// sum fp32 [1, 1] = sum of squares of all elements of all tensors (fp32 each). The order of the sum does not depend on
// the run.
struct SquaredNorm {
  std::vector<View> tensors;
  View sum;
};
// scale fp32 [1, 1] = min(1, limit / (sqrt(squared_norm) + 1e-6)), as torch's clip_grad_norm_.
struct ClipScale {
  View squared_norm;
  View scale;
  double limit = 1;
};

// out = in, converted between fp32 and bf16; rounds to nearest even.
struct Cast {
  View in;
  View out;
};

// E4M3 with one fp32 scale for each block of the matrix: value = scale * quantized, scale = max |block| / 448, and 1
// where that is 0 (or so small that it would be subnormal). What is rounded to E4M3 is value * (1 / scale) in fp32.
//   kToken    blocks of 1 row x 128 columns: scales [rows, ceil(columns / 128)]      (forward, arXiv 2412.19437)
//   kChannel  blocks of 128 rows x 1 column: scales [ceil(rows / 128), columns]      (weight gradients)
enum class ScaleBlocks : std::uint8_t { kToken, kChannel };
struct Quantize {
  View in;
  View out, scales;
  ScaleBlocks blocks = ScaleBlocks::kToken;
};
struct Dequantize {
  View in, scales;
  View out;
  ScaleBlocks blocks = ScaleBlocks::kToken;
};

// out = sum of `parts` equal bf16 chunks that lie one after another, added in fp32 in order; out is fp32 or bf16. What
// a reduce-scatter is with a bf16 wire and an fp32 sum. chunks: [parts * rows, columns], out: [rows, columns]. With
// accumulate the finished sum is added to what is there.
struct SumChunks {
  View chunks;
  View out;
  bool accumulate = false;
};

// Every byte becomes 0.
struct Zero {
  View out;
};

}  // namespace msmoe::kernels
