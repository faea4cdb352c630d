// A whole MoE layer, as a program runs it, against its definition: each token's sum over its experts.
#include <gtest/gtest.h>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels {
namespace {

constexpr std::int64_t kTokens = 7, kWidth = 6, kExperts = 5, kChoices = 2, kInner = 4, kRows = kTokens * kChoices;
constexpr double kAux = 0.1, kZ = 0.05;

using Doubles = std::vector<double>;

// Everything that the layer reads, one after another.
struct Inputs {
  Doubles x, router, first, second;
};

Doubles doubles(const Tensor& tensor) { return {tensor.values.begin(), tensor.values.end()}; }

double product(const double* a, const double* b, std::int64_t size) {
  double sum = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

// w2 (silu(w1_gate x) * w1_up x) of one expert.
Doubles expert_of_token(const Inputs& inputs, std::int64_t expert, const double* x) {
  const double* first = inputs.first.data() + expert * 2 * kInner * kWidth;
  const double* second = inputs.second.data() + expert * kWidth * kInner;
  Doubles inner, out;
  for (std::int64_t i = 0; i < kInner; ++i) {
    const double gate = product(first + i * kWidth, x, kWidth), up = product(first + (kInner + i) * kWidth, x, kWidth);
    inner.push_back(gate / (1 + std::exp(-gate)) * up);
  }
  for (std::int64_t i = 0; i < kWidth; ++i) out.push_back(product(second + i * kInner, inner.data(), kInner));
  return out;
}

// The loss that `weights` give the outputs, with the router's losses; `out` gets the outputs. The choice is given.
double dense(const Inputs& inputs, const Integers& experts, const Doubles& weights, Doubles* out = nullptr) {
  double loss = 0, z = 0;
  Doubles probability_sums(kExperts, 0), counts(kExperts, 0);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const double* x = inputs.x.data() + t * kWidth;
    Doubles exponentials;
    double sum = 0, chosen = 0;
    for (std::int64_t e = 0; e < kExperts; ++e) {
      exponentials.push_back(std::exp(product(inputs.router.data() + e * kWidth, x, kWidth)));
      sum += exponentials.back();
    }
    for (std::size_t e = 0; e < kExperts; ++e) probability_sums[e] += exponentials[e] / sum;
    z += std::pow(std::log(sum), 2) / kTokens;
    for (std::int64_t c = 0; c < kChoices; ++c) chosen += exponentials[static_cast<std::size_t>(experts.at(t, c))];
    Doubles mixed(kWidth, 0);
    for (std::int64_t c = 0; c < kChoices; ++c) {
      const auto e = static_cast<std::size_t>(experts.at(t, c));
      counts[e] += 1;
      const Doubles result = expert_of_token(inputs, experts.at(t, c), x);
      for (std::size_t i = 0; i < kWidth; ++i) mixed[i] += exponentials[e] / chosen * result[i];
    }
    loss += product(mixed.data(), weights.data() + t * kWidth, kWidth);
    if (out != nullptr) out->insert(out->end(), mixed.begin(), mixed.end());
  }
  const double aux = product(counts.data(), probability_sums.data(), kExperts) * kExperts / (kRows * kTokens);
  return loss + kAux * aux + kZ * z;
}

Tensor differences(Inputs inputs, Doubles Inputs::*variable, const Integers& experts, const Doubles& weights,
                   const Tensor& like) {
  constexpr double kStep = 1e-5;
  Tensor gradient(like.rows, like.columns);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    double& value = (inputs.*variable)[i];
    const double before = value;
    value = before + kStep;
    const double above = dense(inputs, experts, weights);
    value = before - kStep;
    gradient[i] = static_cast<float>((above - dense(inputs, experts, weights)) / (2 * kStep));
    value = before;
  }
  return gradient;
}

struct Layer {
  RouterShape shape{.top_k = kChoices};
  Tensor x = random_tensor(kTokens, kWidth, 21), router = random_tensor(kExperts, kWidth, 22);
  Tensor first = random_tensor(kExperts * 2 * kInner, kWidth, 23);
  Tensor second = random_tensor(kExperts * kWidth, kInner, 24);
  Tensor logits{kTokens, kExperts}, scores{kTokens, kExperts}, gates{kTokens, kChoices}, losses{1, 2};
  Integers experts{kTokens, kChoices}, counts{1, kExperts};
  Integers offsets{1, kExperts + 1}, row_of{kTokens, kChoices}, assignment_of{1, kRows};
  Tensor rows{kRows, kWidth}, row_gates{1, kRows}, gate_up{kRows, 2 * kInner}, inner{kRows, kInner};
  Tensor results{kRows, kWidth}, out{kTokens, kWidth};
  Tensor x_gradient{kTokens, kWidth}, router_gradient{kExperts, kWidth}, first_gradient{kExperts * 2 * kInner, kWidth},
      second_gradient{kExperts * kWidth, kInner};

