// The memory that a plan may take, so that a guest asks before it takes what it would be killed for.
#pragma once

#include <cstddef>

#include "error.h"

namespace repfold {

/// A plan does not fit beside what the process holds; it may when other plans are dropped.
struct NoRoom : Error {
    using Error::Error;
};

/// Throws NoRoom, with the figures, when `bytes` beside what the process holds are more than `allowed`; 0 stands for
/// the machine's memory. Many systems grant more than there is, and kill who uses it.
void check_room(size_t bytes, size_t allowed);

}  // namespace repfold
