// AVX-512 in float32: vectors of 16, slices of 48 channels, up to 9 pixels x 3 vectors of sums in 27 of 32 registers.
#pragma once

#include <immintrin.h>

#include "vector_table.h"

namespace repfold {
namespace {  // a type of each file that includes it, since they are compiled for different instruction sets

struct Avx512 {
    using Element = float;
    using Vector = __m512;
    using Packed = __m512;
    static constexpr Size lanes = 16, max_vectors = 3, step = 1;
    static constexpr int max_rows(Size vectors) { return vectors == 3 ? 9 : vectors == 2 ? 13 : 14; }

    static Vector zero() { return _mm512_setzero_ps(); }
    static Vector set(float value) { return _mm512_set1_ps(value); }
    static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
    static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
    static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
    static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }  // b when either is NaN
    static Vector max_or_nan(Vector a, Vector b) {
        return _mm512_mask_mov_ps(max(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
    }
    static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
    static Vector div(Vector a, Vector b) { return _mm512_div_ps(a, b); }
    static Vector round(Vector x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    /// x * 2^n of an integral n
    static Vector times_power_of_2(Vector x, Vector n) { return _mm512_scalef_ps(x, n); }
    static Vector select_positive(Vector x, Vector yes, Vector no) {
        return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(x, zero(), _CMP_GT_OQ), yes);
    }
    static bool all_zero(Vector x) { return _mm512_cmp_ps_mask(x, zero(), _CMP_NEQ_UQ) == 0; }

    static __mmask16 first(Size count) { return static_cast<__mmask16>((1u << count) - 1); }
    static Vector keep_first(Vector x, Size count) { return _mm512_maskz_mov_ps(first(count), x); }
    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static Vector load_first(const float* from, Size count) { return _mm512_maskz_loadu_ps(first(count), from); }
    static void store(float* to, Vector x) { _mm512_storeu_ps(to, x); }
    static void store_first(float* to, Vector x, Size count) { _mm512_mask_storeu_ps(to, first(count), x); }

    using Index = __m512i;
    /// For each lane that of the value with this number in its group of so many (a power of two).
    static Index lanes_of(Size width, Size number) {
        const Index all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const Index first = _mm512_and_si512(all, _mm512_set1_epi32(-static_cast<int>(width)));
        return _mm512_add_epi32(first, _mm512_set1_epi32(static_cast<int>(number)));
    }
    static Vector permuted(Vector x, Index lanes) { return _mm512_permutexvar_ps(lanes, x); }

    static Packed load_weights(const float* from) { return load(from); }
    static Packed broadcast(const float* from) { return set(*from); }
};

}  // namespace
}  // namespace repfold
