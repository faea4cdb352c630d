#include "profiler/cuda/arena.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <random>

#include "kernels/cuda/check.h"

namespace msmoe::profiler {

using kernels::Element;
using kernels::View;

namespace {

template <class T>
const std::vector<T>& random_values() {
  static const std::vector<T> values = [] {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<T> drawn(1 << 20);
    for (T& value : drawn) {
      const auto bits = std::bit_cast<std::uint32_t>(normal(random));
      value = static_cast<T>(sizeof(T) == 2 ? bits >> 16 : bits);
    }
    return drawn;
  }();
  return values;
}

template <class T>
void fill(void* data, std::size_t bytes) {
  const std::vector<T>& values = random_values<T>();
  const std::size_t block = values.size() * sizeof(T);
  MSMOE_CHECK(cudaMemcpy(data, values.data(), std::min(block, bytes), cudaMemcpyHostToDevice));
  auto* to = static_cast<std::byte*>(data);
  for (std::size_t filled = block; filled < bytes; filled *= 2)
    MSMOE_CHECK(cudaMemcpy(to + filled, data, std::min(filled, bytes - filled), cudaMemcpyDeviceToDevice));
}

}  // namespace

Arena::~Arena() {
  for (void* block : blocks_) cudaFree(block);
}

void* Arena::bytes(std::size_t count) {
  void* block = nullptr;
  MSMOE_CHECK(cudaMalloc(&block, std::max<std::size_t>(count, 1)));
  blocks_.push_back(block);
  taken_ += count;
  return block;
}

View Arena::take(std::int64_t rows, std::int64_t columns, Element element) {
  View view{nullptr, rows, columns, element};
  view.data = bytes(view.bytes());
  if (element == Element::kBf16) fill<std::uint16_t>(view.data, view.bytes());
  if (element == Element::kFp32) fill<std::uint32_t>(view.data, view.bytes());
  return view;
}

View Arena::take(const std::vector<std::int32_t>& values, std::int64_t rows) {
  View view{nullptr, rows, static_cast<std::int64_t>(values.size()) / rows, Element::kInt32};
  view.data = bytes(view.bytes());
  MSMOE_CHECK(cudaMemcpy(view.data, values.data(), view.bytes(), cudaMemcpyHostToDevice));
  return view;
}

}  // namespace msmoe::profiler
