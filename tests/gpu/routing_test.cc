#include <numeric>

#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

using Routing = GpuTest;
constexpr Element kBf16 = Element::kBf16, kFp32 = Element::kFp32, kInt32 = Element::kInt32;

struct RouterCase {
  std::int64_t tokens, experts;
  RouterShape shape;
  bool with_bias;
};
const RouterCase kRouters[] = {
    {1021, 8, {.top_k = 2}, false},
    {515, 128, {.top_k = 8}, false},
    {515, 60, {.top_k = 4, .normalize = false, .scale = 2}, false},
    {515, 256, {.scoring = Scoring::kSigmoid, .top_k = 8, .groups = 8, .top_groups = 4, .scale = 2.5}, true},
    {515, 160, {.top_k = 6, .groups = 8, .top_groups = 3, .normalize = false, .scale = 16}, false},
    {3, 512, {.scoring = Scoring::kSigmoid, .top_k = 10}, true},
    {0, 64, {.top_k = 6}, false},
};

TEST_F(Routing, RouterAndBackward) {
  for (const RouterCase& of : kRouters) {
    SCOPED_TRACE(testing::Message() << of.tokens << " tokens, " << of.experts << " experts");
    TwoSided logits(of.tokens, of.experts, kFp32), bias(1, of.experts, kFp32), scores(of.tokens, of.experts, kFp32),
        experts(of.tokens, of.shape.top_k, kInt32), gates(of.tokens, of.shape.top_k, kFp32),
        counts(1, of.experts, kInt32), losses(1, 2, kFp32);
    logits.randomize(random_, 2);
    bias.randomize(random_, 0.1F);
    run_on_both([&](auto view) {
      Router router{of.shape, view(logits)};
      if (of.with_bias) router.bias = view(bias);
      router.scores = view(scores), router.experts = view(experts), router.gates = view(gates);
      router.counts = view(counts), router.losses = view(losses);
      return router;
    });
    expect_close(scores, scores.host());
    expect_close(gates, gates.host());
    expect_close(losses, losses.host());
    expect_equal_bits(experts);
    expect_equal_bits(counts);

    TwoSided gate_gradient(of.tokens, of.shape.top_k, kFp32), logit_gradient(of.tokens, of.experts, kFp32);
    gate_gradient.randomize(random_);
    scores.upload();
    run_on_both([&](auto view) {
      return RouterBackward{of.shape,
                            view(logits),
                            view(scores),
                            view(experts),
                            view(counts),
                            view(gate_gradient),
                            view(logit_gradient),
                            0.01 * double(of.tokens),
                            1e-3 * double(of.tokens)};
    });
    expect_close(logit_gradient, logit_gradient.host());
  }
}

// Not a number in, no number out; but the experts are different experts, and the CPU's.
TEST_F(Routing, LogitsThatAreNoNumbersChooseDifferentExperts) {
  const RouterShape shapes[] = {{.top_k = 6},
                                {.scoring = Scoring::kSigmoid, .top_k = 6},
                                {.top_k = 6, .groups = 8, .top_groups = 2},
                                {.scoring = Scoring::kSigmoid, .top_k = 6, .groups = 8, .top_groups = 2}};
  TwoSided logits(40, 64, kFp32), scores(40, 64, kFp32), experts(40, 6, kInt32), gates(40, 6, kFp32),
      counts(1, 64, kInt32);
  logits.randomize(random_);
  // From none to all of a token's.
  for (std::size_t token = 0; token < 40; ++token)
    for (std::size_t index = 0; index < 2 * token; ++index)
      logits.host()[token * 64 + (index * 37 + token) % 64] = std::nanf("");
  logits.upload();
  for (const RouterShape& shape : shapes) {
    run_on_both([&](auto view) {
      return Router{.shape = shape,
                    .logits = view(logits),
                    .scores = view(scores),
                    .experts = view(experts),
                    .gates = view(gates),
                    .counts = view(counts)};
    });
    expect_equal_bits(experts);
    expect_equal_bits(counts);
  }
}

