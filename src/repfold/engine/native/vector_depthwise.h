// Depthwise convolution: one filter a channel, a vector of channels at once, a strip of neighbouring pixels in
// registers.
//
// A row of the kernel is held while the pixels that it meets are loaded once each and added to all sums of the strip
// that they are part of. All channels of a strip are done before the next, so that memory is read in its order.
#pragma once

#include <array>
#include <iterator>

#include "vector_convolution.h"

namespace repfold {

template <class Isa>
struct DepthwiseConvolution {
    using Element = typename Isa::Element;
    using Vector = typename Isa::Vector;

    struct Strip {
        const Finish<Isa>& finish;
        const Element *in, *residual;
        Element* out;
        const Pixels& neighbours;
        const float *weights, *bias;
        Size tap;    // floats between the weights of neighbouring taps
        Size count;  // channels from the first of the vector on

        REPFOLD_INLINE const Convolution& conv() const { return finish.conv; }
    };

    /// A square kernel of known size and stride, without dilation.
    template <int kernel, int stride, int pixels>
    static void known(const Strip& strip) {
        const Convolution& conv = strip.conv();
        const Size pixel = conv.in.stride_c, row = conv.in.row();
        Vector sums[pixels][1];
        start(strip, sums);
        const Element* in = strip.in;
        const float* weights = strip.weights;
        for (int y = 0; y < kernel; ++y, in += row) {
            Vector w[kernel];
            unroll<kernel>([&](auto x) REPFOLD_LAMBDA { w[x] = Isa::load(weights), weights += strip.tap; });
            unroll<(pixels - 1) * stride + kernel>([&](auto i) REPFOLD_LAMBDA {
                const Vector value = Isa::load(in + i * pixel);
                unroll<kernel>([&](auto x) REPFOLD_LAMBDA {
                    constexpr int first = i - x, p = first / stride;
                    if constexpr (first >= 0 && first % stride == 0 && p < pixels)
                        sums[p][0] = Isa::fma(value, w[x], sums[p][0]);
                });
            });
        }
        finish(strip, sums);
    }

    template <int pixels>
    static void any(const Strip& strip) {
        const Convolution& conv = strip.conv();
        const HW kernel = conv.window.kernel;
        const Size step = conv.window.stride.w * conv.in.stride_c;
        Vector sums[pixels][1];
        start(strip, sums);
        const float* weights = strip.weights;
        for (Size y = 0; y < kernel.h; ++y)
            for (Size x = 0; x < kernel.w; ++x, weights += strip.tap) {
                const Vector w = Isa::load(weights);
                const Element* in = strip.in + conv.tap(y, x);
                unroll<pixels>([&](auto p)
                                   REPFOLD_LAMBDA { sums[p][0] = Isa::fma(Isa::load(in + p * step), w, sums[p][0]); });
            }
        finish(strip, sums);
    }

    template <int pixels>
    static REPFOLD_INLINE void start(const Strip& strip, Vector (&sums)[pixels][1]) {
        const Vector bias = Isa::load(strip.bias);
        unroll<pixels>([&](auto p) REPFOLD_LAMBDA { sums[p][0] = bias; });
    }

    template <int pixels>
    static REPFOLD_INLINE void finish(const Strip& strip, const Vector (&sums)[pixels][1]) {
        strip.finish.write_sums(sums, strip.residual, strip.out, strip.neighbours, strip.count);
    }

    /// Lengths of the strips that are compiled: a row is cut into the longest that fit.
    static constexpr Size lengths[] = {8, 7, 4, 2, 1};
    using Table = std::array<void (*)(const Strip&), std::size(lengths)>;

    static constexpr Table any_strips = {any<8>, any<7>, any<4>, any<2>, any<1>};
    template <int kernel, int stride>
    static constexpr Table known_strips = {known<kernel, stride, 8>, known<kernel, stride, 7>, known<kernel, stride, 4>,
                                           known<kernel, stride, 2>, known<kernel, stride, 1>};

    /// Of what is left of a row, of the common widths of 7, 14 and 28 pixels in sevens.
    static Size longest(Size left) {
        Size i = left % 7 == 0 && left % 8 != 0 ? 1 : 0;
        while (lengths[i] > left) ++i;
        return i;
    }

    static const Table& table(const Window& window) {
        const auto [h, w] = window.kernel;
        const Size stride = window.stride.w;
        if (h != w || window.dilation.w * window.dilation.h != 1 || stride > 2) return any_strips;
        if (h == 3) return stride == 1 ? known_strips<3, 1> : known_strips<3, 2>;
        if (h == 5) return stride == 1 ? known_strips<5, 1> : known_strips<5, 2>;
        if (h == 7) return stride == 1 ? known_strips<7, 1> : known_strips<7, 2>;
        return any_strips;
    }

    static void run(const Convolution& conv, Range rows) {
        const Table& strips_of = table(conv.window);
        const Finish<Isa> finish(conv);
        const Pixels neighbours = Pixels::neighbours(conv);
        const auto* weights = static_cast<const float*>(conv.weights);
        const Tensor& out = conv.out;
        const Size channels = out.c, padded = divide_up(channels, Isa::lanes) * Isa::lanes;
        for (Size row = rows.first; row < rows.last; ++row) {
            const Size image = row / out.h, y = row % out.h;
            for (Size x = 0; x < out.w;) {
                const Size strip = longest(out.w - x);
                const auto* in = conv.window_at<Element>(image, y, x);
                const Element* residual = finish.residual(image, y, x, 0);
                auto* to = out.pixel<Element>(image, y, x);
                for (Size c = 0; c < channels; c += Isa::lanes)
                    strips_of[strip]({finish, in + c, residual ? residual + c : nullptr, to + c, neighbours,
                                      weights + c, conv.bias + c, padded, channels - c});
                x += lengths[strip];
            }
        }
    }
};

}  // namespace repfold
