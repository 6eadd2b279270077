// Direct convolution with registers full of sums: `rows` output pixels x `vectors` vectors of output channels.
//
// `Isa` (see kernels_avx512.cpp) names the vector type and its operations. One step of the inner loop loads the
// weights of `vectors` vectors once and multiplies them by one broadcast input value (a pair in bf16) of every pixel.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "unroll.h"

namespace repfold {

/// Apply the activation to one vector of results. Operands are ordered such that a NaN survives max and min.
template <class Isa>
inline typename Isa::Vector activate_vector(typename Isa::Vector x, const Activation& activation) {
    using Kind = Activation::Kind;
    const auto zero = Isa::zero();
    switch (activation.kind) {
        case Kind::none: return x;
        case Kind::relu: return Isa::max(zero, x);
        case Kind::relu6: return Isa::min(Isa::set(6), Isa::max(zero, x));
        case Kind::leaky_relu: return Isa::select_positive(x, x, Isa::mul(x, Isa::set(activation.slope)));
        case Kind::hard_swish:
        case Kind::hard_sigmoid: {
            const auto gate = Isa::mul(Isa::min(Isa::set(6), Isa::max(zero, Isa::add(x, Isa::set(3)))), Isa::set(1.0f / 6));
            return activation.kind == Kind::hard_swish ? Isa::mul(x, gate) : gate;
        }
        case Kind::sigmoid:
        case Kind::silu: break;
    }
    float lanes[Isa::lanes];
    Isa::store(lanes, x);
    for (float& value : lanes)
        value = (activation.kind == Kind::silu ? value : 1.0f) / (1 + std::exp(-value));
    return Isa::load(lanes);
}

/// What follows the sums of a convolution: the residual, the activation, the write.
template <class Isa>
struct Finish {
    using Vector = typename Isa::Vector;
    using Element = typename Isa::Element;

    template <class To>  // the type of the output's values: Element, or float where it is wide
    static REPFOLD_INLINE void store(To* to, Vector x) {
        if constexpr (std::is_same_v<To, Element>) Isa::store_element(to, x);
        else Isa::store(to, x);
    }

    const Convolution& conv;
    const bool simple;   // no more than a ReLU: one maximum
    const Vector floor;  // that the maximum is taken with

    explicit REPFOLD_INLINE Finish(const Convolution& convolution)
        : conv(convolution),
          simple(convolution.activation.kind == Activation::Kind::none || convolution.activation.kind == Activation::Kind::relu),
          floor(convolution.activation.kind == Activation::Kind::relu ? Isa::zero() : Isa::set(-__builtin_inff())) {}

    /// Write one vector, of which `count` lanes are channels of the group.
    template <class To>
    REPFOLD_INLINE void write(Vector x, const Element* residual, To* out, int count) const {
        if (__builtin_expect(simple && count >= Isa::lanes, 1)) {
            if (residual) x = Isa::add(x, Isa::load_element(residual));
            store(out, Isa::max(floor, x));
        } else {
            write_any(x, residual, out, count);
        }
    }

    template <class To>
    __attribute__((noinline)) void write_any(Vector x, const Element* residual, To* out, int count) const {
        const bool whole = count >= Isa::lanes;
        if (residual) x = Isa::add(x, whole ? Isa::load_element(residual) : Isa::load_element_first(residual, count));
        x = activate_vector<Isa>(x, conv.activation);
        if (whole) return store(out, x);
        // Beyond the last channel lie zeros; beyond a group's lies the next group.
        if (conv.groups == 1) return store(out, Isa::keep_first(x, count));
        if constexpr (std::is_same_v<To, Element>) Isa::store_element_first(out, x, count);  // groups write no wide tensor
    }
};

/// sums[r][v] += input of pixel r x weights of vector v, over `steps` steps. Meanwhile `lines` cache lines a step are
/// fetched from `next` into the second-level cache.
template <class Isa, int lines, int rows, int vectors>
REPFOLD_INLINE void accumulate(typename Isa::Vector (&sums)[rows][vectors], const typename Isa::Element* in,
                               std::ptrdiff_t row_stride, const typename Isa::Element* weights, int steps, const char* next) {
    for (int k = 0; k < steps; ++k) {
        typename Isa::Packed w[vectors];
        unroll<vectors>([&](auto v) REPFOLD_LAMBDA { w[v] = Isa::load_weights(weights + v * Isa::lanes * Isa::step); });
        unroll<lines>([&](auto line) REPFOLD_LAMBDA { __builtin_prefetch(next + line * 64, 0, 2); });
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            const typename Isa::Packed x = Isa::broadcast(in + r * row_stride);
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA { sums[r][v] = Isa::multiply_add(sums[r][v], x, w[v]); });
        });
        in += Isa::step;
        weights += vectors * Isa::lanes * Isa::step;
        next += lines * 64;
    }
}

