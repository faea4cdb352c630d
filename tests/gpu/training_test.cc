#include <cstring>

#include "tests/gpu/gpu_test.h"

namespace msmoe::kernels {
namespace {

using Training = GpuTest;
constexpr Element kBf16 = Element::kBf16, kFp32 = Element::kFp32, kInt32 = Element::kInt32;

// More tensors than one launch takes, of odd sizes, in both formats.
TEST_F(Training, AdamWOverManyTensors) {
  struct Parameter {
    TwoSided parameter, gradient, master, first, second;
    explicit Parameter(std::int64_t size, Element element)
        : parameter(1, size, element),
          gradient(1, size, kFp32),
          master(1, size, kFp32),
          first(1, size, kFp32),
          second(1, size, kFp32) {}
  };
  std::vector<std::unique_ptr<Parameter>> parameters;
  for (int index = 0; index < 101; ++index) {
    const std::int64_t size = index == 50 ? 200'003 : index * 37 % 1000;
    auto& of = *parameters.emplace_back(std::make_unique<Parameter>(size, index % 2 == 0 ? kBf16 : kFp32));
    of.gradient.randomize(random_);
    of.master.randomize(random_);
    of.first.randomize(random_, 0.1F);
    of.second.randomize(random_, 0.1F);
    for (float& value : of.second.host()) value = std::abs(value);
    of.second.upload();
  }
  TwoSided scale(1, 1, kFp32);
  scale.randomize(random_);
  run_on_both([&](auto view) {
    AdamW adam{.gradient_scale = view(scale), .rate = 1e-2, .step = 7};
    for (const auto& of : parameters)
      adam.tensors.push_back(
          {view(of->parameter), view(of->gradient), view(of->master), view(of->first), view(of->second), 0.1});
    return adam;
  });
  for (const auto& of : parameters)
    for (TwoSided* result : {&of->parameter, &of->master, &of->first, &of->second})
      expect_close(*result, result->host());
}

TEST_F(Training, SquaredNormAndClipScale) {
  TwoSided a(1, 100'003, kFp32), b(1, 0, kFp32), c(1, 3, kFp32), sum(1, 1, kFp32), scale(1, 1, kFp32);
  a.randomize(random_);
  c.randomize(random_, 100);
  run_on_both([&](auto view) { return SquaredNorm{{view(a), view(b), view(c)}, view(sum)}; });
  EXPECT_NEAR(sum.download()[0] / sum.host()[0], 1, 1e-5);
  run_on_both([&](auto view) { return ClipScale{view(sum), view(scale), 2}; });
  EXPECT_NEAR(scale.download()[0] / scale.host()[0], 1, 1e-5);
  const float first = sum.download()[0];
  for (int repeat = 0; repeat < 3; ++repeat) {
    run_on_gpu(SquaredNorm{{a.on_device(), b.on_device(), c.on_device()}, sum.on_device()});
    EXPECT_EQ(sum.download()[0], first);
  }
  run_on_both([&](auto view) { return SquaredNorm{{view(b)}, view(sum)}; });
  EXPECT_EQ(sum.download()[0], 0);
}

TEST_F(Training, Casts) {
  TwoSided wide(37, 101, kFp32), narrow(37, 101, kBf16), back(37, 101, kFp32);
  std::normal_distribution<float> normal;
  for (float& value : wide.host()) value = normal(random_);
  wide.upload();
  run_on_gpu(Cast{wide.on_device(), narrow.on_device()});
  EXPECT_EQ(narrow.download(), rounded_to_bf16(wide.host()));
  run_on_gpu(Cast{narrow.on_device(), back.on_device()});
  EXPECT_EQ(back.download(), rounded_to_bf16(wide.host()));
}

TEST_F(Training, SumsOfChunks) {
  constexpr std::int64_t kParts = 5, kRows = 33, kColumns = 72;
  TwoSided chunks(kParts * kRows, kColumns, kBf16), out(kRows, kColumns, kFp32);
  chunks.randomize(random_);
  out.randomize(random_);
  for (const bool accumulate : {false, true}) {
    std::vector<float> expected = accumulate ? out.download() : std::vector<float>(out.host().size(), 0.0F);
    std::vector<float> sum(expected.size(), 0.0F);
    for (std::size_t index = 0; index < chunks.host().size(); ++index) sum[index % sum.size()] += chunks.host()[index];
    for (std::size_t index = 0; index < sum.size(); ++index) expected[index] += sum[index];
    run_on_gpu(SumChunks{chunks.on_device(), out.on_device(), accumulate});
    expect_close(out, expected);
  }
}

// Codes and scales are those of the CPU, bit by bit. The first row is zeros, the second so small that some blocks'
// scales would be subnormal.
TEST_F(Training, QuantizesAsTheCpuDoes) {
  for (const ScaleBlocks blocks : {ScaleBlocks::kToken, ScaleBlocks::kChannel}) {
    for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{1, 128}, {300, 264}, {129, 4096}}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << columns);
      const bool by_token = blocks == ScaleBlocks::kToken;
      TwoSided in(rows, columns, kBf16),
          scales(by_token ? rows : (rows + 127) / 128, by_token ? (columns + 127) / 128 : columns, kFp32),
          codes(rows, columns / 4, kInt32), back(rows, columns, kBf16);
      in.randomize(random_, 3);
      for (std::int64_t column = 0; column < columns; ++column) in.host()[static_cast<std::size_t>(column)] = 0;
      for (std::int64_t index = columns; index < std::min<std::int64_t>(rows, 2) * columns; ++index) {
        float& value = in.host()[static_cast<std::size_t>(index)];
        value = rounded_to_bf16(value * 6.5e-37F);
      }
      in.upload();
      const auto as_codes = [&](View view) { return View{view.data, rows, columns, Element::kE4m3}; };
      run_on_both([&](auto view) { return Quantize{view(in), as_codes(view(codes)), view(scales), blocks}; });
      EXPECT_EQ(scales.download(), scales.host());
      const std::vector<float> device = codes.download();
      EXPECT_EQ(std::memcmp(device.data(), codes.host().data(), static_cast<std::size_t>(rows * columns)), 0);
      run_on_gpu(Dequantize{as_codes(codes.on_device()), scales.on_device(), back.on_device(), blocks});
      const std::vector<float> values = back.download();
      // Half a step of E4M3's 3 bits, beside bf16's rounding.
      for (std::size_t index = 0; index < values.size(); ++index)
        EXPECT_NEAR(values[index], in.host()[index], std::abs(in.host()[index]) / 15 + 0.1) << index;
    }
  }
}

TEST_F(Training, Zero) {
  TwoSided x(3, 1001, kFp32);
  run_on_gpu(Zero{x.on_device()});
  for (const float value : x.download()) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace msmoe::kernels
