// Direct convolution with registers full of sums: `rows` output pixels x `vectors` vectors of output channels.
//
// `Isa` (see avx512.h) names the vector type and its operations. One step of the inner loop loads the
// weights of `vectors` vectors once and multiplies them by one broadcast input value (a pair in bf16) of every pixel.
#pragma once

#include <algorithm>
#include <array>

#include "vector_activation.h"

namespace repfold {

/// body(Element{}), or body(float{}) of a tensor whose values are wide.
template <class Element, class Body>
REPFOLD_INLINE auto with_values(const Tensor& tensor, Body&& body) {
    if constexpr (!std::is_same_v<Element, float>) {
        if (tensor.wide) return body(float{});
    }
    return body(Element{});
}

/// Of a pixel of the output.
struct Position {
    Size image, y, x;
};

/// Where the pixels of a strip lie, in elements from its first.
struct Pixels {
    static constexpr Size most = 16;
    Size in[most], out[most], residual[most];

    static REPFOLD_INLINE Pixels neighbours(const Convolution& conv) {
        Pixels pixels;
        for (Size r = 0; r < most; ++r) {
            pixels.in[r] = r * conv.window.stride.w * conv.in.stride_c;
            pixels.out[r] = r * conv.out.stride_c;
            pixels.residual[r] = r * conv.residual.stride_c;
        }
        return pixels;
    }

    /// From pixel (y, x) on, over the ends of rows; of what is written also over those of images.
    static Pixels over_rows(const Convolution& conv, Size y, Size x, Size count) {
        Pixels pixels;
        HW next{y, x};
        const auto offset = [&](const Tensor& t) {
            return (next.h - y + (next.h / conv.out.h) * 2 * t.border.h) * t.row() + (next.w - x) * t.stride_c;
        };
        for (Size r = 0; r < count; ++r) {
            const HW& stride = conv.window.stride;
            pixels.in[r] = (next.h - y) * stride.h * conv.in.row() + (next.w - x) * stride.w * conv.in.stride_c;
            pixels.out[r] = offset(conv.out);
            pixels.residual[r] = offset(conv.residual);
            if (++next.w == conv.out.w) next = {next.h + 1, 0};
        }
        return pixels;
    }
};

/// What follows the sums of a convolution: the residual, the activation, the write.
template <class Isa>
struct Finish {
    using Vector = typename Isa::Vector;
    using Element = typename Isa::Element;
    using Kind = Activation::Kind;

    const Convolution& conv;
    const bool simple;            // no more than bounds
    const Vector floor, ceiling;  // that the minimum and the maximum are taken with

    explicit REPFOLD_INLINE Finish(const Convolution& convolution)
        : conv(convolution),
          simple(convolution.activation.kind == Kind::none || convolution.activation.kind == Kind::relu ||
                 convolution.activation.kind == Kind::relu6),
          floor(convolution.activation.kind == Kind::none ? Isa::set(-__builtin_inff()) : Isa::zero()),
          ceiling(Isa::set(convolution.activation.kind == Kind::relu6 ? 6 : __builtin_inff())) {}

    /// The residual of a pixel from this channel on; nullptr where there is none.
    REPFOLD_INLINE const Element* residual(Size image, Size y, Size x, Size channel) const {
        return conv.residual.data ? conv.residual.pixel<const Element>(image, y, x) + channel : nullptr;
    }

    /// Write one vector, of which `count` lanes are channels of the group.
    template <class To>  // the type of the output's values
    REPFOLD_INLINE void write(Vector x, const Element* residual, To* out, Size count) const {
        if (__builtin_expect(simple && count >= Isa::lanes, 1)) {
            if (residual) x = Isa::add(x, Isa::load(residual));
            Isa::store(out, bounded(x));
        } else {
            write_any(x, residual, out, count);
        }
    }

    template <class To>
    __attribute__((noinline)) void write_any(Vector x, const Element* residual, To* out, Size count) const {
        if (residual) x = Isa::add(x, count >= Isa::lanes ? Isa::load(residual) : Isa::load_first(residual, count));
        put(VectorActivation<Isa>::apply(x, conv.activation), out, count);
    }

