// Direct convolution with registers full of sums: `rows` output pixels x `vectors` vectors of output channels.
//
// `Isa` (see avx512.h) names the vector type and its operations. One step of the inner loop loads the
// weights of `vectors` vectors once and multiplies them by one broadcast input value (a pair in bf16) of every pixel.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"

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
            const auto gate =
                Isa::mul(Isa::min(Isa::set(6), Isa::max(zero, Isa::add(x, Isa::set(3)))), Isa::set(1.0f / 6));
            return activation.kind == Kind::hard_swish ? Isa::mul(x, gate) : gate;
        }
        case Kind::sigmoid:
        case Kind::silu: break;
    }
    float lanes[Isa::lanes];
    Isa::store(lanes, x);
    for (float& value : lanes) value = (activation.kind == Kind::silu ? value : 1.0f) / (1 + std::exp(-value));
    return Isa::load(lanes);
}

/// body(Element{}), or body(float{}) of a tensor whose values are wide.
template <class Element, class Body>
REPFOLD_INLINE auto with_values(const Tensor& tensor, Body&& body) {
    if constexpr (!std::is_same_v<Element, float>) {
        if (tensor.wide) return body(float{});
    }
    return body(Element{});
}

/// What follows the sums of a convolution: the residual, the activation, the write.
template <class Isa>
struct Finish {
    using Vector = typename Isa::Vector;
    using Element = typename Isa::Element;

    const Convolution& conv;
    const bool simple;   // no more than a ReLU: one maximum
    const Vector floor;  // that the maximum is taken with

    explicit REPFOLD_INLINE Finish(const Convolution& convolution)
        : conv(convolution),
          simple(convolution.activation.kind == Activation::Kind::none ||
                 convolution.activation.kind == Activation::Kind::relu),
          floor(convolution.activation.kind == Activation::Kind::relu ? Isa::zero() : Isa::set(-__builtin_inff())) {}

    /// The residual of a pixel from this channel on; nullptr where there is none.
    REPFOLD_INLINE const Element* residual(Size image, Size y, Size x, Size channel) const {
        return conv.residual.data ? conv.residual.pixel<const Element>(image, y, x) + channel : nullptr;
    }

    /// Write one vector, of which `count` lanes are channels of the group.
    template <class To>  // the type of the output's values
    REPFOLD_INLINE void write(Vector x, const Element* residual, To* out, Size count) const {
        if (__builtin_expect(simple && count >= Isa::lanes, 1)) {
            if (residual) x = Isa::add(x, Isa::load(residual));
            Isa::store(out, Isa::max(floor, x));
        } else {
            write_any(x, residual, out, count);
        }
    }

    template <class To>
    __attribute__((noinline)) void write_any(Vector x, const Element* residual, To* out, Size count) const {
        const bool whole = count >= Isa::lanes;
        if (residual) x = Isa::add(x, whole ? Isa::load(residual) : Isa::load_first(residual, count));
        x = activate_vector<Isa>(x, conv.activation);
        if (whole) return Isa::store(out, x);
        // Beyond the last channel lie zeros; beyond a group's lies the next group.
        if (conv.groups == 1) return Isa::store(out, Isa::keep_first(x, count));
        if constexpr (std::is_same_v<To, Element>) Isa::store_first(out, x, count);  // groups write no wide tensor
    }
};

