// Depthwise convolution: one filter a channel, a vector of channels at once, a strip of neighbouring pixels in
// registers. And convolutions in groups of 2, 4 or 8 channels, of which a vector holds several.
//
// A row of the kernel is held while the pixels that it meets are loaded once each and added to all sums of the strip
// that they are part of. In groups that is done for one input of each group after the other: a permutation gives it to
// all channels of its group. All channels of a strip are done before the next, so that memory is read in its order.
#pragma once

#include <array>
#include <iterator>

#include "vector_convolution.h"

namespace repfold {

template <class Isa>
struct GroupedConvolution {
    using Element = typename Isa::Element;
    using Vector = typename Isa::Vector;

    struct Strip {
        const Finish<Isa>& finish;
        const Element *in, *residual;
        Element* out;
        const Pixels& neighbours;
        const float *weights, *bias;
        Size input;  // floats between the weights of a group's neighbouring inputs
        Size tap;    // and between those of neighbouring taps
        Size count;  // channels from the first of the vector on

        REPFOLD_INLINE const Convolution& conv() const { return finish.conv; }
    };

    /// Input i of each group, in all its channels.
    struct Input {
        typename Isa::Index lanes;
        Input(const Convolution& conv, Size i) : lanes(Isa::lanes_of(conv.in_channels, i)) {}
        template <bool grouped>
        REPFOLD_INLINE Vector load(const Element* from) const {
            if constexpr (grouped) return Isa::permuted(Isa::load(from), lanes);
            return Isa::load(from);
        }
    };

    /// A square kernel of known size and stride, without dilation.
    template <bool grouped, int kernel, int stride, int pixels>
    static void known(const Strip& strip) {
        const Convolution& conv = strip.conv();
        const Size pixel = conv.in.stride_c, row = conv.in.row(), inputs = grouped ? conv.in_channels : 1;
        Vector sums[pixels][1];
        start(strip, sums);
        const Element* in = strip.in;
        for (int y = 0; y < kernel; ++y, in += row)
            for (Size from = 0; from < inputs; ++from) {
                const Input input(conv, from);
                const float* weights = strip.weights + y * kernel * strip.tap + from * strip.input;
                Vector w[kernel];
                unroll<kernel>([&](auto x) REPFOLD_LAMBDA { w[x] = Isa::load(weights + x * strip.tap); });
                unroll<(pixels - 1) * stride + kernel>([&](auto i) REPFOLD_LAMBDA {
                    const Vector value = input.template load<grouped>(in + i * pixel);
                    unroll<kernel>([&](auto x) REPFOLD_LAMBDA {
                        constexpr int first = i - x, p = first / stride;
                        if constexpr (first >= 0 && first % stride == 0 && p < pixels)
                            sums[p][0] = Isa::fma(value, w[x], sums[p][0]);
                    });
                });
            }
        finish(strip, sums);
    }

    template <bool grouped, int pixels>
    static void any(const Strip& strip) {
        const Convolution& conv = strip.conv();
        const HW kernel = conv.window.kernel;
        const Size step = conv.window.stride.w * conv.in.stride_c, inputs = grouped ? conv.in_channels : 1;
        Vector sums[pixels][1];
        start(strip, sums);
        for (Size from = 0; from < inputs; ++from) {
            const Input input(conv, from);
            const float* weights = strip.weights + from * strip.input;
            for (Size y = 0; y < kernel.h; ++y)
                for (Size x = 0; x < kernel.w; ++x, weights += strip.tap) {
                    const Vector w = Isa::load(weights);
                    const Element* in = strip.in + conv.tap(y, x);
                    unroll<pixels>([&](auto p) REPFOLD_LAMBDA {
                        sums[p][0] = Isa::fma(input.template load<grouped>(in + p * step), w, sums[p][0]);
                    });
                }
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

    template <bool grouped>
    static constexpr Table any_strips = {any<grouped, 8>, any<grouped, 7>, any<grouped, 4>, any<grouped, 2>,
                                         any<grouped, 1>};
    template <bool grouped, int kernel, int stride>
    static constexpr Table known_strips = {known<grouped, kernel, stride, 8>, known<grouped, kernel, stride, 7>,
                                           known<grouped, kernel, stride, 4>, known<grouped, kernel, stride, 2>,
                                           known<grouped, kernel, stride, 1>};

    /// Of what is left of a row, of the common widths of 7, 14 and 28 pixels in sevens.
    static Size longest(Size left) {
        Size i = left % 7 == 0 && left % 8 != 0 ? 1 : 0;
        while (lengths[i] > left) ++i;
        return i;
    }

    static const Table& table(const Convolution& conv) {
        const Window& window = conv.window;
        const auto [h, w] = window.kernel;
        const Size stride = window.stride.w;
        const bool known = h == w && window.dilation.area() == 1 && stride <= 2;
        if (conv.in_channels > 1) {
            if (!known || h != 3) return any_strips<true>;
            return stride == 1 ? known_strips<true, 3, 1> : known_strips<true, 3, 2>;
        }
        if (known && h == 3) return stride == 1 ? known_strips<false, 3, 1> : known_strips<false, 3, 2>;
        if (known && h == 5) return stride == 1 ? known_strips<false, 5, 1> : known_strips<false, 5, 2>;
        if (known && h == 7) return stride == 1 ? known_strips<false, 7, 1> : known_strips<false, 7, 2>;
        return any_strips<false>;
    }

    static void run(const Convolution& conv, Range rows) {
        const Table& strips_of = table(conv);
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
                                      weights + c, conv.bias + c, padded, padded * conv.in_channels, channels - c});
                x += lengths[strip];
            }
        }
    }
};

}  // namespace repfold