    /// Write rows x vectors of sums, of which the first `count` lanes of a row are channels of the group.
    template <int rows, int vectors, class To>
    REPFOLD_INLINE void write_sums(const Vector (&sums)[rows][vectors], const Element* residual, To* out,
                                   const Pixels& pixels, Size count) const {
        const Size last = count - (vectors - 1) * Isa::lanes;  // of the last vector
        if (__builtin_expect(simple, 1)) {
            if (last >= Isa::lanes) write_bounded<false>(sums, residual, out, pixels, last);
            else write_bounded<true>(sums, residual, out, pixels, last);
            return;
        }
        alignas(64) float spilled[rows][vectors][Isa::lanes];
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA { Isa::store(spilled[r][v], sums[r][v]); });
        });
        write_spilled(spilled[0][0], rows, vectors, residual, out, pixels, count);
    }

    /// Where no more than bounds is asked. ragged: of the last vector only the first `last` lanes are channels.
    template <bool ragged, int rows, int vectors, class To>
    REPFOLD_INLINE void write_bounded(const Vector (&sums)[rows][vectors], const Element* residual, To* out,
                                      const Pixels& pixels, Size last) const {
        const auto write = [&](auto with_residual) REPFOLD_LAMBDA {
            unroll<rows>([&](auto r) REPFOLD_LAMBDA {
                unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
                    constexpr bool whole = !ragged || v + 1 < vectors;
                    Vector x = sums[r][v];
                    if constexpr (with_residual) {
                        const Element* from = residual + pixels.residual[r] + v * Isa::lanes;
                        x = Isa::add(x, whole ? Isa::load(from) : Isa::load_first(from, last));
                    }
                    To* const to = out + pixels.out[r] + v * Isa::lanes;
                    if constexpr (whole) Isa::store(to, bounded(x));
                    else put(bounded(x), to, last);
                });
            });
        };
        if (residual) write(std::true_type{});
        else write(std::false_type{});
    }

    /// A NaN survives as the second operand.
    REPFOLD_INLINE Vector bounded(Vector x) const { return Isa::min(ceiling, Isa::max(floor, x)); }

    /// With any activation, and lanes that are no channels.
    template <class To>
    __attribute__((noinline)) void write_spilled(const float* sums, Size rows, Size vectors, const Element* residual,
                                                 To* out, const Pixels& pixels, Size count) const {
        with_kind(conv.activation.kind, [&](auto kind) REPFOLD_LAMBDA {
            for (Size r = 0; r < rows; ++r)
                for (Size v = 0; v < vectors; ++v, sums += Isa::lanes) {
                    const Size channel = v * Isa::lanes, left = count - channel;
                    Vector x = Isa::load(sums);
                    if (residual) {
                        const Element* from = residual + pixels.residual[r] + channel;
                        x = Isa::add(x, left >= Isa::lanes ? Isa::load(from) : Isa::load_first(from, left));
                    }
                    put(VectorActivation<Isa>::template apply<kind>(x, conv.activation), out + pixels.out[r] + channel,
                        left);
                }
        });
    }

    template <class To>
    REPFOLD_INLINE void put(Vector x, To* out, Size count) const {
        if (count >= Isa::lanes) return Isa::store(out, x);
        // Beyond the last channel lie zeros; beyond a group's lies the next group, unless a vector holds whole groups.
        if (conv.groups == 1 || holds_groups(Isa::lanes, conv.in_channels, conv.out_channels))
            return Isa::store(out, Isa::keep_first(x, count));
        if constexpr (std::is_same_v<To, Element>) Isa::store_first(out, x, count);  // groups write no wide tensor
    }
};

/// Where the windows of pixels begin, in elements from the first: equally far from each other, or anywhere.
struct Even {
    Size stride;
    REPFOLD_INLINE Size operator[](Size r) const { return r * stride; }
};
using Anywhere = const Size*;

