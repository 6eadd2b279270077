// Sizes in a model file's graph: numbers, or expressions of the sizes of its input.
#pragma once

#include "json.h"
#include "tensor.h"

namespace repfold {

/// The number that `size` is for these images: a number, or [operation, operand, ...] with ["size", 0, axis] as leaves;
/// a condition is 1 or 0. Throws Error for anything else.
double evaluate(const Json& size, const Shape& images);

}  // namespace repfold
