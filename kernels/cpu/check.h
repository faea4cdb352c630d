// What an operation asks of its views. Each member throws Unsupported with one sentence: the operation, what it was
// given, what is allowed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/view.h"

namespace msmoe::kernels::cpu {

constexpr std::int64_t kAny = -1;  // as many rows or columns as there are

class Check {
 public:
  explicit Check(const char* operation) : operation_(operation) {}

  void matrix(const char* name, const View& view, std::int64_t rows = kAny, std::int64_t columns = kAny,
              std::initializer_list<Element> elements = {Element::kFp32}) const;
  void integers(const char* name, const View& view, std::int64_t rows, std::int64_t columns) const {
    matrix(name, view, rows, columns, {Element::kInt32});
  }
  void value(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) const;
  void positive(const char* name, std::int64_t value) const;
  void multiple(const char* name, std::int64_t value, std::int64_t divisor) const;
  // All elements of an int32 view lie in [low, high].
  void indices(const char* name, const View& view, std::int64_t low, std::int64_t high) const;
  // An int32 [1, n + 1] view starts at 0, never falls and ends at `last` or before.
  void offsets(const char* name, const View& view, std::int64_t last) const;
  void that(bool condition, const char* given, const char* allowed) const;

 private:
  [[noreturn]] void fail(const std::string& given, const std::string& allowed) const;

  const char* operation_;
};

}  // namespace msmoe::kernels::cpu
