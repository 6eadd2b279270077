// Winograd convolution F(m_h x m_w, 3x3), of stride 1 and 2: transform a block of tiles, multiply point by point,
// transform back.
#pragma once

#include <algorithm>

#include "vector_convolution.h"
#include "winograd.h"

namespace repfold {

/// The transforms of F(m, r) on vectors of channels.
template <class Isa, int m, int r>
struct ToomCookLine {
    using Vector = typename Isa::Vector;
    using Matrices = ToomCook<m, r>;
    static constexpr int n = Matrices::n, first_pair = Matrices::first_pair, pairs = Matrices::pairs;

    /// sum += factor * term; the first term begins the sum.
    static REPFOLD_INLINE void add_term(Vector& sum, bool& started, double factor, Vector term) {
        const Vector scale = Isa::set(static_cast<float>(factor));
        if (started) sum = factor == 1 ? Isa::add(sum, term) : Isa::fma(scale, term, sum);
        else sum = factor == 1 ? term : Isa::mul(scale, term);
        started = true;
    }

    /// Row `row` of Bᵀ on the inputs of one parity (or of both, parity < 0).
    template <int row, int parity>
    static REPFOLD_INLINE Vector combine(const Vector (&d)[n]) {
        Vector sum = Isa::zero();
        bool started = false;
        unroll<n>([&](auto i) REPFOLD_LAMBDA {
            constexpr int k = n - 1 - i;  // the highest coefficient is 1
            constexpr double factor = toom_cook<m, r>.bt[row][k];
            if constexpr (factor != 0 && (parity < 0 || k % 2 == parity)) add_term(sum, started, factor, d[k]);
        });
        return sum;
    }

    /// out = Bᵀ d
    static REPFOLD_INLINE void input(const Vector (&d)[n], Vector (&out)[n]) {
        if constexpr (Matrices::zero) out[0] = combine<0, -1>(d);
        unroll<pairs>([&](auto p) REPFOLD_LAMBDA {
            constexpr int plus = first_pair + 2 * p;
            // M(x) at a and -a: (x + a) q(x) and (x - a) q(x), q even or odd, one parity of coefficients shared.
            constexpr int parity = n % 2;
            const Vector common = combine<plus, parity>(d), odd = combine<plus, 1 - parity>(d);
            out[plus] = Isa::add(common, odd);
            out[plus + 1] = Isa::sub(common, odd);
        });
        out[n - 1] = combine<n - 1, -1>(d);
    }

    /// y = Aᵀ p
    static REPFOLD_INLINE void output(const Vector (&p)[n], Vector (&y)[m]) {
        Vector sum[pairs], difference[pairs];
        unroll<pairs>([&](auto j) REPFOLD_LAMBDA {
            sum[j] = Isa::add(p[first_pair + 2 * j], p[first_pair + 2 * j + 1]);
            difference[j] = Isa::sub(p[first_pair + 2 * j], p[first_pair + 2 * j + 1]);
        });
        unroll<m>([&](auto i) REPFOLD_LAMBDA {
            Vector total = Isa::zero();
            bool started = false;
            if constexpr (i == 0 && Matrices::zero) total = p[0], started = true;
            if constexpr (i == m - 1) total = p[n - 1], started = true;
            unroll<pairs>([&](auto j) REPFOLD_LAMBDA {
                constexpr double factor = toom_cook<m, r>.at[i][first_pair + 2 * j];
                add_term(total, started, factor, i % 2 == 0 ? sum[j] : difference[j]);
            });
            y[i] = total;
        });
    }
};

/// One direction of the transforms of a tile of m outputs.
template <class Isa, int m, int stride>
struct WinogradLine : ToomCookLine<Isa, m, 3> {
    static_assert(stride == 1);
};

/// Of stride 2: F(m, 2) of the even inputs, and the odd ones as they are.
template <class Isa, int m>
struct WinogradLine<Isa, m, 2> {
    using Vector = typename Isa::Vector;
    using Even = ToomCookLine<Isa, m, 2>;
    static constexpr int n = 2 * m + 1;

