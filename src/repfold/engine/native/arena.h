// One block of memory for what a plan touches at different times.
#pragma once

#include <vector>

#include "tensor.h"

namespace repfold {

/// A piece of the arena, by the steps that touch it.
struct Life {
    Size first = 0, last = -1;
    Size bytes = 0, offset = 0;
};

/// Offsets such that pieces alive at the same time do not overlap. Returns the bytes of the whole.
Size lay_out(std::vector<Life>& lives);

}  // namespace repfold
