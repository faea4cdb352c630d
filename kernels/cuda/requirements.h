// What every kernel asks of its operands. Each throws Unsupported with one sentence.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace msmoe::kernels {

void require(bool condition, const char* operation, const char* what);

// A matrix of this shape and type, in rows that TMA and accesses of 16 bytes can address.
void require_matrix(const View& view, std::int64_t rows, std::int64_t columns, Element element, const char* operation,
                    const char* name);

}  // namespace msmoe::kernels
