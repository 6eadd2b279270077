// AVX2 and FMA in float32: vectors of 8, slices of 24 channels, 4 pixels x 3 vectors of sums in 12 of 16 registers.
#include "kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#include "vector_table.h"

namespace repfold {
namespace {

struct Avx2 {
    using Element = float;
    using Vector = __m256;
    using Packed = __m256;
    static constexpr Size lanes = 8, max_vectors = 3, step = 1;
    static constexpr int max_rows(Size vectors) { return vectors == 3 ? 4 : vectors == 2 ? 6 : 12; }

    static Vector zero() { return _mm256_setzero_ps(); }
    static Vector set(float value) { return _mm256_set1_ps(value); }
    static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
    static Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
    static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }  // b when either is NaN
    static Vector max_or_nan(Vector a, Vector b) {
        return _mm256_blendv_ps(max(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    }
    static Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
    static Vector div(Vector a, Vector b) { return _mm256_div_ps(a, b); }
    static Vector round(Vector x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    /// x * 2^n of an integral n of -250 to 250: by two powers, since one may be beyond the normal numbers.
    static Vector times_power_of_2(Vector x, Vector n) {
        const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
        return mul(mul(x, power_of_2(half)), power_of_2(_mm256_sub_epi32(whole, half)));
    }
    static Vector power_of_2(__m256i n) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
    }
    static Vector select_positive(Vector x, Vector yes, Vector no) {
        return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, zero(), _CMP_GT_OQ));
    }
    static bool all_zero(Vector x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, zero(), _CMP_NEQ_UQ)) == 0; }

    static __m256i first(Size count) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static Vector keep_first(Vector x, Size count) { return _mm256_and_ps(x, _mm256_castsi256_ps(first(count))); }
    static Vector load(const float* from) { return _mm256_loadu_ps(from); }
    static Vector load_first(const float* from, Size count) { return _mm256_maskload_ps(from, first(count)); }
    static void store(float* to, Vector x) { _mm256_storeu_ps(to, x); }
    static void store_first(float* to, Vector x, Size count) { _mm256_maskstore_ps(to, first(count), x); }

    using Index = __m256i;
    /// For each lane that of the value with this number in its group of so many (a power of two).
    static Index lanes_of(Size width, Size number) {
        const Index all = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const Index first = _mm256_and_si256(all, _mm256_set1_epi32(-static_cast<int>(width)));
        return _mm256_add_epi32(first, _mm256_set1_epi32(static_cast<int>(number)));
    }
    static Vector permuted(Vector x, Index lanes) { return _mm256_permutevar8x32_ps(x, lanes); }

    static Packed load_weights(const float* from) { return load(from); }
    static Packed broadcast(const float* from) { return _mm256_broadcast_ss(from); }
};

constexpr Kernels table = vector_table<Avx2>("avx2");

}  // namespace
}  // namespace repfold

const repfold::Kernels* repfold::avx2_kernels() { return &repfold::table; }
#else
const repfold::Kernels* repfold::avx2_kernels() { return nullptr; }
#endif
