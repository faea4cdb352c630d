// View: a matrix in memory that somebody else owns, on the host or on a GPU. Rows lie one after another without gaps.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

namespace msmoe::kernels {

enum class Element : std::uint8_t { kFp32, kBf16, kE4m3, kInt32 };

constexpr std::size_t size_of(Element element) {
  switch (element) {
    case Element::kFp32:
    case Element::kInt32: return 4;
    case Element::kBf16: return 2;
    case Element::kE4m3: return 1;
  }
  return 0;
}

struct View {
  void* data = nullptr;
  std::int64_t rows = 0, columns = 0;
  Element element = Element::kFp32;

  // Data may be null where an operation says that it is optional, and where there are no elements.
  explicit operator bool() const { return data != nullptr; }
  std::int64_t size() const { return rows * columns; }
  std::size_t bytes() const { return static_cast<std::size_t>(size()) * size_of(element); }

  template <class T>
  T* as() const {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
    assert(sizeof(T) == size_of(element));
    return static_cast<T*>(data);
  }
};

}  // namespace msmoe::kernels
