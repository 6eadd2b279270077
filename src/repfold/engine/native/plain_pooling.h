// Pooling by its definition; see plain_kernels.h for `Target`.
#pragma once

#include <algorithm>
#include <limits>

#include "general_sums.h"
#include "plain_kernels.h"

namespace repfold {

template <class Target>
struct PlainPooling {
    using Element = typename Target::Element;

    static constexpr Size stretch = 64;  // channels that are computed at once

    static void max_pool(const Tensor& in, const Tensor& out, const Window& w, Range rows) {
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            pool(out, image, y, x, -std::numeric_limits<float>::infinity(), [&](float* best, Size c, Size count) {
                for (Size ky = 0; ky < w.kernel.h; ++ky) {
                    const Size from_y = y * w.stride.h - w.padding.h + ky * w.dilation.h;
                    if (from_y < 0 || from_y >= in.h) continue;
                    for (Size kx = 0; kx < w.kernel.w; ++kx) {
                        const Size from_x = x * w.stride.w - w.padding.w + kx * w.dilation.w;
                        if (from_x < 0 || from_x >= in.w) continue;
                        const auto* from = in.pixel<const Element>(image, from_y, from_x) + c;
                        for (Size i = 0; i < count; ++i) {
                            const float value = to_float(from[i]);
                            best[i] = best[i] >= value || best[i] != best[i] ? best[i] : value;  // a NaN wins
                        }
                    }
                }
            });
        });
    }

    static void average_pool(const Tensor& in, const Tensor& out, const Window& w, bool count_padding, Range rows) {
        const auto inside = [](Range range, Size size) {
            return Range{std::max<Size>(range.first, 0), std::min(range.last, size)};
        };
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            const Size top = y * w.stride.h - w.padding.h, left = x * w.stride.w - w.padding.w;
            // The window is cut at the padded image's end, as PyTorch does in ceil mode.
            const Range ys{top, std::min(top + w.kernel.h, in.h + w.padding.h)};
            const Range xs{left, std::min(left + w.kernel.w, in.w + w.padding.w)};
            const Range inner_ys = inside(ys, in.h), inner_xs = inside(xs, in.w);
            const Size counted = count_padding ? ys.size() * xs.size() : inner_ys.size() * inner_xs.size();
            mean(in, out, image, y, x, inner_ys, inner_xs, counted);
        });
    }

    static void adaptive_pool(const Tensor& in, const Tensor& out, bool largest, Range rows) {
        const auto bounds = [](Size i, Size size, Size parts) {
            return Range{i * size / parts, divide_up((i + 1) * size, parts)};
        };
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            const Range ys = bounds(y, in.h, out.h), xs = bounds(x, in.w, out.w);
            if (largest) max(in, out, image, y, x, ys, xs);
            else mean(in, out, image, y, x, ys, xs, ys.size() * xs.size());
        });
    }

    static void resample(const Tensor& in, const Tensor& out, const Taps& rows, const Taps& columns, Range range) {
        each_pixel(out, range, [&](Size image, Size y, Size x) {
            pool(out, image, y, x, 0, [&](float* sum, Size c, Size count) {
                for (Size ky = y * rows.count; ky < (y + 1) * rows.count; ++ky)
                    for (Size kx = x * columns.count; kx < (x + 1) * columns.count; ++kx) {
                        const float weight = rows.weight[ky] * columns.weight[kx];
                        const auto* from = in.pixel<const Element>(image, rows.index[ky], columns.index[kx]) + c;
                        for (Size i = 0; i < count; ++i) sum[i] += weight * to_float(from[i]);
                    }
            });
        });
    }

private:
    /// One pixel of `out`, a stretch of channels after the other: body(values, first channel, count).
    template <class Body>
    static void pool(const Tensor& out, Size image, Size y, Size x, float start, Body body) {
        for (Size c = 0; c < out.c; c += stretch) {
            const Size count = std::min(stretch, out.c - c);
            float values[stretch];
            std::fill(values, values + stretch, start);
            body(values, c, count);
            auto* to = out.pixel<Element>(image, y, x) + c;
            for (Size i = 0; i < count; ++i) to[i] = from_float<Element>(values[i]);
        }
    }

    static void max(const Tensor& in, const Tensor& out, Size image, Size y, Size x, Range ys, Range xs) {
        pool(out, image, y, x, -std::numeric_limits<float>::infinity(), [&](float* best, Size c, Size count) {
            for (Size from_y = ys.first; from_y < ys.last; ++from_y)
                for (Size from_x = xs.first; from_x < xs.last; ++from_x) {
                    const auto* from = in.pixel<const Element>(image, from_y, from_x) + c;
                    for (Size i = 0; i < count; ++i) {
                        const float value = to_float(from[i]);
                        best[i] = best[i] >= value || best[i] != best[i] ? best[i] : value;  // a NaN wins
                    }
                }
        });
    }

    static void mean(const Tensor& in, const Tensor& out, Size image, Size y, Size x, Range ys, Range xs,
                     Size divisor) {
        pool(out, image, y, x, 0, [&](float* sum, Size c, Size count) {
            for (Size from_y = ys.first; from_y < ys.last; ++from_y)
                for (Size from_x = xs.first; from_x < xs.last; ++from_x) {
                    const auto* from = in.pixel<const Element>(image, from_y, from_x) + c;
                    for (Size i = 0; i < count; ++i) sum[i] += to_float(from[i]);
                }
            for (Size i = 0; i < count; ++i) sum[i] /= static_cast<float>(divisor);
        });
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
    table.pad = Plain<Target>::pad;
    table.gather = Plain<Target>::gather;
    table.select = Plain<Target>::select;
    table.max_pool = PlainPooling<Target>::max_pool;
    table.average_pool = PlainPooling<Target>::average_pool;
    table.adaptive_pool = PlainPooling<Target>::adaptive_pool;
    table.resample = PlainPooling<Target>::resample;
    fill_general<Target>(table);
}

}  // namespace repfold