    static REPFOLD_INLINE void input(const Vector (&d)[n], Vector (&out)[n]) {
        Vector even[m + 1], transformed[m + 1];
        unroll<m + 1>([&](auto i) REPFOLD_LAMBDA { even[i] = d[2 * i]; });
        Even::input(even, transformed);
        unroll<m + 1>([&](auto i) REPFOLD_LAMBDA { out[i] = transformed[i]; });
        unroll<m>([&](auto i) REPFOLD_LAMBDA { out[m + 1 + i] = d[2 * i + 1]; });
    }

    static REPFOLD_INLINE void output(const Vector (&p)[n], Vector (&y)[m]) {
        Vector even[m + 1];
        unroll<m + 1>([&](auto i) REPFOLD_LAMBDA { even[i] = p[i]; });
        Even::output(even, y);
        unroll<m>([&](auto i) REPFOLD_LAMBDA { y[i] = Isa::add(y[i], p[m + 1 + i]); });
    }
};

template <class Isa>
struct WinogradConvolution {
    using Element = typename Isa::Element;
    using Vector = typename Isa::Vector;

    /// Of the first output pixel of a tile, among those of all images.
    static Position position(const Tiling& tiling, Size t) {
        return {t / (tiling.rows * tiling.columns), t / tiling.columns % tiling.rows * tiling.tile.h,
                t % tiling.columns * tiling.tile.w};
    }

    template <int m_h, int m_w, int stride, class From>
    static void transform_tile(const From* in, Size row, Size pixel, Element* out, Size point_stride) {
        constexpr int n_h = WinogradLine<Isa, m_h, stride>::n, n_w = WinogradLine<Isa, m_w, stride>::n;
        Vector half[n_h][n_w];
        for (int x = 0; x < n_w; ++x) {
            Vector column[n_h], transformed[n_h];
            unroll<n_h>([&](auto y) REPFOLD_LAMBDA { column[y] = Isa::load(in + y * row + x * pixel); });
            WinogradLine<Isa, m_h, stride>::input(column, transformed);
            unroll<n_h>([&](auto y) REPFOLD_LAMBDA { half[y][x] = transformed[y]; });
        }
        for (int y = 0; y < n_h; ++y) {
            Vector line[n_w], transformed[n_w];
            unroll<n_w>([&](auto x) REPFOLD_LAMBDA { line[x] = half[y][x]; });
            WinogradLine<Isa, m_w, stride>::input(line, transformed);
            unroll<n_w>([&](auto x) REPFOLD_LAMBDA { Isa::store(out + x * point_stride, transformed[x]); });
            out += n_w * point_stride;
        }
    }

    template <int m_h, int m_w, int stride>
    static void transform(const Convolution& conv, const Tiling& tiling, Range tiles) {
        with_values<Element>(
            conv.in, [&](auto value) { transform_from<m_h, m_w, stride, decltype(value)>(conv, tiling, tiles); });
    }

    template <int m_h, int m_w, int stride, class From>
    static void transform_from(const Convolution& conv, const Tiling& tiling, Range tiles) {
        constexpr int n_h = WinogradLine<Isa, m_h, stride>::n, n_w = WinogradLine<Isa, m_w, stride>::n;
        const Tensor& in = conv.in;
        const Size row = in.row(), pixel = in.stride_c;
        for (Size t = tiles.first; t < tiles.last; ++t) {
            const Position at = position(tiling, tiling.first + t);
            const Size top = stride * at.y - conv.window.padding.h, left = stride * at.x - conv.window.padding.w;
            const From* from = in.pixel<const From>(at.image, top, left);
            Element* to = static_cast<Element*>(tiling.transformed) + t * in.stride_c;
            // The last tiles of a row or column may reach beyond the bordered image: there, zeros.
            const auto rows = static_cast<int>(std::min<Size>(n_h, in.h + in.border.h - top));
            const auto columns = static_cast<int>(std::min<Size>(n_w, in.w + in.border.w - left));
            for (Size c = 0; c < in.stride_c; c += Isa::lanes) {
                if (rows == n_h && columns == n_w) {
                    transform_tile<m_h, m_w, stride>(from + c, row, pixel, to + c, tiling.point_stride);
                    continue;
                }
                alignas(64) float patch[n_h][n_w][Isa::lanes];
                for (int y = 0; y < n_h; ++y)
                    for (int x = 0; x < n_w; ++x)
                        Isa::store(patch[y][x],
                                   y < rows && x < columns ? Isa::load(from + y * row + x * pixel + c) : Isa::zero());
                transform_tile<m_h, m_w, stride>(patch[0][0], n_w * Isa::lanes, Isa::lanes, to + c,
                                                 tiling.point_stride);
            }
        }
    }

