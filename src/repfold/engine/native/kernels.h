// What a set of kernels offers to the executor: one table for every instruction set and precision.
//
// A convolution's output channels are cut into slices of at most max_vectors vectors; a slice's packed weights are
// read from front to back. One task is one slice of a stretch of rows (direct) or of a block of tiles (Winograd).
#pragma once

#include "loop.h"
#include "tensor.h"

namespace repfold {

struct Slice {
    Size first = 0;    // output channel, counted within the group
    Size vectors = 0;  // that the slice is wide
    Size offset = 0;   // of its weights, in elements
    Size panel = 0;    // elements of one Winograd point
};

/// Whether a vector holds several whole groups of so many channels, whose inputs lie where their outputs do. One group
/// that fills it is as well computed directly.
REPFOLD_INLINE bool holds_groups(Size lanes, Size in_channels, Size out_channels) {
    return in_channels == out_channels && in_channels < lanes && lanes % in_channels == 0;
}

/// One convolution with what is done to its result before it is written.
struct Convolution {
    Tensor in, out, residual;  // residual.data is nullptr when there is none
    Window window;
    Activation activation;
    Size groups = 1, in_channels = 0, out_channels = 0;  // channels within one group
    const float* bias = nullptr;                         // of all output channels, and readable one slice beyond
    const void* weights = nullptr;                       // packed for the algorithm
    const Slice* slices = nullptr;
    Size slice_count = 0;        // of one group
    Size group_stride = 0;       // of the weights, in elements
    const void* next = nullptr;  // weights that are needed soon: of the next slice, or of the next layer
    Size next_bytes = 0;

    /// Where the window over output pixel (y, x) begins.
    template <class Element>
    REPFOLD_INLINE const Element* window_at(Size image, Size y, Size x) const {
        return in.pixel<const Element>(image, y * window.stride.h - window.padding.h,
                                       x * window.stride.w - window.padding.w);
    }
    /// Whether pixels follow each other without a gap, of channels in steps of so many: a kernel row is one long tap.
    REPFOLD_INLINE bool has_long_taps(Size step) const {
        return groups == 1 && window.dilation.w == 1 && in.stride_c == divide_up(in_channels, step) * step;
    }
    /// Whether rows, and whole images, follow each other without a gap: a 1x1 convolution of an image without a border.
    REPFOLD_INLINE bool is_flat() const {
        return window.kernel.area() * window.stride.area() == 1 && in.border.h + in.border.w == 0;
    }
    /// Elements from there to where its tap (y, x) reads.
    REPFOLD_INLINE Size tap(Size y, Size x) const {
        return y * window.dilation.h * in.row() + x * window.dilation.w * in.stride_c;
    }
};

/// Winograd's tiles of outputs; tile t lies in image t / (rows * columns).
struct Tiling {
    Tile tile;
    Size rows = 0, columns = 0;               // of one image
    Size first = 0, count = 0;                // the tiles of the block
    void* transformed = nullptr;              // [point][count][channels]: the block's transformed input
    Size point_stride = 0;                    // elements between the points of `transformed`
    float* products = nullptr;                // [point][count][channels of one slice or of all]
    Size product_point = 0, product_row = 0;  // floats between points, between tiles
    const void* next = nullptr;  // weights that are needed after the last of the points, if not the following ones
};

/// How the rows (or columns) of a resized image are sums of those of the image: `count` of them each.
struct Taps {
    Size count = 0;
    const Size* index = nullptr;  // [output][count]
    const float* weight = nullptr;
};

/// Rows are those of the output, counted over all images, unless said.
struct Kernels {
    const char* name;
    Size lanes;              // floats in a vector
    Size max_vectors;        // width of a slice
    Size channel_step;       // input channels that one step of the inner loop takes: 2 for bf16
    Size element;            // bytes of a stored activation or weight
    double direct_products;  // that `direct` adds in a cycle where a unit of its own does; 0 where vectors do

    /// NCHW float32 images into `out`, without its border.
    void (*load_image)(const float* images, const Tensor& out, Range rows);
    /// Zero the border; its rows are counted.
    void (*clear_border)(const Tensor& tensor, Range rows);
    /// To NCHW float32.
    void (*store_vector)(const Tensor& in, float* out, Range rows);

    /// Output rows of each image, of one slice of one group.
    void (*direct)(const Convolution&, Range images, Range rows, Size group, Size slice);
    /// Vectors that hold whole groups; weights [kernel_h][kernel_w][inputs of a group][channels] in float32.
    void (*grouped)(const Convolution&, Range rows);
    /// Any convolution by the definition, weights float32 OIHW.
    void (*reference)(const Convolution&, Range rows);
    /// Whether a Winograd tile of this size and stride is implemented.
    bool (*has_tile)(const Tile& tile);
    void (*transform_input)(const Convolution&, const Tiling&, Range tiles);
    /// The products of these points of one slice, for the whole block.
    void (*multiply)(const Convolution&, const Tiling&, Range points, Size slice);
    /// Tiles of the block back to pixels, for slices the first of which is the first in `products`. False when a result
    /// was infinite or NaN.
    bool (*finish)(const Convolution&, const Tiling&, Range tiles, Range slices);

    void (*affine)(const Tensor& in, const Tensor& out, const float* scale, const float* shift, Activation, Range rows);
    void (*max_pool)(const Tensor& in, const Tensor& out, const Window&, Range rows);
    void (*average_pool)(const Tensor& in, const Tensor& out, const Window&, bool count_padding, Range rows);
    void (*adaptive_pool)(const Tensor& in, const Tensor& out, bool largest, Range rows);
    void (*resample)(const Tensor& in, const Tensor& out, const Taps& rows, const Taps& columns, Range range);
    void (*add)(const Tensor& a, const Tensor& b, float sign, Activation, const Tensor& out, Range rows);
    void (*scale)(const Tensor& a, const Tensor& gate, const Tensor& out, Range rows);
    void (*activate)(const Tensor& in, Activation, const Tensor& out, Range rows);
    /// A wide tensor as elements; rows of the border are counted.
    void (*narrow)(const Tensor& in, const Tensor& out, Range rows);
    /// `in` with its first pixel at `corner` and its first channel at `front`; elsewhere zeros.
    void (*pad)(const Tensor& in, const Tensor& out, HW corner, Size front, Range rows);
    /// Of each pixel of `out` the number of that in `in`.
    void (*gather)(const Tensor& in, const Tensor& out, const Size* pixels, Range rows);
    /// Of each channel of `out` the number of that in `in`.
    void (*select)(const Tensor& in, const Tensor& out, const Size* channels, Range rows);

    // General operators; their rows are those of the outer walk.
    void (*fill)(const Tensor& out, float value, Range rows);
    void (*move)(const Loop&, Range rows);
    void (*arithmetic)(const Loop&, Arithmetic::Kind, Range rows);
    void (*function)(const Loop&, const Function&, Range rows);
    void (*reduce)(const Loop&, const Reduction&, Range rows);
    void (*normalize)(const Loop&, const Normalization&, Range rows);
    void (*softmax)(const Loop&, const Softmax&, Range rows);
    void (*multiply_matrices)(const Loop&, Range rows);
};

/// The tables that this build holds; nullptr where the compiler could not build one.
const Kernels* scalar_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512_bf16_kernels();
const Kernels* amx_bf16_kernels();

}  // namespace repfold
