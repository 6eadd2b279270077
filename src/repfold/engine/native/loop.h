// Nested loops over tensors of any layout, as general operators run them; made from views by general_plan.cpp.
#pragma once

#include "tensor.h"

namespace repfold {

/// For every place along the axes, the last the fastest: where each operand is read or written.
struct Walk {
    static constexpr int most_axes = 16, most_operands = 4;

    int axes = 0;
    Size size[most_axes] = {};
    Size stride[most_operands][most_axes] = {};  // in elements

    /// Places along all axes but the last, and along the last.
    REPFOLD_INLINE Size rows() const {
        Size count = 1;
        for (int axis = 0; axis + 1 < axes; ++axis) count *= size[axis];
        return count;
    }
    REPFOLD_INLINE Size row() const { return axes ? size[axes - 1] : 1; }
    REPFOLD_INLINE Size step(int operand) const { return axes ? stride[operand][axes - 1] : 0; }
    REPFOLD_INLINE Size places() const { return rows() * row(); }
};

/// One loop, or one within the other, over the operands: what is written, then what is read.
struct Loop {
    Walk outer, inner;  // inner: what a result is computed of
    void* data[Walk::most_operands] = {};
};

/// Elements from each operand's start.
struct Places {
    Size at[Walk::most_operands] = {};
};

/// body(where the row begins) for rows first..last-1 of the walk.
template <class Body>
void each_row(const Walk& walk, Range rows, Body body) {
    Size index[Walk::most_axes] = {};
    Places places;
    Size left = rows.first;
    for (int axis = walk.axes - 2; axis >= 0; --axis) {
        index[axis] = left % walk.size[axis];
        left /= walk.size[axis];
        for (int o = 0; o < Walk::most_operands; ++o) places.at[o] += index[axis] * walk.stride[o][axis];
    }
    for (Size row = rows.first; row < rows.last; ++row) {
        body(places);
        for (int axis = walk.axes - 2; axis >= 0; --axis) {
            const bool wraps = ++index[axis] == walk.size[axis];
            const Size steps = wraps ? 1 - walk.size[axis] : 1;
            for (int o = 0; o < Walk::most_operands; ++o) places.at[o] += steps * walk.stride[o][axis];
            if (!wraps) break;
            index[axis] = 0;
        }
    }
}

/// The same for every row.
template <class Body>
void each_row(const Walk& walk, Body body) {
    each_row(walk, {0, walk.rows()}, body);
}

struct Arithmetic {
    static constexpr const char* name = "arithmetic";
    /// prelu: a, or where that is negative a * b. What holds is 1, and what does not 0. kept_where, kept_unless: a
    /// where b is not 0, or where it is; 0 elsewhere.
    enum class Kind {
        add,
        sub,
        mul,
        div,
        floor_div,
        maximum,
        minimum,
        power,
        prelu,
        less,
        less_or_equal,
        equal,
        not_equal,
        kept_where,
        kept_unless
    };

    Kind kind = Kind::add;
};

/// A function of single values, of up to two constants.
struct Function {
    static constexpr const char* name = "function";
    enum class Kind {
        tanh,
        mish,
        elu,
        softplus,
        exp,
        log,
        sqrt,
        rsqrt,
        reciprocal,
        negative,
        absolute,
        clamp,
        power,
        erf,
        log_sigmoid,
        sine,
        cosine,
        floor,
    };

    Kind kind = Kind::tanh;
    float a = 0, b = 0;
};

/// Of the inner loop's values, one result.
struct Reduction {
    static constexpr const char* name = "reduction";
    enum class Kind { sum, mean, maximum, minimum, variance, norm };

    Kind kind = Kind::sum;
    float correction = 0;  // of a variance: divides by this much less than the count
};

/// (x - mean) / sqrt(variance + epsilon) over the inner loop, times the second input, plus the third, where given.
struct Normalization {
    static constexpr const char* name = "normalization";
    float epsilon = 0;
};

struct Softmax {
    static constexpr const char* name = "softmax";
    bool logarithm = false;
};

}  // namespace repfold
