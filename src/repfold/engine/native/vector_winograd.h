// Winograd convolution F(m_h x m_w, 3x3): transform a block of tiles, multiply point by point, transform back.
#pragma once

#include "vector_convolution.h"
#include "winograd.h"

namespace repfold {

/// One direction of the transforms, on vectors of channels.
template <class Isa, int m>
struct WinogradLine {
    using Vector = typename Isa::Vector;
    static constexpr int n = m + 2;
    static constexpr int first_pair = Winograd<m>::first_pair, pairs = Winograd<m>::pairs;

    /// Row `row` of Bᵀ on the inputs of one parity (or of both, parity < 0).
    template <int row, int parity>
    static REPFOLD_INLINE Vector combine(const Vector (&d)[n]) {
        Vector sum = Isa::zero();
        bool started = false;
        unroll<n>([&](auto k) REPFOLD_LAMBDA {
            constexpr double factor = winograd<m>.bt[row][k];
            if constexpr (factor != 0 && (parity < 0 || k % 2 == parity)) {
                if (started) sum = factor == 1 ? Isa::add(sum, d[k]) : Isa::fma(Isa::set(static_cast<float>(factor)), d[k], sum);
                else sum = factor == 1 ? d[k] : Isa::mul(Isa::set(static_cast<float>(factor)), d[k]);
                started = true;
            }
        });
        return sum;
    }

    /// out = Bᵀ d
    static REPFOLD_INLINE void input(const Vector (&d)[n], Vector (&out)[n]) {
        if constexpr (Winograd<m>::zero) out[0] = combine<0, -1>(d);
        unroll<pairs>([&](auto p) REPFOLD_LAMBDA {
            constexpr int plus = first_pair + 2 * p;
            // M(x) at a and -a: (x + a) q(x) and (x - a) q(x), q even or odd, so one parity of coefficients is the same.
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
            if constexpr (i == 0 && Winograd<m>::zero) total = p[0], started = true;
            if constexpr (i == m - 1) total = p[n - 1], started = true;
            unroll<pairs>([&](auto j) REPFOLD_LAMBDA {
                constexpr double factor = winograd<m>.at[i][first_pair + 2 * j];
                const Vector& term = i % 2 == 0 ? sum[j] : difference[j];
                if (started) total = factor == 1 ? Isa::add(total, term) : Isa::fma(Isa::set(static_cast<float>(factor)), term, total);
                else total = factor == 1 ? term : Isa::mul(Isa::set(static_cast<float>(factor)), term);
                started = true;
            });
            y[i] = total;
        });
    }
};

template <class Isa>
struct WinogradConvolution {
    using Element = typename Isa::Element;
    using Vector = typename Isa::Vector;

    /// Where tile t of all images lies: its image and its first output pixel.
    struct Place {
        int image, y, x;
    };
    static Place place(const Tiling& tiling, int t) {
        const int each = tiling.rows * tiling.columns;
        return {t / each, t % each / tiling.columns * tiling.m_h, t % tiling.columns * tiling.m_w};
    }

    template <class From>
    static REPFOLD_INLINE Vector load(const From* from) {
        if constexpr (std::is_same_v<From, Element>) return Isa::load_element(from);
        else return Isa::load(from);
    }

    template <int m_h, int m_w, class From>
    static void transform_tile(const From* in, std::ptrdiff_t row, std::ptrdiff_t pixel, Element* out,
                               std::ptrdiff_t point_stride) {
        constexpr int n_h = m_h + 2, n_w = m_w + 2;
        Vector half[n_h][n_w];
        for (int x = 0; x < n_w; ++x) {
            Vector column[n_h], transformed[n_h];
            unroll<n_h>([&](auto y) REPFOLD_LAMBDA { column[y] = load(in + y * row + x * pixel); });
            WinogradLine<Isa, m_h>::input(column, transformed);
            unroll<n_h>([&](auto y) REPFOLD_LAMBDA { half[y][x] = transformed[y]; });
        }
        for (int y = 0; y < n_h; ++y) {
            Vector line[n_w], transformed[n_w];
            unroll<n_w>([&](auto x) REPFOLD_LAMBDA { line[x] = half[y][x]; });
            WinogradLine<Isa, m_w>::input(line, transformed);
            unroll<n_w>([&](auto x) REPFOLD_LAMBDA { Isa::store_element(out + x * point_stride, transformed[x]); });
            out += n_w * point_stride;
        }
    }

    template <int m_h, int m_w>
    static void transform(const Convolution& conv, const Tiling& tiling, int first, int last) {
        if (!std::is_same_v<Element, float> && conv.in.wide) transform_from<m_h, m_w, float>(conv, tiling, first, last);
        else transform_from<m_h, m_w, Element>(conv, tiling, first, last);
    }

