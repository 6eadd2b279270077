// Shapes, windows, activations in memory, and the activation functions. Included by kernels of every instruction set:
// plain structs, whose functions are inlined.
#pragma once

#include <cstdint>

#include "unroll.h"

namespace repfold {

/// Of images, channels, strides and tasks. Plans are bounded (see plan.cpp), so that no product of sizes overflows.
using Size = std::int64_t;

/// Of a window, a tile, a stride, ...
struct HW {
    Size h = 0, w = 0;

    REPFOLD_INLINE Size area() const { return h * w; }
};

/// A tile of outputs that Winograd's minimal filtering of a 3x3 convolution of this stride computes together. It takes
/// as many products as it reads inputs.
struct Tile : HW {
    Size stride = 1;

    REPFOLD_INLINE HW inputs() const { return {stride * (h - 1) + 3, stride * (w - 1) + 3}; }
    REPFOLD_INLINE Size points() const { return inputs().area(); }
};

/// N images of H x W pixels of C channels.
struct Shape {
    Size n = 0, c = 0, h = 0, w = 0;
};

REPFOLD_INLINE bool operator==(const Shape& a, const Shape& b) {
    return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w;
}

/// first, first + 1, ..., last - 1
struct Range {
    Size first = 0, last = 0;

    REPFOLD_INLINE Size size() const { return last - first; }
};

/// Part i of `parts` nearly equal ones of 0..all-1.
REPFOLD_INLINE Range part(Size all, Size i, Size parts) { return {all * i / parts, all * (i + 1) / parts}; }

REPFOLD_INLINE constexpr Size divide_up(Size a, Size b) { return (a + b - 1) / b; }

/// Channels innermost ("NHWC"), the image within a border of zeros. `stride_c` values lie between neighbouring pixels;
/// those beyond C are finite and never matter.
struct Tensor : Shape {
    void* data = nullptr;
    HW border{};
    Size stride_c = 0;
    bool wide = false;  // float32 values in a network that computes in bfloat16

    /// Rows of all images, with those of the border.
    REPFOLD_INLINE Size bordered_rows() const { return n * (h + 2 * border.h); }
    REPFOLD_INLINE Size row() const { return (w + 2 * border.w) * stride_c; }
    REPFOLD_INLINE Size image() const { return (h + 2 * border.h) * row(); }
    REPFOLD_INLINE Size size() const { return n * image(); }

    /// Pixel (y, x) of image i, which may lie in the border.
    template <class Element>
    REPFOLD_INLINE Element* pixel(Size i, Size y, Size x) const {
        return static_cast<Element*>(data) + i * image() + (y + border.h) * row() + (x + border.w) * stride_c;
    }
};

/// body(image, y, x) of every pixel of these rows, counted over all images.
template <class Body>
void each_pixel(const Tensor& t, Range rows, Body body) {
    for (Size row = rows.first; row < rows.last; ++row) {
        const Size image = row / t.h, y = row % t.h;
        for (Size x = 0; x < t.w; ++x) body(image, y, x);
    }
}

/// What a convolution or a pooling slides over the image.
struct Window {
    HW kernel{1, 1}, stride{1, 1}, padding{}, dilation{1, 1};
};

struct Activation {
    static constexpr const char* name = "activation";
    enum class Kind { none, relu, relu6, leaky_relu, hard_swish, hard_sigmoid, sigmoid, silu, gelu, gelu_tanh };

    Kind kind = Kind::none;
    float slope = 0;  // of leaky_relu
};

}  // namespace repfold