template <class Isa>
struct DirectConvolution {
    using Element = typename Isa::Element;
    using Vector = typename Isa::Vector;

    /// What one strip of pixels of one output row needs.
    struct Strip {
        const Convolution* conv;
        const Element *in, *weights, *residual;
        void* out;
        const float* bias;
        int taps_h, taps_w, steps;  // steps of one tap
        std::ptrdiff_t tap_weights; // elements of one tap's weights
        int count;                  // channels of the slice
    };

    template <int rows, int vectors, class To>
    static void run_strip(const Strip& strip) {
        const Convolution& conv = *strip.conv;
        Vector sums[rows][vectors];
        unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
            const Vector bias = Isa::load(strip.bias + v * Isa::lanes);
            unroll<rows>([&](auto r) REPFOLD_LAMBDA { sums[r][v] = bias; });
        });
        const std::ptrdiff_t row_stride = static_cast<std::ptrdiff_t>(conv.stride_w) * conv.in.stride_c;
        const Element* weights = strip.weights;
        for (int y = 0; y < strip.taps_h; ++y)
            for (int x = 0; x < strip.taps_w; ++x) {
                const Element* in = strip.in + y * conv.dilation_h * conv.in.row() +
                                    static_cast<std::ptrdiff_t>(x) * conv.dilation_w * conv.in.stride_c;
                accumulate<Isa, 0>(sums, in, row_stride, weights, strip.steps, nullptr);
                weights += strip.tap_weights;
            }
        const Finish<Isa> finish(conv);
        To* const out = static_cast<To*>(strip.out);
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
                const Element* residual =
                    strip.residual ? strip.residual + r * conv.residual.stride_c + v * Isa::lanes : nullptr;
                finish.write(sums[r][v], residual, out + r * conv.out.stride_c + v * Isa::lanes,
                             strip.count - v * Isa::lanes);
            });
        });
    }

    template <int vectors, int rows = 1>
    static void choose(int wanted, const Strip& strip) {
        if constexpr (rows < Isa::max_rows(vectors)) {
            if (wanted > rows) return choose<vectors, rows + 1>(wanted, strip);
        }
        if (!std::is_same_v<Element, float> && strip.conv->out.wide) run_strip<rows, vectors, float>(strip);
        else run_strip<rows, vectors, Element>(strip);
    }

    template <int vectors = 1>
    static void choose_vectors(int wanted, int rows, const Strip& strip) {
        if constexpr (vectors < Isa::max_vectors) {
            if (wanted > vectors) return choose_vectors<vectors + 1>(wanted, rows, strip);
        }
        choose<vectors>(rows, strip);
    }

    static void run(const Convolution& conv, int image_first, int image_last, int first, int last, int group, int slice_at) {
        const Slice& slice = conv.slices[slice_at];
        Strip strip{};
        strip.conv = &conv;
        strip.weights = static_cast<const Element*>(conv.weights) + group * conv.group_stride + slice.offset;
        // Where pixels follow each other without a gap, a kernel row is one long tap.
        const bool contiguous = conv.groups == 1 && conv.dilation_w == 1 && conv.in.stride_c == padded(conv.in_channels);
        strip.taps_h = conv.kernel_h;
        strip.taps_w = contiguous ? 1 : conv.kernel_w;
        strip.steps = (contiguous ? conv.kernel_w : 1) * padded(conv.in_channels) / Isa::step;
        strip.tap_weights = static_cast<std::ptrdiff_t>(strip.steps) * Isa::step * slice.vectors * Isa::lanes;
        const int channel = group * conv.out_channels + slice.first;
        strip.bias = conv.bias + channel;
        strip.count = conv.out_channels - slice.first;
        const int most = Isa::max_rows(slice.vectors), strips = (conv.out.w + most - 1) / most;
        for (int image = image_first; image < image_last; ++image)
            for (int y = first; y < last; ++y)
                for (int s = 0; s < strips; ++s) {
                    const int begin = static_cast<int>(static_cast<long long>(conv.out.w) * s / strips);
                    const int end = static_cast<int>(static_cast<long long>(conv.out.w) * (s + 1) / strips);
                    strip.in = static_cast<const Element*>(conv.in.data) +
                               conv.in.at(image, y * conv.stride_h - conv.padding_h, begin * conv.stride_w - conv.padding_w) +
                               group * conv.in_channels;
                    const std::ptrdiff_t to = conv.out.at(image, y, begin) + channel;
                    strip.out = static_cast<char*>(conv.out.data) + to * static_cast<std::ptrdiff_t>(conv.out.wide ? sizeof(float) : sizeof(Element));
                    strip.residual = conv.residual.data ? static_cast<const Element*>(conv.residual.data) +
                                                              conv.residual.at(image, y, begin) + channel
                                                        : nullptr;
                    choose_vectors(slice.vectors, end - begin, strip);
                }
    }

    static constexpr int padded(int channels) { return (channels + Isa::step - 1) / Isa::step * Isa::step; }

    /// One filter a channel: `lanes` channels at once, weights in float32.
    static void depthwise(const Convolution& conv, int first, int last) {
        const auto* weights = static_cast<const float*>(conv.weights);
        const int channels = conv.out.c, stride = (channels + Isa::lanes - 1) / Isa::lanes * Isa::lanes;
        for (int row = first; row < last; ++row) {
            const int image = row / conv.out.h, y = row % conv.out.h;
            for (int x = 0; x < conv.out.w; ++x) {
                const Element* in = static_cast<const Element*>(conv.in.data) +
                                    conv.in.at(image, y * conv.stride_h - conv.padding_h, x * conv.stride_w - conv.padding_w);
                for (int c = 0; c < channels; c += Isa::lanes) {
                    Vector sum = Isa::load(conv.bias + c);
                    for (int ky = 0; ky < conv.kernel_h; ++ky)
                        for (int kx = 0; kx < conv.kernel_w; ++kx)
                            sum = Isa::fma(Isa::load_element(in + ky * conv.dilation_h * conv.in.row() +
                                                             kx * conv.dilation_w * static_cast<std::ptrdiff_t>(conv.in.stride_c) + c),
                                           Isa::load(weights + static_cast<std::ptrdiff_t>(ky * conv.kernel_w + kx) * stride + c), sum);
                    const Element* residual = conv.residual.data ? static_cast<const Element*>(conv.residual.data) +
                                                                       conv.residual.at(image, y, x) + c
                                                                 : nullptr;
                    // All lanes belong to this layer, so the row is written as one without groups would be.
                    const int count = channels - c;
                    Vector result = residual ? Isa::add(sum, Isa::load_element(residual)) : sum;
                    result = activate_vector<Isa>(result, conv.activation);
                    Isa::store_element(static_cast<Element*>(conv.out.data) + conv.out.at(image, y, x) + c,
                                       count >= Isa::lanes ? result : Isa::keep_first(result, count));
                }
            }
        }
    }
};

}  // namespace repfold
