// Every operation by its definition: the reference of all tests, and what runs where no faster kernel is needed.
//
// `Target` is a tag of the including file, so that code compiled for one instruction set is never linked into another.
#pragma once

#include <algorithm>
#include <cmath>

#include "element.h"
#include "kernels.h"

namespace repfold {

template <class Target>
struct Plain {
    using Element = typename Target::Element;

    static float activate_one(float x, const Activation& activation) {
        using Kind = Activation::Kind;
        // Comparisons are written such that a NaN stays a NaN.
        const auto clamp = [](float v, float high) { return v < 0 ? 0.0f : v > high ? high : v; };
        switch (activation.kind) {
            case Kind::none: return x;
            case Kind::relu: return x < 0 ? 0.0f : x;
            case Kind::relu6: return clamp(x, 6);
            case Kind::leaky_relu: return x > 0 ? x : x * activation.slope;
            case Kind::hard_swish: return x * clamp(x + 3, 6) * (1.0f / 6);
            case Kind::hard_sigmoid: return clamp(x + 3, 6) * (1.0f / 6);
            case Kind::sigmoid: return 1 / (1 + std::exp(-x));
            case Kind::silu: return x / (1 + std::exp(-x));
            // In float64: what is far below zero has few digits left in 1 + erf and 1 + tanh.
            case Kind::gelu: return static_cast<float>(0.5 * double{x} * std::erfc(-0.70710678118654752 * double{x}));
            case Kind::gelu_tanh: {
                const double v = x, twice = 1.5957691216057308 * (v + 0.044715 * v * v * v);
                return static_cast<float>(v / (1 + std::exp(-twice)));
            }
        }
        return x;
    }

