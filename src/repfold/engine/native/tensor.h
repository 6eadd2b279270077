// Activations in memory, and the activation functions. Included by kernels of every instruction set: plain structs.
#pragma once

#include <cstddef>

namespace repfold {

/// N images of H x W pixels of C channels, channels innermost ("NHWC"), within a border of zeros.
/// `stride_c` values lie between neighbouring pixels; those beyond C are finite and never matter.
struct Tensor {
    void* data = nullptr;
    int n = 0, h = 0, w = 0, c = 0;
    int border_h = 0, border_w = 0;
    int stride_c = 0;
    bool wide = false;  // float32 values in a network that computes in bfloat16

    std::ptrdiff_t row() const { return static_cast<std::ptrdiff_t>(w + 2 * border_w) * stride_c; }
    std::ptrdiff_t image() const { return (h + 2 * border_h) * row(); }
    std::ptrdiff_t size() const { return n * image(); }

    /// Where pixel (y, x) of image i begins; y and x may lie in the border.
    std::ptrdiff_t at(int i, int y, int x) const {
        return i * image() + (y + border_h) * row() + static_cast<std::ptrdiff_t>(x + border_w) * stride_c;
    }
};

struct Activation {
    enum class Kind { none, relu, relu6, leaky_relu, hard_swish, hard_sigmoid, sigmoid, silu };

    Kind kind = Kind::none;
    float slope = 0;  // of leaky_relu
};

}  // namespace repfold
