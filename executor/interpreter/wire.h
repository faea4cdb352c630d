// Wire: the exchanges of activations and their gradients in a plan's wire format.
//
//   fp32   as they are
//   bf16   rounded to nearest before they are sent; sums are fp32 at the receiver
//   fp8    E4M3 with one scale for 128 values: of a token forward, of a channel backward (MegaScale-MoE, arXiv
//          2505.11432, section 5); sums likewise
//
// A matrix is cut between the ranks of a group by rows: rows_of[r] is rank r's number of them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/plan.h"
#include "executor/backend/backend.h"
#include "executor/communication/communicator.h"
#include "executor/parameters/buffer_pool.h"
#include "kernels/training.h"

namespace msmoe::executor {

class Wire {
 public:
  Wire(WireFormat format, Backend& backend, BufferPool& pool) : format_(format), backend_(backend), pool_(pool) {}

  using Rows = std::span<const std::int64_t>;
  // in: [rows_of[me], width] -> out: [sum of rows_of, width]
  void all_gather(Communicator& group, const kernels::View& in, const kernels::View& out, Rows rows_of,
                  kernels::ScaleBlocks blocks);
  // in: [sum of rows_of, width], summed over the ranks -> out: [rows_of[me], width]
  void reduce_scatter(Communicator& group, const kernels::View& in, const kernels::View& out, Rows rows_of,
                      kernels::ScaleBlocks blocks);
  // Rows [of rank 0 first] go to each rank, and come from each.
  void all_to_all(Communicator& group, const kernels::View& in, Rows rows_to, const kernels::View& out, Rows rows_from,
                  kernels::ScaleBlocks blocks);

 private:
  void convert_and_exchange(const kernels::View& in, Rows parts_in, const kernels::View& out, Rows parts_out,
                            kernels::ScaleBlocks blocks,
                            const std::function<void(const void* in, std::span<const std::size_t> bytes_in, void* out,
                                                     std::span<const std::size_t> bytes_out)>& move);

  WireFormat format_;
  Backend& backend_;
  BufferPool& pool_;
};

}  // namespace msmoe::executor