    /// out[c] = function(c, in[c], ...) of every pixel, the operands being of the same shape.
    template <class Function, class... Tensors>
    static void each_value(Range rows, const Tensor& out, Function function, const Tensors&... in) {
        const auto channels = [&](Element* to, auto*... from) {
            for (Size c = 0; c < out.c; ++c) to[c] = from_float<Element>(function(c, to_float(from[c])...));
        };
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            channels(out.pixel<Element>(image, y, x), in.template pixel<const Element>(image, y, x)...);
        });
    }

    static void load_image(const float* images, const Tensor& out, Range rows) {
        const Size plane = out.h * out.w;
        for (Size row = rows.first; row < rows.last; ++row) {
            const Size image = row / out.h, y = row % out.h;
            auto* to = out.pixel<Element>(image, y, 0);
            const float* from = images + image * out.c * plane + y * out.w;
            for (Size c = 0; c < out.stride_c; ++c)
                for (Size x = 0; x < out.w; ++x)
                    to[x * out.stride_c + c] = from_float<Element>(c < out.c ? from[c * plane + x] : 0);
        }
    }

    static void store_vector(const Tensor& in, float* out, Range rows) {
        each_pixel(in, rows, [&](Size image, Size y, Size x) {
            const auto* from = in.pixel<const Element>(image, y, x);
            float* to = out + (image * in.c * in.h + y) * in.w + x;
            for (Size c = 0; c < in.c; ++c) to[c * in.h * in.w] = to_float(from[c]);
        });
    }

    static void clear_border(const Tensor& t, Range rows) {
        const Size all = t.h + 2 * t.border.h, side = t.border.w * t.stride_c;
        const auto clear = [](Element* from, Size count) { std::fill(from, from + count, Element{}); };
        for (Size row = rows.first; row < rows.last; ++row) {
            const Size y = row % all - t.border.h;
            auto* start = t.pixel<Element>(row / all, y, -t.border.w);
            if (y < 0 || y >= t.h) {
                clear(start, t.row());
            } else {
                clear(start, side);
                clear(start + t.row() - side, side);
            }
        }
    }

    static void reference(const Convolution& conv, Range rows) {
        const HW kernel = conv.window.kernel;
        const Size taps = kernel.area();
        const auto* weights = static_cast<const float*>(conv.weights);
        each_pixel(conv.out, rows, [&](Size image, Size y, Size x) {
            auto* to = conv.out.pixel<Element>(image, y, x);
            for (Size o = 0; o < conv.out.c; ++o) {
                const float* filter = weights + o * conv.in_channels * taps;
                const Size first = o / conv.out_channels * conv.in_channels;
                double sum = conv.bias[o];
                for (Size ky = 0; ky < kernel.h; ++ky)
                    for (Size kx = 0; kx < kernel.w; ++kx) {
                        const auto* from = conv.window_at<Element>(image, y, x) + conv.tap(ky, kx) + first;
                        for (Size i = 0; i < conv.in_channels; ++i)
                            sum += static_cast<double>(to_float(from[i])) *
                                   static_cast<double>(filter[i * taps + ky * kernel.w + kx]);
                    }
                auto value = static_cast<float>(sum);
                if (conv.residual.data) value += to_float(conv.residual.pixel<const Element>(image, y, x)[o]);
                to[o] = from_float<Element>(activate_one(value, conv.activation));
            }
        });
    }

    static void affine(const Tensor& in, const Tensor& out, const float* scale, const float* shift,
                       Activation activation, Range rows) {
        each_value(rows, out, [&](Size c, float x) { return activate_one(x * scale[c] + shift[c], activation); }, in);
    }

    static void add(const Tensor& a, const Tensor& b, float sign, Activation activation, const Tensor& out,
                    Range rows) {
        each_value(rows, out, [&](Size, float x, float y) { return activate_one(x + sign * y, activation); }, a, b);
    }

    static void scale(const Tensor& a, const Tensor& gate, const Tensor& out, Range rows) {
        const bool whole = gate.h == a.h && gate.w == a.w;
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            const auto* from = a.pixel<const Element>(image, y, x);
            const auto* factor =
                whole ? gate.pixel<const Element>(image, y, x) : gate.pixel<const Element>(image, 0, 0);
            auto* to = out.pixel<Element>(image, y, x);
            for (Size c = 0; c < out.c; ++c) to[c] = from_float<Element>(to_float(from[c]) * to_float(factor[c]));
        });
    }

    static void activate(const Tensor& in, Activation activation, const Tensor& out, Range rows) {
        each_value(rows, out, [&](Size, float x) { return activate_one(x, activation); }, in);
    }

    static void narrow(const Tensor& in, const Tensor& out, Range rows) {
        const auto* from = static_cast<const float*>(in.data);
        auto* to = static_cast<Element*>(out.data);
        for (Size i = rows.first * in.row(); i < rows.last * in.row(); ++i) to[i] = from_float<Element>(from[i]);
    }

    static void gather(const Tensor& in, const Tensor& out, const Size* pixels, Range rows) {
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            const Size from = pixels[(image * out.h + y) * out.w + x], row = from / in.w;
            const auto* values = in.pixel<const Element>(row / in.h, row % in.h, from % in.w);
            std::copy(values, values + out.c, out.pixel<Element>(image, y, x));
        });
    }

    static void select(const Tensor& in, const Tensor& out, const Size* channels, Range rows) {
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            const auto* from = in.pixel<const Element>(image, y, x);
            auto* to = out.pixel<Element>(image, y, x);
            for (Size c = 0; c < out.c; ++c) to[c] = from[channels[c]];
        });
    }

    static void pad(const Tensor& in, const Tensor& out, HW corner, Size front, Range rows) {
        each_pixel(out, rows, [&](Size image, Size y, Size x) {
            auto* to = out.pixel<Element>(image, y, x);
            const HW at{y - corner.h, x - corner.w};
            std::fill(to, to + out.c, Element{});
            if (at.h < 0 || at.h >= in.h || at.w < 0 || at.w >= in.w) return;
            const auto* from = in.pixel<const Element>(image, at.h, at.w);
            std::copy(from, from + in.c, to + front);
        });
    }
};

}  // namespace repfold
