#include "kernels/cuda/requirements.h"

#include <fmt/format.h>

#include "kernels/kernels.h"

namespace msmoe::kernels {

namespace {

constexpr std::size_t kTmaBytes = 16;

}  // namespace

void require(bool condition, const char* operation, const char* what) {
  if (!condition) throw Unsupported(fmt::format("{}: {}", operation, what));
}

void require_matrix(const View& view, std::int64_t rows, std::int64_t columns, Element element, const char* operation,
                    const char* name) {
  if (view.rows != rows || view.columns != columns) {
    throw Unsupported(fmt::format("{}: {} is {} x {} and should be {} x {}", operation, name, view.rows, view.columns,
                                  rows, columns));
  }
  if (view.element != element) throw Unsupported(fmt::format("{}: {} has another element type", operation, name));
  if (view.size() == 0) return;
  if (!view) throw Unsupported(fmt::format("{}: {} is missing", operation, name));
  const bool aligned = reinterpret_cast<std::uintptr_t>(view.data) % kTmaBytes == 0 &&
                       static_cast<std::size_t>(columns) * size_of(element) % kTmaBytes == 0;
  if (!aligned) {
    throw Unsupported(
        fmt::format("{}: rows of {} should start at, and take, multiples of {} bytes", operation, name, kTmaBytes));
  }
}

}  // namespace msmoe::kernels
