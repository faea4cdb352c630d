#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

using Tokens = GpuTest;
constexpr Element kBf16 = Element::kBf16, kFp32 = Element::kFp32, kInt32 = Element::kInt32;

std::vector<std::int32_t> integers(std::mt19937& random, std::size_t count, int low, int high) {
  std::uniform_int_distribution<std::int32_t> uniform(low, high);
  std::vector<std::int32_t> values(count);
  for (std::int32_t& value : values) value = uniform(random);
  return values;
}

TEST_F(Tokens, RmsNormAndBackward) {
  for (const std::int64_t width : {64, 2048, 4096, 7168, 16384}) {
    for (const std::int64_t rows : {0, 1, 77, 515}) {
      for (const bool with_residual : {false, true}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << width << ", residual " << with_residual);
        TwoSided x(rows, width, kBf16), residual(rows, width, kBf16), weight(1, width, kBf16), out(rows, width, kBf16),
            sum(rows, width, kBf16), inverse(1, rows, kFp32);
        x.randomize(random_);
        residual.randomize(random_);
        weight.randomize(random_);
        run_on_both([&](auto view) {
          RmsNorm norm{.input = view(x), .weight = view(weight), .out = view(out), .inverse_rms = view(inverse)};
          if (with_residual) norm.residual = view(residual), norm.sum = view(sum);
          return norm;
        });
        expect_close(out, out.host());
        expect_close(inverse, inverse.host());
        if (with_residual) expect_close(sum, sum.host());

        TwoSided gradient(rows, width, kBf16), input_gradient(rows, width, kBf16), weight_gradient(1, width, kFp32);
        gradient.randomize(random_);
        weight_gradient.randomize(random_);
        inverse.upload();
        run_on_both([&](auto view) {
          RmsNormBackward norm{.input = view(x), .weight = view(weight), .inverse_rms = view(inverse)};
          norm.out_gradient = view(gradient);
          norm.input_gradient = view(input_gradient);
          norm.weight_gradient = view(weight_gradient);
          if (with_residual) norm.residual_gradient = view(residual);
          return norm;
        });
        expect_close(input_gradient, input_gradient.host());
        expect_close(weight_gradient, weight_gradient.host());
      }
    }
  }
}

TEST_F(Tokens, Rope) {
  constexpr std::int64_t kTokens = 333, kHeads = 5;
  for (const auto& [width, rotated] : {std::pair{128, 128}, {192, 64}, {64, 32}, {64, 0}}) {
    for (const bool backward : {false, true}) {
      SCOPED_TRACE(testing::Message() << rotated << " of " << width << ", backward " << backward);
      TwoSided x(kTokens, kHeads * width, kBf16), positions(1, kTokens, kInt32), out(kTokens, kHeads * width, kBf16);
      x.randomize(random_);
      positions.assign(integers(random_, kTokens, 0, 131071));
      const auto compare = [&, width = width, rotated = rotated](bool in_place) {
        const std::vector<float> before = x.host();
        run_on_both([&](auto view) {
          return Rope{view(x), view(positions), in_place ? View{} : view(out), width, rotated, 1e6, backward};
        });
        TwoSided& result = in_place ? x : out;
        expect_close(result, result.host());
        if (!in_place) {
          EXPECT_EQ(x.download(), before) << "what is rotated to elsewhere stays";
        }
      };
      compare(false);
      compare(true);
    }
  }
}

// DeepSeek-V3's widths, others, and none that turns.
TEST_F(Tokens, LatentHeadsAndBackward) {
  struct Widths {
    std::int64_t heads, plain, turned, value;
  };
  for (const auto& [heads, plain, turned, value_width] :
       {Widths{128, 128, 64, 128}, {16, 128, 64, 128}, {3, 40, 48, 24}, {300, 8, 16, 8}, {2, 64, 0, 64}}) {
    for (const std::int64_t tokens : {0, 1, 77, 1100}) {
      for (const bool in_place : {false, true}) {
        SCOPED_TRACE(testing::Message() << tokens << " tokens, " << heads << " heads, in place " << in_place);
        const std::int64_t together = heads * (plain + turned), from_latent = heads * (plain + value_width);
        TwoSided queries(tokens, together, kBf16), expanded(tokens, from_latent, kBf16), rotary(tokens, turned, kBf16),
            positions(1, tokens, kInt32), query_out(tokens, together, kBf16), key(tokens, together, kBf16),
            value(tokens, heads * value_width, kBf16);
        for (TwoSided* input : {&queries, &expanded, &rotary}) input->randomize(random_);
        positions.assign(integers(random_, static_cast<std::size_t>(tokens), 0, 131071));
        TwoSided& query = in_place ? queries : query_out;
        run_on_both([&, heads = heads](auto view) {
          return LatentHeads{view(queries), view(expanded), view(rotary), view(positions), view(query), view(key),
                             view(value),   heads,          1e6};
        });
        expect_close(query, query.host());
        expect_close(key, key.host());
        expect_equal_bits(value);

        // What comes back for queries, keys and values, and goes to where those came from.
        for (TwoSided* gradient : {&query_out, &key, &value}) gradient->randomize(random_);
        TwoSided& queries_gradient = in_place ? query_out : queries;
        run_on_both([&, heads = heads](auto view) {
          return LatentHeadsBackward{
              view(query_out), view(key), view(value), view(positions), view(queries_gradient), view(expanded),
              view(rotary),    heads,     1e6};
        });
        expect_close(queries_gradient, queries_gradient.host());
        expect_equal_bits(expanded);
        expect_close(rotary, rotary.host());
      }
    }
  }
}

