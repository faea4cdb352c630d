// What tests of kernels on GPUs share: random operands that bf16 holds exactly, the same on both sides,
// and errors measured against what rounding to bf16 costs.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/kernels.h"

namespace msmoe::kernels {

inline float rounded_to_bf16(float value) {
  auto bits = std::bit_cast<std::uint32_t>(value);
  bits += 0x7FFF + ((bits >> 16) & 1);
  return std::bit_cast<float>(bits & 0xFFFF0000);
}

// A matrix on both sides. The host's is fp32 (or int32), the device's what `element` says; outputs start as NaNs.
class TwoSided {
 public:
  TwoSided(std::int64_t rows, std::int64_t columns, Element element)
      : rows_(rows), columns_(columns), element_(element), host_(rows * columns) {
    MSMOE_CHECK(cudaMalloc(&device_, std::max<std::size_t>(on_device().bytes(), 1)));
    MSMOE_CHECK(cudaMemset(device_, 0xFF, on_device().bytes()));
    std::memset(host_.data(), 0xFF, host_.size() * sizeof(float));
  }
  ~TwoSided() { cudaFree(device_); }
  TwoSided(const TwoSided&) = delete;
  TwoSided& operator=(const TwoSided&) = delete;

  View on_device() const { return {device_, rows_, columns_, element_}; }
  View on_host() {
    return {host_.data(), rows_, columns_, element_ == Element::kInt32 ? Element::kInt32 : Element::kFp32};
  }
  std::vector<float>& host() { return host_; }

  TwoSided& randomize(std::mt19937& random, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    for (float& value : host_) value = rounded_to_bf16(normal(random));
    return upload();
  }
  TwoSided& assign(const std::vector<std::int32_t>& values) {
    std::memcpy(host_.data(), values.data(), values.size() * sizeof(std::int32_t));
    return upload();
  }
  TwoSided& upload() {
    if (element_ != Element::kBf16) {
      MSMOE_CHECK(cudaMemcpy(device_, host_.data(), on_device().bytes(), cudaMemcpyDefault));
      return *this;
    }
    std::vector<std::uint16_t> halves(host_.size());
    for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = std::bit_cast<std::uint32_t>(host_[i]) >> 16;
    MSMOE_CHECK(cudaMemcpy(device_, halves.data(), on_device().bytes(), cudaMemcpyDefault));
    return *this;
  }
  std::vector<float> download() const {
    std::vector<float> values(host_.size());
    if (element_ != Element::kBf16) {
      MSMOE_CHECK(cudaMemcpy(values.data(), device_, on_device().bytes(), cudaMemcpyDefault));
      return values;
    }
    std::vector<std::uint16_t> halves(host_.size());
    MSMOE_CHECK(cudaMemcpy(halves.data(), device_, on_device().bytes(), cudaMemcpyDefault));
    for (std::size_t i = 0; i < halves.size(); ++i) {
      values[i] = std::bit_cast<float>(std::uint32_t{halves[i]} << 16);
    }
    return values;
  }

 private:
  std::int64_t rows_, columns_;
  Element element_;
  std::vector<float> host_;
  void* device_ = nullptr;
};

inline double rms_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
  return a.empty() ? 0 : std::sqrt(sum / a.size());
}

inline std::vector<float> rounded_to_bf16(std::vector<float> values) {
  for (float& value : values) value = rounded_to_bf16(value);
  return values;
}

// Results in bf16 are rounded once; those in fp32 are far better than that. A NaN fails.
inline void expect_close(const TwoSided& result, const std::vector<float>& reference) {
  const double rounding = rms_difference(rounded_to_bf16(reference), reference);
  const double allowed = result.on_device().element == Element::kBf16 ? 2 * rounding : rounding / 8;
  const double error = rms_difference(result.download(), reference);
  EXPECT_LE(error, allowed + 1e-30);
}

inline void expect_equal_bits(TwoSided& result) {
  const std::vector<float> device = result.download();
  EXPECT_EQ(std::memcmp(device.data(), result.host().data(), device.size() * sizeof(float)), 0);
}

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no GPU";
    gpu_ = cuda_kernels();
    cpu_ = cpu_kernels();
  }
  void run_on_gpu(const Operation& operation) {
    const std::size_t bytes = gpu_->workspace_bytes(operation);
    void* workspace = nullptr;
    MSMOE_CHECK(cudaMalloc(&workspace, std::max<std::size_t>(bytes, 1)));
    MSMOE_CHECK(cudaMemset(workspace, 0xFF, bytes));
    gpu_->run(operation, {.workspace = workspace, .workspace_bytes = bytes});
    MSMOE_CHECK(cudaDeviceSynchronize());
    MSMOE_CHECK(cudaFree(workspace));
  }

  // make(view): the operation on the views that `view` picks of two-sided matrices; run on both sides.
  template <class Make>
  void run_on_both(const Make& make) {
    run_on_gpu(make([](TwoSided& matrix) { return matrix.on_device(); }));
    cpu_->run(make([](TwoSided& matrix) { return matrix.on_host(); }), {});
  }

  std::mt19937 random_{20240611};
  std::unique_ptr<Kernels> gpu_, cpu_;
};

}  // namespace msmoe::kernels