    template <int m_h, int m_w, class From>
    static void transform_from(const Convolution& conv, const Tiling& tiling, int first, int last) {
        constexpr int n_h = m_h + 2, n_w = m_w + 2;
        const Tensor& in = conv.in;
        const std::ptrdiff_t row = in.row(), pixel = in.stride_c;
        for (int t = first; t < last; ++t) {
            const Place at = place(tiling, tiling.first + t);
            const int top = at.y - conv.padding_h, left = at.x - conv.padding_w;
            const From* from = static_cast<const From*>(in.data) + in.at(at.image, top, left);
            Element* to = static_cast<Element*>(tiling.transformed) + static_cast<std::ptrdiff_t>(t) * in.stride_c;
            // The last tiles of a row or column may reach beyond the bordered image: there, zeros.
            const int rows = std::min(n_h, in.h + in.border_h - top), columns = std::min(n_w, in.w + in.border_w - left);
            for (int c = 0; c < in.stride_c; c += Isa::lanes) {
                if (rows == n_h && columns == n_w) {
                    transform_tile<m_h, m_w>(from + c, row, pixel, to + c, tiling.point_stride);
                    continue;
                }
                alignas(64) float patch[n_h][n_w][Isa::lanes];
                for (int y = 0; y < n_h; ++y)
                    for (int x = 0; x < n_w; ++x)
                        Isa::store(patch[y][x], y < rows && x < columns ? load(from + y * row + x * pixel + c) : Isa::zero());
                transform_tile<m_h, m_w>(patch[0][0], n_w * Isa::lanes, Isa::lanes, to + c, tiling.point_stride);
            }
        }
    }

    struct Panel {
        const Element* in;
        std::ptrdiff_t row_stride;
        const Element* weights;
        int steps;
        float* out;
        std::ptrdiff_t out_stride;
        const char* next;  // weights that are needed next
    };

    template <int rows, int vectors, int lines>
    static void run_panel(const Panel& panel) {
        Vector sums[rows][vectors];
        unroll<rows>([&](auto r) REPFOLD_LAMBDA { unroll<vectors>([&](auto v) REPFOLD_LAMBDA { sums[r][v] = Isa::zero(); }); });
        accumulate<Isa, lines>(sums, panel.in, panel.row_stride, panel.weights, panel.steps, panel.next);
        unroll<rows>([&](auto r) REPFOLD_LAMBDA {
            unroll<vectors>([&](auto v) REPFOLD_LAMBDA { Isa::store(panel.out + r * panel.out_stride + v * Isa::lanes, sums[r][v]); });
        });
    }

    template <int vectors, int rows = 1>
    static void choose(int wanted, int lines, const Panel& panel) {
        if constexpr (rows < Isa::max_rows(vectors)) {
            if (wanted > rows) return choose<vectors, rows + 1>(wanted, lines, panel);
        }
        if (lines == 0) run_panel<rows, vectors, 0>(panel);
        else if (lines == 1) run_panel<rows, vectors, 1>(panel);
        else if (lines == 2) run_panel<rows, vectors, 2>(panel);
        else run_panel<rows, vectors, vectors>(panel);
    }

    /// Products of points first..last of one slice, for all tiles of the block.
    template <int vectors>
    static void multiply_points(const Convolution& conv, const Tiling& tiling, int first, int last, const Slice& slice) {
        constexpr int width = vectors * Isa::lanes;
        const int channels = DirectConvolution<Isa>::padded(conv.in_channels), count = tiling.count;
        const std::ptrdiff_t panel_size = static_cast<std::ptrdiff_t>(channels) * width;
        const int most = Isa::max_rows(vectors), strips = (count + most - 1) / most;
        Panel panel{};
        panel.row_stride = conv.in.stride_c;
        panel.steps = channels / Isa::step;
        panel.out_stride = tiling.product_row;
        for (int point = first; point < last; ++point) {
            panel.weights = static_cast<const Element*>(conv.weights) + slice.offset + point * panel_size;
            for (int s = 0; s < strips; ++s) {
                const int begin = static_cast<int>(static_cast<long long>(count) * s / strips);
                const int end = static_cast<int>(static_cast<long long>(count) * (s + 1) / strips);
                panel.in = static_cast<const Element*>(tiling.transformed) + point * tiling.point_stride +
                           static_cast<std::ptrdiff_t>(begin) * conv.in.stride_c;
                panel.out = tiling.products + point * tiling.product_point + begin * tiling.product_row;
                // The strips share the work of fetching the next point's weights.
                const int fetched = vectors * s / strips, lines = vectors * (s + 1) / strips - fetched;
                const void* next = point + 1 == last && tiling.next ? tiling.next : panel.weights + panel_size;
                panel.next = static_cast<const char*>(next) + static_cast<std::ptrdiff_t>(fetched) * panel.steps * 64;
                choose<vectors>(end - begin, lines, panel);
            }
        }
    }

    template <int vectors = 1>
    static void multiply(const Convolution& conv, const Tiling& tiling, int first, int last, int slice_at) {
        const Slice& slice = conv.slices[slice_at];
        if constexpr (vectors < Isa::max_vectors) {
            if (slice.vectors > vectors) return multiply<vectors + 1>(conv, tiling, first, last, slice_at);
        }
        multiply_points<vectors>(conv, tiling, first, last, slice);
    }

