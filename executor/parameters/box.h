// Box: a rectangle of a matrix. Vectors of n are matrices [1, n], so that every tensor has one kind of slice.
#pragma once

#include <algorithm>
#include <cstdint>

namespace msmoe::executor {

struct Box {
  std::int64_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;

  std::int64_t rows() const { return row_end - row_begin; }
  std::int64_t columns() const { return column_end - column_begin; }
  std::int64_t size() const { return rows() * columns(); }
  bool contains(const Box& other) const {
    return row_begin <= other.row_begin && other.row_end <= row_end && column_begin <= other.column_begin &&
           other.column_end <= column_end;
  }
  bool operator==(const Box&) const = default;
};

// The elements [begin, end) of a box in row-major order, row by row: visit(row, column_begin, column_end, at), rows and
// columns those of the whole matrix, `at` the first one's place behind `begin`. REQUIRES 0 <= begin <= end <= size.
template <class Visit>
void for_each_row(const Box& box, std::int64_t begin, std::int64_t end, Visit visit) {
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t row = at / box.columns(), column = at % box.columns();
    const std::int64_t count = std::min(box.columns() - column, end - at);
    visit(box.row_begin + row, box.column_begin + column, box.column_begin + column + count, at - begin);
    at += count;
  }
}

}  // namespace msmoe::executor