TEST_F(Tokens, SwiGluAndBackward) {
  for (const std::int64_t f : {8, 768, 2048, 14336}) {
    for (const std::int64_t rows : {0, 1, 203}) {
      for (const bool with_gates : {false, true}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << f << ", gates " << with_gates);
        TwoSided gate_up(rows, 2 * f, kBf16), gates(1, rows, kFp32), out(rows, f, kBf16);
        gate_up.randomize(random_);
        gates.randomize(random_);
        run_on_both([&](auto view) {
          SwiGlu op{.gate_up = view(gate_up), .out = view(out)};
          if (with_gates) op.gate_weights = view(gates);
          return op;
        });
        expect_close(out, out.host());
        TwoSided gradient(rows, f, kBf16), gate_up_gradient(rows, 2 * f, kBf16), gates_gradient(1, rows, kFp32),
            again(rows, f, kBf16);
        gradient.randomize(random_);
        run_on_both([&](auto view) {
          SwiGluBackward op{.gate_up = view(gate_up), .out_gradient = view(gradient)};
          op.gate_up_gradient = view(gate_up_gradient);
          op.out = view(again);
          if (with_gates) op.gate_weights = view(gates), op.gate_weight_gradient = view(gates_gradient);
          return op;
        });
        expect_close(gate_up_gradient, gate_up_gradient.host());
        expect_close(again, again.host());
        if (with_gates) expect_close(gates_gradient, gates_gradient.host());
      }
    }
  }
}

TEST_F(Tokens, AddInPlace) {
  TwoSided a(1001, 72, kBf16), b(1001, 72, kBf16);
  a.randomize(random_);
  b.randomize(random_);
  run_on_both([&](auto view) { return Add{view(a), view(b), view(a)}; });
  expect_close(a, a.host());
}

TEST_F(Tokens, EmbeddingOfAShardAndBackward) {
  constexpr std::int64_t kTokens = 777, kEntries = 100, kWidth = 264, kFirst = 50;
  TwoSided table(kEntries, kWidth, kBf16), ids(1, kTokens, kInt32), out(kTokens, kWidth, kBf16);
  table.randomize(random_);
  ids.assign(integers(random_, kTokens, 0, 199));
  run_on_both([&](auto view) { return Embedding{view(table), view(ids), view(out), kFirst}; });
  expect_equal_bits(out);
  TwoSided gradient(kTokens, kWidth, kBf16), table_gradient(kEntries, kWidth, kFp32);
  gradient.randomize(random_);
  table_gradient.randomize(random_);
  run_on_both([&](auto view) { return EmbeddingBackward{view(gradient), view(ids), view(table_gradient), kFirst}; });
  expect_close(table_gradient, table_gradient.host());
}

TEST_F(Tokens, CrossEntropyOfAShardAndBackward) {
  constexpr std::int64_t kTokens = 131, kFirst = 1000;
  for (const std::int64_t shard : {8, 4096, 50264}) {
    SCOPED_TRACE(shard);
    TwoSided logits(kTokens, shard, kBf16), targets(1, kTokens, kInt32), maximum(1, kTokens, kFp32),
        exp_sum(1, kTokens, kFp32), target_logit(1, kTokens, kFp32);
    logits.randomize(random_, 4);
    targets.assign(integers(random_, kTokens, -50, static_cast<int>(kFirst + 2 * shard)));
    run_on_both([&](auto view) {
      return CrossEntropy{view(logits), view(targets), view(maximum), view(exp_sum), view(target_logit), kFirst};
    });
    expect_close(maximum, maximum.host());
    expect_close(exp_sum, exp_sum.host());
    expect_close(target_logit, target_logit.host());
    maximum.upload();
    exp_sum.upload();
    run_on_both([&](auto view) {
      return CrossEntropyBackward{view(targets), view(maximum), view(exp_sum), view(logits), kFirst, 0.01};
    });
    expect_close(logits, logits.host());
  }
}

}  // namespace
}  // namespace msmoe::kernels
