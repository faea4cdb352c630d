#include <cmath>
#include <functional>

#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

struct Case {
  AttentionShape shape;
  std::vector<std::int32_t> starts;
  bool ragged = false;
};

std::vector<std::int32_t> equal_starts(int sequences, int length) {
  std::vector<std::int32_t> starts(sequences + 1);
  for (int s = 0; s <= sequences; ++s) starts[s] = s * length;
  return starts;
}

struct HostResults {
  std::vector<float> out, query_gradient, key_gradient, value_gradient;
};

// Attention as tensor cores do it at best: probabilities, their gradients and results rounded to bf16, sums in fp32.
// What it costs against fp32 is the yardstick.
class PlainBf16 {
 public:
  PlainBf16(const Case& c, std::vector<float>& query, std::vector<float>& key, std::vector<float>& value,
            std::vector<float>& out_gradient)
      : case_(c), query_(query), key_(key), value_(value), out_gradient_(out_gradient) {
    results_.out.resize(out_gradient.size());
    results_.query_gradient.resize(query.size());
    results_.key_gradient.resize(key.size());
    results_.value_gradient.resize(value.size());
  }

  HostResults run() {
    for (std::size_t s = 0; s + 1 < case_.starts.size(); ++s) {
      for (std::int64_t head = 0; head < case_.shape.heads; ++head) {
        for (int t = case_.starts[s]; t < case_.starts[s + 1]; ++t) query(head, case_.starts[s], t);
      }
    }
    for (auto* values : {&results_.out, &results_.query_gradient, &results_.key_gradient, &results_.value_gradient}) {
      *values = rounded_to_bf16(std::move(*values));
    }
    return results_;
  }

 private:
  void query(std::int64_t head, int first, int t) {
    const auto& [heads, kv_heads, width, value_width, longest, scale] = case_.shape;
    const std::int64_t kv_head = head / (heads / kv_heads);
    const auto key_at = [&](int u) { return (u * kv_heads + kv_head) * width; };
    const auto value_at = [&](int u) { return (u * kv_heads + kv_head) * value_width; };
    const std::int64_t q = (t * heads + head) * width, o = (t * heads + head) * value_width;

    std::vector<float> weights(t - first + 1);
    float maximum = -INFINITY, sum = 0;
    for (int u = first; u <= t; ++u) {
      float dot = 0;
      for (std::int64_t i = 0; i < width; ++i) dot += query_[q + i] * key_[key_at(u) + i];
      weights[u - first] = dot * static_cast<float>(scale);
      maximum = std::max(maximum, weights[u - first]);
    }
    for (float& weight : weights) sum += weight = std::exp(weight - maximum);
    for (int u = first; u <= t; ++u) {
      const float p = rounded_to_bf16(weights[u - first]);
      for (std::int64_t i = 0; i < value_width; ++i) results_.out[o + i] += p * value_[value_at(u) + i] / sum;
    }
    float mean = 0;
    for (std::int64_t i = 0; i < value_width; ++i) mean += rounded_to_bf16(results_.out[o + i]) * out_gradient_[o + i];
    for (int u = first; u <= t; ++u) {
      const float exact = weights[u - first] / sum, p = rounded_to_bf16(exact);
      float dp = 0;
      for (std::int64_t i = 0; i < value_width; ++i) {
        dp += out_gradient_[o + i] * value_[value_at(u) + i];
        results_.value_gradient[value_at(u) + i] += p * out_gradient_[o + i];
      }
      const float ds = rounded_to_bf16(exact * (dp - mean));
      for (std::int64_t i = 0; i < width; ++i) {
        results_.query_gradient[q + i] += static_cast<float>(scale) * ds * key_[key_at(u) + i];
        results_.key_gradient[key_at(u) + i] += static_cast<float>(scale) * ds * query_[q + i];
      }
    }
  }

  const Case& case_;
  std::vector<float>&query_, &key_, &value_, &out_gradient_;
  HostResults results_;
};