    struct Panel {
        const Element* in;
        Size row_stride;
        const Element* weights;
        Size steps;
        float* out;
        Size out_stride;
        const char* next;  // weights that are needed next
    };

    template <int rows, int vectors, int lines>
    static void run_panel(const Panel& panel) {
        Vector sums[rows][vectors];
        unroll<rows>([&](auto r)
                         REPFOLD_LAMBDA { unroll<vectors>([&](auto v) REPFOLD_LAMBDA { sums[r][v] = Isa::zero(); }); });
        accumulate<Isa, lines>(sums, panel.in, Even{panel.row_stride}, panel.weights, panel.steps, panel.next);
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA {
                Isa::store(panel.out + r * panel.out_stride + v * Isa::lanes, sums[r][v]);
            });
        });
    }

    /// Products of these points of one slice, for all tiles of the block.
    static void multiply(const Convolution& conv, const Tiling& tiling, Range points, Size slice_index) {
        const Slice& slice = conv.slices[slice_index];
        const Size strips = divide_up(tiling.count, Isa::max_rows(slice.vectors));
        Panel panel{};
        panel.row_stride = conv.in.stride_c;
        panel.steps = DirectConvolution<Isa>::padded(conv.in_channels) / Isa::step;
        panel.out_stride = tiling.product_row;
        for (Size point = points.first; point < points.last; ++point) {
            panel.weights = static_cast<const Element*>(conv.weights) + slice.offset + point * slice.panel;
            for (Size s = 0; s < strips; ++s) {
                const Range tiles = part(tiling.count, s, strips);
                panel.in = static_cast<const Element*>(tiling.transformed) + point * tiling.point_stride +
                           tiles.first * conv.in.stride_c;
                panel.out = tiling.products + point * tiling.product_point + tiles.first * tiling.product_row;
                // The strips share the work of fetching the next point's weights.
                const Range lines = part(slice.vectors, s, strips);
                const void* next = point + 1 == points.last && tiling.next ? tiling.next : panel.weights + slice.panel;
                panel.next = static_cast<const char*>(next) + lines.first * panel.steps * 64;
                with_constant<Isa::max_vectors>(slice.vectors, [&](auto v) {
                    constexpr int vectors = v;
                    with_constant<Isa::max_rows(vectors)>(tiles.size(), [&](auto r) {
                        constexpr int rows = r;
                        with_constant<vectors, 0>(lines.size(), [&](auto l) { run_panel<rows, vectors, l>(panel); });
                    });
                });
            }
        }
    }

    /// One tile back to pixels, with what follows the convolution. False when a sum is infinite or NaN.
    template <int m_h, int m_w, int stride, class To>
    static REPFOLD_INLINE bool finish_tile(const Finish<Isa>& finish, const Position& at, const float* products,
                                           Size point_stride, Size channel, Size count) {
        constexpr int n_h = WinogradLine<Isa, m_h, stride>::n, n_w = WinogradLine<Isa, m_w, stride>::n;
        const Convolution& conv = finish.conv;
        Vector half[m_h][n_w];
        for (int x = 0; x < n_w; ++x) {
            Vector column[n_h], transformed[m_h];
            unroll<n_h>([&](auto y) REPFOLD_LAMBDA { column[y] = Isa::load(products + (y * n_w + x) * point_stride); });
            WinogradLine<Isa, m_h, stride>::output(column, transformed);
            unroll<m_h>([&](auto y) REPFOLD_LAMBDA { half[y][x] = transformed[y]; });
        }
        const Vector bias = Isa::load(conv.bias + channel);
        const Size rows = std::min<Size>(m_h, conv.out.h - at.y), columns = std::min<Size>(m_w, conv.out.w - at.x);
        To* out = conv.out.pixel<To>(at.image, at.y, at.x) + channel;
        const Element* residual = finish.residual(at.image, at.y, at.x, channel);
        Vector check = Isa::zero();  // of finite values, x * 0 sums to zero; of others to NaN
        for (Size y = 0; y < rows; ++y) {
            Vector before[n_w], line[m_w];
            unroll<n_w>([&](auto x) REPFOLD_LAMBDA { before[x] = half[y][x]; });
            WinogradLine<Isa, m_w, stride>::output(before, line);
            unroll<m_w>([&](auto x) REPFOLD_LAMBDA {
                if (x < columns) {
                    const Vector sum = Isa::add(line[x], bias);
                    check = Isa::fma(sum, Isa::zero(), check);
                    finish.write(sum, residual ? residual + x * conv.residual.stride_c : nullptr,
                                 out + x * conv.out.stride_c, count);
                }
            });
            out += conv.out.row();
            if (residual) residual += conv.residual.row();
        }
        return Isa::all_zero(check);
    }

    /// Tiles of the block, channels of these slices; products begin at the first.
    template <int m_h, int m_w, int stride>
    static bool finish(const Convolution& conv, const Tiling& tiling, Range tiles, Range slices) {
        return with_values<Element>(conv.out, [&](auto value) {
            return finish_to<m_h, m_w, stride, decltype(value)>(conv, tiling, tiles, slices);
        });
    }

    template <int m_h, int m_w, int stride, class To>
    static bool finish_to(const Convolution& conv, const Tiling& tiling, Range tiles, Range slices) {
        const Slice& end = conv.slices[slices.last - 1];
        const Size channel = conv.slices[slices.first].first, width = end.first + end.vectors * Isa::lanes - channel;
        const Finish<Isa> finish(conv);
        bool finite = true;
        for (Size t = tiles.first; t < tiles.last; ++t) {
            const Position at = position(tiling, tiling.first + t);
            for (Size c = 0; c < width; c += Isa::lanes)
                finite &= finish_tile<m_h, m_w, stride, To>(finish, at, tiling.products + t * tiling.product_row + c,
                                                            tiling.product_point, channel + c,
                                                            conv.out_channels - channel - c);
        }
        return finite;
    }
};