/// sums[r][v] += input of pixel r x weights of vector v, over `steps` steps. Meanwhile `lines` cache lines a step are
/// fetched from `next` into the second-level cache; they lie `apart` bytes apart.
template <class Isa, int lines, int rows, int vectors, class Windows>
REPFOLD_INLINE void accumulate(typename Isa::Vector (&sums)[rows][vectors], const typename Isa::Element* in,
                               Windows windows, const typename Isa::Element* weights, Size steps, const char* next,
                               Size apart = 64) {
    for (Size k = 0; k < steps; ++k) {
        typename Isa::Packed w[vectors];
        unroll<vectors>([&](auto v) REPFOLD_LAMBDA { w[v] = Isa::load_weights(weights + v * Isa::lanes * Isa::step); });
        unroll<lines>([&](auto line) REPFOLD_LAMBDA { __builtin_prefetch(next + line * apart, 0, 2); });
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            const typename Isa::Packed x = Isa::broadcast(in + windows[r]);
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA { sums[r][v] = Isa::fma(x, w[v], sums[r][v]); });
        });
        in += Isa::step;
        weights += vectors * Isa::lanes * Isa::step;
        next += lines * apart;
    }
}

template <class Isa>
struct DirectConvolution {
    using Element = typename Isa::Element;
    using Vector = typename Isa::Vector;

    /// What one strip of pixels needs.
    struct Strip {
        const Convolution* conv;
        const Element *in, *weights, *residual;
        void* out;
        const float* bias;
        HW taps;
        Size steps;        // of one tap
        Size tap_weights;  // elements of one tap's weights
        Size count;        // channels of the slice
        const Pixels* pixels;
        const char* next;  // weights that are needed soon
        Size apart;        // 0 where there are none
    };
    static constexpr int lines = 2;                // of them that are fetched in a step
    static constexpr Size most_fetched = 1 << 18;  // bytes: half of a small second-level cache

