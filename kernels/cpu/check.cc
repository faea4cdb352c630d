#include "kernels/cpu/check.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/kernels.h"

namespace msmoe::kernels::cpu {
namespace {

const char* text(Element element) {
  switch (element) {
    case Element::kFp32: return "fp32";
    case Element::kBf16: return "bf16";
    case Element::kE4m3: return "e4m3";
    case Element::kInt32: return "int32";
  }
  return "?";
}

std::string text(std::int64_t size) { return size == kAny ? "any" : fmt::format("{}", size); }

}  // namespace

void Check::fail(const std::string& given, const std::string& allowed) const {
  throw Unsupported(fmt::format("{}: {}, allowed is {}", operation_, given, allowed));
}

void Check::matrix(const char* name, const View& view, std::int64_t rows, std::int64_t columns,
                   std::initializer_list<Element> elements) const {
  const bool right_element = std::find(elements.begin(), elements.end(), view.element) != elements.end();
  const bool right_shape = (rows == kAny || view.rows == rows) && (columns == kAny || view.columns == columns);
  const bool present = view.data != nullptr || view.rows == 0 || view.columns == 0;
  if (right_element && right_shape && present && view.rows >= 0 && view.columns >= 0) return;
  std::string types;
  for (const Element element : elements) types += (types.empty() ? "" : " or ") + std::string(text(element));
  const std::string allowed = fmt::format("{} [{}, {}]", types, text(rows), text(columns));
  if (!present && view.data == nullptr) fail(fmt::format("{} is null", name), allowed);
  fail(fmt::format("{} is {} [{}, {}]", name, text(view.element), view.rows, view.columns), allowed);
}

void Check::value(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) const {
  if (value < low || value > high) fail(fmt::format("{} is {}", name, value), fmt::format("{} to {}", low, high));
}

void Check::positive(const char* name, std::int64_t value) const {
  if (value < 1) fail(fmt::format("{} is {}", name, value), "1 or more");
}

void Check::multiple(const char* name, std::int64_t value, std::int64_t divisor) const {
  positive("a divisor", divisor);
  if (value % divisor != 0) fail(fmt::format("{} is {}", name, value), fmt::format("a multiple of {}", divisor));
}

void Check::indices(const char* name, const View& view, std::int64_t low, std::int64_t high) const {
  for (std::int64_t i = 0; i < view.size(); ++i) {
    const std::int64_t index = view.as<std::int32_t>()[i];
    if (index < low || index > high)
      fail(fmt::format("{}[{}] is {}", name, i, index), fmt::format("{} to {}", low, high));
  }
}

void Check::offsets(const char* name, const View& view, std::int64_t last) const {
  const std::int32_t* offsets = view.as<std::int32_t>();
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < view.columns; ++i) {
    const std::int64_t most = i == 0 ? 0 : last;
    if (offsets[i] < before || offsets[i] > most)
      fail(fmt::format("{}[{}] is {}", name, i, offsets[i]), fmt::format("{} to {}", before, most));
    before = offsets[i];
  }
}

void Check::that(bool condition, const char* given, const char* allowed) const {
  if (!condition) fail(given, allowed);
}

}  // namespace msmoe::kernels::cpu
