// The shapes of results.
#pragma once

#include "network.h"

namespace repfold {

/// The shape of an operation's result (n, c, h, w) from those of its operands; `second` may be nullptr.
/// Throws Error, naming the layer, when they do not fit together or nothing is left of the image.
Tensor result_shape(const Op& op, const Tensor& in, const Tensor* second);

}  // namespace repfold