    template <int rows, int vectors, class To, class Windows>
    static void run_strip(const Strip& strip) {
        const Convolution& conv = *strip.conv;
        Vector sums[rows][vectors];
        unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
            const Vector bias = Isa::load(strip.bias + v * Isa::lanes);
            unroll<rows>([&](auto r) REPFOLD_LAMBDA { sums[r][v] = bias; });
        });
        Windows windows;
        if constexpr (std::is_same_v<Windows, Even>) windows = {conv.window.stride.w * conv.in.stride_c};
        else windows = strip.pixels->in;
        const Element* weights = strip.weights;
        const char* next = strip.next;
        for (Size y = 0; y < strip.taps.h; ++y)
            for (Size x = 0; x < strip.taps.w; ++x) {
                accumulate<Isa, lines>(sums, strip.in + conv.tap(y, x), windows, weights, strip.steps, next,
                                       strip.apart);
                weights += strip.tap_weights;
                next += strip.steps * lines * strip.apart;
            }
        Finish<Isa>(conv).write_sums(sums, strip.residual, static_cast<To*>(strip.out), *strip.pixels, strip.count);
    }

    /// How strips of 1, 2, ... pixels are computed, by vectors and pixels; nullptr for more than fit into registers.
    template <class To, class Windows>
    struct Strips {
        using Run = void (*)(const Strip&);
        template <int vectors, int rows>
        static constexpr Run one() {
            if constexpr (rows <= Isa::max_rows(vectors)) return run_strip<rows, vectors, To, Windows>;
            return nullptr;
        }
        template <int vectors, int... rows>
        static constexpr std::array<Run, Pixels::most> of(std::integer_sequence<int, rows...>) {
            return {one<vectors, rows + 1>()...};
        }
        template <int... vectors>
        static constexpr std::array<std::array<Run, Pixels::most>, sizeof...(vectors)> all(
            std::integer_sequence<int, vectors...>) {
            return {of<vectors + 1>(std::make_integer_sequence<int, Pixels::most>{})...};
        }
        static constexpr auto table = all(std::make_integer_sequence<int, int{Isa::max_vectors}>{});
    };

    static void run(const Convolution& conv, Range images, Range rows, Size group, Size slice_index) {
        const Window& window = conv.window;
        const Slice& slice = conv.slices[slice_index];
        Strip strip{};
        strip.conv = &conv;
        strip.weights = static_cast<const Element*>(conv.weights) + group * conv.group_stride + slice.offset;
        const Size together = conv.has_long_taps(Isa::step) ? window.kernel.w : 1;
        strip.taps = {window.kernel.h, window.kernel.w / together};
        strip.steps = together * padded(conv.in_channels) / Isa::step;
        strip.tap_weights = strip.steps * Isa::step * slice.vectors * Isa::lanes;
        strip.bias = conv.bias + group * conv.out_channels + slice.first;
        strip.count = conv.out_channels - slice.first;
        const Pixels neighbours = Pixels::neighbours(conv);
        const Size h = conv.out.h, w = conv.out.w, channel = group * conv.out_channels + slice.first;
        const Size fetched = strip.steps * strip.taps.area() * lines * 64;  // bytes in a strip
        Size fetching = 0;
        const bool flat = conv.is_flat();
        // Many weights for one strip come as fast as memory gives them: those of the next slice would push them out.
        const Size bytes = strip.taps.area() * strip.tap_weights * static_cast<Size>(sizeof(Element));
        const bool one_strip = flat && images.size() * rows.size() * w <= Isa::max_rows(slice.vectors);
        const bool streams = one_strip && bytes > most_fetched;
        // Rows that are shorter than half of a strip share it, so that weights are read less often.
        const bool narrow = !flat && 2 * w <= Isa::max_rows(slice.vectors);
        const auto stretch = [&](Size image, Size y, Size count) {  // of pixels from the start of a row on
            Position at{image, y, 0};
            const Size strips = divide_up(count, Isa::max_rows(slice.vectors));
            for (Size s = 0; s < strips; ++s) {
                const Size pixels = part(count, s, strips).size();
                const bool over = at.x + pixels > w;
                Pixels over_rows;
                if (over) over_rows = Pixels::over_rows(conv, at.y, at.x, pixels);
                strip.pixels = over ? &over_rows : &neighbours;
                strip.in = conv.window_at<Element>(at.image, at.y, at.x) + group * conv.in_channels;
                strip.apart = fetching < conv.next_bytes && !streams ? 64 : 0;
                strip.next = strip.apart ? static_cast<const char*>(conv.next) + fetching
                                         : reinterpret_cast<const char*>(strip.weights);
                fetching += fetched;
                strip.residual = Finish<Isa>(conv).residual(at.image, at.y, at.x, channel);
                if (over && narrow) write<Anywhere>(strip, at, channel, slice.vectors, pixels);
                else write<Even>(strip, at, channel, slice.vectors, pixels);
                for (at.x += pixels; at.x >= w; at.x -= w)
                    if (++at.y == h) at = {at.image + 1, 0, at.x};
            }
        };
        if (flat && rows.size() == h) return stretch(images.first, 0, images.size() * h * w);
        for (Size image = images.first; image < images.last; ++image)
            for (Size y = rows.first; y < rows.last; y += flat || narrow ? rows.size() : 1)
                stretch(image, y, flat || narrow ? rows.size() * w : w);
    }

    template <class Windows>
    static REPFOLD_INLINE void write(Strip& strip, const Position& at, Size channel, Size vectors, Size pixels) {
        const Tensor& out = strip.conv->out;
        with_values<Element>(out, [&](auto value) REPFOLD_LAMBDA {
            using To = decltype(value);
            strip.out = out.pixel<To>(at.image, at.y, at.x) + channel;
            Strips<To, Windows>::table[vectors - 1][pixels - 1](strip);
        });
    }

    static constexpr Size padded(Size channels) { return divide_up(channels, Isa::step) * Isa::step; }
};

}  // namespace repfold
