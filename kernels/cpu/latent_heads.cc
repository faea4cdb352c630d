#include <algorithm>

#include "kernels/cpu/operators.h"
#include "kernels/cpu/turn.h"

namespace msmoe::kernels::cpu {
namespace {

// Of one head, in columns. Both directions have them from their views: queries and keys are `together` wide.
struct Widths {
  std::int64_t plain, turned, together, value;
};

Widths check_widths(std::int64_t heads, double base, const View& queries, const View& values, const View& rotary,
                    const Check& check) {
  check.positive("heads", heads);
  check.that(base > 0, "base is not positive", "more than 0");
  check.multiple("the number of columns of queries", queries.columns, heads);
  check.multiple("the number of columns of values", values.columns, heads);
  check.multiple("the number of columns of the rotary key", rotary.columns, 2);
  const std::int64_t together = queries.columns / heads;
  check.value("the number of columns of the rotary key", rotary.columns, 0, together);
  return {together - rotary.columns, rotary.columns, together, values.columns / heads};
}

}  // namespace

void run(const LatentHeads& operation, const Check& check) {
  const auto& [queries, expanded, rotary, positions, query_out, key, value, heads, base] = operation;
  const std::int64_t tokens = queries.rows;
  check.matrix("queries", queries);
  check.matrix("rotary", rotary, tokens);
  check.matrix("value", value, tokens);
  const auto [plain, turned, together, value_width] = check_widths(heads, base, queries, value, rotary, check);
  check.matrix("expanded", expanded, tokens, heads * (plain + value_width));
  check.integers("positions", positions, 1, tokens);
  check.matrix("query_out", query_out, tokens, queries.columns);
  check.matrix("key", key, tokens, queries.columns);

  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t head = 0; head < heads; ++head) {
      const float* from = row(expanded, token) + head * (plain + value_width);
      std::copy_n(row(queries, token) + head * together, plain, row(query_out, token) + head * together);
      std::copy_n(from, plain, row(key, token) + head * together);
      std::copy_n(from + plain, value_width, row(value, token) + head * value_width);
    }
    for (std::int64_t pair = 0; pair < turned / 2; ++pair) {
      const Turn turn(positions.as<std::int32_t>()[token], turn_frequency(pair, turned, base), turned);
      const float* shared = row(rotary, token) + pair;
      for (std::int64_t head = 0; head < heads; ++head) {
        const std::int64_t at = head * together + plain + pair;
        const float* query = row(queries, token) + at;
        turn.apply(query[0], query[turned / 2], row(query_out, token) + at);
        turn.apply(shared[0], shared[turned / 2], row(key, token) + at);
      }
    }
  }
}

void run(const LatentHeadsBackward& operation, const Check& check) {
  const auto& [query_out_gradient, key_gradient, value_gradient, positions, queries_gradient, expanded_gradient,
               rotary_gradient, heads, base] = operation;
  const std::int64_t tokens = query_out_gradient.rows;
  check.matrix("query_out_gradient", query_out_gradient);
  check.matrix("rotary_gradient", rotary_gradient, tokens);
  check.matrix("value_gradient", value_gradient, tokens);
  const auto [plain, turned, together, value_width] =
      check_widths(heads, base, query_out_gradient, value_gradient, rotary_gradient, check);
  check.matrix("key_gradient", key_gradient, tokens, query_out_gradient.columns);
  check.integers("positions", positions, 1, tokens);
  check.matrix("queries_gradient", queries_gradient, tokens, query_out_gradient.columns);
  check.matrix("expanded_gradient", expanded_gradient, tokens, heads * (plain + value_width));

  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t head = 0; head < heads; ++head) {
      float* to = row(expanded_gradient, token) + head * (plain + value_width);
      std::copy_n(row(query_out_gradient, token) + head * together, plain,
                  row(queries_gradient, token) + head * together);
      std::copy_n(row(key_gradient, token) + head * together, plain, to);
      std::copy_n(row(value_gradient, token) + head * value_width, value_width, to + plain);
    }
    const double position = positions.as<std::int32_t>()[token];
    for (std::int64_t pair = 0; pair < turned / 2; ++pair) {
      const Turn back(-position, turn_frequency(pair, turned, base), turned);
      double first = 0, second = 0;
      for (std::int64_t head = 0; head < heads; ++head) {
        const std::int64_t at = head * together + plain + pair;
        const float *query = row(query_out_gradient, token) + at, *key = row(key_gradient, token) + at;
        back.apply(query[0], query[turned / 2], row(queries_gradient, token) + at);
        first += key[0];
        second += key[turned / 2];
      }
      back.apply(first, second, row(rotary_gradient, token) + pair);
    }
  }
}

}  // namespace msmoe::kernels::cpu
