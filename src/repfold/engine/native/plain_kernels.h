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

    static Element* pixel(const Tensor& t, int image, int y, int x) {
        return static_cast<Element*>(t.data) + t.at(image, y, x);
    }

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
        }
        return x;
    }

    static void load_image(const float* images, const Tensor& out, int first, int last) {
        for (int row = first; row < last; ++row) {
            const int image = row / out.h, y = row % out.h;
            Element* to = pixel(out, image, y, 0);
            const size_t plane = static_cast<size_t>(out.h) * static_cast<size_t>(out.w);
            const float* from = images + static_cast<size_t>(image) * static_cast<size_t>(out.c) * plane +
                                static_cast<size_t>(y) * static_cast<size_t>(out.w);
            for (int c = 0; c < out.stride_c; ++c)
                for (int x = 0; x < out.w; ++x)
                    to[static_cast<std::ptrdiff_t>(x) * out.stride_c + c] =
                        from_float<Element>(c < out.c ? from[static_cast<size_t>(c) * plane + static_cast<size_t>(x)] : 0);
        }
    }

    static void clear_border(const Tensor& t, int first, int last) {
        const int rows = t.h + 2 * t.border_h;
        const std::ptrdiff_t side = static_cast<std::ptrdiff_t>(t.border_w) * t.stride_c;
        for (int row = first; row < last; ++row) {
            const int y = row % rows - t.border_h;
            Element* start = pixel(t, row / rows, y, -t.border_w);
            const auto clear = [](Element* from, std::ptrdiff_t count) {
                std::memset(from, 0, static_cast<size_t>(count) * sizeof(Element));
            };
            if (y < 0 || y >= t.h) {
                clear(start, t.row());
            } else {
                clear(start, side);
                clear(start + t.row() - side, side);
            }
        }
    }

    static void store_vector(const Tensor& in, float* out, int first, int last) {
        for (int row = first; row < last; ++row) {
            const int image = row / in.h, y = row % in.h;
            for (int x = 0; x < in.w; ++x) {
                const Element* from = pixel(in, image, y, x);
                for (int c = 0; c < in.c; ++c)
                    out[((static_cast<size_t>(image) * static_cast<size_t>(in.c) + static_cast<size_t>(c)) *
                             static_cast<size_t>(in.h) + static_cast<size_t>(y)) * static_cast<size_t>(in.w) +
                        static_cast<size_t>(x)] = to_float(from[c]);
            }
        }
    }

    static void reference(const Convolution& conv, int first, int last) {
        const auto* weights = static_cast<const float*>(conv.weights);
        const int taps = conv.kernel_h * conv.kernel_w;
        for (int row = first; row < last; ++row) {
            const int image = row / conv.out.h, y = row % conv.out.h;
            for (int x = 0; x < conv.out.w; ++x) {
                Element* to = pixel(conv.out, image, y, x);
                for (int o = 0; o < conv.out.c; ++o) {
                    const float* filter = weights + static_cast<std::ptrdiff_t>(o) * conv.in_channels * taps;
                    const int base = o / conv.out_channels * conv.in_channels;
                    double sum = conv.bias[o];
                    for (int ky = 0; ky < conv.kernel_h; ++ky)
                        for (int kx = 0; kx < conv.kernel_w; ++kx) {
                            const Element* from = pixel(conv.in, image,
                                                        y * conv.stride_h - conv.padding_h + ky * conv.dilation_h,
                                                        x * conv.stride_w - conv.padding_w + kx * conv.dilation_w);
                            for (int i = 0; i < conv.in_channels; ++i)
                                sum += static_cast<double>(to_float(from[base + i])) *
                                       static_cast<double>(filter[i * taps + ky * conv.kernel_w + kx]);
                        }
                    auto value = static_cast<float>(sum);
                    if (conv.residual.data) value += to_float(pixel(conv.residual, image, y, x)[o]);
                    to[o] = from_float<Element>(activate_one(value, conv.activation));
                }
            }
        }
    }

    /// Call `body(to, pixels...)` for every pixel of rows first..last of `out`, the operands being of the same shape.
    template <class Body, class... Tensors>
    static void each_pixel(int first, int last, const Tensor& out, Body body, const Tensors&... in) {
        for (int row = first; row < last; ++row)
            for (int x = 0; x < out.w; ++x)
                body(pixel(out, row / out.h, row % out.h, x), pixel(in, row / out.h, row % out.h, x)...);
    }

    static void affine(const Tensor& in, const Tensor& out, const float* scale, const float* shift, int first, int last) {
        each_pixel(first, last, out, [&](Element* to, const Element* from) {
            for (int c = 0; c < out.c; ++c) to[c] = from_float<Element>(to_float(from[c]) * scale[c] + shift[c]);
        }, in);
    }

    static void add(const Tensor& a, const Tensor& b, float sign, Activation activation, const Tensor& out, int first,
                    int last) {
        each_pixel(first, last, out, [&](Element* to, const Element* left, const Element* right) {
            for (int c = 0; c < out.c; ++c)
                to[c] = from_float<Element>(activate_one(to_float(left[c]) + sign * to_float(right[c]), activation));
        }, a, b);
    }

    static void scale(const Tensor& a, const Tensor& gate, const Tensor& out, int first, int last) {
        const bool whole = gate.h == a.h && gate.w == a.w;
        for (int row = first; row < last; ++row)
            for (int x = 0; x < out.w; ++x) {
                const int image = row / out.h, y = row % out.h;
                const Element* from = pixel(a, image, y, x);
                const Element* factor = whole ? pixel(gate, image, y, x) : pixel(gate, image, 0, 0);
                Element* to = pixel(out, image, y, x);
                for (int c = 0; c < out.c; ++c) to[c] = from_float<Element>(to_float(from[c]) * to_float(factor[c]));
            }
    }

    static void activate(const Tensor& in, Activation activation, const Tensor& out, int first, int last) {
        each_pixel(first, last, out, [&](Element* to, const Element* from) {
            for (int c = 0; c < out.c; ++c) to[c] = from_float<Element>(activate_one(to_float(from[c]), activation));
        }, in);
    }

    /// Rows first..last of the bordered image, from float32 to elements.
    static void narrow(const Tensor& in, const Tensor& out, int first, int last) {
        const auto* from = static_cast<const float*>(in.data);
        auto* to = static_cast<Element*>(out.data);
        for (std::ptrdiff_t i = first * in.row(); i < last * in.row(); ++i) to[i] = from_float<Element>(from[i]);
    }

    static void flatten(const Tensor& in, const Tensor& out, int first, int last) {
        for (int image = first; image < last; ++image)
            for (int y = 0; y < in.h; ++y)
                for (int x = 0; x < in.w; ++x) {
                    const Element* from = pixel(in, image, y, x);
                    Element* to = pixel(out, image, 0, 0) + y * in.w + x;
                    for (int c = 0; c < in.c; ++c) to[static_cast<std::ptrdiff_t>(c) * in.h * in.w] = from[c];
                }
    }

    static void pad(const Tensor& in, const Tensor& out, int top, int left, int front, int first, int last) {
        for (int row = first; row < last; ++row)
            for (int x = 0; x < out.w; ++x) {
                Element* to = pixel(out, row / out.h, row % out.h, x);
                const int from_y = row % out.h - top, from_x = x - left;
                std::fill(to, to + out.c, Element{});
                if (from_y < 0 || from_y >= in.h || from_x < 0 || from_x >= in.w) continue;
                const Element* from = pixel(in, row / out.h, from_y, from_x);
                std::copy(from, from + in.c, to + front);
            }
    }
};

}  // namespace repfold
