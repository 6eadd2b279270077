// Run a chain of steps in bands of rows.
#pragma once

#include "plan.h"

namespace repfold {

/// One of the chain's stretches, of one image, by one thread. element: bytes of a value that is not wide. seconds:
/// where it is given, the time that each of the plan's steps took is added there.
void compute_stretch(const Plan& plan, const Chain& chain, size_t stretch, Size image, int thread, Size element,
                     double* seconds);

}  // namespace repfold
