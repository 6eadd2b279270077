// Pooling by its definition; see plain_kernels.h for `Target`.
#pragma once

#include <algorithm>
#include <limits>

#include "plain_kernels.h"

namespace repfold {

template <class Target>
struct PlainPooling {
    using Element = typename Target::Element;

    static constexpr int stretch = 64;  // channels whose sums are held at once

    /// The part of a window that lies inside the image.
    struct Range {
        int first, last;
    };

    static Range inside(int out, int stride, int padding, int kernel, int in) {
        const int start = out * stride - padding;
        return {std::max(start, 0), std::min(start + kernel, in)};
    }

    static void max_pool(const Convolution& pool, int first, int last) {
        const Tensor &in = pool.in, &out = pool.out;
        for (int row = first; row < last; ++row)
            for (int x = 0; x < out.w; ++x)
                for (int c = 0; c < out.c; c += stretch) max_of_window(pool, row / out.h, row % out.h, x, c, std::min(stretch, in.c - c));
    }

    static void average_pool(const Convolution& pool, bool count_padding, int first, int last) {
        const Tensor &in = pool.in, &out = pool.out;
        for (int row = first; row < last; ++row)
            for (int x = 0; x < out.w; ++x) {
                const int y = row % out.h;
                const Range rows = inside(y, pool.stride_h, pool.padding_h, pool.kernel_h, in.h);
                const Range columns = inside(x, pool.stride_w, pool.padding_w, pool.kernel_w, in.w);
                int divisor = (rows.last - rows.first) * (columns.last - columns.first);
                if (count_padding)  // the window is cut at the padded image's end, as PyTorch does in ceil mode
                    divisor = (std::min(y * pool.stride_h - pool.padding_h + pool.kernel_h, in.h + pool.padding_h) -
                               (y * pool.stride_h - pool.padding_h)) *
                              (std::min(x * pool.stride_w - pool.padding_w + pool.kernel_w, in.w + pool.padding_w) -
                               (x * pool.stride_w - pool.padding_w));
                mean(in, out, row / out.h, y, x, rows, columns, divisor);
            }
    }

    static void adaptive_pool(const Tensor& in, const Tensor& out, int first, int last) {
        const auto bounds = [](int at, int size, int parts) {
            return Range{static_cast<int>(static_cast<long long>(at) * size / parts),
                         static_cast<int>((static_cast<long long>(at + 1) * size + parts - 1) / parts)};
        };
        for (int row = first; row < last; ++row)
            for (int x = 0; x < out.w; ++x) {
                const Range rows = bounds(row % out.h, in.h, out.h), columns = bounds(x, in.w, out.w);
                mean(in, out, row / out.h, row % out.h, x, rows, columns,
                     (rows.last - rows.first) * (columns.last - columns.first));
            }
    }

private:
    static void max_of_window(const Convolution& pool, int image, int y, int x, int c, int count) {
        float best[stretch];
        std::fill(best, best + stretch, -std::numeric_limits<float>::infinity());
        for (int ky = 0; ky < pool.kernel_h; ++ky) {
            const int from_y = y * pool.stride_h - pool.padding_h + ky * pool.dilation_h;
            if (from_y < 0 || from_y >= pool.in.h) continue;
            for (int kx = 0; kx < pool.kernel_w; ++kx) {
                const int from_x = x * pool.stride_w - pool.padding_w + kx * pool.dilation_w;
                if (from_x < 0 || from_x >= pool.in.w) continue;
                const Element* from = Plain<Target>::pixel(pool.in, image, from_y, from_x) + c;
                for (int i = 0; i < count; ++i) {
                    const float value = to_float(from[i]);
                    best[i] = best[i] >= value || best[i] != best[i] ? best[i] : value;  // a NaN wins
                }
            }
        }
        Element* to = Plain<Target>::pixel(pool.out, image, y, x) + c;
        for (int i = 0; i < count; ++i) to[i] = from_float<Element>(best[i]);
    }

    static void mean(const Tensor& in, const Tensor& out, int image, int y, int x, Range rows, Range columns, int divisor) {
        for (int c = 0; c < out.c; c += stretch) {
            const int count = std::min(stretch, out.c - c);
            float sum[stretch] = {};
            for (int from_y = rows.first; from_y < rows.last; ++from_y)
                for (int from_x = columns.first; from_x < columns.last; ++from_x) {
                    const Element* from = Plain<Target>::pixel(in, image, from_y, from_x) + c;
                    for (int i = 0; i < count; ++i) sum[i] += to_float(from[i]);
                }
            Element* to = Plain<Target>::pixel(out, image, y, x) + c;
            for (int i = 0; i < count; ++i) to[i] = from_float<Element>(sum[i] / static_cast<float>(divisor));
        }
    }
};

/// The operations of a table that have no faster version.
template <class Target>
constexpr void fill_plain(Kernels& table) {
    table.element = sizeof(typename Target::Element);
    table.load_image = Plain<Target>::load_image;
    table.clear_border = Plain<Target>::clear_border;
    table.store_vector = Plain<Target>::store_vector;
    table.reference = Plain<Target>::reference;
    table.affine = Plain<Target>::affine;
    table.add = Plain<Target>::add;
    table.scale = Plain<Target>::scale;
    table.activate = Plain<Target>::activate;
    table.narrow = Plain<Target>::narrow;
    table.flatten = Plain<Target>::flatten;
    table.pad = Plain<Target>::pad;
    table.max_pool = PlainPooling<Target>::max_pool;
    table.average_pool = PlainPooling<Target>::average_pool;
    table.adaptive_pool = PlainPooling<Target>::adaptive_pool;
}

}  // namespace repfold
