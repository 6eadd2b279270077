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

    /// Pixels in one row or several, of all channels.
    struct Strip {
        const Finish<Isa>& finish;
        const Element *in, *residual;  // of the first pixel
        Element* out;
        const Pixels& neighbours;

        REPFOLD_INLINE const Convolution& conv() const { return finish.conv; }
        REPFOLD_INLINE const float* weights() const { return static_cast<const float*>(conv().weights); }
        /// Floats between the weights of a group's neighbouring inputs, and between those of neighbouring taps.
        REPFOLD_INLINE Size input() const { return divide_up(conv().out.c, Isa::lanes) * Isa::lanes; }
        REPFOLD_INLINE Size tap() const { return input() * conv().in_channels; }
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
    template <bool grouped, int kernel, int stride, int rows, int pixels>
    static void known(const Strip& strip) {
        const Convolution& conv = strip.conv();
        const Size pixel = conv.in.stride_c, row = conv.in.row(), inputs = grouped ? conv.in_channels : 1;
        const Size input_weights = strip.input(), tap = strip.tap(), channels = conv.out.c;
        for (Size c = 0; c < channels; c += Isa::lanes) {
            Vector sums[rows][pixels][1];
            start(conv.bias + c, sums);
            const Element* in = strip.in + c;
            const float* weights = strip.weights() + c;
            unroll<(rows - 1) * stride + kernel>([&](auto y) REPFOLD_LAMBDA {
                for (Size from = 0; from < inputs; ++from) {
                    const Input input(conv, from);
                    Vector w[rows][kernel];
                    unroll<rows>([&](auto r) REPFOLD_LAMBDA {
                        constexpr int in_kernel = y - r * stride;
                        if constexpr (in_kernel >= 0 && in_kernel < kernel)
                            unroll<kernel>([&](auto x) REPFOLD_LAMBDA {
                                w[r][x] = Isa::load(weights + (in_kernel * kernel + x) * tap + from * input_weights);
                            });
                    });
                    unroll<(pixels - 1) * stride + kernel>([&](auto i) REPFOLD_LAMBDA {
                        const Vector value = input.template load<grouped>(in + y * row + i * pixel);
                        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
                            constexpr int in_kernel = y - r * stride;
                            if constexpr (in_kernel >= 0 && in_kernel < kernel)
                                unroll<kernel>([&](auto x) REPFOLD_LAMBDA {
                                    constexpr int first = i - x, p = first / stride;
                                    if constexpr (first >= 0 && first % stride == 0 && p < pixels)
                                        sums[r][p][0] = Isa::fma(value, w[r][x], sums[r][p][0]);
                                });
                        });
                    });
                }
            });
            finish(strip, c, sums);
        }
    }

    template <bool grouped, int pixels>
    static void any(const Strip& strip) {
        const Convolution& conv = strip.conv();
        const HW kernel = conv.window.kernel;
        const Size step = conv.window.stride.w * conv.in.stride_c, inputs = grouped ? conv.in_channels : 1;
        const Size input_weights = strip.input(), tap = strip.tap(), channels = conv.out.c;
        for (Size c = 0; c < channels; c += Isa::lanes) {
            Vector sums[1][pixels][1];
            start(conv.bias + c, sums);
            for (Size from = 0; from < inputs; ++from) {
                const Input input(conv, from);
                const float* weights = strip.weights() + c + from * input_weights;
                for (Size y = 0; y < kernel.h; ++y)
                    for (Size x = 0; x < kernel.w; ++x, weights += tap) {
                        const Vector w = Isa::load(weights);
                        const Element* in = strip.in + c + conv.tap(y, x);
                        unroll<pixels>([&](auto p) REPFOLD_LAMBDA {
                            sums[0][p][0] = Isa::fma(input.template load<grouped>(in + p * step), w, sums[0][p][0]);
                        });
                    }
            }
            finish(strip, c, sums);
        }
    }

    template <int rows, int pixels>
    static REPFOLD_INLINE void start(const float* bias, Vector (&sums)[rows][pixels][1]) {
        const Vector first = Isa::load(bias);
        unroll<rows * pixels>([&](auto i) REPFOLD_LAMBDA { sums[i / pixels][i % pixels][0] = first; });
    }

    template <int rows, int pixels>
    static REPFOLD_INLINE void finish(const Strip& strip, Size c, const Vector (&sums)[rows][pixels][1]) {
        const Convolution& conv = strip.conv();
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            const Element* residual = strip.residual ? strip.residual + r * conv.residual.row() + c : nullptr;
            strip.finish.write_sums(sums[r], residual, strip.out + r * conv.out.row() + c, strip.neighbours,
                                    conv.out.c - c);
        });
    }

    /// Lengths of the strips that are compiled: a row is cut into the longest that fit.
    static constexpr Size lengths[] = {8, 7, 4, 2, 1};
    using Strips = std::array<void (*)(const Strip&), std::size(lengths)>;

    template <bool grouped>
    static constexpr Strips any_strips = {any<grouped, 8>, any<grouped, 7>, any<grouped, 4>, any<grouped, 2>,
                                          any<grouped, 1>};
    template <bool grouped, int kernel, int stride, int rows>
    static constexpr Strips known_strips = {
        known<grouped, kernel, stride, rows, 8>, known<grouped, kernel, stride, rows, 7>,
        known<grouped, kernel, stride, rows, 4>, known<grouped, kernel, stride, rows, 2>,
        known<grouped, kernel, stride, rows, 1>};

    /// Of what is left of a row, of the common widths of 7, 14 and 28 pixels in sevens.
    static Size longest(Size left) {
        Size i = left % 7 == 0 && left % 8 != 0 ? 1 : 0;
        while (lengths[i] > left) ++i;
        return i;
    }

    /// Strips of one row; and of two, where they are faster, which read fewer rows.
    struct Table {
        const Strips& one;
        const Strips* two;
    };

    static Table table(const Convolution& conv) {
        const Window& window = conv.window;
        const auto [h, w] = window.kernel;
        const Size stride = window.stride.w;
        const bool known = h == w && window.dilation.area() == 1 && window.stride.h == stride && stride <= 2;
        if (conv.in_channels > 1) {
            if (!known || h != 3) return {any_strips<true>, nullptr};
            return {stride == 1 ? known_strips<true, 3, 1, 1> : known_strips<true, 3, 2, 1>, nullptr};
        }
        if (known && h == 3 && stride == 1) return {known_strips<false, 3, 1, 1>, &known_strips<false, 3, 1, 2>};
        if (known && h == 3) return {known_strips<false, 3, 2, 1>, nullptr};
        if (known && h == 5)
            return {stride == 1 ? known_strips<false, 5, 1, 1> : known_strips<false, 5, 2, 1>, nullptr};
        if (known && h == 7)
            return {stride == 1 ? known_strips<false, 7, 1, 1> : known_strips<false, 7, 2, 1>, nullptr};
        return {any_strips<false>, nullptr};
    }

    static void run(const Convolution& conv, Range rows) {
        const Table strips_of = table(conv);
        const Finish<Isa> finish(conv);
        const Pixels neighbours = Pixels::neighbours(conv);
        const Tensor& out = conv.out;
        for (Size row = rows.first; row < rows.last;) {
            const Size image = row / out.h, y = row % out.h;
            const bool two = strips_of.two && row + 1 < rows.last && y + 1 < out.h;
            const Strips& strips = two ? *strips_of.two : strips_of.one;
            for (Size x = 0; x < out.w;) {
                const Size strip = longest(out.w - x);
                strips[strip]({finish, conv.window_at<Element>(image, y, x), finish.residual(image, y, x, 0),
                               out.pixel<Element>(image, y, x), neighbours});
                x += lengths[strip];
            }
            row += two ? 2 : 1;
        }
    }
};

}  // namespace repfold
