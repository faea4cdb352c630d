#include "executor/interpreter/wire.h"

#include <numeric>

#include "kernels/tokens.h"

namespace msmoe::executor {
namespace {

using kernels::Element;
using kernels::ScaleBlocks;
using kernels::View;

constexpr std::int64_t kScaleBlock = 128;

std::int64_t blocks_of(std::int64_t count) { return (count + kScaleBlock - 1) / kScaleBlock; }

View rows_of_view(const View& view, std::int64_t first, std::int64_t rows) {
  const std::size_t row_bytes = static_cast<std::size_t>(view.columns) * size_of(view.element);
  return {static_cast<std::byte*>(view.data) + static_cast<std::size_t>(first) * row_bytes, rows, view.columns,
          view.element};
}

// What one part of a matrix becomes in E4M3: its values, then its scales.
struct Fp8Part {
  View values, scales;
  std::size_t bytes = 0;
};
Fp8Part fp8_part(std::byte* data, std::int64_t rows, std::int64_t columns, ScaleBlocks blocks) {
  const std::int64_t values = rows * columns;
  const std::int64_t padded = (values + 3) / 4 * 4;  // scales are words
  const View scales{data + padded, blocks == ScaleBlocks::kToken ? rows : blocks_of(rows),
                    blocks == ScaleBlocks::kToken ? blocks_of(columns) : columns, Element::kFp32};
  return {.values = {data, rows, columns, Element::kE4m3},
          .scales = scales,
          .bytes = static_cast<std::size_t>(padded) + scales.bytes()};
}

}  // namespace

void Wire::convert_and_exchange(
    const View& in, Rows parts_in, const View& out, Rows parts_out, ScaleBlocks blocks,
    const std::function<void(const void*, std::span<const std::size_t>, void*, std::span<const std::size_t>)>& move) {
  const auto columns = in.columns;
  const auto sizes_of = [&](Rows parts) {
    std::vector<std::size_t> sizes;
    for (const std::int64_t rows : parts) {
      sizes.push_back(format_ == WireFormat::kFp8
                          ? fp8_part(nullptr, rows, columns, blocks).bytes
                          : static_cast<std::size_t>(rows * columns) *
                                (format_ == WireFormat::kBf16 ? sizeof(std::uint16_t) : size_of(in.element)));
    }
    return sizes;
  };
  const std::vector<std::size_t> bytes_in = sizes_of(parts_in), bytes_out = sizes_of(parts_out);
  const bool converts = format_ == WireFormat::kFp8 || (format_ == WireFormat::kBf16 && in.element == Element::kFp32);
  if (!converts) {
    backend_.finish(Stream::kCompute);
    move(in.data, bytes_in, out.data, bytes_out);
    return;
  }
  const auto total = [](const std::vector<std::size_t>& sizes) {
    return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
  };
  const BufferPool::Buffer sent = pool_.acquire(total(bytes_in)), received = pool_.acquire(total(bytes_out));
  const auto convert = [&](const View& matrix, Rows parts, std::byte* wire, bool encodes) {
    std::int64_t row = 0;
    for (const std::int64_t rows : parts) {
      const View part = rows_of_view(matrix, row, rows);
      row += rows;
      if (format_ == WireFormat::kBf16) {
        const View rounded{wire, rows, columns, Element::kBf16};
        if (rows > 0) {
          if (encodes)
            backend_.run(kernels::Cast{.in = part, .out = rounded}, Stream::kCompute);
          else
            backend_.run(kernels::Cast{.in = rounded, .out = part}, Stream::kCompute);
        }
        wire += rounded.bytes();
        continue;
      }
      const Fp8Part fp8 = fp8_part(wire, rows, columns, blocks);
      if (rows > 0) {
        if (encodes)
          backend_.run(kernels::Quantize{.in = part, .out = fp8.values, .scales = fp8.scales, .blocks = blocks},
                       Stream::kCompute);
        else
          backend_.run(kernels::Dequantize{.in = fp8.values, .scales = fp8.scales, .out = part, .blocks = blocks},
                       Stream::kCompute);
      }
      wire += fp8.bytes;
    }
  };
  convert(in, parts_in, sent.get(), true);
  backend_.finish(Stream::kCompute);
  move(sent.get(), bytes_in, received.get(), bytes_out);
  convert(out, parts_out, received.get(), false);
}

void Wire::all_gather(Communicator& group, const View& in, const View& out, Rows rows_of, ScaleBlocks blocks) {
  const std::int64_t mine = rows_of[static_cast<std::size_t>(group.rank())];
  convert_and_exchange(in, Rows(&mine, 1), out, rows_of, blocks,
                       [&](const void* sent, std::span<const std::size_t>, void* received,
                           std::span<const std::size_t> bytes) { group.all_gather(sent, received, bytes); });
}

void Wire::all_to_all(Communicator& group, const View& in, Rows rows_to, const View& out, Rows rows_from,
                      ScaleBlocks blocks) {
  convert_and_exchange(
      in, rows_to, out, rows_from, blocks,
      [&](const void* sent, std::span<const std::size_t> bytes_to, void* received,
          std::span<const std::size_t> bytes_from) { group.all_to_all(sent, bytes_to, received, bytes_from); });
}

void Wire::reduce_scatter(Communicator& group, const View& in, const View& out, Rows rows_of, ScaleBlocks blocks) {
  const std::int64_t mine = rows_of[static_cast<std::size_t>(group.rank())];
  if (format_ == WireFormat::kFp32 && in.element == Element::kFp32) {
    std::vector<std::size_t> counts;
    for (const std::int64_t rows : rows_of) counts.push_back(static_cast<std::size_t>(rows * in.columns));
    backend_.finish(Stream::kCompute);
    group.reduce_scatter(in.as<float>(), out.as<float>(), counts);
    return;
  }
  // Everybody's part for this rank, then their sum.
  const std::vector<std::int64_t> rows_from(static_cast<std::size_t>(group.size()), mine);
  const View parts{nullptr, mine * group.size(), in.columns, in.element};
  const BufferPool::Buffer buffer = pool_.acquire(parts.bytes());
  const View received{buffer.get(), parts.rows, parts.columns, parts.element};
  all_to_all(group, in, rows_of, received, rows_from, blocks);
  if (mine == 0) return;
  backend_.copy(out.data, received.data, out.bytes(), Stream::kCompute);
  for (int rank = 1; rank < group.size(); ++rank)
    backend_.run(kernels::Add{.a = out, .b = rows_of_view(received, rank * mine, mine), .out = out}, Stream::kCompute);
}

}  // namespace msmoe::executor
