// The loops of a general operator over tensors that have their places, and the sums of an interpolation.
#pragma once

#include "plan.h"

namespace repfold {

/// One loop; of a move, one for each input.
std::vector<Loop> loops_of(const General& general, const std::vector<Tensor>& inputs, const Tensor& out,
                           const Kernels& kernels, int threads);

/// Which rows and columns of the image each of the result is the sum of, as PyTorch interpolates.
void find_taps(const Resample& resample, Step& step);

}  // namespace repfold