/// The tiles that are compiled, as one closed table.
template <class Isa>
struct WinogradTable {
    struct Entry {
        Size h, w, stride;
        void (*transform)(const Convolution&, const Tiling&, Range);
        bool (*finish)(const Convolution&, const Tiling&, Range, Range);
    };
    /// Stride 2 in float32 alone: bf16 halves the time of the products, and not that of the transforms.
    template <int h, int w, int stride>
    static constexpr Entry entry() {
        using Convolve = WinogradConvolution<Isa>;
        if constexpr (stride == 1 || Isa::step == 1)
            return {h, w, stride, Convolve::template transform<h, w, stride>, Convolve::template finish<h, w, stride>};
        return {};
    }
    static constexpr Entry entries[] = {entry<2, 2, 1>(), entry<4, 2, 1>(), entry<3, 3, 1>(), entry<4, 4, 1>(),
                                        entry<5, 5, 1>(), entry<6, 6, 1>(), entry<2, 2, 2>(), entry<4, 2, 2>(),
                                        entry<3, 3, 2>(), entry<4, 4, 2>(), entry<5, 5, 2>()};

    static const Entry* find(const Tile& tile) {
        for (const Entry& known : entries)
            if (known.h == tile.h && known.w == tile.w && known.stride == tile.stride) return &known;
        return nullptr;
    }
    static bool has_tile(const Tile& tile) { return find(tile) != nullptr; }
    static void transform_input(const Convolution& conv, const Tiling& tiling, Range tiles) {
        find(tiling.tile)->transform(conv, tiling, tiles);
    }
    static bool finish(const Convolution& conv, const Tiling& tiling, Range tiles, Range slices) {
        return find(tiling.tile)->finish(conv, tiling, tiles, slices);
    }
};

}  // namespace repfold