/// sums[r][v] += input of pixel r x weights of vector v, over `steps` steps. Meanwhile `lines` cache lines a step are
/// fetched from `next` into the second-level cache.
template <class Isa, int lines, int rows, int vectors>
REPFOLD_INLINE void accumulate(typename Isa::Vector (&sums)[rows][vectors], const typename Isa::Element* in,
                               Size row_stride, const typename Isa::Element* weights, Size steps, const char* next) {
    for (Size k = 0; k < steps; ++k) {
        typename Isa::Packed w[vectors];
        unroll<vectors>([&](auto v) REPFOLD_LAMBDA { w[v] = Isa::load_weights(weights + v * Isa::lanes * Isa::step); });
        unroll<lines>([&](auto line) REPFOLD_LAMBDA { __builtin_prefetch(next + line * 64, 0, 2); });
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            const typename Isa::Packed x = Isa::broadcast(in + r * row_stride);
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA { sums[r][v] = Isa::fma(x, w[v], sums[r][v]); });
        });
        in += Isa::step;
        weights += vectors * Isa::lanes * Isa::step;
        next += Size{lines} * 64;
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
        HW taps;
        Size steps;        // of one tap
        Size tap_weights;  // elements of one tap's weights
        Size count;        // channels of the slice
    };

    template <int rows, int vectors, class To>
    static void run_strip(const Strip& strip) {
        const Convolution& conv = *strip.conv;
        Vector sums[rows][vectors];
        unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
            const Vector bias = Isa::load(strip.bias + v * Isa::lanes);
            unroll<rows>([&](auto r) REPFOLD_LAMBDA { sums[r][v] = bias; });
        });
        const Size row_stride = conv.window.stride.w * conv.in.stride_c;
        const Element* weights = strip.weights;
        for (Size y = 0; y < strip.taps.h; ++y)
            for (Size x = 0; x < strip.taps.w; ++x) {
                accumulate<Isa, 0>(sums, strip.in + conv.tap(y, x), row_stride, weights, strip.steps, nullptr);
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

    static void run(const Convolution& conv, Range images, Range rows, Size group, Size slice_index) {
        const Window& window = conv.window;
        const Slice& slice = conv.slices[slice_index];
        Strip strip{};
        strip.conv = &conv;
        strip.weights = static_cast<const Element*>(conv.weights) + group * conv.group_stride + slice.offset;
        // Where pixels follow each other without a gap, a kernel row is one long tap.
        const bool contiguous =
            conv.groups == 1 && window.dilation.w == 1 && conv.in.stride_c == padded(conv.in_channels);
        strip.taps = {window.kernel.h, contiguous ? 1 : window.kernel.w};
        strip.steps = (contiguous ? window.kernel.w : 1) * padded(conv.in_channels) / Isa::step;
        strip.tap_weights = strip.steps * Isa::step * slice.vectors * Isa::lanes;
        const Size channel = group * conv.out_channels + slice.first;
        strip.bias = conv.bias + channel;
        strip.count = conv.out_channels - slice.first;
        const Size strips = divide_up(conv.out.w, Isa::max_rows(slice.vectors));
        for (Size image = images.first; image < images.last; ++image)
            for (Size y = rows.first; y < rows.last; ++y)
                for (Size s = 0; s < strips; ++s) {
                    const Range pixels = part(conv.out.w, s, strips);
                    strip.in = conv.window_at<Element>(image, y, pixels.first) + group * conv.in_channels;
                    strip.residual = Finish<Isa>(conv).residual(image, y, pixels.first, channel);
                    with_values<Element>(conv.out, [&](auto value) {
                        using To = decltype(value);
                        strip.out = conv.out.pixel<To>(image, y, pixels.first) + channel;
                        with_constant<Isa::max_vectors>(slice.vectors, [&](auto v) {
                            constexpr int vectors = v;
                            with_constant<Isa::max_rows(vectors)>(pixels.size(),
                                                                  [&](auto r) { run_strip<r, vectors, To>(strip); });
                        });
                    });
                }
    }

    static constexpr Size padded(Size channels) { return divide_up(channels, Isa::step) * Isa::step; }

    /// One filter a channel: `lanes` channels at once, weights in float32.
    static void depthwise(const Convolution& conv, Range rows) {
        const HW kernel = conv.window.kernel;
        const Finish<Isa> finish(conv);
        const auto* weights = static_cast<const float*>(conv.weights);
        const Size channels = conv.out.c, stride = divide_up(channels, Isa::lanes) * Isa::lanes;
        each_pixel(conv.out, rows, [&](Size image, Size y, Size x) {
            const auto* in = conv.window_at<Element>(image, y, x);
            for (Size c = 0; c < channels; c += Isa::lanes) {
                Vector sum = Isa::load(conv.bias + c);
                for (Size ky = 0; ky < kernel.h; ++ky)
                    for (Size kx = 0; kx < kernel.w; ++kx) {
                        const Vector weight = Isa::load(weights + (ky * kernel.w + kx) * stride + c);
                        sum = Isa::fma(Isa::load(in + conv.tap(ky, kx) + c), weight, sum);
                    }
                if (const Element* residual = finish.residual(image, y, x, c)) sum = Isa::add(sum, Isa::load(residual));
                // All lanes belong to this layer, so the row is written as one without groups would be.
                const Vector result = activate_vector<Isa>(sum, conv.activation);
                const Size count = channels - c;
                Isa::store(conv.out.pixel<Element>(image, y, x) + c,
                           count >= Isa::lanes ? result : Isa::keep_first(result, count));
            }
        });
    }
};

}  // namespace repfold
