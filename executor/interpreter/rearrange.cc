#include "executor/interpreter/rearrange.h"

namespace msmoe::executor {

using kernels::Element;
using kernels::View;

Indices::Indices(const Call& call, const std::vector<std::int32_t>& numbers, std::int64_t rows, std::int64_t columns)
    : buffer_(call.rank.pool.acquire(numbers.size() * sizeof(std::int32_t))),
      view_{buffer_.get(), rows, columns, Element::kInt32} {
  call.rank.backend.from_host(buffer_.get(), numbers.data(), numbers.size() * sizeof(std::int32_t));
}

Scratch::Scratch(const Call& call, std::int64_t rows, std::int64_t columns)
    : buffer_(call.rank.pool.acquire(static_cast<std::size_t>(rows * columns) * size_of(call.rank.backend.element()))),
      view_(call.matrix(buffer_.get(), rows, columns)) {}

void heads_to_ranks(const Call& call, const HeadSplit& split, const View& in, const View& out) {
  const std::int64_t tokens = in.rows;
  std::vector<std::int32_t> source;
  for (int rank = 0; rank < split.ranks; ++rank)
    for (std::int64_t token = 0; token < tokens; ++token)
      for (std::int64_t head = 0; head < split.heads_here(); ++head)
        source.push_back(static_cast<std::int32_t>(token * split.heads + rank * split.heads / split.ranks + head));
  const auto rows = static_cast<std::int64_t>(source.size());
  const Indices indices(call, source, 1, rows);
  call.run(kernels::GatherRows{.in = reshape(in, tokens * split.heads, split.width),
                               .source_of = indices.view(),
                               .weights = {},
                               .out = reshape(out, rows, split.width)});
}

void heads_from_ranks(const Call& call, const HeadSplit& split, const View& in, const View& out) {
  const std::int64_t tokens = out.rows, here = split.heads_here();
  const std::int64_t copies = split.heads >= split.ranks ? 1 : split.ranks / split.heads;
  std::vector<std::int32_t> rows_of;
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t head = 0; head < split.heads; ++head) {
      for (std::int64_t copy = 0; copy < copies; ++copy) {
        const std::int64_t rank = copies > 1 ? head * copies + copy : head / here;
        const std::int64_t place = copies > 1 ? 0 : head % here;
        rows_of.push_back(static_cast<std::int32_t>((rank * tokens + token) * here + place));
      }
    }
  }
  const Indices indices(call, rows_of, tokens * split.heads, copies);
  call.run(kernels::CombineRows{.in = reshape(in, split.ranks * tokens * here, split.width),
                                .row_of = indices.view(),
                                .weights = {},
                                .out = reshape(out, tokens * split.heads, split.width)});
}

}  // namespace msmoe::executor
