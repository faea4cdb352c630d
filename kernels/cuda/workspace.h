// What kernels of ours need beside their operands, by operation; operators.h has the sum of it.
#pragma once

#include "kernels/kernels.h"

namespace msmoe::kernels {

unsigned norm_backward_blocks(std::int64_t rows, int sms);  // each leaves a row of partial sums
std::size_t norm_blocks(int sms);                           // each leaves a partial sum of squares
std::size_t router_workspace_bytes(const Router& operation, int sms);
std::size_t sort_workspace_bytes(const SortByExpert& operation);
std::size_t sort_workspace_bytes(const SortArrivals& operation);

}  // namespace msmoe::kernels
