// Sizes in a model file's graph: numbers, or expressions of the sizes of its input.
#pragma once

#include "json.h"

namespace repfold {

/// The sizes of the images of one call.
struct InputSize {
    int n = 0, c = 0, h = 0, w = 0;

    bool operator==(const InputSize& other) const {
        return n == other.n && c == other.c && h == other.h && w == other.w;
    }
};

/// The number that `size` is for this input: a number, or [operation, operand, ...] with ["size", 0, axis] as leaves;
/// a condition is 1 or 0. Throws Error for anything else.
double evaluate(const Json& size, const InputSize& input);

}  // namespace repfold
