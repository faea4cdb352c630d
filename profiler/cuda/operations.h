// Cases of operators as operations of the kernels, on random operands.
#pragma once

#include "kernels/kernels.h"
#include "profiler/cuda/arena.h"
#include "profiler/point.h"

namespace msmoe::profiler {

// Tokens choose their experts at random. REQUIRES: a case of an operator (profiler/grids.h). Beside what is said there,
// permutations may have {experts}, combine_rows {weighted}, embeddings {entries}, and weight gradients of grouped GEMMs
// {accumulate: 0}.
kernels::Operation make_operation(const Case& of, Arena& arena);

}  // namespace msmoe::profiler
