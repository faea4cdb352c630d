#include <algorithm>
#include <functional>
#include <limits>
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
    {0, 8, {.top_k = 2}, false},
    {40001, 8, {.top_k = 2}, false},  // more tokens than threads, or than warps
    {9001, 256, {.top_k = 8}, false},
    {9001, 64, {.scoring = Scoring::kSigmoid, .top_k = 6, .normalize = false}, false},
    {515, 13, {.scoring = Scoring::kSigmoid, .top_k = 4, .scale = 2}, true},
    {515, 31, {.top_k = 3, .normalize = false}, false},
    {515, 32, {.top_k = 4, .groups = 4, .top_groups = 2}, false},
    {515, 33, {.scoring = Scoring::kSigmoid, .top_k = 5}, false},
    {515, 130, {.top_k = 8}, false},
    {515, 384, {.top_k = 8}, false},
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

// The best of these values by their definition; of equals the lower expert, and no number is as good as minus infinity.
std::vector<std::int32_t> best_experts(const RouterShape& shape, std::vector<float> values) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const auto sort_best_first = [](std::vector<std::int32_t>& indices, const std::vector<float>& of) {
    std::stable_sort(indices.begin(), indices.end(), [&](std::int32_t a, std::int32_t b) { return of[a] > of[b]; });
  };
  for (float& value : values) value = std::isnan(value) ? kLowest : value;
  const std::size_t size = values.size() / shape.groups;
  std::vector<float> group_values;
  for (auto from = values.begin(); from != values.end(); from += size) {
    std::vector<float> group(from, from + size);
    std::sort(group.rbegin(), group.rend());
    const bool counts_two = shape.scoring == Scoring::kSigmoid && size > 1;
    const float value = counts_two ? group[0] + group[1] : group[0];
    group_values.push_back(std::isnan(value) ? kLowest : value);
  }
  std::vector<std::int32_t> groups(shape.groups), experts;
  std::iota(groups.begin(), groups.end(), 0);
  sort_best_first(groups, group_values);
  groups.resize(shape.top_groups);
  std::sort(groups.begin(), groups.end());
  for (const std::int32_t group : groups)
    for (std::size_t i = 0; i < size; ++i) experts.push_back(static_cast<std::int32_t>(group * size + i));
  sort_best_first(experts, values);
  experts.resize(shape.top_k);
  return experts;
}