class AttentionTest : public GpuTest {
 protected:
  void compare(Case c) {
    AttentionShape& shape = c.shape;
    shape.scale = 1 / std::sqrt(static_cast<double>(shape.width));
    const std::int64_t tokens = c.starts.back();
    const auto matrix = [&](std::int64_t columns) { return TwoSided(tokens, columns, Element::kBf16); };
    TwoSided query = matrix(shape.heads * shape.width), key = matrix(shape.kv_heads * shape.width),
             value = matrix(shape.kv_heads * shape.value_width), out = matrix(shape.heads * shape.value_width),
             out_gradient = matrix(shape.heads * shape.value_width), query_gradient = matrix(shape.heads * shape.width),
             key_gradient = matrix(shape.kv_heads * shape.width),
             value_gradient = matrix(shape.kv_heads * shape.value_width);
    TwoSided log_sum_exp(shape.heads, tokens, Element::kFp32);
    TwoSided starts(1, static_cast<std::int64_t>(c.starts.size()), Element::kInt32);
    starts.assign(c.starts);
    for (TwoSided* input : {&query, &key, &value, &out_gradient}) input->randomize(random_);

    const auto run_both = [&](const std::function<View(TwoSided&)>& side, auto&& run) {
      const View lengths = c.ragged ? side(starts) : View{};
      run(Attention{.shape = shape,
                    .query = side(query),
                    .key = side(key),
                    .value = side(value),
                    .out = side(out),
                    .log_sum_exp = side(log_sum_exp),
                    .starts = lengths});
      run(AttentionBackward{.shape = shape,
                            .query = side(query),
                            .key = side(key),
                            .value = side(value),
                            .out = side(out),
                            .log_sum_exp = side(log_sum_exp),
                            .out_gradient = side(out_gradient),
                            .query_gradient = side(query_gradient),
                            .key_gradient = side(key_gradient),
                            .value_gradient = side(value_gradient),
                            .starts = lengths});
    };
    run_both([](TwoSided& m) { return m.on_device(); }, [&](const Operation& o) { run_on_gpu(o); });
    run_both([](TwoSided& m) { return m.on_host(); }, [&](const Operation& o) { cpu_->run(o, {}); });

    const HostResults plain = PlainBf16(c, query.host(), key.host(), value.host(), out_gradient.host()).run();
    const auto expect = [](const char* name, TwoSided& result, const std::vector<float>& yardstick) {
      EXPECT_LE(rms_difference(result.download(), result.host()), 2 * rms_difference(yardstick, result.host())) << name;
    };
    expect("out", out, plain.out);
    expect("query_gradient", query_gradient, plain.query_gradient);
    expect("key_gradient", key_gradient, plain.key_gradient);
    expect("value_gradient", value_gradient, plain.value_gradient);
    EXPECT_LE(rms_difference(log_sum_exp.download(), log_sum_exp.host()), 1e-3);
  }
};

constexpr AttentionShape heads_of(int heads, int kv_heads, int width, int value_width, int longest) {
  return {.heads = heads, .kv_heads = kv_heads, .width = width, .value_width = value_width, .sequence_length = longest};
}

TEST_F(AttentionTest, OneSequence) { compare({heads_of(2, 2, 128, 128, 256), equal_starts(1, 256)}); }
TEST_F(AttentionTest, SmallHeads) { compare({heads_of(3, 3, 64, 64, 192), equal_starts(1, 192)}); }
TEST_F(AttentionTest, BatchOfOddLengths) { compare({heads_of(2, 2, 128, 128, 77), equal_starts(3, 77)}); }
TEST_F(AttentionTest, SharedKeys) { compare({heads_of(8, 2, 128, 128, 130), equal_starts(2, 130)}); }
TEST_F(AttentionTest, NarrowerValues) { compare({heads_of(4, 4, 192, 128, 200), equal_starts(2, 200)}); }
TEST_F(AttentionTest, VariableLength) { compare({heads_of(2, 2, 128, 128, 300), {0, 1, 130, 430, 494}, true}); }
TEST_F(AttentionTest, VariableLengthSharedKeys) { compare({heads_of(8, 2, 128, 128, 200), {0, 200, 263, 300}, true}); }
TEST_F(AttentionTest, VariableLengthNarrowerValues) {
  compare({heads_of(4, 4, 192, 128, 200), {0, 63, 200, 400}, true});
}
TEST_F(AttentionTest, RangesOfKeysAreRefused) {
  TwoSided matrix(64, 64, Element::kBf16), log_sum_exp(1, 64, Element::kFp32), ranges(2, 1, Element::kInt32);
  const View view = matrix.on_device();
  Attention operation{heads_of(1, 1, 64, 64, 64), view, view, view, view, log_sum_exp.on_device(), {}, {}};
  operation.key_ranges = ranges.on_device();
  EXPECT_THROW(gpu_->workspace_bytes(operation), Unsupported);
  EXPECT_THROW(gpu_->run(operation, {}), Unsupported);
}
TEST_F(AttentionTest, LongestMayBeLongerThanAnySequence) {
  compare({heads_of(2, 1, 64, 64, 512), {0, 100, 165}, true});
}

}  // namespace
}  // namespace msmoe::kernels