  void forward() {
    run(Gemm{.a = x, .b = router, .c = logits, .transpose_b = true});
    run(Router{shape, logits, {}, scores, experts, gates, counts, losses});
    run(SortByExpert{experts, offsets, row_of, assignment_of});
    run(GatherRows{.in = x, .source_of = assignment_of, .out = rows, .fan_out = kChoices});
    run(GatherRows{.in = gates.as(kRows, 1), .source_of = assignment_of, .out = row_gates.as(kRows, 1)});
    run(GroupedGemm{GroupedPass::kForward, rows, first, gate_up, offsets});
    run(SwiGlu{gate_up, row_gates, inner});
    run(GroupedGemm{GroupedPass::kForward, inner, second, results, offsets});
    run(CombineRows{.in = results, .row_of = row_of, .out = out});
  }

  void backward(Tensor out_gradient) {
    Tensor result_gradient(kRows, kWidth), inner_gradient(kRows, kInner), inner_again(kRows, kInner);
    Tensor gate_up_gradient(kRows, 2 * kInner), row_gate_gradient(1, kRows), gate_gradient(kTokens, kChoices);
    Tensor row_gradient(kRows, kWidth), logit_gradient(kTokens, kExperts);
    run(GatherRows{.in = out_gradient, .source_of = assignment_of, .out = result_gradient, .fan_out = kChoices});
    run(GroupedGemm{GroupedPass::kInputGradient, result_gradient, second, inner_gradient, offsets});
    run(SwiGluBackward{gate_up, row_gates, inner_gradient, gate_up_gradient, row_gate_gradient, inner_again});
    run(GroupedGemm{GroupedPass::kWeightGradient, result_gradient, inner_again, second_gradient, offsets});
    run(GroupedGemm{GroupedPass::kInputGradient, gate_up_gradient, first, row_gradient, offsets});
    run(GroupedGemm{GroupedPass::kWeightGradient, gate_up_gradient, rows, first_gradient, offsets});
    run(CombineRows{.in = row_gradient, .row_of = row_of, .out = x_gradient});
    run(GatherScalars{row_gate_gradient, row_of, gate_gradient});
    run(RouterBackward{shape, logits, scores, experts, counts, gate_gradient, logit_gradient, kAux, kZ});
    run(Gemm{.a = logit_gradient, .b = x, .c = router_gradient, .transpose_a = true});
    run(Gemm{.a = logit_gradient, .b = router, .c = x_gradient, .accumulate = true});
  }
};

TEST(MoeLayer, EqualsTheSumOverExperts) {
  Layer layer;
  layer.forward();
  const Inputs inputs{doubles(layer.x), doubles(layer.router), doubles(layer.first), doubles(layer.second)};
  const Tensor out_gradient = random_tensor(kTokens, kWidth, 25);
  Doubles wanted;
  const double loss = dense(inputs, layer.experts, doubles(out_gradient), &wanted);
  expect_near(doubles(layer.out), wanted, 2e-6, "out");
  EXPECT_NEAR(dot(layer.out, out_gradient) + kAux * layer.losses[0] + kZ * layer.losses[1], loss, 1e-5);
}

TEST(MoeLayer, GradientsAreThoseOfTheSum) {
  Layer layer;
  layer.forward();
  const Tensor out_gradient = random_tensor(kTokens, kWidth, 25);
  layer.backward(out_gradient);
  const Inputs inputs{doubles(layer.x), doubles(layer.router), doubles(layer.first), doubles(layer.second)};
  const auto expect_all = [&](const Tensor& gradient, Doubles Inputs::*variable, const char* name) {
    expect_near(gradient.values, differences(inputs, variable, layer.experts, doubles(out_gradient), gradient).values,
                5e-6, name);
  };
  expect_all(layer.x_gradient, &Inputs::x, "x");
  expect_all(layer.router_gradient, &Inputs::router, "router");
  expect_all(layer.first_gradient, &Inputs::first, "first");
  expect_all(layer.second_gradient, &Inputs::second, "second");
}

// With the gates not folded in, the combination weighs, and its gradients are operations of their own.
TEST(MoeLayer, GatesInTheCombinationGiveTheSame) {
  Layer layer;
  layer.forward();
  const Tensor folded = layer.out;
  run(SwiGlu{.gate_up = layer.gate_up, .out = layer.inner});
  run(GroupedGemm{GroupedPass::kForward, layer.inner, layer.second, layer.results, layer.offsets});
  run(CombineRows{layer.results, layer.row_of, layer.gates, layer.out});
  expect_near(layer.out.values, folded.values, 1e-6);
}

}  // namespace
}  // namespace msmoe::kernels
