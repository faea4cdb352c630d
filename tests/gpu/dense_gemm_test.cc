#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

using DenseGemmTest = GpuTest;

TEST_F(DenseGemmTest, EveryTransposeTypeAndAccumulation) {
  constexpr std::int64_t kM = 200, kN = 136, kK = 328;
  for (int bits = 0; bits < 16; ++bits) {
    const bool transpose_a = bits & 1, transpose_b = bits & 2, accumulate = bits & 4;
    const Element element = bits & 8 ? Element::kFp32 : Element::kBf16;
    SCOPED_TRACE(bits);
    TwoSided a(transpose_a ? kK : kM, transpose_a ? kM : kK, Element::kBf16);
    TwoSided b(transpose_b ? kN : kK, transpose_b ? kK : kN, Element::kBf16);
    TwoSided c(kM, kN, element);
    a.randomize(random_);
    b.randomize(random_);
    if (accumulate) c.randomize(random_, 10);
    Gemm gemm{.a = a.on_device(),
              .b = b.on_device(),
              .c = c.on_device(),
              .transpose_a = transpose_a,
              .transpose_b = transpose_b,
              .accumulate = accumulate};
    run_on_gpu(gemm);
    gemm.a = a.on_host(), gemm.b = b.on_host(), gemm.c = c.on_host();
    cpu_->run(gemm, {});
    expect_close(c, c.host());
  }
}

TEST_F(DenseGemmTest, OddRowsAndFewSms) {
  for (const std::int64_t rows : {1, 3, 129, 1021}) {
    for (const int sms : {0, 1, 64}) {
      SCOPED_TRACE(rows);
      TwoSided x(rows, 264, Element::kBf16), w(520, 264, Element::kBf16), y(rows, 520, Element::kBf16);
      x.randomize(random_);
      w.randomize(random_);
      Gemm gemm{.a = x.on_device(), .b = w.on_device(), .c = y.on_device(), .transpose_b = true, .sms = sms};
      run_on_gpu(gemm);
      gemm.a = x.on_host(), gemm.b = w.on_host(), gemm.c = y.on_host();
      cpu_->run(gemm, {});
      expect_close(y, y.host());
    }
  }
}

TEST_F(DenseGemmTest, SumOfNothingIsZero) {
  TwoSided a(16, 0, Element::kBf16), b(0, 16, Element::kBf16), c(16, 16, Element::kFp32);
  run_on_gpu(Gemm{.a = a.on_device(), .b = b.on_device(), .c = c.on_device()});
  for (const float value : c.download()) EXPECT_EQ(value, 0);
}

TEST_F(DenseGemmTest, RowsThatTmaCannotAddressAreUnsupported) {
  TwoSided a(16, 12, Element::kBf16), b(12, 16, Element::kBf16), c(16, 16, Element::kBf16);
  EXPECT_THROW(run_on_gpu(Gemm{.a = a.on_device(), .b = b.on_device(), .c = c.on_device()}), Unsupported);
}

}  // namespace
}  // namespace msmoe::kernels
