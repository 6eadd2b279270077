// Operators on tensors of any layout. Each has the views of its inputs, and that of its result.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "loop.h"
#include "view.h"

namespace repfold {

/// Values that the network holds: a tensor of the file, or where that has no name numbers that go up by a step.
struct Constant {
    static constexpr const char* name = "constant";
    std::string tensor;
    double number = 0, step = 0;
};

/// Copies each input to its part of the result: concatenations, cuts, paddings, changes of layout.
struct Move {
    static constexpr const char* name = "move";
    bool fills = false;  // the rest of the result, with `background`
    float background = 0;
};

/// The outer loop goes over the rows of the first input, the inner over columns of the second, then over what is
/// summed.
struct MatrixProduct {
    static constexpr const char* name = "matrix product";
};

struct General {
    static constexpr const char* name = "general operator";
    std::variant<Constant, Move, Arithmetic, Function, Reduction, Normalization, Softmax, MatrixProduct> what;
    std::vector<View> from;  // of each input
    std::vector<View> to;    // of the result; of a move, the part that each input goes to
    size_t inner = 0;        // so many last axes of these are the inner loop's
};

}  // namespace repfold
