// What a set of kernels offers to the executor: one table for every instruction set and precision.
//
// A convolution's output channels are cut into slices of at most max_vectors vectors; a slice's packed weights are
// read from front to back. One task is one slice of a stretch of rows (direct) or of a block of tiles (Winograd).
#pragma once

#include <cstddef>

#include "tensor.h"

namespace repfold {

struct Slice {
    int first = 0;    // output channel, counted within the group
    int vectors = 0;  // that the slice is wide
    std::ptrdiff_t offset = 0;  // of its weights, in elements
    std::ptrdiff_t panel = 0;   // elements of one Winograd point
};

/// One convolution with what is done to its result before it is written.
struct Convolution {
    Tensor in, out, residual;  // residual.data is nullptr when there is none
    Activation activation;
    const float* bias = nullptr;  // of all output channels, and readable one vector beyond
    int groups = 1, in_channels = 0, out_channels = 0;  // channels within one group
    int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, padding_h = 0, padding_w = 0;
    int dilation_h = 1, dilation_w = 1;
    const void* weights = nullptr;  // packed for the algorithm
    const Slice* slices = nullptr;
    int slice_count = 0;  // of one group
    std::ptrdiff_t group_stride = 0;  // of the weights, in elements
};

/// Tiles of m_h x m_w outputs; tile t lies in image t / (rows * columns).
struct Tiling {
    int m_h = 0, m_w = 0;
    int rows = 0, columns = 0;   // of one image
    int first = 0, count = 0;    // the tiles of the block
    void* transformed = nullptr; // [point][count][channels]: the block's transformed input
    std::ptrdiff_t point_stride = 0;  // elements between the points of `transformed`
    float* products = nullptr;   // [point][count][channels of one slice or of all]
    std::ptrdiff_t product_point = 0, product_row = 0;  // floats between points, between tiles
    const void* next = nullptr;  // weights that are needed after the last of the points, if not the following ones
};

struct Kernels {
    const char* name;
    int lanes;           // floats in a vector
    int max_vectors;     // width of a slice
    int channel_step;    // input channels that one step of the inner loop takes: 2 for bf16
    size_t element;      // bytes of a stored activation or weight

    /// NCHW float32 images first..last into `out`, its border included.
    void (*load_image)(const float* images, const Tensor& out, int first, int last);
    /// Zero the border of rows first..last, counted over all images and border rows.
    void (*clear_border)(const Tensor& tensor, int first, int last);
    /// Rows first..last of the output, counted over all images; a vector to NCHW float32.
    void (*store_vector)(const Tensor& in, float* out, int first, int last);

    /// Output rows first..last of the images image_first..image_last, of one slice of one group.
    void (*direct)(const Convolution&, int image_first, int image_last, int first, int last, int group, int slice);
    /// One filter a channel, weights [kernel_h][kernel_w][channels] in float32; rows first..last of all images.
    void (*depthwise)(const Convolution&, int first, int last);
    /// Any convolution by the definition, weights float32 OIHW; rows first..last of all images.
    void (*reference)(const Convolution&, int first, int last);
    /// Whether a Winograd tile of this size is implemented.
    bool (*has_tile)(int m_h, int m_w);
    void (*transform_input)(const Convolution&, const Tiling&, int first, int last);
    /// The products of points first..last of one slice, for the whole block.
    void (*multiply)(const Convolution&, const Tiling&, int first, int last, int slice);
    /// Tiles first..last of the block back to pixels, for slices slice_first..slice_last, the first of which is the first
    /// in `products`. False when a result was infinite or NaN.
    bool (*finish)(const Convolution&, const Tiling&, int first, int last, int slice_first, int slice_last);

    /// The plain operations on rows first..last of the output, counted over all images.
    void (*affine)(const Tensor& in, const Tensor& out, const float* scale, const float* shift, int first, int last);
    void (*max_pool)(const Convolution&, int first, int last);
    void (*average_pool)(const Convolution&, bool count_padding, int first, int last);
    void (*adaptive_pool)(const Tensor& in, const Tensor& out, int first, int last);
    void (*add)(const Tensor& a, const Tensor& b, float sign, Activation, const Tensor& out, int first, int last);
    void (*scale)(const Tensor& a, const Tensor& gate, const Tensor& out, int first, int last);
    void (*activate)(const Tensor& in, Activation, const Tensor& out, int first, int last);
    /// Rows first..last, counted over all images and border rows, of a wide tensor as elements.
    void (*narrow)(const Tensor& in, const Tensor& out, int first, int last);
    void (*flatten)(const Tensor& in, const Tensor& out, int first, int last);
    /// `in` with its first pixel at (top, left) and its first channel at `front`; elsewhere zeros.
    void (*pad)(const Tensor& in, const Tensor& out, int top, int left, int front, int first, int last);
};

/// The tables that this build holds; nullptr where the compiler could not build one.
const Kernels* scalar_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512_bf16_kernels();

}  // namespace repfold
