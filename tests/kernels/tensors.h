// What the tests of kernels share: matrices that own their elements, and gradients by finite differences.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace msmoe::kernels {

template <class T, Element kElement>
struct Owned {
  std::int64_t rows = 0, columns = 0;
  std::vector<T> values;

  Owned() = default;
  Owned(std::int64_t row_count, std::int64_t column_count, T value = {})
      : rows(row_count), columns(column_count), values(static_cast<std::size_t>(row_count * column_count), value) {}
  Owned(std::int64_t row_count, std::int64_t column_count, std::vector<T> given)
      : rows(row_count), columns(column_count), values(std::move(given)) {}

  operator View() { return {values.data(), rows, columns, kElement}; }
  // The same elements as a matrix of another shape.
  View as(std::int64_t row_count, std::int64_t column_count) {
    return {values.data(), row_count, column_count, kElement};
  }
  std::size_t size() const { return values.size(); }
  T& operator[](std::size_t i) { return values[i]; }
  const T& operator[](std::size_t i) const { return values[i]; }
  T& at(std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * columns + c)]; }
  const T& at(std::int64_t r, std::int64_t c) const { return values[static_cast<std::size_t>(r * columns + c)]; }
};
using Tensor = Owned<float, Element::kFp32>;
using Integers = Owned<std::int32_t, Element::kInt32>;
using Bf16 = Owned<std::uint16_t, Element::kBf16>;
using E4m3 = Owned<std::uint8_t, Element::kE4m3>;

inline Tensor random_tensor(std::int64_t rows, std::int64_t columns, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> draw(-1, 1);
  Tensor tensor(rows, columns);
  for (float& value : tensor.values) value = draw(engine);
  return tensor;
}

inline void run(const Operation& operation) { cpu_kernels()->run(operation, {}); }

inline double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

template <class T>
void expect_near(const std::vector<T>& values, const std::vector<T>& wanted, double tolerance,
                 const std::string& what = "") {
  ASSERT_EQ(values.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(values[i], wanted[i], tolerance * (1 + std::fabs(wanted[i]))) << what << "[" << i << "]";
}

// Holds `gradient` to the differences of `loss` in each element of `variable`, which loss reads. Of fourth order: with
// this step neither the truncation nor the rounding of fp32 results is above 1e-5 or so.
inline void expect_gradient(Tensor& variable, const Tensor& gradient, const std::function<double()>& loss,
                            const std::string& what, double tolerance = 2e-4) {
  constexpr float kStep = 1.0F / 64;
  ASSERT_EQ(variable.size(), gradient.size()) << what;
  for (std::size_t i = 0; i < variable.size(); ++i) {
    const float before = variable[i];
    const auto loss_at = [&](float steps) {
      variable[i] = before + steps * kStep;
      return loss();
    };
    const double difference =
        (8 * (loss_at(1) - loss_at(-1)) - (loss_at(2) - loss_at(-2))) / (12 * static_cast<double>(kStep));
    variable[i] = before;
    EXPECT_NEAR(gradient[i], difference, tolerance * (1 + std::fabs(difference))) << what << "[" << i << "]";
  }
}

}  // namespace msmoe::kernels
