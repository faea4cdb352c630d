#include <numeric>

#include "core/cost_terms.h"
#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

constexpr std::int64_t kOut = 328, kIn = 200;  // neither is whole tiles
constexpr std::int64_t kBeyond = 37;           // rows after the last expert's

class GroupedGemmTest : public GpuTest {
 protected:
  // Both sides' results of one pass, over random operands.
  void compare(GroupedPass pass, const std::vector<int>& counts, bool accumulate = false, int sms = 0) {
    SCOPED_TRACE(testing::PrintToString(counts) + " pass " + std::to_string(static_cast<int>(pass)));
    const auto experts = static_cast<std::int64_t>(counts.size());
    std::vector<std::int32_t> starts(experts + 1);
    std::partial_sum(counts.begin(), counts.end(), starts.begin() + 1);
    const std::int64_t used = starts.back(), rows = used + kBeyond;
    const bool forward = pass == GroupedPass::kForward, gradient = pass == GroupedPass::kWeightGradient;

    TwoSided offsets(1, experts + 1, Element::kInt32);
    TwoSided x(rows, forward ? kIn : kOut, Element::kBf16);
    TwoSided weights(gradient ? rows : experts * kOut, kIn, Element::kBf16);
    TwoSided out(gradient ? experts * kOut : rows, forward ? kOut : kIn, gradient ? Element::kFp32 : Element::kBf16);
    offsets.assign(starts);
    x.randomize(random_);
    weights.randomize(random_);
    // Rows beyond the last must not be read either.
    const auto spoil = [&](TwoSided& matrix, std::int64_t columns) {
      std::fill(matrix.host().begin() + used * columns, matrix.host().end(), std::nanf(""));
      matrix.upload();
    };
    spoil(x, forward ? kIn : kOut);
    if (gradient) spoil(weights, kIn);
    if (accumulate) out.randomize(random_, 10);

    GroupedGemm gemm{.pass = pass,
                     .rows = x.on_device(),
                     .weights = weights.on_device(),
                     .out = out.on_device(),
                     .offsets = offsets.on_device(),
                     .accumulate = accumulate,
                     .sms = sms};
    run_on_gpu(gemm);
    gemm.rows = x.on_host(), gemm.weights = weights.on_host(), gemm.out = out.on_host();
    gemm.offsets = offsets.on_host();
    cpu_->run(gemm, {});

    std::vector<float> result = out.download(), reference = out.host();
    if (!gradient) {
      const auto written = static_cast<std::ptrdiff_t>(used * (forward ? kOut : kIn));
      for (auto value = result.begin() + written; value != result.end(); ++value) ASSERT_TRUE(std::isnan(*value));
      result.resize(written);
      reference.resize(written);
    }
    const double rounding = rms_difference(rounded_to_bf16(reference), reference);
    EXPECT_LE(rms_difference(result, reference), (gradient ? rounding / 8 : 2 * rounding) + 1e-30);
  }
  void compare_all(const std::vector<int>& counts, int sms = 0) {
    compare(GroupedPass::kForward, counts, false, sms);
    compare(GroupedPass::kInputGradient, counts, false, sms);
    compare(GroupedPass::kWeightGradient, counts, false, sms);
    compare(GroupedPass::kWeightGradient, counts, true, sms);
  }
};

TEST_F(GroupedGemmTest, UnevenExperts) { compare_all({1, 127, 128, 129, 300, 7}); }
TEST_F(GroupedGemmTest, EmptyExperts) {
  compare_all({0, 5, 0, 0, 260, 0});
  compare_all({0, 0, 0});
}
TEST_F(GroupedGemmTest, OneHotExpert) { compare_all({0, 0, 1500, 0}); }
TEST_F(GroupedGemmTest, ManyRowsAnExpert) { compare_all({5000, 0, 3001, 1500}); }
// As many rows on average as the weight gradient's kernel with small tiles takes.
TEST_F(GroupedGemmTest, SmallTiles) {
  for (const std::vector<int>& counts : {std::vector{900, 0, 1001, 333}, {0, 0, 3000, 0}, {385}, {1, 2047, 500}}) {
    double rows = 0;
    for (const int count : counts) rows += count;
    ASSERT_TRUE(has_short_weight_gradients(rows, static_cast<double>(counts.size())));
    compare_all(counts);
  }
}
TEST_F(GroupedGemmTest, MoreExpertsThanAWarp) {
  std::vector<int> counts(70);
  for (int e = 0; e < 70; ++e) counts[e] = e * 29 % 41;
  compare_all(counts);
}
TEST_F(GroupedGemmTest, FewSms) {
  for (const int sms : {1, 2, 7, 131}) {
    compare_all({200, 0, 333, 64}, sms);
    compare_all({1200, 0, 333, 64}, sms);
  }
}
TEST_F(GroupedGemmTest, OnlyWeightGradientAccumulates) {
  EXPECT_THROW(compare(GroupedPass::kForward, {3}, true), Unsupported);
}

}  // namespace
}  // namespace msmoe::kernels