// Scores that are equal or nearly so are told apart as the kernel itself rounded them.
TEST_F(Routing, ChoosesTheBestOfTheScoresItWrites) {
  constexpr std::int64_t kTokens = 61;
  std::normal_distribution<float> normal(0, 2);
  const std::pair<const char*, std::function<float()>> kinds[] = {
      {"drawn", [&] { return normal(random_); }},
      {"coarse", [&] { return std::round(normal(random_) * 4) / 4; }},
      {"equal", [] { return 0.75F; }},
      {"a bit apart", [&] { return std::bit_cast<float>(0x3fc00000 + static_cast<int>(random_() % 4)); }},
      {"no numbers", [&] { return random_() % 3 == 0 ? std::nanf("") : normal(random_); }},
      {"minus infinity", [&] { return random_() % 4 == 0 ? normal(random_) : -HUGE_VALF; }},
  };
  const auto check = [&](std::int64_t experts, const RouterShape& shape) {
    TwoSided logits(kTokens, experts, kFp32), bias(1, experts, kFp32), scores(kTokens, experts, kFp32),
        chosen(kTokens, shape.top_k, kInt32), gates(kTokens, shape.top_k, kFp32), counts(1, experts, kInt32);
    for (std::size_t e = 0; e < bias.host().size(); ++e) bias.host()[e] = 0.125F * static_cast<float>(e % 3);
    bias.upload();
    const bool is_sigmoid = shape.scoring == Scoring::kSigmoid;
    for (const auto& [kind, draw] : kinds) {
      SCOPED_TRACE(testing::Message() << experts << " experts, " << shape.top_k << " chosen, " << shape.groups
                                      << " groups, " << (is_sigmoid ? "sigmoid" : "softmax") << ", logits " << kind);
      for (float& logit : logits.host()) logit = draw();
      logits.upload();
      Router router{.shape = shape,
                    .logits = logits.on_device(),
                    .scores = scores.on_device(),
                    .experts = chosen.on_device(),
                    .gates = gates.on_device(),
                    .counts = counts.on_device()};
      if (is_sigmoid) router.bias = bias.on_device();
      run_on_gpu(router);

      const std::vector<float> all_scores = scores.download(), all_gates = gates.download();
      std::vector<std::int32_t> expected, expected_counts(experts);
      for (std::int64_t token = 0; token < kTokens; ++token) {
        std::vector<float> values(all_scores.begin() + token * experts, all_scores.begin() + (token + 1) * experts);
        const std::vector<float> of_token = values;
        for (std::size_t e = 0; is_sigmoid && e < values.size(); ++e) values[e] += bias.host()[e];
        const std::vector<std::int32_t> best = best_experts(shape, values);
        double sum = 1e-20;
        for (const std::int32_t expert : best) {
          ++expected_counts[expert];
          sum += of_token[expert];
        }
        expected.insert(expected.end(), best.begin(), best.end());
        for (std::size_t c = 0; c < best.size(); ++c) {
          const float gate = all_gates[token * best.size() + c];
          const double exact = shape.scale * of_token[best[c]] / sum;
          if (std::isnan(exact)) {
            EXPECT_TRUE(std::isnan(gate));
          } else {
            EXPECT_NEAR(gate, exact, 1e-6 * shape.scale);
          }
        }
      }
      std::memcpy(chosen.host().data(), expected.data(), expected.size() * sizeof(std::int32_t));
      std::memcpy(counts.host().data(), expected_counts.data(), expected_counts.size() * sizeof(std::int32_t));
      expect_equal_bits(chosen);
      expect_equal_bits(counts);
    }
  };
  for (const int experts : {1, 8, 31, 32, 33, 64, 128, 160, 256, 384, 512}) {
    for (const Scoring scoring : {Scoring::kSoftmax, Scoring::kSigmoid}) {
      for (const int top_k : {1, 2, 8, 17, 32}) {
        if (top_k <= experts) check(experts, {.scoring = scoring, .top_k = top_k, .scale = 2.5});
        if (experts % 8 == 0 && top_k <= experts / 8 * 3)
          check(experts, {.scoring = scoring, .top_k = top_k, .groups = 8, .top_groups = 3});
      }
      if (experts % 32 == 0) check(experts, {.scoring = scoring, .top_k = 3, .groups = 32, .top_groups = 5});
    }
  }
}

// Against exponentials in double precision; a score below the normal numbers may be 0.
TEST_F(Routing, ScoresAreAccurate) {
  constexpr std::int64_t kTokens = 33;
  std::normal_distribution<float> normal(0, 5);
  for (const std::int64_t experts : {8, 30, 256, 300}) {
    for (const bool is_sigmoid : {false, true}) {
      SCOPED_TRACE(testing::Message() << experts << " experts, " << (is_sigmoid ? "sigmoid" : "softmax"));
      TwoSided logits(kTokens, experts, kFp32), scores(kTokens, experts, kFp32), chosen(kTokens, 2, kInt32),
          gates(kTokens, 2, kFp32), counts(1, experts, kInt32);
      for (float& logit : logits.host()) logit = normal(random_);
      for (std::int64_t e = 0; e < experts; ++e) logits.host()[e] = static_cast<float>(e % 8 * 50 - 150);
      logits.upload();
      run_on_gpu(Router{.shape = {.scoring = is_sigmoid ? Scoring::kSigmoid : Scoring::kSoftmax, .top_k = 2},
                        .logits = logits.on_device(),
                        .scores = scores.on_device(),
                        .experts = chosen.on_device(),
                        .gates = gates.on_device(),
                        .counts = counts.on_device()});
      const std::vector<float> result = scores.download();
      for (std::int64_t token = 0; token < kTokens; ++token) {
        const float* of = logits.host().data() + token * experts;
        double sum = 0;
        for (std::int64_t e = 0; e < experts; ++e) sum += std::exp(double{of[e]});
        for (std::int64_t e = 0; e < experts; ++e) {
          const double exact = is_sigmoid ? 1 / (1 + std::exp(-double{of[e]})) : std::exp(double{of[e]}) / sum;
          // An exponent of 2^6 and more is itself rounded to 2^-18.
          EXPECT_NEAR(result[token * experts + e], exact, 6e-6 * exact + 2e-38) << of[e];
        }
      }
    }
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