TEST_F(Routing, SortByExpert) {
  const auto check = [&](std::int64_t tokens, int choices, int low, int high, int first, int here) {
    SCOPED_TRACE(testing::Message() << tokens << " x " << choices << ", experts " << low << " to " << high);
    std::uniform_int_distribution<std::int32_t> uniform(low, high);
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(tokens * choices));
    for (std::int32_t& expert : chosen) expert = uniform(random_);
    TwoSided experts(tokens, choices, kInt32), offsets(1, here + 1, kInt32), row_of(tokens, choices, kInt32),
        assignment_of(1, tokens * choices, kInt32);
    experts.assign(chosen);
    run_on_both([&](auto view) {
      return SortByExpert{view(experts), view(offsets), view(row_of), view(assignment_of), first};
    });
    expect_equal_bits(offsets);
    expect_equal_bits(row_of);
    expect_equal_bits(assignment_of);
  };
  check(0, 8, 0, 7, 0, 8);
  check(1, 1, 0, 0, 0, 1);
  check(1021, 8, 0, 127, 0, 128);
  check(5000, 2, 3, 3, 0, 8);  // one hot expert
  check(5000, 8, 0, 511, 0, 512);
  check(5000, 8, 0, 255, 64, 32);  // a rank's share
  check(5000, 8, 0, 31, 100, 16);  // nothing for this rank
  check(131072, 8, 0, 127, 0, 128);
}

TEST_F(Routing, SortArrivals) {
  for (const auto& [ranks, here, most] : {std::tuple{1, 1, 50}, {8, 4, 300}, {64, 4, 40}, {2, 128, 90}, {8, 256, 3}}) {
    std::uniform_int_distribution<std::int32_t> uniform(-most / 2, most);  // many are empty
    std::vector<std::int32_t> sizes(static_cast<std::size_t>(ranks * here));
    for (std::int32_t& size : sizes) size = std::max(0, uniform(random_));
    const std::int64_t rows = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) + 5;
    TwoSided counts(ranks, here, kInt32), offsets(1, here + 1, kInt32), source_of(1, rows, kInt32),
        arrives_at(1, rows, kInt32);
    counts.assign(sizes);
    run_on_both([&](auto view) {
      return SortArrivals{view(counts), view(offsets), view(source_of), view(arrives_at)};
    });
    expect_equal_bits(offsets);
    expect_equal_bits(source_of);
    expect_equal_bits(arrives_at);
  }
}

TEST_F(Routing, GatherCombineAndTheirGradients) {
  constexpr std::int64_t kTokens = 517;
  constexpr int kChoices = 6;
  for (const std::int64_t width : {8, 264, 4096}) {
    SCOPED_TRACE(width);
    // Every seventh assignment is another rank's.
    std::vector<std::int32_t> order(kTokens * kChoices);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    std::vector<std::int32_t> rows_of(order.size(), -1);
    std::vector<std::int32_t> sources;
    for (const std::int32_t assignment : order) {
      if (assignment % 7 == 0) continue;
      rows_of[static_cast<std::size_t>(assignment)] = static_cast<std::int32_t>(sources.size());
      sources.push_back(assignment);
    }
    sources.push_back(-1);
    const auto rows = static_cast<std::int64_t>(sources.size());
    TwoSided x(kTokens, width, kBf16), source_of(1, rows, kInt32), row_of(kTokens, kChoices, kInt32),
        weights(1, kTokens * kChoices, kFp32), gates(kTokens, kChoices, kFp32), gathered(rows, width, kBf16),
        combined(kTokens, width, kBf16), gradient(kTokens, kChoices, kFp32), scalars(1, rows, kFp32),
        gathered_scalars(kTokens, kChoices, kFp32);
    x.randomize(random_);
    source_of.assign(sources);
    row_of.assign(rows_of);
    weights.randomize(random_);
    gates.randomize(random_);
    scalars.randomize(random_);
    run_on_both([&](auto view) {
      return GatherRows{view(x), view(source_of), view(weights), view(gathered), kChoices};
    });
    expect_close(gathered, gathered.host());
    gathered.host() = rounded_to_bf16(gathered.host());
    gathered.upload();
    for (const bool with_gates : {false, true}) {
      run_on_both([&](auto view) {
        CombineRows combine{.in = view(gathered), .row_of = view(row_of), .out = view(combined)};
        if (with_gates) combine.weights = view(gates);
        return combine;
      });
      expect_close(combined, combined.host());
    }
    run_on_both([&](auto view) {
      return CombineWeightGradient{view(gathered), view(row_of), view(x), view(gradient)};
    });
    expect_close(gradient, gradient.host());
    run_on_both([&](auto view) { return GatherScalars{view(scalars), view(row_of), view(gathered_scalars)}; });
    expect_equal_bits(gathered_scalars);
  }
}

}  // namespace
}  // namespace msmoe::kernels
