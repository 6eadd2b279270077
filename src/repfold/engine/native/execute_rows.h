// Compute rows of a step's result.
#pragma once

#include "plan.h"

namespace repfold {

/// The convolution of these operands with these weights of it.
Convolution convolution(const Conv& conv, const Operands& of, const PackedWeights& weights);

/// Rows of the step's result, counted over all images; of one image where it is a direct convolution. The step is no
/// general operator, and not computed by Winograd's algorithm.
void compute_rows(const Step& step, const Operands& of, Range rows);

}  // namespace repfold
