// Winograd's minimal filtering F(m, 3), of stride 1 and 2, by the Toom-Cook construction, at compile time.
//
//     y = Aᵀ[(G g) ⊙ (Bᵀ d)],   y: m outputs, g: r taps, d: n = m + r - 1 inputs
//
// from n - 1 finite points a_j and infinity: Aᵀ[i][j] = a_j^i, G[j][k] = a_j^k / N_j with N_j = Π_{l≠j} (a_j - a_l),
// and row j of Bᵀ the coefficients of Π_{l≠j} (x - a_l); infinity's rows are the highest coefficients.
// Points come in pairs ±a, since M(x) and M(-x) share their even and odd halves: one half the multiplications.
// The values of the points were found by minimising the float32 error of 2-D filtering over random images.
//
// Stride 2 is polyphase: y_i = (g_0 d_2i + g_2 d_2i+2) + g_1 d_2i+1 is F(m, 2) of the even inputs plus m products of
// the odd ones: 2m + 1 products instead of 3m. Either stride needs as many products as its outputs read inputs.
#pragma once

#include <array>

namespace repfold {

/// The pairs ±a of the m + r - 2 finite points of F(m, r); zero is one more where their number is odd.
template <int m, int r>
constexpr auto winograd_pairs() {
    if constexpr (m == 2 && r == 3) return std::array{1.0};
    if constexpr (m == 3 && r == 3) return std::array{0.4140625, 1.328125};
    if constexpr (m == 4 && r == 3) return std::array{0.625, 1.5};
    if constexpr (m == 5 && r == 3) return std::array{0.328125, 0.796875, 1.75};
    if constexpr (m == 6 && r == 3) return std::array{0.53125, 0.9296875, 1.8984375};
    if constexpr (m == 2 && r == 2) return std::array{1.0};
    if constexpr (m == 3 && r == 2) return std::array{1.0};
    if constexpr (m == 4 && r == 2) return std::array{0.375, 1.25};
    if constexpr (m == 5 && r == 2) return std::array{0.625, 1.5};
}

/// The matrices of F(m, r). Rows of points are ordered: zero (if used), +a, -a, +b, -b, ..., infinity.
template <int m, int r>
struct ToomCook {
    static constexpr int n = m + r - 1;
    static constexpr bool zero = (n - 1) % 2 == 1;
    static constexpr int first_pair = zero ? 1 : 0;
    static constexpr int pairs = (n - 1) / 2;

    double at[m][n] = {}, g[n][r] = {}, bt[n][n] = {};

    constexpr ToomCook() {
        double points[n - 1] = {};
        for (int p = 0; p < pairs; ++p) {
            points[first_pair + 2 * p] = winograd_pairs<m, r>()[p];
            points[first_pair + 2 * p + 1] = -winograd_pairs<m, r>()[p];
        }
        for (int j = 0; j < n - 1; ++j) {
            double power = 1, scale = 1;
            for (int i = 0; i < m; ++i, power *= points[j]) at[i][j] = power;
            for (int l = 0; l < n - 1; ++l)
                if (l != j) scale *= points[j] - points[l];
            power = 1;
            for (int k = 0; k < r; ++k, power *= points[j]) g[j][k] = power / scale;
            expand(points, j, bt[j]);
        }
        at[m - 1][n - 1] = 1;
        g[n - 1][r - 1] = 1;
        expand(points, -1, bt[n - 1]);
    }

private:
    /// The coefficients of the product of (x - a_l) over all finite points but `skipped`.
    static constexpr void expand(const double* points, int skipped, double* out) {
        out[0] = 1;
        int degree = 0;
        for (int l = 0; l < n - 1; ++l) {
            if (l == skipped) continue;
            ++degree;
            for (int k = degree; k >= 0; --k) out[k] = (k > 0 ? out[k - 1] : 0) - points[l] * (k < degree ? out[k] : 0);
        }
        // An even or odd polynomial has exact zeros that rounding may have missed.
        for (int k = 0; k < n; ++k)
            if (out[k] < 1e-12 && out[k] > -1e-12) out[k] = 0;
    }
};

template <int m, int r>
inline constexpr ToomCook<m, r> toom_cook{};

/// G of F(m, 3) of a stride. Of stride 2, the products of the even inputs come first.
template <int m, int stride>
struct FilterTransform {
    static constexpr int n = stride * (m - 1) + 3;
    double g[n][3] = {};

    constexpr FilterTransform() {
        if constexpr (stride == 1) {
            for (int j = 0; j < n; ++j)
                for (int k = 0; k < 3; ++k) g[j][k] = toom_cook<m, 3>.g[j][k];
        } else {
            for (int j = 0; j <= m; ++j)
                for (int k = 0; k < 2; ++k) g[j][2 * k] = toom_cook<m, 2>.g[j][k];
            for (int j = m + 1; j < n; ++j) g[j][1] = 1;
        }
    }
};

template <int m, int stride>
inline constexpr FilterTransform<m, stride> filter_transform{};

}  // namespace repfold