    /// One tile back to pixels, with what follows the convolution. False when a sum is infinite or NaN.
    template <int m_h, int m_w, class To>
    static REPFOLD_INLINE bool finish_tile(const Finish<Isa>& finish, const Place& at, const float* products,
                                           std::ptrdiff_t point_stride, int channel, int count) {
        constexpr int n_h = m_h + 2, n_w = m_w + 2;
        const Convolution& conv = finish.conv;
        Vector half[m_h][n_w];
        for (int x = 0; x < n_w; ++x) {
            Vector column[n_h], transformed[m_h];
            unroll<n_h>([&](auto y) REPFOLD_LAMBDA { column[y] = Isa::load(products + (y * n_w + x) * point_stride); });
            WinogradLine<Isa, m_h>::output(column, transformed);
            unroll<m_h>([&](auto y) REPFOLD_LAMBDA { half[y][x] = transformed[y]; });
        }
        const Vector bias = Isa::load(conv.bias + channel);
        const int rows = std::min(m_h, conv.out.h - at.y), columns = std::min(m_w, conv.out.w - at.x);
        To* out = static_cast<To*>(conv.out.data) + conv.out.at(at.image, at.y, at.x) + channel;
        const Element* residual = conv.residual.data ? static_cast<const Element*>(conv.residual.data) +
                                                           conv.residual.at(at.image, at.y, at.x) + channel
                                                     : nullptr;
        Vector check = Isa::zero();  // of finite values, x * 0 sums to zero; of others to NaN
        for (int y = 0; y < rows; ++y) {
            Vector before[n_w], line[m_w];
            unroll<n_w>([&](auto x) REPFOLD_LAMBDA { before[x] = half[y][x]; });
            WinogradLine<Isa, m_w>::output(before, line);
            unroll<m_w>([&](auto x) REPFOLD_LAMBDA {
                if (x < columns) {
                    const Vector sum = Isa::add(line[x], bias);
                    check = Isa::fma(sum, Isa::zero(), check);
                    finish.write(sum, residual ? residual + x * static_cast<std::ptrdiff_t>(conv.residual.stride_c) : nullptr,
                                 out + x * static_cast<std::ptrdiff_t>(conv.out.stride_c), count);
                }
            });
            out += conv.out.row();
            if (residual) residual += conv.residual.row();
        }
        return Isa::all_zero(check);
    }

    /// Tiles first..last of the block, channels of slices slice_first..slice_last; products begin at slice_first.
    template <int m_h, int m_w>
    static bool finish(const Convolution& conv, const Tiling& tiling, int first, int last, int slice_first, int slice_last) {
        if (!std::is_same_v<Element, float> && conv.out.wide)
            return finish_to<m_h, m_w, float>(conv, tiling, first, last, slice_first, slice_last);
        return finish_to<m_h, m_w, Element>(conv, tiling, first, last, slice_first, slice_last);
    }

    template <int m_h, int m_w, class To>
    static bool finish_to(const Convolution& conv, const Tiling& tiling, int first, int last, int slice_first, int slice_last) {
        const Slice& end = conv.slices[slice_last - 1];
        const int channel = conv.slices[slice_first].first, width = end.first + end.vectors * Isa::lanes - channel;
        const Finish<Isa> finish(conv);
        bool finite = true;
        for (int t = first; t < last; ++t) {
            const Place at = place(tiling, tiling.first + t);
            for (int c = 0; c < width; c += Isa::lanes)
                finite &= finish_tile<m_h, m_w, To>(finish, at, tiling.products + t * tiling.product_row + c, tiling.product_point,
                                                channel + c, conv.out_channels - channel - c);
        }
        return finite;
    }
};

/// The tile sizes that are compiled, as one closed table.
template <class Isa>
struct WinogradTable {
    using Convolutions = WinogradConvolution<Isa>;
    struct Entry {
        int m_h, m_w;
        void (*transform)(const Convolution&, const Tiling&, int, int);
        bool (*finish)(const Convolution&, const Tiling&, int, int, int, int);
    };
    template <int m_h, int m_w>
    static constexpr Entry entry() {
        return {m_h, m_w, Convolutions::template transform<m_h, m_w>, Convolutions::template finish<m_h, m_w>};
    }
    static constexpr Entry entries[] = {entry<2, 2>(), entry<4, 2>(), entry<3, 3>(), entry<4, 4>(), entry<5, 5>(), entry<6, 6>()};

    static const Entry* find(int m_h, int m_w) {
        for (const Entry& known : entries)
            if (known.m_h == m_h && known.m_w == m_w) return &known;
        return nullptr;
    }
    static bool has_tile(int m_h, int m_w) { return find(m_h, m_w) != nullptr; }
    static void transform_input(const Convolution& conv, const Tiling& tiling, int first, int last) {
        find(tiling.m_h, tiling.m_w)->transform(conv, tiling, first, last);
    }
    static void multiply(const Convolution& conv, const Tiling& tiling, int first, int last, int slice) {
        Convolutions::multiply(conv, tiling, first, last, slice);
    }
    static bool finish(const Convolution& conv, const Tiling& tiling, int first, int last, int slice_first, int slice_last) {
        return find(tiling.m_h, tiling.m_w)->finish(conv, tiling, first, last, slice_first, slice_last);
    }
};

}  // namespace repfold
