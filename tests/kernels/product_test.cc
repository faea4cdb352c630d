#include "kernels/cpu/product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <thread>
#include <vector>

#include "tests/kernels/tensors.h"

namespace msmoe::kernels::cpu {
namespace {

// Large enough to be cut into blocks, and for several threads where there are any.
constexpr std::int64_t kSize = 300;

std::vector<float> square(const Tensor& a, const Tensor& b) {
  std::vector<float> c(static_cast<std::size_t>(kSize * kSize), std::nanf(""));  // overwritten, not multiplied by 0
  multiply({kSize, kSize, kSize}, {a.values.data(), kSize}, {b.values.data(), kSize}, {c.data(), kSize});
  return c;
}

TEST(Product, WritesItsColumnsAlone) {
  // [1 2; 3 4] times the transpose of [5 6; 7 8], halved, between columns that stay.
  const std::vector<float> a = {1, 2, 0, 3, 4, 0}, b = {5, 6, 7, 8};
  std::vector<float> c(8, 9);
  multiply({2, 2, 2}, {a.data(), 3}, {b.data(), 2, /*transposed=*/true}, {c.data() + 1, 4}, 0.5F);
  EXPECT_EQ(c, (std::vector<float>{9, 8.5F, 11.5F, 9, 9, 19.5F, 26.5F, 9}));
}

std::ptrdiff_t num_threads() {
  const std::filesystem::directory_iterator threads("/proc/self/task");
  return std::distance(begin(threads), end(threads));
}

TEST(Product, NoNewThreadsAndTheSameBits) {
  const std::ptrdiff_t threads_before = num_threads();
  const Tensor a = random_tensor(kSize, kSize, 1), b = random_tensor(kSize, kSize, 2);
  const std::vector<float> first = square(a, b);
  EXPECT_EQ(square(a, b), first);
  EXPECT_EQ(num_threads(), threads_before) << "a rank has one core";
}

TEST(Product, ThreadsMayMultiplyAtOnce) {
  const Tensor a = random_tensor(kSize, kSize, 3), b = random_tensor(kSize, kSize, 4);
  const std::vector<float> wanted = square(a, b);
  std::vector<std::vector<float>> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& mine : found)
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) mine = square(a, b);
      });
  }
  for (const auto& mine : found) EXPECT_EQ(mine, wanted);
}

}  // namespace
}  // namespace msmoe::kernels::cpu
