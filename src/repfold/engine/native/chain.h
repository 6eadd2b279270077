// Steps that are computed together, a band of rows after the other ("depth first"): what lies between them is never
// whole in memory, and stays in a core's own cache.
#pragma once

#include <vector>

#include "tensor.h"

namespace repfold {

/// What is computed of one step before the next: rows of its result, of a first piece perhaps none. Of those before
/// them the ones from `held` on are still needed; it may lie in the border.
struct Piece {
    size_t step = 0;
    Range rows;
    Size held = 0;
};

struct Chain {
    size_t first = 0, last = 0;                 // steps
    std::vector<std::vector<Piece>> stretches;  // of the last result's rows in one image: tasks that share nothing
    std::vector<Size> offset;                   // of each result but the last: where its held rows lie
    Size bytes = 0;                             // of all held rows, for one thread
    char* data = nullptr;                       // for all threads
};

}  // namespace repfold
