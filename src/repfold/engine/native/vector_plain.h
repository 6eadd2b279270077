// Operations on single values and poolings of windows, a vector of channels at once.
#pragma once

#include <algorithm>

#include "vector_activation.h"

namespace repfold {

template <class Isa>
struct VectorPlain {
    using Vector = typename Isa::Vector;
    using Element = typename Isa::Element;

    static void add(const Tensor& a, const Tensor& b, float sign, Activation activation, const Tensor& out,
                    Range rows) {
        const Vector factor = Isa::set(sign);
        with_kind(activation.kind, [&](auto kind) {
            each_pixel(out, rows, [&](Size image, Size y, Size x) REPFOLD_LAMBDA {
                const auto* from = a.pixel<const Element>(image, y, x);
                const auto* added = b.pixel<const Element>(image, y, x);
                channels(out.pixel<Element>(image, y, x), out.c, [&](auto load) REPFOLD_LAMBDA {
                    return VectorActivation<Isa>::template apply<kind>(Isa::fma(load(added), factor, load(from)),
                                                                       activation);
                });
            });
        });
    }

    static void scale(const Tensor& a, const Tensor& gate, const Tensor& out, Range rows) {
        const bool whole = gate.h == a.h && gate.w == a.w;
        each_pixel(out, rows, [&](Size image, Size y, Size x) REPFOLD_LAMBDA {
            const auto* from = a.pixel<const Element>(image, y, x);
            const auto* factor = gate.pixel<const Element>(image, whole ? y : 0, whole ? x : 0);
            channels(out.pixel<Element>(image, y, x), out.c,
                     [&](auto load) REPFOLD_LAMBDA { return Isa::mul(load(from), load(factor)); });
        });
    }

    static void affine(const Tensor& in, const Tensor& out, const float* scale, const float* shift,
                       Activation activation, Range rows) {
        with_kind(activation.kind, [&](auto kind) {
            each_pixel(out, rows, [&](Size image, Size y, Size x) REPFOLD_LAMBDA {
                const auto* from = in.pixel<const Element>(image, y, x);
                channels(out.pixel<Element>(image, y, x), out.c, [&](auto load) REPFOLD_LAMBDA {
                    return VectorActivation<Isa>::template apply<kind>(Isa::fma(load(from), load(scale), load(shift)),
                                                                       activation);
                });
            });
        });
    }

    /// An activation that no other operation applies.
    static void activate(const Tensor& in, Activation activation, const Tensor& out, Range rows) {
        with_kind(activation.kind, [&](auto kind) {
            each_pixel(out, rows, [&](Size image, Size y, Size x) REPFOLD_LAMBDA {
                const auto* from = in.pixel<const Element>(image, y, x);
                channels(out.pixel<Element>(image, y, x), out.c, [&](auto load) REPFOLD_LAMBDA {
                    return VectorActivation<Isa>::template apply<kind>(load(from), activation);
                });
            });
        });
    }

    static void max_pool(const Tensor& in, const Tensor& out, const Window& window, Range rows) {
        const Vector lowest = Isa::set(-__builtin_inff());
        each_pixel(out, rows, [&](Size image, Size y, Size x) REPFOLD_LAMBDA {
            const Part down = inside(y * window.stride.h - window.padding.h, window.kernel.h, window.dilation.h, in.h);
            const Part along = inside(x * window.stride.w - window.padding.w, window.kernel.w, window.dilation.w, in.w);
            const auto* first = in.pixel<const Element>(image, down.first, along.first);
            const Size row = window.dilation.h * in.row(), pixel = window.dilation.w * in.stride_c;
            channels(out.pixel<Element>(image, y, x), out.c, [&](auto load) REPFOLD_LAMBDA {
                Vector best = lowest;
                for (Size ky = 0; ky < down.count; ++ky)
                    for (Size kx = 0; kx < along.count; ++kx)
                        best = Isa::max_or_nan(best, load(first + ky * row + kx * pixel));
                return best;
            });
        });
    }

    static void average_pool(const Tensor& in, const Tensor& out, const Window& window, bool count_padding,
                             Range rows) {
        each_pixel(out, rows, [&](Size image, Size y, Size x) REPFOLD_LAMBDA {
            const HW corner{y * window.stride.h - window.padding.h, x * window.stride.w - window.padding.w};
            const Part down = inside(corner.h, window.kernel.h, 1, in.h);
            const Part along = inside(corner.w, window.kernel.w, 1, in.w);
            // The window is cut at the padded image's end, as PyTorch does in ceil mode.
            const Size padded = std::min(window.kernel.h, in.h + window.padding.h - corner.h) *
                                std::min(window.kernel.w, in.w + window.padding.w - corner.w);
            const Size counted = count_padding ? padded : down.count * along.count;
            const Vector divisor = Isa::set(static_cast<float>(counted));
            const auto* first = in.pixel<const Element>(image, down.first, along.first);
            channels(out.pixel<Element>(image, y, x), out.c, [&](auto load) REPFOLD_LAMBDA {
                Vector sum = Isa::zero();
                for (Size ky = 0; ky < down.count; ++ky)
                    for (Size kx = 0; kx < along.count; ++kx)
                        sum = Isa::add(sum, load(first + ky * in.row() + kx * in.stride_c));
                return Isa::div(sum, divisor);
            });
        });
    }

private:
    /// Of a window along one axis: the taps that lie within the image.
    struct Part {
        Size first, count;
    };

    static REPFOLD_INLINE Part inside(Size first, Size taps, Size step, Size size) {
        const Size before = first < 0 ? divide_up(-first, step) : 0;
        const Size last = first >= size ? 0 : std::min(taps, divide_up(size - first, step));
        return {first + before * step, std::max<Size>(last - before, 0)};
    }

    /// Loads a vector of channels from where the pixel lies.
    struct Whole {
        Size at;
        template <class From>
        REPFOLD_INLINE Vector operator()(const From* pixel) const {
            return Isa::load(pixel + at);
        }
    };
    struct First {
        Size at, count;
        template <class From>
        REPFOLD_INLINE Vector operator()(const From* pixel) const {
            return Isa::load_first(pixel + at, count);
        }
    };

    /// Write value(load) for each vector of the pixel's channels.
    template <class Value>
    static REPFOLD_INLINE void channels(Element* to, Size count, Value value) {
        Size c = 0;
        for (; c + Isa::lanes <= count; c += Isa::lanes) Isa::store(to + c, value(Whole{c}));
        if (c < count) Isa::store_first(to + c, value(First{c, count - c}), count - c);
    }
};

}  // namespace repfold
